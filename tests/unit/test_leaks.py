"""Chi controlla le prove va provato anche lui: deve trovare ciò che resta, e solo ciò che è nostro."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leaks

EMPTY = leaks.Snapshot(*[frozenset()] * 7)


def fake_process(proc: Path, pid: int, parent: int, command: str = "sh", environ: str = "") -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    # The name of a program may contain blanks and brackets: only what follows the last one counts.
    (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} " + " ".join(["0"] * 17) + " 77 0")
    (folder / "cmdline").write_text(command)
    (folder / "environ").write_text(environ)


def test_descendants_are_ours_whatever_their_environment(tmp_path):
    fake_process(tmp_path, 1, 0)
    fake_process(tmp_path, 10, 1)
    fake_process(tmp_path, 11, 10)
    fake_process(tmp_path, 12, 11)
    everyone = leaks.processes("", tmp_path)
    assert {process.pid for process in leaks.ours(everyone, 10)} == {11, 12}
    assert everyone[12].start == 77


def test_an_orphan_with_our_mark_and_its_children_are_ours(tmp_path):
    fake_process(tmp_path, 1, 0)
    fake_process(tmp_path, 10, 1)
    fake_process(tmp_path, 20, 1, environ="A=1\0LABKIT_RUN=/run/prova\0")
    fake_process(tmp_path, 21, 20)
    fake_process(tmp_path, 30, 1, environ="LABKIT_RUN=/run/altra\0")
    everyone = leaks.processes("LABKIT_RUN=/run/prova", tmp_path)
    assert {process.pid for process in leaks.ours(everyone, 10)} == {20, 21}


def test_our_ancestors_are_never_ours_even_with_the_mark(tmp_path):
    fake_process(tmp_path, 1, 0)
    fake_process(tmp_path, 5, 1, environ="segno")
    fake_process(tmp_path, 10, 5, environ="segno")
    everyone = leaks.processes("segno", tmp_path)
    assert leaks.ours(everyone, 10) == []


def test_the_browser_of_a_session_is_not_a_leak(tmp_path):
    fake_process(tmp_path, 10, 1)
    fake_process(tmp_path, 11, 10, command="/usr/lib/playwright/driver/node")
    fake_process(tmp_path, 12, 11, command="/usr/bin/qualcosa")
    assert leaks.ours(leaks.processes("", tmp_path), 10) == []


def test_a_process_left_running_is_seen_and_named():
    run = os.environ["LABKIT_RUN"]
    before = leaks.take(run)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        left = leaks.difference(before, leaks.take(run))
        assert len(left) == 1
        assert left[0].startswith(f"processi: in più {child.pid} {sys.executable}")
    finally:
        child.kill()
        child.wait()
    assert leaks.wait(before, lambda: leaks.take(run)) == []


def test_a_child_nobody_waited_for_is_seen():
    run = os.environ["LABKIT_RUN"]
    before = leaks.take(run)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    left = leaks.difference(before, leaks.take(run))
    os.waitpid(pid, 0)
    assert any("zombie" in line for line in left)


def test_a_namespace_held_by_a_descriptor_is_seen():
    run = os.environ["LABKIT_RUN"]
    before = leaks.take(run)
    fd = os.open("/proc/self/ns/uts", os.O_RDONLY)
    pidfd = os.pidfd_open(os.getpid())
    left = leaks.difference(before, leaks.take(run))
    os.close(fd)
    os.close(pidfd)
    assert {line.split()[0] for line in left} == {"descrittori:"}
    assert len(left) == 2


def test_mounts_of_container_engines_are_not_ours():
    text = (
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "80 22 0:40 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw\n"
        "81 22 0:41 / /var/lib/dockerino rw shared:3 master:1 - tmpfs labkit rw\n"
    )
    found = leaks.mounts(text)
    assert found == {"/ (ext4, da /, mount 22)", "/var/lib/dockerino (tmpfs, da /, mount 81)"}


def test_cgroups_of_a_dead_process_are_a_leak_and_those_of_a_stranger_are_not(tmp_path):
    for name in ("labkit-10-5", "labkit-20-5", "labkit-30-5", "altro-10"):
        (tmp_path / "memory" / name).mkdir(parents=True)
    found = leaks.cgroups({10}, {10, 30}, tmp_path)
    assert {Path(path).name for path in found} == {"labkit-10-5", "labkit-20-5"}


@pytest.mark.parametrize(("field", "gone"), [("mount", 1), ("schede", 1), ("processi", 0), ("namespace", 0)])
def test_only_what_belongs_to_the_machine_must_not_disappear(field, gone):
    full = leaks.Snapshot(**{**vars(EMPTY), field: frozenset({"cosa"})})
    assert len(leaks.difference(full, EMPTY)) == gone
    assert leaks.difference(EMPTY, full) == [f"{field}: in più cosa"]


def test_waiting_ends_as_soon_as_nothing_is_left():
    full = leaks.Snapshot(**{**vars(EMPTY), "cartelle": frozenset({"/run/x"})})
    looks = iter([full, full, EMPTY])
    assert leaks.wait(EMPTY, lambda: next(looks), grace=10) == []
    assert leaks.wait(EMPTY, lambda: full, grace=0) == ["cartelle: in più /run/x"]

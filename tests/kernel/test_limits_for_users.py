"""Chi non può avere limiti lo sa in una riga; chi ha un cgroup delegato li ha anche senza essere root."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from labkit import Lab
from labkit.client.process import Process
from labkit.errors import ConflictError
from tests import kernels, users

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(backend="direct") as lab:
        yield lab


def test_a_limit_that_cannot_be_had_is_said_in_one_line_and_the_program_runs(
    lab: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = {"memory": "64m", "cpus": 0.5, "pids_limit": 20}
    assert lab.run("busybox", ["echo", "parto"], quiet=True, **limits).output == "parto\n"
    said = capfd.readouterr().err.splitlines()
    wanting = [name for name in limits if not lab.features[name].ok]
    assert len(said) == len(wanting)
    for line, name in zip(said, wanting, strict=True):
        assert re.fullmatch(rf"Il limite {name} qui non vale: .+\. Rimedio: .+", line), line
        assert lab.features[name].reason in line
        assert lab.features[name].remedy in line


def test_inspect_tells_the_limits_that_hold_and_those_that_do_not(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], memory="64m", detach=True)
    info = container.inspect()
    assert (info.limits.memory == 64 << 20) == bool(lab.features["memory"].ok)
    assert len(info.warnings) == (0 if lab.features["memory"].ok else 1)
    container.rm(force=True)


def test_a_pause_that_cannot_be_had_is_explained(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    if lab.features["pause"].ok:
        container.pause()
        assert container.status == "paused"
    else:
        with pytest.raises(ConflictError, match="non si può mettere in pausa: "):
            container.pause()
        with pytest.raises(ConflictError, match="nessuno tiene il conto: "):
            container.stats()
        assert [stats.memory for stats in lab.stats()] == [None]
    container.rm(force=True)


# ---- a plain user to whom a cgroup was given, as systemd does; in a machine, where version 2 is whole

#: Run as a plain user inside the machine: a lab of its own, with limits, in a cgroup that root gave to it.
_PLAIN = """
import os, sys
sys.path[:0] = {paths!r}
from labkit import Lab
with Lab(backend="direct") as lab:
    print("modo", lab.mode)
    print("limiti", *sorted(name for name in ("memory", "cpus", "pids_limit", "pause") if lab.features[name].ok))
    eat = ["sh", "-c", "x=a; while :; do x=$x$x; done"]
    print("ucciso", lab.run("busybox", eat, memory="24m", memory_swap="24m", quiet=True).exit_code)
    spin = lab.run("busybox", ["sleep", "60"], cpus=0.5, pids_limit=7, detach=True)
    stats = spin.stats()
    print("processi", stats.pids, stats.pids_limit)
    spin.pause()
    print("pausa", spin.status)
print("restano", *sorted(name for name in os.listdir("/sys/fs/cgroup/dato") if name.startswith("labkit-")))
"""

#: Run as root: makes the cgroup, gives it away, becomes the user in a leaf of it.
_GIVE = """
import os
base = "/sys/fs/cgroup/dato"
os.makedirs(base + "/cliente")
open("/sys/fs/cgroup/cgroup.subtree_control", "w").write("+memory +cpu +pids")
for folder in (base, base + "/cliente"):
    for name in ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"):
        os.chown(folder + name, 1000, 1000)
pid = os.fork()
if pid == 0:
    try:
        open(base + "/cliente/cgroup.procs", "w").write("0")
        os.makedirs("/tmp/casa", exist_ok=True)
        os.chown("/tmp/casa", 1000, 1000)
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        os.execve({python!r}, [{python!r}, "-c", {source!r}],
                  {{"HOME": "/tmp/casa", "PATH": os.environ["PATH"], "LABKIT_RUN": "/tmp/casa/run"}})
    finally:
        os._exit(1)
_ = os.waitpid(pid, 0)
"""


@pytest.mark.machine
@pytest.mark.once
def test_a_plain_user_with_a_cgroup_of_its_own_has_limits_too() -> None:
    if reason := kernels.missing("uml"):
        pytest.skip(reason)
    plain = _PLAIN.format(paths=[str(users.ROOT), *(path for path in sys.path if path)])
    with Lab(backend="uml") as lab, lab.process("root") as root:
        found = dict(line.partition(" ")[::2] for line in said(root, _give(plain)).splitlines())
    assert found == {
        "modo": "nosub",
        "limiti": "cpus memory pause pids_limit",
        "ucciso": "137",
        "processi": "1 7",
        "pausa": "paused",
        "restano": "",
    }


def _give(source: str) -> str:
    return _GIVE.format(python=sys.executable, source=source)


def said(process: Process, source: str) -> str:
    channel = process.lab.wire.open("process_ask", label=process.label, verb="cell", args={"source": source})
    return b"".join(data for _, data in channel).decode()

"""Quanto vive un laboratorio: quanto il programma che lo ha aperto, comunque questo si comporti."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.leftovers import client, folders, gone, new_run, processes, send

pytestmark = [pytest.mark.faults, pytest.mark.kernel, pytest.mark.serial]

SOON = 10.0  # seconds: generous, the machine may be busy; the promise of 500 ms is in test_random_kills


@pytest.fixture
def run() -> Iterator[Path]:
    """Una cartella di laboratori, che alla fine deve essere vuota."""
    path = new_run()
    yield path
    gone(path, within=SOON)
    if path.exists():
        path.rmdir()


def test_a_forked_child_cannot_use_the_lab_nor_end_it(run: Path) -> None:
    with client("forks", run=run) as program:
        refused = program.says()
        assert refused.startswith("figlio: ")
        assert "fork" in refused
        assert "Rimedio: " in refused
        assert program.says() == "padre: 0"


def test_a_forked_child_may_open_a_lab_of_its_own(run: Path) -> None:
    with client("forks", run=run) as program:
        lines = [program.says() for _ in range(3)]
        assert lines[2] == "laboratorio del figlio: 0"


def test_the_lab_ends_with_its_client_although_a_forked_child_stays(run: Path) -> None:
    with client("forks", run=run) as program:
        child = int([program.says() for _ in range(4)][3].rpartition(" ")[2])
        try:
            assert processes(run)
            program.kill()
            gone(run, within=SOON)
            assert Path(f"/proc/{child}").exists()
        finally:
            send(child, signal.SIGKILL)


def test_the_lab_ends_although_somebody_has_inherited_its_socket(run: Path) -> None:
    with client("inherits", run=run) as program:
        heir = int(program.says())
        try:
            program.kill()
            gone(run, within=SOON)
            assert Path(f"/proc/{heir}").exists()
        finally:
            send(heir, signal.SIGKILL)


def test_a_lab_opened_by_a_thread_outlives_the_thread(run: Path) -> None:
    with client("thread", run=run) as program:
        assert program.says() == "[0, 0, 0, 0]"
        program.kill()
        gone(run, within=SOON)


def test_two_labs_do_not_know_each_other(run: Path) -> None:
    with client("waits", run=run) as one, client("waits", run=run) as two:
        assert one.says() == two.says() == "pronto"
        assert len(folders(run)) == 2
        send(one.supervisor(), signal.SIGKILL)
        one.process.kill()
        one.process.wait()
        deadline = time.monotonic() + SOON
        while len(folders(run)) == 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(folders(run)) == 1
        assert two.process.poll() is None
        assert len(two.containers()) >= 1
        two.kill()
        gone(run, within=SOON)


@pytest.mark.parametrize("stopped", ["supervisore", "guardiano"])
def test_the_lab_ends_although_one_of_its_processes_is_stopped(run: Path, stopped: str) -> None:
    with client("waits", run=run) as program:
        assert program.says() == "pronto"
        guard, supervisor, containers = program.guard(), program.supervisor(), program.containers()
        pid = {"supervisore": supervisor, "guardiano": guard}[stopped]
        send(pid, signal.SIGSTOP)
        try:
            program.kill()
            deadline = time.monotonic() + SOON
            while (alive := [p for p in (supervisor, *containers) if _runs(p)]) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert alive == []
        finally:
            send(pid, signal.SIGCONT)
        gone(run, within=SOON)


def test_the_lab_ends_although_the_guard_is_stopped_and_the_socket_inherited(run: Path) -> None:
    with client("inherits", run=run) as program:
        heir = int(program.says())
        guard, supervisor = program.guard(), program.supervisor()
        send(guard, signal.SIGSTOP)
        try:
            program.kill()
            deadline = time.monotonic() + SOON
            while _runs(supervisor) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not _runs(supervisor)
        finally:
            send(guard, signal.SIGCONT)
            send(heir, signal.SIGKILL)
        gone(run, within=SOON)


def _runs(pid: int) -> bool:
    """Se il processo esiste e non è uno zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_at_a_random_moment_gives_the_prompt_back_and_leaves_the_lab_usable(run: Path) -> None:
    dice = random.Random(2024)
    times = 20
    with client("interrupted", str(times), run=run) as program:
        for _ in range(times):
            assert program.says() == "via"
            moment = dice.uniform(0, 0.1)
            time.sleep(moment)
            send(program.pid, signal.SIGINT)
            waited, works, containers = program.says().split()
            assert float(waited) < 2, f"Ctrl-C dopo {moment * 1000:.0f} ms"
            assert (works, containers) == ("ciao", "0"), f"Ctrl-C dopo {moment * 1000:.0f} ms"


def test_ctrl_c_while_the_lab_is_born_leaves_nothing(run: Path) -> None:
    dice = random.Random(2024)
    for _ in range(8):
        with client("opening", run=run) as program:
            assert program.says() == "via"
            moment = dice.uniform(0, 0.12)
            time.sleep(moment)
            send(program.pid, signal.SIGINT)
            assert program.says() in ("interrotto", "aperto")
            deadline = time.monotonic() + SOON
            while folders(run) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert folders(run) == [], f"Ctrl-C dopo {moment * 1000:.0f} ms: il laboratorio c'è ancora"
        gone(run, within=SOON)


def test_a_notebook_restarted_twice_has_only_its_last_lab(run: Path) -> None:
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=os.environ | {"LABKIT_RUN": str(run)}, stderr=subprocess.DEVNULL)
    talk = manager.client()
    talk.start_channels()
    seen: set[str] = set()
    try:
        for now in (False, True, None):
            talk.wait_for_ready(timeout=60)
            answer = talk.execute_interactive(_CELL, timeout=60, output_hook=lambda message: None)
            assert answer["content"]["status"] == "ok", answer["content"]
            labs = folders(run)
            assert len(labs) == 1, labs
            assert labs[0] not in seen
            seen.add(labs[0])
            if now is not None:
                manager.restart_kernel(now=now)
    finally:
        talk.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    gone(run, within=SOON)


_CELL = """
from labkit import Lab
lab = Lab()
web = lab.run("busybox", "sleep 100", detach=True)
assert web.exec("true", quiet=True).exit_code == 0
"""

"""A caldo e a freddo: un container già pronto prima che qualcuno lo chieda, e che cosa non deve mai succedere."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab
from labkit.client.process import Process
from labkit.errors import LabError
from labkit.model import ContainerInfo

pytestmark = pytest.mark.kernel

#: Secondi che bastano, anche su una macchina occupata, perché il laboratorio prepari chi verrà.
_LONG = 20.0

#: Chi aspetta di diventare un container, visto da root nel laboratorio: un figlio del supervisore in namespace suoi.
_WAITING = """
import os
mine = os.readlink("/proc/1/ns/uts")
for pid in filter(str.isdecimal, os.listdir("/proc")):
    try:
        parent = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]
        other = os.readlink(f"/proc/{pid}/ns/uts") != mine
        if parent == "1" and other and "python" in os.readlink(f"/proc/{pid}/exe"):
            print(pid)
    except OSError:
        pass
"""


#: Chi di quelli vive ancora: uno zombie ha già finito.
_ALIVE = """
for pid in {}:
    try:
        state = open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        continue
    if state != "Z":
        print(pid)
"""


#: I processi fermi del laboratorio (stato T): un guscio ci resta solo un momento.
_STOPPED = """
import os
for pid in filter(str.isdecimal, os.listdir("/proc")):
    try:
        state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        continue
    if state == "T":
        print(pid)
"""

#: Chi esce da un guscio: un figlio con il PID che gli è stato detto, la stessa memoria, e il padre di chi lo ha fatto.
_HATCH = """
import os, sys
from labkit.kernel import libc
parent = os.getpid()
shell, pidfd = libc.clone3(0)
if shell == 0:
    memory = [os.getpid()]
    pid = libc.hatch(0)
    right = pid == os.getpid() != memory[0] and os.getppid() == parent
    os.execv("/bin/sh", ["sh", "-c", f"exit {42 if right else 1}"])
pid, status = os.waitpid(-1, 0)
assert pid != shell and os.waitstatus_to_exitcode(status) == 42, (pid, shell, status)
pid, status = os.waitpid(shell, os.WUNTRACED)
assert os.WIFSTOPPED(status), status
os.kill(shell, 9)
os.waitpid(shell, 0)
"""


@pytest.fixture
def spy(lab: Lab) -> Iterator[Process]:
    with lab.process("spia") as process:
        yield process


def inside(lab: Lab, spy: Process, source: str) -> str:
    """Quello che stampa un pezzo di Python eseguito da root nel laboratorio."""
    channel = lab.wire.open("process_ask", label=spy.label, verb="cell", args={"source": source})
    return b"".join(data for _, data in channel).decode()


def waiting(lab: Lab, spy: Process) -> list[int]:
    return [int(pid) for pid in inside(lab, spy, _WAITING).split()]


def settled(lab: Lab, spy: Process, count: int = 3) -> list[int]:
    """Chi aspetta, quando sono tutti: uno qualunque e gli attesi."""
    deadline = time.monotonic() + _LONG
    while len(found := waiting(lab, spy)) < count:
        assert time.monotonic() < deadline, f"aspettano solo in {len(found)}"
        time.sleep(0.05)
    return found


def started(lab: Lab, image: Any = "busybox", **options: Any) -> ContainerInfo:
    return lab.run(image, ["sleep", "60"], detach=True, **options).inspect()


def ahead(info: ContainerInfo) -> list[str]:
    return [step.name for step in info.steps if step.ahead]


def test_the_second_container_is_ready_before_it_is_asked_for(lab: Lab, spy: Process) -> None:
    started(lab)
    settled(lab, spy)
    info = started(lab, name="altro", env={"A": "b"}, hostname="suo", user="0", read_only=True, init=True)
    assert info.warm
    assert {"MakeLayer", "CloneProcess", "MountOverlay", "PivotRoot"} < set(ahead(info))
    assert ahead(info)[-1] == "DropBoundingSet"
    assert {step.state for step in info.steps} == {"done"}
    assert next(step.name for step in info.steps if not step.ahead) == "WriteIdentity"
    look = ["sh", "-c", "hostname; echo $A; cat /etc/hostname"]
    assert lab.container("altro").exec(look, env={"A": "b"}, quiet=True).output.split() == ["suo", "b", "suo"]


@pytest.mark.parametrize("options", [{"network": "none"}, {"cap_add": "NET_ADMIN"}, {"cap_drop": "ALL"}])
def test_whoever_is_different_is_not_taken_for_the_one_expected(
    lab: Lab, spy: Process, options: dict[str, Any]
) -> None:
    started(lab)
    settled(lab, spy)
    info = started(lab, **options)
    assert not info.warm
    assert not {"MakeLayer", "MountOverlay", "MaskPaths"} & set(ahead(info))


def test_an_image_that_has_changed_is_not_the_one_expected(lab: Lab, spy: Process, root: Path) -> None:
    lab.run(root, ["sh", "-c", ":"], quiet=True)
    settled(lab, spy)
    (root / "nuovo").write_text("c'è")
    result = lab.run(root, ["cat", "/nuovo"], quiet=True)
    assert result.output == "c'è"


def test_a_plan_made_by_hand_is_all_done_by_hand(lab: Lab, spy: Process) -> None:
    started(lab)
    settled(lab, spy)
    plan = lab.plan("busybox", ["sleep", "60"])
    assert not any(plan.step().ahead for _ in plan.steps)


def test_whoever_is_created_for_later_keeps_nobody_waiting(lab: Lab, spy: Process) -> None:
    started(lab)
    settled(lab, spy)
    for number in range(5):
        lab.create("busybox", ["sleep", "60"], name=f"dopo-{number}")
    time.sleep(0.3)
    assert len(waiting(lab, spy)) == 1
    lab.container("dopo-3").start()
    assert lab.container("dopo-3").status == "running"


def test_what_one_has_written_the_next_does_not_find(lab: Lab, spy: Process) -> None:
    write = "echo segreto > /tmp/x; echo segreto > /etc/x; echo segreto > /dev/shm/x; cat /tmp/x"
    look = "ls /tmp/x /etc/x /dev/shm/x 2>/dev/null; cat /etc/hostname"
    for number in range(4):
        assert lab.run("busybox", ["sh", "-c", write], quiet=True).output == "segreto\n"
        settled(lab, spy)
        name = f"dopo-{number}"
        assert lab.run("busybox", ["sh", "-c", look], name=name, quiet=True).output == f"{name}\n"


def test_whoever_dies_waiting_is_replaced_and_no_one_notices(lab: Lab, spy: Process) -> None:
    started(lab)
    for _ in range(3):
        doomed = settled(lab, spy)
        inside(lab, spy, f"import os\nfor pid in {doomed}: os.kill(pid, 9)")
        while inside(lab, spy, _ALIVE.format(doomed)):  # a signal is not yet an end
            time.sleep(0.01)
        assert lab.run("busybox", ["echo", "eccomi"], quiet=True).output == "eccomi\n"
    settled(lab, spy)
    assert started(lab).warm


def test_who_hatches_is_a_sibling_and_its_shell_never_runs_again() -> None:
    subprocess.run([sys.executable, "-c", _HATCH], check=True, timeout=30)


def test_no_shell_is_left_behind(lab: Lab, spy: Process) -> None:
    started(lab, name="uno")
    doomed = settled(lab, spy)
    inside(lab, spy, f"import os\nos.kill({doomed[0]}, 9)")
    started(lab, name="due", init=True)
    started(lab, image="host", name="tre")
    settled(lab, spy)
    deadline = time.monotonic() + _LONG
    while stopped := inside(lab, spy, _STOPPED).split():
        assert time.monotonic() < deadline, f"restano fermi {stopped}"
        time.sleep(0.05)


def test_a_dead_midwife_is_replaced(lab: Lab, spy: Process) -> None:
    started(lab)
    doomed = settled(lab, spy)
    # She is the child of the lab's first process that has been there longest: the spy came later.
    others = f"set(map(int, open('/proc/1/task/1/children').read().split())) - {{os.getpid(), *{doomed}}}"
    names = {c.inspect().pid for c in lab.ps()}
    inside(lab, spy, f"import os\nfor pid in {others} - {names}: os.kill(pid, 9)")
    for _ in range(5):
        assert lab.run("busybox", ["echo", "eccomi"], quiet=True).output == "eccomi\n"


def test_how_many_wait_is_bounded(lab: Lab, spy: Process) -> None:
    for _ in range(6):
        started(lab)
    settled(lab, spy)
    time.sleep(0.3)
    assert len(waiting(lab, spy)) == 3


def test_no_start_is_warm_if_nobody_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_WARM", "0")
    with Lab(backend="direct") as lab:
        for _ in range(3):
            info = started(lab)
            time.sleep(0.1)
        assert not info.warm
        assert "CloneProcess" in ahead(info)
        assert "MountOverlay" not in ahead(info)


@pytest.mark.parametrize("wrong", ["-1", "tanti", "17", "²"])
def test_a_number_that_makes_no_sense_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("LABKIT_WARM", wrong)
    with pytest.raises(LabError, match="LABKIT_WARM") as caught:
        Lab(backend="direct")
    assert caught.value.remedy == "unset LABKIT_WARM"

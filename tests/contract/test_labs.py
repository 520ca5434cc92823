"""Un laboratorio, due, un secondo client, molti thread, e che cosa resta dopo la fine."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from labkit import Lab, rundir
from labkit.client.container import Container
from labkit.client.plan import Plan
from labkit.errors import CommandError, ConflictError, InvalidError, LabClosedError, LabError, NotFoundError
from labkit.model import Feature
from tests import users


def gone(pid: int) -> bool:
    """Se quel processo (il guardiano) finisce."""
    end = time.monotonic() + 20
    while rundir.start_time(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not rundir.start_time(pid)


def guard_of(lab: Lab) -> int:
    return next(record.guard_pid for _, record in rundir.live() if record.id == lab.id)


def second_home(backend: str) -> str:
    """Dove nasce un laboratorio in più: due macchine QEMU insieme costano, e non si conoscono come due qualunque."""
    return "direct" if backend == "qemu" else backend


# ---- one lab


def test_a_lab_says_who_it_is(lab: Lab, backend: str) -> None:
    assert lab.backend == backend
    assert lab.id.startswith(f"{backend}-{os.getpid()}-")
    assert not lab.closed
    assert repr(lab) == f"Lab(backend={backend!r})"
    assert lab.mode == {"fake": "fake", "direct": users.mode(), "uml": "vm", "qemu": "vm"}[backend]
    assert all(isinstance(feature, Feature) and feature.key == key for key, feature in lab.features.items())


def test_what_is_asked_outside_is_not_asked_to_a_container(lab: Lab) -> None:
    assert lab.outside("echo due parole") == "due parole\n"
    seen = lab.outside(["readlink", "/proc/self/ns/pid"]).strip()
    assert (seen == os.readlink("/proc/self/ns/pid")) is (lab.mode != "vm")  # a machine has processes of its own
    with pytest.raises(CommandError, match="Il comando «non-c-e» non parte"):
        lab.outside("non-c-e")
    with pytest.raises(InvalidError, match="ha bisogno di un comando"):
        lab.outside("")


def test_a_block_is_a_life(backend: str) -> None:
    with Lab(backend=backend) as lab:
        guard = guard_of(lab)
        lab.run("busybox", ["sleep", "60"], detach=True)
    assert lab.closed
    assert gone(guard)
    assert repr(lab) == f"Lab(backend={backend!r}, chiuso)"
    assert lab.id not in [record.id for _, record in rundir.records()]


def test_a_block_that_fails_is_a_life_all_the_same(born: str) -> None:
    with pytest.raises(ZeroDivisionError), Lab(backend=born) as lab:
        raise ZeroDivisionError
    assert lab.closed


def test_closing_twice_does_no_harm(born: str) -> None:
    lab = Lab(backend=born)
    lab.close()
    lab.close()
    assert lab.closed


def test_a_lab_that_nobody_holds_ends(born: str) -> None:
    lab = Lab(backend=born)
    guard = guard_of(lab)
    del lab
    gc.collect()
    assert gone(guard)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InvalidError, match="Il backend «nuvola» non c'è") as caught:
        Lab(backend="nuvola")
    assert caught.value.remedy


# ---- after the end

AFTER: dict[str, Callable[[Lab], object]] = {
    "run": lambda lab: lab.run("busybox", "true"),
    "run detached": lambda lab: lab.run("busybox", "true", detach=True),
    "create": lambda lab: lab.create("busybox", "true"),
    "plan": lambda lab: lab.plan("busybox", "true"),
    "ps": lambda lab: lab.ps(),
    "container": lambda lab: lab.container("web"),
    "rootfs": lambda lab: lab.rootfs("busybox"),
    "process": lambda lab: lab.process(),
    "namespaces": lambda lab: lab.namespaces(),
    "events": lambda lab: lab.events(),
    "follow_events": lambda lab: next(lab.follow_events()),
}
ITS = [
    "status",
    "health",
    "pid",
    "ip",
    "start",
    "restart",
    "attach",
    "ports",
    "exit_code",
    "plan",
    "inspect",
    "exec",
    "logs",
    "wait",
    "stop",
    "kill",
    "rm",
    "top",
]


@dataclass
class Ended:
    lab: Lab
    container: Container
    plan: Plan


@pytest.fixture(scope="module")
def ended(backend: str) -> Ended:
    """Quello che resta in mano a chi ha chiuso il laboratorio."""
    with Lab(backend=backend) as lab:
        return Ended(lab, lab.run("busybox", ["sleep", "60"], name="web", detach=True), lab.plan("busybox", "true"))


@pytest.mark.parametrize("what", AFTER)
def test_a_closed_lab_says_so(ended: Ended, what: str) -> None:
    with pytest.raises(LabClosedError, match="Il laboratorio è chiuso") as caught:
        AFTER[what](ended.lab)
    assert caught.value.remedy == "lab = Lab()"


@pytest.mark.parametrize("what", [*ITS, "exec"])
def test_a_container_of_a_closed_lab_says_so(ended: Ended, what: str) -> None:
    with pytest.raises(LabClosedError, match="Il laboratorio è chiuso"):
        ended.container.exec("true") if what == "exec" else getattr(ended.container, what)()


@pytest.mark.parametrize("what", ["step", "undo", "run", "rollback"])
def test_a_plan_of_a_closed_lab_says_so(ended: Ended, what: str) -> None:
    with pytest.raises(LabClosedError, match="Il laboratorio è chiuso"):
        getattr(ended.plan, what)()


def test_whoever_is_waiting_when_the_lab_ends_is_told(born: str) -> None:
    lab = Lab(backend=born)
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    problems: list[BaseException] = []

    def wait() -> None:
        try:
            container.wait()
        except LabError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    lab.close()
    for thread in threads:
        thread.join(5)
    assert [type(problem) for problem in problems] == [LabClosedError] * 3


# ---- two labs


def test_two_labs_do_not_know_each_other(lab: Lab, backend: str) -> None:
    mine = lab.run("busybox", ["sleep", "60"], name="web", detach=True)
    with Lab(backend=second_home(backend)) as other:
        assert len(other.ps(all=True)) == 0
        theirs = other.run("busybox", ["sleep", "60"], name="web", detach=True)
        assert theirs.id != mine.id
        theirs.kill()
        assert theirs.wait(timeout=20) == 137
    assert mine.status == "running"


# ---- a second client


def test_a_second_client_sees_and_enters(lab: Lab) -> None:
    lab.run("busybox", ["sleep", "60"], name="web", detach=True)
    with Lab.connect(lab.id) as second:
        assert second.id == lab.id
        assert [c.name for c in second.ps()] == ["web"]
        assert second.container("web").exec(["echo", "eccomi"], quiet=True).output == "eccomi\n"
        second.run("busybox", ["sleep", "60"], name="suo", detach=True)
        with pytest.raises(ConflictError):
            second.run("busybox", "true", name="web")
    assert [c.name for c in lab.ps()] == ["web", "suo"], "who only visited has closed nothing"


def test_the_newest_lab_is_the_one_to_visit(lab: Lab, backend: str) -> None:
    with Lab(backend=second_home(backend)) as newer:
        with Lab.connect() as found:
            assert found.id == newer.id
        with Lab.connect(lab.id[:-1]) as found:
            assert found.id == lab.id


def test_there_is_no_visiting_what_is_not_there(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="Il laboratorio «inventato» non c'è") as caught:
        Lab.connect("inventato")
    assert caught.value.remedy == "lab = Lab()"


def test_the_end_of_the_lab_is_the_end_of_every_visit(born: str) -> None:
    with Lab(backend=born) as lab:
        second = Lab.connect(lab.id)
        waiting = second.wire.open("events", follow=True)
    with pytest.raises(LabClosedError):
        waiting.result  # noqa: B018
    with pytest.raises(LabClosedError):
        second.ps()
    assert second.closed


def test_a_program_goes_on_when_its_client_has_gone(lab: Lab) -> None:
    with Lab.connect(lab.id) as second:
        channel = second.open_run("busybox", ["sleep", "60"], name="orfano")
        channel.receive(timeout=20)
        assert [c.name for c in lab.ps()] == ["orfano"]
    assert [c.name for c in lab.ps()] == ["orfano"]


def test_a_client_that_goes_away_while_it_waits_does_no_harm(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], name="web", detach=True)
    with Lab.connect(lab.id) as second:
        for verb in ("wait", "logs"):
            second.wire.open(verb, name="web", **({"follow": True} if verb == "logs" else {}))
        second.ps()
    container.kill()
    assert container.wait(timeout=20) == 137


# ---- threads and forks


def test_many_threads_share_one_lab(lab: Lab) -> None:
    def one(number: int) -> str:
        return lab.run("busybox", ["echo", str(number)], quiet=True).output

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [f"{number}\n" for number in range(40)]
    assert len(lab.ps(all=True)) == 0


def test_one_name_wanted_by_many_threads_goes_to_one(lab: Lab) -> None:
    def one(number: int) -> bool:
        try:
            lab.run("busybox", ["sleep", "60"], name="conteso", detach=True)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1


def test_a_child_of_the_notebook_is_told_that_the_lab_is_not_its_own(lab: Lab) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lab.ps()
        except LabError as problem:
            os.write(writer, str(problem).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        assert "è del processo padre: un figlio nato con fork non lo può usare" in pipe.read()
    os.waitpid(pid, 0)
    assert len(lab.ps()) == 0

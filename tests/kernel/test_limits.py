"""I limiti sono veri: nella versione 1 (root su questa macchina) e nella 2 (dentro User Mode Linux)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from labkit import Lab, LabError
from labkit.client.container import Container
from labkit.client.process import Process
from labkit.errors import ConflictError, InvalidError, KernelError, NotFoundError
from labkit.limits import Stats
from labkit.model import Event
from tests import kernels

pytestmark = [pytest.mark.kernel, pytest.mark.once]

BACKENDS = [
    pytest.param("direct", marks=pytest.mark.root),
    pytest.param("uml", marks=pytest.mark.machine),
]

SPIN = ["sh", "-c", "while :; do :; done"]
#: Takes memory, a megabyte at a time, and never gives it back.
EAT = ["sh", "-c", "x=a; while :; do x=$x$x; done"]
#: Fork as much as it can, without ever ending by itself.
BOMB = ["sh", "-c", "bomb() { bomb | bomb & sleep 30; }; bomb & exec sleep 300"]


@pytest.fixture(scope="module", params=BACKENDS)
def shared(request: pytest.FixtureRequest) -> Iterator[Lab]:
    backend = str(request.param)
    if backend == "uml" and (reason := kernels.missing("uml")):
        pytest.skip(reason)
    with Lab(backend=backend) as lab:
        if not lab.features["memory"].ok:
            pytest.skip(lab.features["memory"].reason)
        yield lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """Il laboratorio del modulo, che dopo ogni prova deve essere vivo, e torna vuoto."""
    yield shared
    for container in shared.ps(all=True):
        container.rm(force=True)
    assert shared.run("busybox", ["echo", "vivo"], quiet=True).output == "vivo\n"


def eventually(check: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "non è successo"
        time.sleep(0.02)


def said(process: Process, source: str) -> str:
    """Quello che scrive del Python eseguito in quel processo."""
    channel = process.lab.wire.open("process_ask", label=process.label, verb="cell", args={"source": source})
    return b"".join(data for _, data in channel).decode()


def events(lab: Lab, action: str, container: Container) -> list[Event]:
    return [event for event in lab.events() if event.action == action and event.name == container.name]


def between(container: Container, seconds: float) -> tuple[Stats, Stats]:
    before = container.stats()
    time.sleep(seconds)
    return before, container.stats()


# ---- memory


def test_who_takes_more_than_its_memory_is_killed_and_the_event_says_who(lab: Lab) -> None:
    container = lab.run("busybox", EAT, memory="24m", memory_swap="24m", detach=True)
    assert container.wait(timeout=30) == 137
    info = container.inspect()
    assert (info.exit_code, info.oom_killed) == (137, True)
    stats = container.stats()
    assert stats.memory_limit == 24 << 20
    assert stats.memory_peak is not None
    assert 23 << 20 <= stats.memory_peak <= 24 << 20
    (event,) = events(lab, "oom", container)
    assert event.details["process"] == "sh"
    assert event.details["pid"] > 0


def test_a_killed_program_that_took_little_was_not_out_of_memory(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], memory="24m", detach=True)
    container.kill()
    assert container.wait(timeout=10) == 137
    assert not container.inspect().oom_killed
    assert events(lab, "oom", container) == []


def test_what_is_written_in_the_writable_layer_counts(lab: Lab) -> None:
    with lab.process("spia") as spy:
        if spy.run(["stat", "-f", "-c", "%T", f"{lab.wire.hello['folder']}/lab"], quiet=True).output != "tmpfs\n":
            pytest.skip("gli strati qui stanno sul disco: conta come memoria solo ciò che sta in un tmpfs")
    write = ["dd", "if=/dev/zero", "of=/pieno", "bs=1M", "count=60"]
    assert lab.run("busybox", write, memory="24m", memory_swap="24m", quiet=True).exit_code == 137


def test_the_smallest_memory_is_enough_to_start(lab: Lab) -> None:
    assert lab.run("busybox", ["echo", "parto"], memory="6m", quiet=True).output == "parto\n"


# ---- CPU


def test_the_quota_is_seen_as_throttled_periods_and_as_less_time(lab: Lab) -> None:
    container = lab.run("busybox", SPIN, cpus=0.2, detach=True)
    time.sleep(0.3)
    before, after = between(container, 2.0)
    assert after.throttled_periods is not None
    assert before.throttled_periods is not None
    assert after.throttled_periods > before.throttled_periods
    assert after.cpu_percent(before) <= 26


def test_a_quota_is_changed_while_the_program_runs(lab: Lab) -> None:
    container = lab.run("busybox", SPIN, cpus=0.1, detach=True)
    time.sleep(0.3)
    slow = between(container, 1.5)
    assert container.update(cpus=0).cpus == 0
    time.sleep(0.3)
    fast = between(container, 1.5)
    assert fast[1].cpu_percent(fast[0]) > 1.5 * slow[1].cpu_percent(slow[0])
    assert fast[1].throttled_periods == fast[0].throttled_periods, "without a quota nothing is throttled"


def test_the_weight_decides_who_runs_more_on_the_same_processor(lab: Lab) -> None:
    pin = {"cpuset_cpus": "0"} if lab.features["cpuset_cpus"].ok else {}
    heavy = lab.run("busybox", SPIN, cpu_shares=2048, detach=True, **pin)
    light = lab.run("busybox", SPIN, cpu_shares=256, detach=True, **pin)
    time.sleep(0.3)
    first = (heavy.stats(), light.stats())
    time.sleep(3)
    second = (heavy.stats(), light.stats())
    assert second[0].cpu_percent(first[0]) > 3 * second[1].cpu_percent(first[1])


def test_a_container_runs_only_on_its_processors(lab: Lab) -> None:
    if not lab.features["cpuset_cpus"].ok:  # the kernel of User Mode Linux has one processor, and no choice
        container = lab.run("busybox", ["sleep", "60"], cpuset_cpus="0", detach=True)
        (line,) = container.inspect().warnings
        assert line.startswith("Il limite cpuset_cpus qui non vale: questo kernel non lo sa fare")
        return
    result = lab.run("busybox", ["grep", "Cpus_allowed_list", "/proc/self/status"], cpuset_cpus="0", quiet=True)
    assert result.output.split() == ["Cpus_allowed_list:", "0"]
    with pytest.raises(KernelError, match="una di quelle CPU qui non c'è"):
        lab.run("busybox", "true", cpuset_cpus="4000")


# ---- processes


def test_a_fork_bomb_stops_at_its_limit_and_can_be_killed(lab: Lab) -> None:
    container = lab.run("busybox", BOMB, pids_limit=20, detach=True)
    eventually(lambda: (container.stats().pids_refused or 0) > 0)
    assert (container.stats().pids or 0) <= 20
    assert lab.run("busybox", ["echo", "vivo"], quiet=True).output == "vivo\n"
    container.kill()
    assert container.wait(timeout=20) == 137


def test_a_bomb_without_a_limit_stops_at_the_ceiling_of_the_lab(lab: Lab) -> None:
    with lab.process("guarda") as process:
        ceiling = int(said(process, "from labkit import kernel\nprint(kernel.cgroup_top().read('pids.max'))"))
    assert 100 <= ceiling <= 4096


# ---- disks


def test_a_rate_is_written_for_the_device_and_a_wrong_device_is_explained(lab: Lab) -> None:
    disk = "/dev/ubda" if lab.backend == "uml" else ""
    if disk:
        container = lab.run("busybox", ["sleep", "60"], device_read_bps=f"{disk}:1m", detach=True)
        assert container.update(device_read_bps=f"{disk}:2m").device_read_bps == ((disk, 2 << 20),)
    with pytest.raises(NotFoundError, match="«/dev/inventato» non c'è"):
        lab.run("busybox", "true", device_write_bps="/dev/inventato:1m")
    with pytest.raises(InvalidError, match="«/dev/null» non è un disco"):
        lab.run("busybox", "true", device_read_bps="/dev/null:1m")
    assert len(lab.ps(all=True)) == (1 if disk else 0), "what was refused left no container"


# ---- live changes


def test_memory_goes_up_and_down_and_the_swap_that_nobody_chose_follows(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], memory="32m", detach=True)
    for size in ("128m", "16m", "64m", 0):
        container.update(memory=size)
        assert container.stats().memory_limit == ({"128m": 128 << 20, "16m": 16 << 20, "64m": 64 << 20}.get(str(size)))


def test_a_wrong_change_changes_nothing(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], memory="32m", cpus=0.5, detach=True)
    with pytest.raises(InvalidError, match="Limite sconosciuto: ram"):
        container.update(ram="1g")
    with pytest.raises(InvalidError):
        container.update(memory="1k")
    with pytest.raises(NotFoundError):
        container.update(cpus=1, device_read_bps="/dev/inventato:1m")
    limits = container.inspect().limits
    assert (limits.memory, limits.cpus, limits.device_read_bps) == (32 << 20, 0.5, ())
    assert container.stats().memory_limit == 32 << 20


def test_a_change_outlives_the_program(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "0.2"], memory="32m", detach=True)
    container.update(memory="48m")
    container.wait(timeout=10)
    container.start()
    assert container.inspect().limits.memory == 48 << 20
    assert container.stats().memory_limit == 48 << 20


# ---- pause


def test_a_paused_program_does_not_move_and_then_goes_on(lab: Lab) -> None:
    container = lab.run("busybox", SPIN, detach=True)
    container.pause()
    assert container.status == "paused"
    before, after = between(container, 0.5)
    assert after.cpu_seconds == before.cpu_seconds
    with pytest.raises(ConflictError, match="è in pausa"):
        container.exec("true")
    with pytest.raises(ConflictError, match="già in pausa"):
        container.pause()
    container.unpause()
    before, after = between(container, 0.5)
    assert (after.cpu_seconds or 0) > (before.cpu_seconds or 0)
    with pytest.raises(ConflictError, match="non è in pausa"):
        container.unpause()
    assert [event.action for event in lab.events() if event.name == container.name] == [
        "create", "start", "pause", "unpause",
    ]  # fmt: skip


def test_a_paused_container_can_be_stopped_killed_and_removed(lab: Lab) -> None:
    for end in (lambda c: c.stop(grace=5), lambda c: c.kill(), lambda c: c.rm(force=True)):
        container = lab.run("busybox", ["sleep", "60"], detach=True)
        container.pause()
        end(container)
        with contextlib.suppress(NotFoundError):
            container.wait(timeout=10)
        assert container.status in ("exited", "removed")


def test_a_group_is_killed_by_hand_all_at_once_even_if_frozen(lab: Lab) -> None:
    source = (
        "import os, time\nfrom labkit import kernel\n"
        "group = kernel.cgroup_top().child('mano').create()\nchildren = []\n"
        "for _ in range(3):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        group.add()\n"
        "        time.sleep(60)\n"
        "    children.append(child)\n"
        "while set(children) - set(group.pids()):\n"
        "    time.sleep(0.01)\n"
        "group.write('cgroup.freeze', 1)\ngroup.write('cgroup.kill', 1)\n"
        "print(*[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])\n"
        "while not group.remove():\n"
        "    time.sleep(0.01)\n"
    )
    with lab.process("mano") as process:
        assert said(process, source).split() == ["-9", "-9", "-9"]


# ---- the account


def test_the_account_of_everybody_is_one_question(lab: Lab) -> None:
    names = {lab.run("busybox", ["sleep", "60"], name=f"conto-{n}", detach=True).name for n in range(3)}
    found = {stats.name: stats for stats in lab.stats()}
    assert set(found) == names
    assert all(stats.pids == 1 and (stats.memory or 0) > 0 for stats in found.values())


def test_who_enters_with_exec_is_counted_and_limited_too(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], memory="24m", memory_swap="24m", detach=True)
    assert container.exec(EAT, quiet=True).exit_code == 137
    eventually(lambda: events(lab, "oom", container))


def test_a_removed_container_leaves_no_group(lab: Lab) -> None:
    look = "import os\nfrom labkit import kernel\nprint(*sorted({n for p in kernel.cgroup_top().parts"
    look += " for n in os.listdir(p.folder) if os.path.isdir(f'{p.folder}/{n}') and n[0] == 'c'}))"
    with lab.process("guarda") as process:
        for _ in range(5):
            lab.run("busybox", "true", quiet=True)
        eventually(lambda: len(said(process, look).split()) <= 3)


def test_the_plan_makes_limits_and_unmakes_them(lab: Lab) -> None:
    plan = lab.plan("busybox", ["sleep", "60"], memory="32m", pids_limit=9, name="passi")
    names = [step.name for step in plan.steps]
    assert names.count("SetLimit") >= 3
    while plan.step().name != "JoinCgroup":
        pass
    while any(step.state == "done" for step in plan.steps):
        plan.undo()
    container = plan.run()
    assert container.stats().memory_limit == 32 << 20
    assert container.stats().pids_limit == 9


def test_the_program_sees_its_group_as_the_root(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    for result in (
        lab.run("busybox", ["cat", "/proc/self/cgroup"], quiet=True),
        container.exec(["cat", "/proc/1/cgroup"], quiet=True),
    ):
        paths = {line.split(":")[2] for line in result.output.splitlines() if line.split(":")[1] != "name=systemd"}
        assert paths == {"/"}


def test_a_limit_beyond_reason_is_refused_before_anything_is_made(lab: Lab) -> None:
    for wrong in (
        {"memory": "1k"}, {"memory": "tanta"}, {"memory_swap": "64m"}, {"memory": "64m", "memory_swap": "32m"},
        {"cpus": -1}, {"cpus": "due"}, {"cpu_shares": 1}, {"cpuset_cpus": "tutte"}, {"pids_limit": -7},
        {"device_read_bps": "disco:1m"}, {"device_read_bps": "/dev/sda:0"}, {"device_read_bps": 7},
    ):  # fmt: skip
        with pytest.raises(LabError):
            lab.run("busybox", "true", **wrong)
    assert len(lab.ps(all=True)) == 0

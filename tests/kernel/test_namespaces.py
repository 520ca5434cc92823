"""Gli otto tipi di namespace, fatti davvero: creati, condivisi, confrontati, tenuti aperti, lasciati."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import combinations, pairwise

import pytest
from _pytest.mark import ParameterSet

from labkit import Lab
from labkit.client.container import Container
from labkit.client.process import Process
from labkit.errors import InvalidError, KernelError, LabError, NotFoundError, PlanError
from labkit.model import NAMESPACES, IdMap

pytestmark = pytest.mark.kernel

#: I tipi che questo kernel ha: in User Mode Linux manca «time».
HERE = tuple(kind for kind in NAMESPACES if kind != "time" or os.path.exists("/proc/self/ns/time"))
CLOCK = HERE[7:]

Maker = Callable[..., Process]


def needs_clock(kind: str | tuple[str, ...]) -> ParameterSet:
    """Un tipo (o più) come parametro: se è quello degli orologi la prova vuole un kernel che lo ha."""
    several = kind if isinstance(kind, tuple) else (kind,)
    return pytest.param(kind, marks=pytest.mark.clock if "time" in several else (), id="+".join(several))


KINDS = [needs_clock(kind) for kind in NAMESPACES]
#: In questi non entra chi chiama unshare, ma i figli che farà.
FOR_CHILDREN = {"pid", "time"}


def born(process: Process, *kinds: str) -> Process:
    """Il processo, arrivato davvero nei namespace nuovi."""
    process.unshare(*kinds)  # type: ignore[arg-type]
    return process.fork() if FOR_CHILDREN & set(kinds) else process


def different(one: Process, other: Process) -> set[str]:
    mine, theirs = one.namespaces(), other.namespaces()
    return {kind for kind in HERE if mine[kind] != theirs[kind]}


# ---- creating


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_alone_changes_only_itself(process: Maker, kind: str) -> None:
    assert different(born(process(), kind), process()) == {kind}


@pytest.mark.parametrize("pair", [needs_clock(pair) for pair in combinations(NAMESPACES, 2)])
def test_two_kinds_together_change_the_two(process: Maker, pair: tuple[str, str]) -> None:
    assert different(born(process(), *pair), process()) == set(pair)


@pytest.mark.clock
def test_all_eight_at_once(process: Maker) -> None:
    assert different(born(process(), *NAMESPACES), process()) == set(NAMESPACES)


@pytest.mark.parametrize("kind", [needs_clock(kind) for kind in sorted(FOR_CHILDREN)])
def test_pid_and_time_are_for_the_children(process: Maker, kind: str) -> None:
    one, other = process(), process()
    one.unshare(kind)  # type: ignore[arg-type]
    assert different(one, other) == set()
    one.fork()
    assert different(one, other) == {kind}


def test_a_new_namespace_every_time(process: Maker) -> None:
    one = process()
    seen = [one.unshare("uts").namespaces()["uts"] for _ in range(4)]
    # The number of a namespace that nobody uses any more may be given again, but not at once.
    assert all(before != after for before, after in pairwise(seen))


@pytest.mark.clock
def test_nothing_happens_to_who_asks(process: Maker) -> None:
    before = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in os.listdir("/proc/self/ns")}
    born(process(), *NAMESPACES).sethostname("altrove")
    assert {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in os.listdir("/proc/self/ns")} == before
    assert os.uname().nodename != "altrove"


@pytest.mark.parametrize("wrong", [(), ("boh",), ("mnt",), ("uts", "UTS"), (5,)])
def test_a_kind_that_does_not_exist_is_refused(process: Maker, wrong: tuple[str, ...]) -> None:
    one, other = process(), process()
    with pytest.raises(InvalidError) as caught:
        one.unshare(*wrong)  # type: ignore[arg-type]
    assert caught.value.remedy == "unshare('uts')"
    assert different(one, other) == set()


# ---- what each one isolates


def test_uts_is_a_name_of_one_s_own(process: Maker) -> None:
    one, other = process(), process()
    one.unshare("uts").sethostname("prova")
    assert one.hostname() == "prova"
    assert one.run("hostname", quiet=True).output == "prova\n"
    assert other.hostname() == "laboratorio"
    assert one.undo().state == "undone"
    assert one.hostname() == "laboratorio"


def test_mount_is_a_tree_of_one_s_own(process: Maker) -> None:
    one, other = process(), process()
    one.unshare("mount").mount("", "/", "", "rprivate").mount("tmpfs", "/mnt", "tmpfs").write("/mnt/segreto", "mio")
    assert one.read("/mnt/segreto") == "mio"
    with pytest.raises(KernelError) as caught:
        other.read("/mnt/segreto")
    assert caught.value.name == "ENOENT"
    one.umount("/mnt")
    with pytest.raises(KernelError):
        one.read("/mnt/segreto")


def test_pid_is_a_numbering_of_one_s_own(process: Maker) -> None:
    one = born(process(), "pid", "mount")
    assert one.getpid() == 1
    assert one.pid > 1, "from outside it is one of many"
    one.mount("", "/", "", "rprivate").mount("proc", "/proc", "proc")
    seen = one.run(["sh", "-c", "echo /proc/[0-9]*"], quiet=True).output.split()
    assert seen[0] == "/proc/1"
    assert len(seen) <= 3, "itself, the shell: nobody else"


def test_the_end_of_pid_1_is_the_end_of_everyone(lab: Lab, process: Maker) -> None:
    one = born(process("uno"), "pid")
    lab.process("due").setns(one, "pid").fork()
    assert {"uno", "due"} <= {p.label for p in lab.namespaces().processes}
    one.close()
    end = time.monotonic() + 20
    while (left := {"uno", "due"} & {p.label for p in lab.namespaces().processes}) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left


def test_ipc_is_a_set_of_queues_of_one_s_own(process: Maker) -> None:
    one, other = process(), process()
    one.unshare("ipc")
    other.unshare("ipc")
    count = "len(open('/proc/sysvipc/msg').readlines()) - 1"
    queue = "import ctypes; assert ctypes.CDLL(None).msgget(0, 0o1600) >= 0"
    one.python(f"{queue}; {queue}")
    for who, queues in ((one, 2), (other, 0)):
        who.python(f"assert {count} == {queues}")


def test_net_is_a_network_of_one_s_own_and_it_is_off(process: Maker) -> None:
    one, other = process(), process()
    one.unshare("net")
    assert one.links() == ["lo"]
    assert other.links()[:2] == ["lo", "lab0"]
    one.python("from labkit import kernel; assert kernel.links() == {'lo': 'down'}")
    one.link_up("lo")
    one.python("from labkit import kernel; assert kernel.links() == {'lo': 'up'}")


def test_cgroup_is_a_root_of_one_s_own(process: Maker) -> None:
    one = process().unshare("cgroup")
    rows = [line.split(":", 2)[2] for line in one.read("/proc/self/cgroup").splitlines()]
    assert set(rows) == {"/"}


@pytest.mark.clock
def test_time_is_a_clock_of_one_s_own(process: Maker) -> None:
    one, other = process(), process()
    one.unshare("time").time_offset(monotonic=1_000_000, boottime=2_000_000).fork()

    def uptime(who: Process) -> float:
        return float(who.read("/proc/uptime").split()[0])

    assert 1_999_999 < uptime(one) - uptime(other) < 2_000_001
    one.python("import time; assert time.clock_gettime(time.CLOCK_MONOTONIC) > 1_000_000")


@pytest.mark.clock
def test_a_clock_is_set_before_the_first_child_or_never(process: Maker) -> None:
    one = process().unshare("time").fork()
    with pytest.raises(KernelError) as caught:
        one.time_offset(boottime=5)
    assert caught.value.name == "EACCES"
    assert caught.value.remedy
    with pytest.raises(KernelError):
        process().time_offset(boottime=5)


def test_user_is_a_power_of_one_s_own(process: Maker) -> None:
    one = process().unshare("user")
    assert one.getuid() == 65534, "without a map one is nobody"
    one.id_map(0, 0)
    assert one.getuid() == 0
    assert one.maps() == [IdMap(0, 0, 1)]
    assert one.maps("gid") == [IdMap(0, 0, 1)]
    one.unshare("net", "uts").sethostname("potente")
    assert one.hostname() == "potente"


def test_a_map_is_written_once(process: Maker) -> None:
    one = process().unshare("user").id_map(1000, 0)
    assert one.getuid() == 1000
    with pytest.raises(KernelError, match="si scrive una volta sola") as caught:
        one.id_map(0, 0)
    assert caught.value.name == "EPERM"
    assert caught.value.explanation
    assert one.maps() == [IdMap(1000, 0, 1)]
    assert one.maps()[0].explain() == "l'utente 1000 qui dentro è l'utente 0 fuori"


@pytest.mark.parametrize("wrong", [(-1, 0, 1), (0, -1, 1), (0, 0, 0)])
def test_a_map_that_makes_no_sense_is_refused(process: Maker, wrong: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidError, match="Gli id partono da 0"):
        process().unshare("user").id_map(*wrong)


def test_who_is_outside_the_map_has_no_power_over_the_lab(process: Maker) -> None:
    one = process().unshare("user").id_map(0, 0)
    for act in (
        lambda: one.sethostname("mio"),
        lambda: one.mount("tmpfs", "/mnt", "tmpfs"),
        lambda: one.link_up("lab0"),
    ):
        with pytest.raises(KernelError) as caught:
            act()
        assert caught.value.name == "EPERM"
    assert process().hostname() == "laboratorio"


def test_the_lab_s_own_map_says_who_it_is_outside(process: Maker, mode: str) -> None:
    maps = process().maps()
    assert maps[0].inside == 0
    if mode == "nosub":
        assert [(row.outside, row.count) for row in maps] == [(os.getuid(), 1)]
    elif mode == "user":
        assert (maps[0].outside, maps[0].count) == (os.getuid(), 1)
        assert maps[1].inside == 1
        assert maps[1].count >= 1000
    else:
        assert sum(row.count for row in maps) > 65536


# ---- entering and comparing


@pytest.mark.parametrize("kind", KINDS)
def test_one_enters_where_another_lives(process: Maker, kind: str) -> None:
    one, other = born(process(), kind), process()
    other.setns(one, kind)  # type: ignore[arg-type]
    if kind in FOR_CHILDREN:
        other.fork()
    assert different(one, other) == set()


def test_one_enters_everywhere_at_once(process: Maker) -> None:
    one, other = process().unshare("uts", "net", "ipc", "cgroup"), process()
    other.setns(one)
    assert different(one, other) == set()


def test_one_enters_a_container(lab: Lab, process: Maker) -> None:
    for init in (False, True):
        container = lab.run("busybox", ["sleep", "60"], name=f"casa-{init}".lower(), detach=True, init=init)
        visitor = process().setns(container, "uts", "net")
        assert visitor.hostname() == container.name
        assert visitor.links() == ["lo", "eth0"]


def test_whoever_has_gone_cannot_be_entered(process: Maker, lab: Lab) -> None:
    one, other = process(), process()
    container = lab.run("busybox", "true", detach=True)
    container.wait(timeout=20)
    one.close()
    for gone in (one, container):
        with pytest.raises(LabError) as caught:
            other.setns(gone, "uts")
        assert isinstance(caught.value, (NotFoundError, KernelError))
    with pytest.raises(NotFoundError, match="non c'è più"):
        one.unshare("uts")


def test_the_map_of_who_lives_where(lab: Lab, process: Maker) -> None:
    process("uno").unshare("uts", "net")
    container = lab.run("busybox", ["sleep", "60"], name="web", detach=True, init=True)
    seen = lab.namespaces()
    assert [p.label for p in seen.processes] == ["notebook", "laboratorio", "uno", "web"]
    assert set(seen["web"].namespaces) == set(HERE)
    assert seen["web"].container == "web"
    assert seen["web"].pid == container.pid
    assert seen.private("laboratorio", "uno") == ("uts", "net")
    assert seen.private("laboratorio", "web") == ("uts", "mount", "pid", "ipc", "net", "cgroup")
    assert seen.shared("laboratorio", "web") == ("user", *CLOCK)
    assert seen.shared("notebook", "web") == CLOCK
    assert seen.shared("uno", "uno") == HERE
    with pytest.raises(KeyError):
        seen["nessuno"]


def test_two_containers_share_only_the_user_and_the_clock(lab: Lab) -> None:
    for name in ("uno", "due"):
        lab.run("busybox", ["sleep", "60"], name=name, detach=True)
    assert lab.namespaces().shared("uno", "due") == ("user", *CLOCK)


# ---- holding


@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_that_is_held_outlives_its_processes(lab: Lab, process: Maker, kind: str) -> None:
    one = born(lab.process("tenuto"), kind)
    identity = one.namespaces()[kind]
    held = one.hold(kind)  # type: ignore[arg-type]
    one.close()
    assert held.id == identity
    visitor = process()
    if kind == "pid":  # its PID 1 has gone: one may enter, but nobody can be born there any more
        with pytest.raises(LabError):
            visitor.setns(held).fork()
            visitor.getpid()
        return
    visitor.setns(held)
    if kind in FOR_CHILDREN:
        visitor.fork()
    assert visitor.namespaces()[kind] == identity
    held.close()
    held.close()
    with pytest.raises(KernelError):
        process().setns(held)


def test_what_is_held_keeps_what_was_in_it(lab: Lab, process: Maker) -> None:
    with lab.process() as one:
        held = one.unshare("uts").sethostname("ricordo").hold("uts")
    assert process().setns(held).hostname() == "ricordo"
    held.close()


def test_a_container_s_network_can_be_held(lab: Lab, process: Maker) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    held = lab.hold(container, "net")
    container.rm(force=True)
    assert process().setns(held).links() == ["lo", "eth0"]
    held.close()


def test_only_a_kind_can_be_held(lab: Lab, process: Maker) -> None:
    with pytest.raises(InvalidError, match="«boh» non è un tipo di namespace"):
        process().hold("boh")  # type: ignore[arg-type]


# ---- the process itself


def test_what_was_done_by_hand_is_a_plan(process: Maker) -> None:
    one = process().unshare("uts", "net").sethostname("a-mano").link_up("lo")
    assert [(step.index, step.name, step.syscall, step.state) for step in one.steps] == [
        (1, "Unshare", "unshare", "done"),
        (2, "SetHostname", "sethostname", "done"),
        (3, "LinkUp", "sendmsg (RTM_NEWLINK)", "done"),
    ]
    assert all(step.microseconds and step.microseconds > 0 for step in one.steps)
    with pytest.raises(PlanError, match="non si può annullare"):
        one.undo()


@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.sethostname(5),
        lambda p: p.mkdir(None),
        lambda p: p.id_map("uno", 0),
        lambda p: p.mount("tmpfs", "/mnt", "tmpfs", "strano"),
        lambda p: p.drop_capabilities("INVENTATA"),
        lambda p: p.chdir("/non/esiste"),
        lambda p: p.read("/non/esiste"),
        lambda p: p.pivot_root("/tmp"),
        lambda p: p.link_up("eth7"),
        lambda p: p.run([]),
        lambda p: p.exec(""),
        lambda p: p.undo(),
        lambda p: p.setns("uno", "uts"),
    ],
)
def test_a_mistake_is_one_sentence_and_the_process_lives_on(process: Maker, act: Callable[[Process], object]) -> None:
    one = process()
    with pytest.raises(LabError) as caught:
        act(one)
    assert str(caught.value)
    assert one.getpid() > 0
    assert one.steps == ()


def test_a_cell_run_again_starts_afresh(lab: Lab, process: Maker) -> None:
    first = process("uno").unshare("uts").sethostname("prima")
    second = process("uno")
    assert second.hostname() == "laboratorio"
    assert second.pid != first.pid
    assert [p.label for p in lab.namespaces().processes] == ["notebook", "laboratorio", "uno"]


def test_a_label_that_is_someone_else_s_is_refused(lab: Lab) -> None:
    lab.run("busybox", ["sleep", "60"], name="web", detach=True)
    with Lab.connect(lab.id) as other, other.process("suo"):
        for taken in ("suo", "web", "laboratorio", "notebook"):
            with pytest.raises(LabError, match=f"L'etichetta «{taken}» è già usata") as caught:
                lab.process(taken)
            assert caught.value.remedy
    with pytest.raises(InvalidError):
        lab.process("con\nun a capo")


def test_exec_ends_as_the_program_ends(lab: Lab) -> None:
    one = lab.process("finale").unshare("uts").sethostname("prova")
    result = one.exec(["sh", "-c", "hostname; exit 7"])
    assert (result.exit_code, result.output) == (7, "prova\n")
    with pytest.raises(NotFoundError, match="«finale» non c'è più"):
        one.getpid()


def test_a_process_killed_in_the_middle_says_so(lab: Lab, process: Maker) -> None:
    one, killer = process("vittima"), process()
    channel = lab.wire.open("process_ask", label="vittima", verb="run", args={"command": ["sleep", "60"]})
    killer.python(f"import os, signal; os.kill({one.pid}, signal.SIGKILL)")
    with pytest.raises(NotFoundError, match="«vittima» è finito prima di rispondere"):
        channel.result  # noqa: B018


def test_what_can_be_undone_by_hand_is_undone(process: Maker, lab: Lab) -> None:
    one = process().unshare("mount", "uts").mount("", "/", "", "rprivate")
    with pytest.raises(PlanError, match="non si può annullare da solo"):
        one.undo()
    base = f"{lab.wire.hello['folder']}/lab/root"
    one.mount("tmpfs", base, "tmpfs").mkdir(f"{base}/a").mkdir(f"{base}/b").chdir(f"{base}/a")
    one.overlay(f"{base}/b", "/etc", "/usr").sethostname("via")
    assert "passwd" in one.run(["ls", f"{base}/b"], quiet=True).output
    assert one.run("pwd", quiet=True).output == f"{base}/a\n"
    undone = [one.undo().name for _ in range(6)]
    assert undone == ["SetHostname", "Overlay", "Chdir", "MakeDirectory", "MakeDirectory", "Mount"]
    assert one.hostname() == "laboratorio"
    assert one.run(["ls", "-A", base], quiet=True).output == ""
    one.mount("tmpfs", base, "tmpfs").mount("", base, "", "remount", "ro")
    with pytest.raises(PlanError, match="non si può annullare da solo"):
        one.undo()
    assert "ro" in next(row for row in one.read("/proc/self/mounts").splitlines() if f" {base} " in row).split()[
        3
    ].split(",")


def test_a_container_built_by_hand(process: Maker, lab: Lab) -> None:
    """La lezione 03 in dieci righe: alla fine un container fatto a mano è uguale a uno di ``lab.run``."""
    base = lab.rootfs("busybox")
    place = f"{lab.wire.hello['folder']}/lab/root"
    one = born(process("mano"), "uts", "mount", "pid", "ipc", "net", "cgroup")
    one.sethostname("mano").mount("", "/", "", "rprivate")
    one.mount("tmpfs", place, "tmpfs")
    for name in ("upper", "work", "radice"):
        one.mkdir(f"{place}/{name}")
    one.overlay(f"{place}/radice", base, upper=f"{place}/upper", work=f"{place}/work")
    one.mount("proc", f"{place}/radice/proc", "proc").pivot_root(f"{place}/radice").link_up("lo")
    result = one.run(["sh", "-c", "hostname; echo $$; ls /; touch /bin/nuovo && echo scritto"], quiet=True)
    assert result.output.split()[0] == "mano"
    assert "proc" in result.output.split()
    assert result.output.split()[-1] == "scritto"
    container = lab.run("busybox", ["sleep", "60"], name="vero", detach=True)
    assert isinstance(container, Container)
    assert set(lab.namespaces().private("laboratorio", "mano")) == set(lab.namespaces().private("laboratorio", "vero"))

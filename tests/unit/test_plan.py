"""Il piano e le sue operazioni: ordine, fallimenti, ritorno indietro; e ogni operazione sa raccontarsi."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from labkit.engine import container, exec, isolation, limits, manual, network, rootfs, secrets, wiring
from labkit.engine.container import Placement, common, plan, split
from labkit.engine.operation import Context, Operation, Plan
from labkit.engine.rootfs import ImageRoot, Tree
from labkit.errors import InvalidError, KernelError, LabError, PlanError
from labkit.kernel.cgroups import CONTROLLERS, SWAP, Cgroup, Hierarchy
from labkit.limits import Limits
from labkit.model import ContainerSpec, to_json
from labkit.template import Template

IMAGE = ImageRoot("prova", (Tree("", ("/sotto",)), Tree("usr", ("/maschera", "/usr"))))
GROUP = Cgroup((Hierarchy(2, (*CONTROLLERS, SWAP), "/sys/fs/cgroup/c3"),))
PLACE = Placement("3", "/lab/layers/3", "veth3", "10.88.0.5", 16, "10.88.0.1", GROUP)

END = network.Endpoint("altra", "br-altra", 4, "veth4", "eth1", "10.89.0.2", 24, "02:42:0a:59:00:02")


@dataclass(frozen=True)
class Fake(Operation):
    """Prende nota di quello che le fanno fare; può fallire."""

    number: int
    diary: list[str] = field(compare=False)
    fails: type[Exception] | None = None

    syscall: ClassVar[str] = "fake"
    man: ClassVar[str] = "fake(2)"

    def describe(self) -> str:
        return f"passo {self.number}"

    def execute(self, context: Context) -> None:
        if self.fails:
            raise self.fails(errno.EPERM, "no") if issubclass(self.fails, OSError) else self.fails("no")
        self.diary.append(f"+{self.number}")

    def undo(self, context: Context) -> None:
        self.diary.append(f"-{self.number}")


@dataclass(frozen=True)
class Forever(Fake):
    reversible: ClassVar[bool] = False
    undo = Operation.undo


def fakes(count: int, diary: list[str], bad: int = -1, how: type[Exception] = LabError) -> Plan:
    return Plan(tuple(Fake(n, diary, how if n == bad else None) for n in range(count)))


# ---- running, failing, going back


def test_a_plan_runs_in_order_and_says_so() -> None:
    diary: list[str] = []
    whole = fakes(4, diary)
    whole.run(Context())
    assert diary == ["+0", "+1", "+2", "+3"]
    assert [(step.index, step.state) for step in whole.steps()] == [(n, "done") for n in (1, 2, 3, 4)]
    assert all(cost is not None and cost >= 0 for cost in whole.times())
    with pytest.raises(PlanError, match="Il piano è finito"):
        whole.step(Context())


@pytest.mark.parametrize("how", [LabError, OSError])
@pytest.mark.parametrize("bad", range(5))
def test_a_step_that_fails_undoes_those_before_it_backwards(bad: int, how: type[Exception]) -> None:
    diary: list[str] = []
    whole = fakes(5, diary, bad, how)
    with pytest.raises(LabError):
        whole.run(Context())
    assert diary == [f"+{n}" for n in range(bad)] + [f"-{n}" for n in reversed(range(bad))]
    assert whole.position == 0
    states = [step.state for step in whole.steps()]
    assert states == ["undone"] * bad + ["failed"] + ["todo"] * (4 - bad)
    assert whole.steps()[bad].error


def test_an_oserror_becomes_a_kernel_error_with_the_name_of_the_call() -> None:
    with pytest.raises(KernelError, match=r"fake\(2\): EPERM") as caught:
        fakes(1, [], 0, OSError).step(Context())
    assert caught.value.syscall == "fake"


@pytest.mark.parametrize("done", range(5))
def test_what_is_done_can_be_undone_and_done_again(done: int) -> None:
    diary: list[str] = []
    whole = fakes(4, diary)
    for _ in range(done):
        if whole.position < 4:
            whole.step(Context())
    diary.clear()
    reached = whole.position
    for expected in range(reached, 0, -1):
        step = whole.undo(Context())
        assert (step.index, step.state) == (expected, "undone")
    assert diary == [f"-{n}" for n in reversed(range(reached))]
    with pytest.raises(PlanError, match="niente da annullare"):
        whole.undo(Context())
    whole.run(Context())
    assert {step.state for step in whole.steps()} == {"done"}


def test_a_step_that_failed_can_be_tried_again() -> None:
    diary: list[str] = []
    whole = fakes(2, diary, 1)
    whole.step(Context())
    for _ in range(2):
        with pytest.raises(LabError):
            whole.step(Context())
        assert [step.state for step in whole.steps()] == ["done", "failed"]
    assert diary == ["+0"]


def test_what_cannot_be_undone_stays_done() -> None:
    diary: list[str] = []
    whole = Plan((Fake(0, diary), Forever(1, diary), Fake(2, diary)))
    whole.run(Context())
    whole.undo(Context())
    with pytest.raises(PlanError, match="«passo 1» non si può annullare") as caught:
        whole.undo(Context())
    assert caught.value.remedy
    assert whole.position == 2
    whole.rollback(Context())
    assert diary == ["+0", "+1", "+2", "-2", "-0"]
    assert [step.state for step in whole.steps()] == ["undone", "done", "undone"]


def test_what_is_not_foreseen_is_not_swallowed() -> None:
    whole = fakes(2, [], 1, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        whole.run(Context())


def test_a_plan_that_grows_takes_the_place_of_what_was_undone() -> None:
    diary: list[str] = []
    whole = Plan(())
    for number in range(3):
        whole.append(Fake(number, diary))
        whole.step(Context())
    whole.undo(Context())
    whole.append(Fake(9, diary))
    whole.step(Context())
    assert diary == ["+0", "+1", "+2", "-2", "+9"]
    assert [step.description for step in whole.steps()] == ["passo 0", "passo 1", "passo 9"]


# ---- the plan of a container


def spec(**options: Any) -> ContainerSpec:
    return ContainerSpec("prova", **{"command": ("sleep", "1"), "name": "web", **options})


def test_the_same_spec_gives_the_same_plan() -> None:
    one, two = plan(spec(), IMAGE, PLACE), plan(spec(), IMAGE, PLACE)
    assert one == two
    assert one is not two
    assert [to_json(step) for step in one.steps()] == [to_json(step) for step in two.steps()]
    with pytest.raises(TypeError):
        hash(one)


@pytest.mark.parametrize(
    "options",
    [
        {"read_only": True},
        {"hostname": "altro"},
        {"tty": True},
        {"init": True},
        {"user": "nobody"},
        {"cap_add": ("NET_ADMIN",)},
        {"cap_drop": ("ALL",)},
        {"env": (("A", "1"),)},
        {"workdir": "/srv"},
    ],
)
def test_another_spec_gives_another_plan(options: dict[str, Any]) -> None:
    assert plan(spec(**options), IMAGE, PLACE) != plan(spec(), IMAGE, PLACE)


def test_a_plan_made_is_a_plan_not_begun() -> None:
    whole = plan(spec(), IMAGE, PLACE)
    assert {step.state for step in whole.steps()} == {"todo"}
    assert whole.position == 0


def test_the_order_of_a_container_is_the_one_of_the_lesson() -> None:
    assert [step.name for step in plan(spec(read_only=True), IMAGE, PLACE).steps()] == [
        "MakeCgroup", "MakeLayer", "CloneProcess", "JoinCgroup", "ConnectVeth", "ConfigureNetwork", "MountOverlay",
        "MountOverlay", "MountProc", "MountDev", "MountDevPts", "MountDevShm", "MountDevMqueue", "MountSys",
        "PivotRoot", "MaskPaths", "DropBoundingSet", "WriteIdentity", "ReadOnlyRoot", "SetHostname", "DropPrivileges",
        "NewSession", "LoadSeccomp", "Execute",
    ]  # fmt: skip


def test_limits_are_set_before_the_process_that_they_hold() -> None:
    steps = plan(spec(limits=Limits(memory=64 << 20, cpus=0.5, pids_limit=20)), IMAGE, PLACE).steps()
    names = [step.name for step in steps]
    assert names[1:8] == ["MakeLayer", *["SetLimit"] * 5, "CloneProcess"]
    assert [step.description for step in steps[2:7]] == [
        "limita il gruppo: 64 MiB di memoria (memory.max)",
        "limita il gruppo: se la memoria finisce muore tutto il container (memory.oom.group)",
        "limita il gruppo: 64 MiB di swap (memory.swap.max)",
        "limita il gruppo: 0.5 CPU per volta (cpu.max)",
        "limita il gruppo: al massimo 20 processi e thread (pids.max)",
    ]


def test_without_a_cgroup_a_container_is_born_without_limits() -> None:
    names = [step.name for step in plan(spec(), IMAGE, Placement("3", "/lab/layers/3")).steps()]
    assert not {"MakeCgroup", "SetLimit", "JoinCgroup"} & set(names)


def test_a_plan_is_split_where_the_process_is_born() -> None:
    whole = plan(spec(), IMAGE, PLACE)
    lab, own = split(whole)
    assert lab.operations + own.operations == whole.operations
    assert {operation.where for operation in lab.operations} == {"lab"}
    assert {operation.where for operation in own.operations} == {"container"}
    assert isinstance(lab.operations[-1], container.CloneProcess)
    assert [step.index for step in lab.steps() + own.steps()] == list(range(1, len(whole.operations) + 1))


def test_what_is_given_to_a_container_is_there_before_the_root_is_read_only() -> None:
    asked = spec(read_only=True, secrets=("a",), templates=(Template("/etc/x", "${A}"),), env=(("A", "1"),))
    names = [step.name for step in plan(asked, IMAGE, PLACE).steps()]
    start = names.index("WriteIdentity")
    assert names[start : start + 5] == ["WriteIdentity", "WriteTemplate", "MountSecrets", "ReadOnlyRoot", "SetHostname"]


OWN = ImageRoot("sua", (), ("-g", "1"), (("PATH", "/opt"), ("A", "immagine"), ("HOSTNAME", "sua")), ("/avvio",))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, ("/avvio", "-g", "1")),
        ({"command": ("x",)}, ("/avvio", "x")),
        ({"entrypoint": ("/altro",)}, ("/altro",)),
        ({"entrypoint": ("/altro", "a"), "command": ("x",)}, ("/altro", "a", "x")),
        ({"entrypoint": (), "command": ("x",)}, ("x",)),
    ],
)
def test_the_entrypoint_comes_before_the_command(asked: dict[str, Any], words: tuple[str, ...]) -> None:
    assert container.argv(spec(**{"command": (), **asked}), OWN) == words


def test_without_a_program_there_is_no_plan() -> None:
    with pytest.raises(InvalidError, match="Non c'è nessun programma"):
        plan(spec(command=(), entrypoint=()), OWN, PLACE)


def test_an_environment_is_the_image_s_then_the_files_then_the_options() -> None:
    asked = spec(env_file=(("A", "file"), ("B", "file")), env=(("B", "opzione"), ("C", None)), tty=True, name="web")
    assert [(str(v), v.origin) for v in container.environment(asked, OWN)] == [
        ("PATH=/opt", "image"), ("HOSTNAME=sua", "image"), ("TERM=xterm", "lab"), ("A=file", "file"),
        ("B=opzione", "option"),
    ]  # fmt: skip
    bare = ImageRoot("nuda", (), env=())
    assert [(v.name, v.origin) for v in container.environment(spec(env=(("PATH", None),)), bare)] == [
        ("HOSTNAME", "lab")
    ]


def test_without_a_network_no_cable_is_laid() -> None:
    names = [step.name for step in plan(spec(network="none"), IMAGE, Placement("3", "/lab/layers/3")).steps()]
    assert "ConnectVeth" not in names
    assert "ConfigureNetwork" in names


def test_power_is_given_up_after_the_root_and_before_the_program() -> None:
    names = [step.name for step in plan(spec(), IMAGE, PLACE).steps()]
    assert names.index("PivotRoot") < names.index("DropPrivileges") < names.index("LoadSeccomp")
    assert names[-1] == "Execute"


def test_what_comes_first_does_not_depend_on_who_the_container_will_be() -> None:
    one, other = (
        common(split(plan(spec(**options), IMAGE, PLACE))[1])
        for options in (
            {},
            {"hostname": "altro", "env": (("A", "b"),), "user": "nobody", "tty": True, "read_only": True},
        )
    )
    assert one == other
    assert one.operations[-1].name == "DropBoundingSet"
    assert common(split(plan(spec(cap_add=("NET_ADMIN",)), IMAGE, PLACE))[1]) != one


# ---- every operation knows how to tell itself

EXAMPLES: list[Operation] = [
    *plan(spec(read_only=True, limits=Limits(memory=64 << 20)), IMAGE, PLACE).operations,
    *plan(spec(tty=True, init=True, user="nobody", network="none"), IMAGE, Placement("3", "/x")).operations,
    rootfs.WriteTemplate("/etc/x", "", ()),
    *container.given_files(spec(secrets=("a", "b"), templates=(Template("/etc/x", "${A}"),)), {"A": "1"}),
    *network.network_operations("altra", "", "", 16, "", (END,)),
    *network.network_operations("container:web", "", "", 16, ""),
    wiring.MakeBridge("altra", "br-altra", "02:42:0a:59:00:01", (("10.89.0.1", 24),), 1500),
    wiring.RemoveLink("veth3"),
    wiring.PlugCable(END, 7),
    wiring.TurnOn(END, 7),
    wiring.Reroute(END, 7),
    *exec.plan(7, ("ps",), (), user="", workdir="", tty=False, caps=()).operations,
    manual.Unshare(("uts", "net")),
    manual.SetNs(7, ("uts",)),
    manual.SetNs(7),
    manual.SetNsHeld(9, "uts"),
    manual.SetHostname("prova"),
    manual.Mount("tmpfs", "/mnt", "tmpfs"),
    manual.Mount("", "/", "", ("rprivate",)),
    manual.Mount("", "/mnt", "", ("remount", "ro")),
    manual.Overlay("/mnt", ("/a", "/b"), "/u", "/w"),
    manual.Umount("/mnt"),
    manual.PivotRoot("/mnt"),
    manual.Chdir("/mnt"),
    manual.MakeDirectory("/mnt"),
    manual.WriteFile("/mnt/x", "testo"),
    manual.MapIds(0, 1000),
    manual.SetTimeOffset(1, -2),
    manual.LinkUp("lo"),
    manual.DropCapabilities(("NET_RAW",)),
    manual.LoadSeccomp(),
]


def operations() -> set[type[Operation]]:
    return {
        value
        for module in (container, exec, isolation, limits, manual, network, rootfs, secrets, wiring)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Operation) and value is not Operation
    }


def test_no_operation_is_left_out_of_these_tests() -> None:
    assert {type(operation) for operation in EXAMPLES} == operations()


@pytest.mark.parametrize("operation", EXAMPLES, ids=lambda operation: operation.name)
def test_an_operation_is_one_italian_line_a_call_and_a_page(operation: Operation) -> None:
    sentence = operation.describe()
    assert sentence
    assert len(sentence.splitlines()) == 1
    assert not sentence.endswith(".")
    assert len(sentence) < 130
    assert re.search(
        r"\b(il|la|lo|le|i|gli|un|una|di|del|della|e|su|in|si|con|nel|ogni|nella|che|tutti|condivisa|smonta|scrive)\b|l'",
        sentence,
    ), sentence
    assert operation.syscall
    assert re.fullmatch(r"[\w.]+\(\d\w*\)(, [\w.]+\(\d\w*\))*", operation.man), operation.man
    assert operation.where in ("lab", "container")
    assert type(operation).__doc__


@pytest.mark.parametrize("kind", sorted(operations(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_an_operation_is_data_and_undoes_what_it_says_it_undoes(kind: type[Operation]) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.execute is not Operation.execute
    assert (kind.undo is not Operation.undo) == kind.reversible


def test_the_table_of_what_is_done_by_hand_is_closed() -> None:
    assert manual.make("unshare", {"kinds": ["uts"]}) == manual.Unshare(("uts",))
    with pytest.raises(InvalidError, match="«fork_bomb» non è un'operazione"):
        manual.make("fork_bomb", {})
    with pytest.raises(InvalidError, match="Argomenti sbagliati per unshare: boh"):
        manual.make("unshare", {"boh": 1})

"""Un piano che si rompe a qualunque passo, per un motivo vero, non lascia niente a metà."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import Lab
from labkit.client.plan import Plan
from labkit.client.process import Process
from labkit.errors import KernelError, LabError, PlanError

pytestmark = pytest.mark.kernel


def attached(lab: Lab, image: str | Path, **options: object) -> None:
    lab.run(image, ["sh", "-c", "echo mai"], quiet=True, **options)


def detached(lab: Lab, image: str | Path, **options: object) -> None:
    lab.run(image, ["sh", "-c", "echo mai"], detach=True, **options)


def planned(lab: Lab, image: str | Path, **options: object) -> None:
    lab.plan(image, ["sh", "-c", "echo mai"], **options).run()


def begun(lab: Lab, image: str | Path, **options: object) -> None:
    plan = lab.plan(image, ["sh", "-c", "echo mai"], **options)
    for _ in range(3):
        plan.step()
    plan.run()


WAYS = {"run": attached, "run detached": detached, "plan.run": planned, "plan.step and run": begun}

#: Come si guasta una cartella, e a quale passo il container se ne accorge.
BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "/proc is a link": ("MountProc", lambda root: (root / "proc").symlink_to("/tmp")),
    "/proc is a file": ("MountProc", lambda root: (root / "proc").touch()),
    "/dev is a link": ("MountDev", lambda root: (root / "dev").symlink_to("/")),
    "/dev is a file": ("MountDev", lambda root: (root / "dev").touch()),
    "/sys is a link out": ("MountSys", lambda root: (root / "sys").symlink_to("../../../../tmp")),
    "/sys is a file": ("MountSys", lambda root: (root / "sys").touch()),
    "/etc is a file": ("WriteIdentity", lambda root: (root / "etc").touch()),
    "/etc is a link": ("WriteIdentity", lambda root: (root / "etc").symlink_to("/bin")),
    "/etc/hosts is a folder": ("WriteIdentity", lambda root: (root / "etc" / "hosts").mkdir(parents=True)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image_breaks_its_plan_and_nothing_else(
    lab: Lab, root: Path, nothing_half_made: None, what: str
) -> None:
    BROKEN[what][1](root)
    for way in (*WAYS.values(), *WAYS.values()):
        with pytest.raises(KernelError) as caught:
            way(lab, root, name="rotto")
        assert caught.value.message.endswith(".")
        assert "(2)" in caught.value.message
        assert len(lab.ps(all=True)) == 0


@pytest.mark.parametrize("what", BROKEN)
def test_a_step_that_fails_can_be_looked_at_and_thrown_away(
    lab: Lab, root: Path, nothing_half_made: None, what: str
) -> None:
    where, break_ = BROKEN[what]
    break_(root)
    plan = lab.plan(root, ["sh", "-c", "echo mai"], name="rotto")
    with pytest.raises(KernelError) as caught:
        for _ in plan.steps:
            plan.step()
    failed = next(step for step in plan.steps if step.state == "failed")
    assert failed.name == where
    assert failed.error == caught.value.message
    assert lab.container("rotto").status == "created"
    with pytest.raises(KernelError):
        plan.step()
    if plan.steps[failed.index - 2].reversible:
        assert plan.undo().index == failed.index - 1
    else:
        with pytest.raises(PlanError, match="non si può annullare da solo"):
            plan.undo()
    plan.rollback()


# ---- a lab that says no


@pytest.fixture
def spy(lab: Lab) -> Iterator[Process]:
    """Root nel laboratorio, che prepara le trappole."""
    with lab.process("trappola") as process:
        yield process


def home(lab: Lab) -> str:
    return f"{lab.wire.hello['folder']}/lab"


def layers(lab: Lab, spy: Process) -> set[str]:
    return set(spy.run(["ls", f"{home(lab)}/layers"], quiet=True).output.split())


def number_of(lab: Lab, spy: Process, plan: Plan) -> str:
    """Il numero del posto di un piano: la cartella che sparisce annullando il passo che la fa."""
    while plan.step().name != "MakeLayer":
        pass
    before = layers(lab, spy)
    plan.undo()
    (number,) = before - layers(lab, spy)
    return number


def failing(plan: Plan) -> str:
    """Fa i passi finché uno fallisce; dice quale."""
    with pytest.raises(LabError):
        for _ in plan.steps:
            plan.step()
    return next(step.name for step in plan.steps if step.state == "failed")


def test_a_layer_that_is_there_already_is_not_touched(lab: Lab, nothing_half_made: None, spy: Process) -> None:
    plan = lab.plan("busybox", ["true"], name="rotto")
    folder = f"{home(lab)}/layers/{number_of(lab, spy, plan)}"
    spy.mkdir(folder).write(f"{folder}/di-un-altro", "resta")
    assert failing(plan) == "MakeLayer"
    plan.rollback()
    assert spy.read(f"{folder}/di-un-altro") == "resta"
    spy.python(f"import shutil; shutil.rmtree({folder!r})")


def test_a_layer_half_made_is_unmade(lab: Lab, nothing_half_made: None, spy: Process) -> None:
    if spy.run(["stat", "-f", "-c", "%T", home(lab)], quiet=True).output != "tmpfs\n":
        pytest.skip("gli strati qui stanno sul disco: gli inode finiscono davvero solo in un tmpfs")
    plan = lab.plan("busybox", ["true"], name="rotto")
    number_of(lab, spy, plan)
    time.sleep(0.3)  # who waits to be born has taken its room
    spy.python(
        "import os\nfrom labkit import kernel\n"
        f"home = {home(lab)!r}\nfacts = os.statvfs(home)\n"
        "def limit(inodes):\n"
        "    kernel.mount('', home, '', 'remount', 'nosuid', 'nodev', data=f'nr_inodes={inodes}')\n"
        "limit(facts.f_files - facts.f_ffree + 2)"
    )
    before = layers(lab, spy)
    try:
        with pytest.raises(KernelError, match="ENOSPC, non c'è più spazio"):
            plan.step()
        assert layers(lab, spy) == before
    finally:
        spy.python("limit(facts.f_files)")
    assert plan.run().wait(timeout=20) == 0
    lab.container("rotto").rm()


def test_a_cable_whose_name_is_taken_breaks_its_step(lab: Lab, nothing_half_made: None, spy: Process) -> None:
    plan = lab.plan("busybox", ["true"], name="rotto")
    link = f"veth{number_of(lab, spy, plan)}"
    spy.python(f"from pyroute2 import IPRoute\nwith IPRoute() as ip: ip.link('add', ifname={link!r}, kind='bridge')")
    assert failing(plan) == "ConnectVeth"
    spy.python(f"with IPRoute() as ip: ip.link('del', index=ip.link_lookup(ifname={link!r})[0])")
    assert plan.run().wait(timeout=20) == 0, "what was in the way is gone: the rest can be done"
    lab.container("rotto").rm()


def test_a_program_killed_while_it_is_born_leaves_nothing(lab: Lab, nothing_half_made: None, spy: Process) -> None:
    plan = lab.plan("busybox", ["true"], name="rotto")
    for _ in range(8):
        plan.step()
    pid = lab.namespaces()["rotto"].pid
    spy.python(f"import os, signal; os.kill({pid}, signal.SIGKILL)")
    end = time.monotonic() + 20
    while len(lab.ps(all=True)) and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(LabError):
        plan.step()
    assert len(lab.ps(all=True)) == 0


@pytest.mark.outside("sono centinaia di container: là dentro ci vogliono minuti")
def test_a_hundred_failures_cost_no_more_than_one(lab: Lab, root: Path, nothing_half_made: None) -> None:
    (root / "etc").touch()
    for number in range(100):
        with pytest.raises(KernelError):
            WAYS["run" if number % 2 else "run detached"](lab, root, name="rotto", publish="80")


@pytest.mark.outside("sono centinaia di container: là dentro ci vogliono minuti")
def test_an_exec_that_fails_costs_nothing(lab: Lab, nothing_half_made: None) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    for _ in range(30):
        assert container.exec("comando-che-non-c-è", quiet=True).exit_code == 127
        with pytest.raises(LabError):
            container.exec("true", user="inventato")
        with pytest.raises(LabError):
            container.exec("true", workdir="/bin/sh")
    container.rm(force=True)

"""Un container fatto passo per passo: i passi si fanno, si disfano, si finiscono, si buttano via."""

from __future__ import annotations

import pytest

from labkit import Lab
from labkit.client.plan import Plan
from labkit.errors import ConflictError, LabError, NotFoundError, PlanError


def a_plan(lab: Lab, name: str = "piano") -> Plan:
    return lab.plan("busybox", ["sleep", "60"], name=name)


def states(plan: Plan) -> list[str]:
    return [step.state for step in plan.steps]


def test_a_plan_is_a_name_and_a_story(lab: Lab) -> None:
    plan = a_plan(lab)
    assert lab.container("piano").status == "created"
    assert len(lab.ps()) == 0
    assert set(states(plan)) == {"todo"}
    assert [step.index for step in plan.steps] == list(range(1, len(plan.steps) + 1))
    assert {step.where for step in plan.steps} == {"lab", "container"}
    assert all(step.description and step.syscall and step.man and step.microseconds is None for step in plan.steps)
    assert repr(plan) == f"Plan('piano', 0 passi su {len(plan.steps)})"
    assert not plan.done


def test_step_by_step_a_container_is_born(lab: Lab) -> None:
    plan = a_plan(lab)
    whole = len(plan.steps)
    for count in range(1, whole + 1):
        step = plan.step()
        assert (step.index, step.state) == (count, "done")
        assert states(plan) == ["done"] * count + ["todo"] * (whole - count)
    assert plan.done
    assert lab.container("piano").status == "running"
    with pytest.raises(PlanError, match="il container è già partito") as caught:
        plan.step()
    assert "rollback" in caught.value.remedy
    for late in (plan.undo, plan.run):
        with pytest.raises(PlanError):
            late()


def test_a_step_says_what_it_cost(lab: Lab) -> None:
    plan = a_plan(lab)
    done = [plan.step() for _ in range(6)]
    assert all(step.microseconds is not None and step.microseconds > 0 for step in done)
    assert [step.microseconds for step in plan.steps[:6]] == [step.microseconds for step in done]


def test_the_story_is_the_same_as_that_of_a_run(lab: Lab) -> None:
    plan = lab.plan("busybox", ["sleep", "60"], name="stesso")
    told = [(step.index, step.name, step.description, step.syscall) for step in plan.steps]
    plan.rollback()
    container = lab.run("busybox", ["sleep", "60"], name="stesso", detach=True)
    # The address is the only thing that a second container cannot have again.
    again = [(step.index, step.name, step.description, step.syscall) for step in container.plan.steps]
    assert [step[:2] + step[3:] for step in again] == [step[:2] + step[3:] for step in told]
    assert container.plan.done


@pytest.mark.parametrize("done", [0, 1, 2, 3, 7])
def test_the_rest_of_a_plan_is_done_at_once(lab: Lab, done: int) -> None:
    plan = a_plan(lab)
    for _ in range(done):
        plan.step()
    container = plan.run()
    assert container.name == "piano"
    assert container.status == "running"
    assert set(states(plan)) == {"done"}
    assert container.exec(["echo", "ci sono"], quiet=True).output == "ci sono\n"


def test_every_reversible_step_goes_back_and_forth(lab: Lab) -> None:
    plan = a_plan(lab)
    reversible = next(i for i, step in enumerate(plan.steps) if not step.reversible)
    assert reversible > 5
    for turn in range(2):
        for _ in range(reversible):
            plan.step()
        for count in range(reversible, 0, -1):
            undone = plan.undo()
            assert (undone.index, undone.state) == (count, "undone"), turn
        assert set(states(plan)) <= {"undone", "todo"}
    assert plan.run().status == "running"


@pytest.mark.parametrize("done", range(1, 12))
def test_one_step_back_and_on_to_the_end(lab: Lab, done: int) -> None:
    plan = a_plan(lab)
    for _ in range(done):
        plan.step()
    assert plan.undo().index == done
    assert plan.step().index == done
    assert plan.run().status == "running"


def test_there_is_nothing_to_undo_in_a_plan_just_made(lab: Lab) -> None:
    plan = a_plan(lab)
    with pytest.raises(PlanError, match="niente da annullare"):
        plan.undo()
    plan.step()
    plan.undo()
    with pytest.raises(PlanError, match="niente da annullare"):
        plan.undo()


def test_what_the_kernel_does_not_give_back_is_told_with_a_remedy(lab: Lab) -> None:
    plan = a_plan(lab)
    while plan.step().reversible:
        pass
    before = states(plan)
    with pytest.raises(PlanError, match="non si può annullare da solo") as caught:
        plan.undo()
    assert caught.value.remedy == "plan.rollback() annulla tutto"
    assert states(plan) == before
    assert plan.run().status == "running"


@pytest.mark.parametrize("done", [*range(0, 24, 2), 100])
def test_a_rollback_from_anywhere_leaves_nothing(lab: Lab, done: int) -> None:
    plan = a_plan(lab)
    for _ in range(min(done, len(plan.steps))):
        plan.step()
    plan.rollback()
    assert len(lab.ps(all=True)) == 0
    assert "done" not in states(plan)
    plan.rollback()  # doing it twice does no harm
    for gone in (plan.step, plan.undo, plan.run):
        with pytest.raises(NotFoundError, match="«piano» non c'è"):
            gone()
    assert set(states(a_plan(lab))) == {"todo"}, "the name is free, and the new plan has no memory of the old one"


def test_two_plans_side_by_side_do_not_touch_each_other(lab: Lab) -> None:
    one, two = a_plan(lab, "uno"), a_plan(lab, "due")
    for _ in range(4):
        one.step()
        two.step()
    one.undo()
    two.step()
    assert states(one)[:5] == ["done"] * 3 + ["undone", "todo"]
    assert states(two)[:6] == ["done"] * 5 + ["todo"]
    one.rollback()
    assert two.run().status == "running"


def test_a_half_made_container_is_no_container_yet(lab: Lab) -> None:
    plan = a_plan(lab)
    for _ in range(4):
        plan.step()
    container = lab.container("piano")
    assert (container.status, container.pid, container.exit_code) == ("created", 0, None)
    assert container.logs() == ""
    assert container.logs(follow=True) == ""
    assert container.stop() is None
    with pytest.raises(ConflictError):
        container.exec("true")
    container.rm()
    assert len(lab.ps(all=True)) == 0


@pytest.mark.parametrize("done", [0, 1, 4])
def test_whoever_waits_for_a_plan_is_told_that_it_was_thrown_away(lab: Lab, done: int) -> None:
    plan = a_plan(lab)
    for _ in range(done):
        plan.step()
    waiting = lab.wire.open("wait", name="piano")
    plan.rollback()
    with pytest.raises(ConflictError, match="è stato tolto prima di partire"):
        waiting.result  # noqa: B018


def test_whoever_waits_for_a_plan_waits_for_its_program(lab: Lab) -> None:
    plan = lab.plan("busybox", ["sh", "-c", "exit 5"], name="piano")
    waiting = lab.wire.open("wait", name="piano")
    plan.step()
    plan.run()
    assert waiting.result == 5


def test_a_plan_whose_program_is_not_there_ends_in_127_and_leaves_nothing(lab: Lab) -> None:
    for how in ("run", "step"):
        plan = lab.plan("busybox", "comando-che-non-c-è", name="piano")
        with pytest.raises(LabError, match="non c'è in questa immagine") as caught:
            if how == "run":
                plan.run()
            else:
                for _ in plan.steps:
                    plan.step()
        assert caught.value.exit_code == 127
        assert len(lab.ps(all=True)) == 0


def test_a_plan_outlives_its_lab_as_a_story(born: str) -> None:
    with Lab(backend=born) as lab:
        plan = a_plan(lab)
        plan.step()
        seen = plan.steps
    assert plan.steps == seen

"""I verbi del piano passo per passo: lo stesso piano di ``run``, con lo studente al posto del ciclo."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.engine.rootfs import ImageRoot
from labkit.errors import LabError, PlanError
from labkit.model import Step, to_json
from labkit.supervisor import lifecycle
from labkit.supervisor.connection import Call
from labkit.supervisor.state import Container
from labkit.supervisor.unpacking import Stored

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


def plan(
    server: Server,
    call: Call,
    spec: dict[str, Any],
    secrets: dict[str, str] | None = None,
    stored: Stored | None = None,
) -> None:
    """Un container da fare passo per passo: per ora esiste solo il suo nome."""

    def ready(image: ImageRoot | None) -> None:
        container = lifecycle.create(server, spec, secrets, image, later=True)
        call.answer({"name": container.name, "steps": to_json(container.all_steps())})

    server.images.prepare(call, stored, ready)


def steps(server: Server, call: Call, name: str) -> None:
    """I passi, com'è andata fin qui."""
    call.answer(to_json(server.state.container(name).all_steps()))


def step(server: Server, call: Call, name: str) -> None:
    """Il prossimo passo, davvero."""
    container = _unfinished(server, name)
    lab = container.lab_plan
    if container.birth is None and lab.position < len(lab.operations) - 1:
        try:
            _answer(call, container, lab.step(container.context))
        except LabError:
            container.record_step(lab.describe(lab.position))
            raise
        return
    if container.birth is None:
        lifecycle.launch(server, container, stepped=True)
        call.answer(to_json(lab.describe(len(lab.operations) - 1)))
        return
    birth = container.birth
    birth.on_step = _answer_step(call)
    birth.on_ready = lambda: call.answer(to_json(container.all_steps()[-1]))
    birth.on_failed = call.fail
    birth.report.order(b"step")


def undo(server: Server, call: Call, name: str) -> None:
    """Annulla l'ultimo passo fatto, se il kernel lo permette."""
    container = _unfinished(server, name)
    lab = container.lab_plan
    done = [known for known in container.all_steps() if known.state == "done"]
    if not done:
        raise PlanError("Nessun passo è stato fatto: non c'è niente da annullare.", "plan.step()")
    if container.birth is None:
        _answer(call, container, lab.undo(container.context))
    elif done[-1].index > len(lab.operations):
        container.birth.on_step = _answer_step(call)
        container.birth.report.order(b"undo")
    else:
        _unborn(server, call, container)


def _unborn(server: Server, call: Call, container: Container) -> None:
    """Annulla la nascita: il processo finisce, e i suoi namespace con lui."""
    task, birth = container.task, container.birth
    assert task is not None
    assert birth is not None

    def gone(code: int) -> None:
        container.task = container.birth = None
        container.context = server.launcher.context()
        _answer(call, container, container.lab_plan.undo(container.context))

    lifecycle.unpublish(server, container)
    birth.report.discard()  # its end is wanted: not a failure to tell
    task.on_exit[:] = [gone]
    task.kill(signal.SIGKILL)


def finish(server: Server, call: Call, name: str) -> None:
    """Tutti i passi che restano."""
    container = _unfinished(server, name)
    birth = container.birth
    if birth is None:
        birth = lifecycle.launch(server, container)
    else:
        birth.report.order(b"run")
    birth.on_ready = lambda: call.answer(to_json(container.info()))
    birth.on_failed = call.fail


def _unfinished(server: Server, name: str) -> Container:
    container = server.state.container(name)
    if container.state != "created":
        raise PlanError("Il piano è finito: il container è già partito.", "plan.rollback(), oppure un piano nuovo")
    return container


def _answer(call: Call, container: Container, done: Step) -> None:
    container.record_step(done)
    call.answer(to_json(done))


def _answer_step(call: Call) -> Callable[[Step, LabError | None], None]:
    return lambda done, problem: call.fail(problem) if problem else call.answer(to_json(done))


PLAN_VERBS: dict[str, Callable[..., None]] = {
    "plan": plan,
    "plan_run": finish,
    "plan_step": step,
    "plan_steps": steps,
    "plan_undo": undo,
}

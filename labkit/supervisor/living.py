"""I verbi della vita di un container: nasce, parte, si ferma, riparte, si aspetta, cambia nome, sparisce."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.engine.rootfs import ImageRoot
from labkit.errors import ConflictError, InvalidError
from labkit.model import to_json
from labkit.supervisor.connection import Call
from labkit.supervisor.lifecycle import (
    Birth,
    create,
    destroy,
    halt,
    launch,
    living,
    relaunch,
    running,
    signal_number,
)
from labkit.supervisor.state import Container
from labkit.supervisor.stepping import finish
from labkit.supervisor.unpacking import Stored

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


def create_container(
    server: Server,
    call: Call,
    spec: dict[str, Any],
    secrets: dict[str, str] | None = None,
    stored: Stored | None = None,
) -> None:
    """Un container pronto a partire: ha un nome e un indirizzo, ma ancora nessun processo."""

    def ready(image: ImageRoot | None) -> None:
        container = create(server, spec, secrets, image, later=True)
        container.kept = True
        call.answer(to_json(container.info()))

    server.images.prepare(call, stored, ready)


def start(server: Server, call: Call, name: str, attach: bool = False) -> None:
    """Avvia un container creato o fermo; uno che gira già va bene così. Le ripartenze si contano da capo.

    Con ``attach`` è come attaccarsi prima che parta: non si perde niente.
    """
    container = server.state.container(name)
    if attach and container.alive:
        stay(server, call, name)
        return
    if container.alive or container.state == "restarting":
        call.answer(to_json(container.info()))
        return
    if container.state == "created" and not container.kept:  # a plan made step by step
        finish(server, call, name)
        return
    if attach:
        _attach(container, call)
    birth = _by_hand(server, container)
    birth.on_failed = call.fail
    if attach:
        birth.on_ready = lambda: container.waiters.append(lambda code: call.answer({"exit_code": code}))
    else:
        birth.on_ready = lambda: call.answer(to_json(container.info()))


def _by_hand(server: Server, container: Container) -> Birth:
    if container.birth:
        raise ConflictError(f"Il container «{container.name}» sta già partendo.", "lab.ps(all=True)")
    container.restarts.reset()
    return launch(server, container) if container.context.pid < 0 else relaunch(server, container)


def restart(server: Server, call: Call, name: str, grace: float | None = None) -> None:
    """Ferma e riavvia, nello stesso strato: risponde quando il programma nuovo è partito."""
    container = server.state.container(name)
    seconds = _grace(container, grace)
    if container.state == "created":
        start(server, call, name)
        return
    moving = container.alive or container.state == "restarting"
    spec = container.spec
    container.spec = replace(spec, remove=False)  # it stops to start again: not a reason to disappear

    def ready() -> None:
        server.state.note("restart", container)
        call.answer(to_json(container.info()))

    def stopped(code: int | None) -> None:
        if moving:
            server.state.note("stop", container)
        server.loop.after(0, go)  # out of the hands of whoever is telling the others that it has stopped

    def go() -> None:
        container.spec = replace(container.spec, remove=spec.remove)
        if server.state.containers.get(container.name) is not container:
            call.fail(ConflictError(f"Il container «{name}» è stato tolto mentre ripartiva.", "lab.ps(all=True)"))
            return
        server.attempt(call, lambda: again(_by_hand(server, container)))

    def again(birth: Birth) -> None:
        birth.on_ready = ready
        birth.on_failed = call.fail

    halt(server, container, seconds, stopped)


def stop(server: Server, call: Call, name: str, grace: float | None = None) -> None:
    """Il segnale del container, poi SIGKILL dopo ``grace`` secondi (i suoi, se mancano); risponde a cosa finita."""
    container = server.state.container(name)
    seconds = _grace(container, grace)
    moving = container.alive or container.state == "restarting"

    def stopped(code: int | None) -> None:
        if moving:
            server.state.note("stop", container)
        call.answer(code)

    halt(server, container, seconds, stopped)


def _grace(container: Container, grace: float | None) -> float:
    seconds = container.spec.stop_timeout if grace is None else grace
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise InvalidError("I secondi di attesa vanno da zero in su.", "stop(grace=10)")
    return seconds


def kill(server: Server, call: Call, name: str, signal: str = "SIGKILL") -> None:
    """Un segnale al programma; con SIGKILL, o con il suo segnale di fine, non riparte da solo."""
    container, task = living(server, name)
    number = signal_number(signal)
    if number in (signals.SIGKILL, signal_number(container.spec.stop_signal)):
        container.manual = True
    task.kill(number)
    server.state.note("kill", container, signal=number)
    call.answer()


def wait(server: Server, call: Call, name: str, condition: str = "not-running") -> None:
    """Risponde con il codice di uscita: quando resta fermo, alla prossima fine del programma, o quando sparisce."""
    container = server.state.container(name)
    waiting = {"not-running": container.waiters, "next-exit": container.next_exit, "removed": container.removal}
    if condition not in waiting:
        raise InvalidError(f"Non so aspettare «{condition}»: {', '.join(waiting)}.", "wait(condition='next-exit')")
    if condition == "not-running" and container.state == "exited" and not container.birth:
        call.answer(container.exit_code)
        return

    def ended(code: int | None) -> None:
        if code is None and condition != "removed":
            call.fail(ConflictError(f"Il container «{name}» è stato tolto prima di partire.", "lab.ps(all=True)"))
        else:
            call.answer(code)

    waiting[condition].append(ended)


def rename(server: Server, call: Call, name: str, new: str) -> None:
    """Un altro nome; l'hostname del programma resta quello con cui è nato."""
    container = server.state.container(name)
    if not new:
        raise InvalidError("Il nome nuovo non può essere vuoto.", "rename('web-1')")
    server.state.rename(container, new)
    call.answer()


def rm(server: Server, call: Call, name: str, force: bool = False, volumes: bool = False) -> None:
    """Toglie un container fermo; con ``force`` anche uno che gira o un piano a metà, con ``volumes`` i suoi anonimi."""
    container = server.state.container(name)
    if (container.alive or container.state == "restarting") and not force:
        raise ConflictError(
            f"Il container «{container.name}» gira ancora.", f"labkit stop {name}, oppure labkit rm --force {name}"
        )
    container.purge = volumes
    if container.task is None or container.task.exit_code is not None:
        destroy(server, container)
        call.answer()
        return

    def gone(code: int | None) -> None:
        destroy(server, container)
        call.answer()

    container.manual = True
    container.waiters.append(gone)
    container.task.kill(signals.SIGKILL)


def _attach(container: Container, call: Call) -> None:
    """Fra chi ascolta, da adesso; la prima cosa che si dice è com'è fatto il programma."""
    call.event({"attached": {"tty": container.spec.tty, "interactive": container.spec.interactive}})
    call.task = container.task
    call.listen(container.audience)


def stay(server: Server, call: Call, name: str) -> None:
    """Le uscite da adesso in poi, e lo stdin se il container ne ha uno; risponde quando il container resta fermo."""
    container, _ = running(server, name)
    _attach(container, call)
    container.waiters.append(lambda code: call.answer({"exit_code": code}))


def detach(server: Server, call: Call, channel: int) -> None:
    """Lascia il processo attaccato a un altro canale dello stesso client: lui continua, il canale finisce."""
    left = call.connection.calls.get(channel)
    if left is not None and left.task is not None:
        left.answer({"exit_code": None, "detached": True})
    call.answer()


LIFE_VERBS: dict[str, Callable[..., None]] = {
    "attach": stay,
    "create": create_container,
    "detach": detach,
    "kill": kill,
    "rename": rename,
    "restart": restart,
    "rm": rm,
    "start": start,
    "stop": stop,
    "wait": wait,
}

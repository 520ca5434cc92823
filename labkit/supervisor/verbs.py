"""La tabella chiusa dei verbi: tutto quello che un client può chiedere al laboratorio.

Ogni verbo riceve il server, la richiesta e gli argomenti; risponde con ``call.answer`` o solleva un
:class:`~labkit.errors.LabError`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit.engine.rootfs import ImageRoot
from labkit.engine.userland import names
from labkit.environment import Setting
from labkit.errors import InvalidError, LabError, NotFoundError
from labkit.kernel import namespaces, procfs
from labkit.model import NAMESPACES, to_json
from labkit.supervisor.browsing import BROWSE_VERBS
from labkit.supervisor.capture import CAPTURE_VERBS
from labkit.supervisor.connection import Call
from labkit.supervisor.contents import CONTENT_VERBS
from labkit.supervisor.groups import GROUP_VERBS
from labkit.supervisor.joining import enter
from labkit.supervisor.lifecycle import create, launch, living, running, signal_number
from labkit.supervisor.living import LIFE_VERBS
from labkit.supervisor.networking import NETWORK_VERBS
from labkit.supervisor.processes import PROCESS_VERBS
from labkit.supervisor.records import RECORD_VERBS
from labkit.supervisor.stepping import PLAN_VERBS
from labkit.supervisor.task import Task
from labkit.supervisor.unpacking import LAYER_VERBS, Stored
from labkit.supervisor.volumes import VOLUME_VERBS

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


def run(
    server: Server,
    call: Call,
    spec: dict[str, Any],
    secrets: dict[str, str] | None = None,
    stored: Stored | None = None,
    attach: bool = True,
    stdin: bool = False,
) -> None:
    """Crea e avvia un container; con ``attach`` la risposta arriva quando finisce.

    ``stored`` dice quale immagine conservata (:class:`labkit.engine.stored.Source`), se è una di quelle.
    """
    if attach and stored:
        call.early = []  # what is typed while the image is being made ready
    server.images.prepare(call, stored, lambda image: _run(server, call, spec, secrets, image, attach, stdin))


def _run(
    server: Server,
    call: Call,
    spec: dict[str, Any],
    secrets: dict[str, str] | None,
    image: ImageRoot | None,
    attach: bool,
    stdin: bool,
) -> None:
    container = create(server, spec, secrets, image)
    birth = launch(server, container, stdin=stdin)
    birth.on_failed = call.fail
    if not attach:
        birth.on_ready = lambda: call.answer(to_json(container.info()))
        return
    birth.on_ready = lambda: call.event({"started": to_json(container.info())})
    call.attach(birth.task)
    container.waiters.append(lambda code: call.answer({"exit_code": code, "info": to_json(container.info())}))


def execute(
    server: Server,
    call: Call,
    name: str,
    command: list[str],
    env: Sequence[Setting] = (),
    user: str | None = None,
    workdir: str | None = None,
    tty: bool = False,
    window: list[int] | None = None,
    stdin: bool = False,
) -> None:
    """Un programma in più in un container che gira."""
    container, _ = running(server, name)
    if not command:
        raise InvalidError("exec ha bisogno di un comando.", f"labkit exec {name} ps")
    exec_id = os.urandom(6).hex()
    server.state.note("exec_create", container, exec_id=exec_id, command=" ".join(command))
    join = enter(
        server,
        container,
        call,
        command,
        env=env or (),
        user=user,
        workdir=workdir,
        tty=tty,
        window=window or (),
        stdin=stdin,
    )

    def told(code: int | None) -> None:
        if code is None:
            server.state.note("exec_start", container, exec_id=exec_id)
        else:
            server.state.note("exec_die", container, exec_id=exec_id, exit_code=code)

    join.told = told


def ps(server: Server, call: Call, all: bool = False) -> None:
    chosen = [c for c in server.state.containers.values() if all or c.alive or c.state == "restarting"]
    call.answer([to_json(c.info()) for c in chosen])


def inspect(server: Server, call: Call, name: str) -> None:
    container = server.state.container(name)
    call.answer(to_json(container.whole()))


def top(server: Server, call: Call, name: str) -> None:
    """I processi di un container, con i PID del laboratorio."""
    container, task = living(server, name)
    wanted = namespaces.namespace_id("pid", container.program)
    rows = []
    for pid in procfs.pids():
        try:
            if pid == task.pid or namespaces.namespace_id("pid", pid) == wanted:
                rows.append({"pid": pid, "command": procfs.command(pid)})
        except (NotFoundError, OSError):
            continue
    call.answer(rows)


def attached(call: Call, channel: int) -> Task:
    """Il processo attaccato a un altro canale dello stesso client."""
    target = call.connection.calls.get(channel)
    if target is None or target.task is None or target.readonly:
        raise NotFoundError("Su quel canale non c'è più un processo.")
    return target.task


def interrupt(server: Server, call: Call, channel: int, signal: str = "SIGINT") -> None:
    """Un segnale al gruppo del processo attaccato a un canale, come Ctrl-C in un terminale."""
    waiting = call.connection.calls.get(channel)
    if waiting is not None and waiting.preparing:  # nothing is born yet: the image goes on, the container does not
        waiting.fail(LabError("Interrotto mentre si preparava l'immagine."))
        call.answer()
        return
    task = attached(call, channel)
    try:
        os.killpg(task.pid, signal_number(signal))
    except ProcessLookupError:  # born a moment ago: it has no session of its own yet
        task.kill(signal_number(signal))
    call.answer()


def resize(server: Server, call: Call, channel: int, rows: int, columns: int) -> None:
    """La misura del terminale attaccato a un canale."""
    attached(call, channel).resize(rows, columns)
    call.answer()


def snapshot(server: Server, call: Call) -> None:
    """I namespace di chi vive nel laboratorio, letti adesso da /proc."""
    people = [("laboratorio", os.getpid(), "")]
    people += [(label, process.pid, "") for label, process in server.processes.items()]
    for c in server.state.containers.values():
        if c.task and c.task.exit_code is None:
            people.append((c.name, c.program or c.task.pid, c.name))
    rows = []
    for label, pid, container in people:
        try:
            found = namespaces.namespace_ids(pid)
        except NotFoundError:
            continue
        rows.append({"pid": pid, "label": label, "namespaces": found, "container": container})
    call.answer(rows)


def images(server: Server, call: Call) -> None:
    call.answer(list(names()))


def rootfs(server: Server, call: Call, image: str, stored: Stored | None = None) -> None:
    """Gli strati di un'immagine, come percorsi visibili dal laboratorio."""

    def ready(found: ImageRoot | None) -> None:
        trees = (found or server.launcher.image(image)).trees
        call.answer([{"target": tree.target, "lowers": list(tree.lowers)} for tree in trees])

    server.images.prepare(call, stored, ready)


def hold(server: Server, call: Call, pid: int, kind: str) -> None:
    """Tiene aperto un namespace anche quando i suoi processi saranno finiti."""
    if kind not in NAMESPACES:
        raise InvalidError(f"«{kind}» non è un tipo di namespace: {', '.join(NAMESPACES)}.", "lab.hold(p, 'uts')")
    identity = namespaces.namespace_id(kind, pid)
    call.answer({"descriptor": server.state.hold(kind, namespaces.path(kind, pid)), "kind": kind, "id": identity})


def release(server: Server, call: Call, descriptor: int) -> None:
    server.state.release(descriptor)
    call.answer()


def hello(server: Server, call: Call) -> None:
    call.answer(server.hello())


def shutdown(server: Server, call: Call) -> None:
    call.answer()
    server.loop.running = False


VERBS: dict[str, Callable[..., None]] = {
    "exec": execute,
    "hello": hello,
    "hold": hold,
    "images": images,
    "inspect": inspect,
    "interrupt": interrupt,
    "namespaces": snapshot,
    "ps": ps,
    "release": release,
    "resize": resize,
    "rootfs": rootfs,
    "run": run,
    "shutdown": shutdown,
    "top": top,
    **BROWSE_VERBS,
    **CAPTURE_VERBS,
    **CONTENT_VERBS,
    **GROUP_VERBS,
    **LAYER_VERBS,
    **LIFE_VERBS,
    **NETWORK_VERBS,
    **PLAN_VERBS,
    **PROCESS_VERBS,
    **RECORD_VERBS,
    **VOLUME_VERBS,
}

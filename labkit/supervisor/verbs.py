"""La tabella chiusa dei verbi: tutto quello che un client può chiedere al laboratorio.

Ogni verbo riceve il server, la richiesta e gli argomenti; risponde con ``call.answer`` o solleva un
:class:`~labkit.errors.LabError`.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.engine import container as containers
from labkit.engine.userland import names
from labkit.errors import ConflictError, InvalidError, NotFoundError
from labkit.kernel import capabilities, namespaces, procfs
from labkit.model import NAMESPACES, to_json
from labkit.supervisor.connection import Call
from labkit.supervisor.joining import Join
from labkit.supervisor.launcher import exec_plan
from labkit.supervisor.lifecycle import create, destroy, launch, running, signal_number
from labkit.supervisor.processes import PROCESS_VERBS
from labkit.supervisor.stepping import PLAN_VERBS
from labkit.supervisor.task import Task

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


def run(server: Server, call: Call, spec: dict[str, Any], attach: bool = True, stdin: bool = False) -> None:
    """Crea e avvia un container; con ``attach`` la risposta arriva quando finisce."""
    container = create(server, spec)
    birth = launch(server, container, stdin=stdin)
    birth.on_failed = call.fail
    if not attach:
        birth.on_ready = lambda: call.answer(to_json(container.info()))
        return
    birth.on_ready = lambda: call.event({"started": to_json(container.info())})
    call.task = container.task
    if call.task:
        call.task.listeners.append(call)
    container.waiters.append(lambda code: call.answer({"exit_code": code, "info": to_json(container.info())}))


def execute(
    server: Server,
    call: Call,
    name: str,
    command: list[str],
    env: dict[str, str] | None = None,
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
    size = tuple(window or ())
    spec = replace(container.spec, tty=tty, window=size, workdir=container.spec.workdir if workdir is None else workdir)
    environment = containers.environment(spec, container.image, tuple((env or {}).items()))
    plan = exec_plan(
        server.launcher,
        container.program,
        tuple(command),
        env=tuple((variable.name, variable.value) for variable in environment),
        user=spec.user if user is None else user,
        workdir=spec.workdir,
        tty=tty,
        window=spec.window,
        caps=tuple(sorted(capabilities.compute(spec.cap_add, spec.cap_drop))),
    )
    pidfd = namespaces.open_process(container.program)
    try:
        Join(server, call, plan, pidfd, stdin=stdin, tty=tty)
    finally:
        os.close(pidfd)


def ps(server: Server, call: Call, all: bool = False) -> None:
    chosen = [c for c in server.state.containers.values() if all or c.state == "running"]
    call.answer([to_json(c.info()) for c in chosen])


def inspect(server: Server, call: Call, name: str) -> None:
    container = server.state.container(name)
    call.answer(to_json(container.whole()))


def logs(server: Server, call: Call, name: str, follow: bool = False) -> None:
    """Le ultime uscite del container; con ``follow`` anche quelle che verranno, finché gira."""
    container = server.state.container(name)
    for stream, data in container.log.pieces:
        call.stdio(stream, data)
    if not follow or container.state != "running" or container.task is None:
        call.answer()
        return
    call.task = container.task
    call.readonly = True
    container.task.listeners.append(call)
    container.waiters.append(lambda code: call.answer())


def wait(server: Server, call: Call, name: str) -> None:
    container = server.state.container(name)
    if container.state == "exited":
        call.answer(container.exit_code)
        return

    def ended(code: int | None) -> None:
        if code is None:
            call.fail(ConflictError(f"Il container «{name}» è stato tolto prima di partire.", "lab.ps(all=True)"))
        else:
            call.answer(code)

    container.waiters.append(ended)


def kill(server: Server, call: Call, name: str, signal: str = "SIGKILL") -> None:
    container, task = running(server, name)
    number = signal_number(signal)
    task.kill(number)
    server.state.note("kill", container.name, signal=number)
    call.answer()


def stop(server: Server, call: Call, name: str, grace: float = 10.0) -> None:
    """SIGTERM (o il segnale del container), poi SIGKILL dopo ``grace`` secondi; risponde a cosa finita."""
    if not isinstance(grace, (int, float)) or not grace >= 0:
        raise InvalidError("I secondi di attesa vanno da zero in su.", "stop(grace=10)")
    container = server.state.container(name)
    task = container.task
    if container.state != "running" or task is None:
        call.answer(container.exit_code)
        return

    def stopped(code: int | None) -> None:
        server.state.note("stop", container.name)
        call.answer(code)

    container.waiters.append(stopped)
    task.kill(signal_number(container.spec.stop_signal))
    server.loop.after(grace, lambda: task.kill(signals.SIGKILL))


def rm(server: Server, call: Call, name: str, force: bool = False) -> None:
    """Toglie un container fermo; con ``force`` anche uno che gira, o un piano a metà."""
    container = server.state.container(name)
    if container.state == "running" and not force:
        raise ConflictError(
            f"Il container «{container.name}» gira ancora.", f"labkit stop {name}, oppure labkit rm --force {name}"
        )
    if container.task is None or container.task.exit_code is not None:
        destroy(server, container)
        call.answer()
        return

    def gone(code: int | None) -> None:
        destroy(server, container)
        call.answer()

    container.waiters.append(gone)
    container.task.kill(signals.SIGKILL)


def top(server: Server, call: Call, name: str) -> None:
    """I processi di un container, con i PID del laboratorio."""
    container, task = running(server, name)
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


def rootfs(server: Server, call: Call, image: str) -> None:
    """Gli strati di un'immagine, come percorsi visibili dal laboratorio."""
    trees = server.launcher.image(image).trees
    call.answer([{"target": tree.target, "lowers": list(tree.lowers)} for tree in trees])


def hold(server: Server, call: Call, pid: int, kind: str) -> None:
    """Tiene aperto un namespace anche quando i suoi processi saranno finiti."""
    if kind not in NAMESPACES:
        raise InvalidError(f"«{kind}» non è un tipo di namespace: {', '.join(NAMESPACES)}.", "lab.hold(p, 'uts')")
    identity = namespaces.namespace_id(kind, pid)
    call.answer({"descriptor": server.state.hold(kind, namespaces.path(kind, pid)), "kind": kind, "id": identity})


def release(server: Server, call: Call, descriptor: int) -> None:
    server.state.release(descriptor)
    call.answer()


def events(server: Server, call: Call, follow: bool = False) -> None:
    """Gli eventi fin qui; con ``follow`` anche quelli che verranno, uno per EVENT."""
    if not follow:
        call.answer([to_json(event) for event in server.state.events])
        return
    for event in server.state.events:
        call.event(to_json(event))
    server.followers.append(call)


def hello(server: Server, call: Call) -> None:
    call.answer(server.hello())


def shutdown(server: Server, call: Call) -> None:
    call.answer()
    server.loop.running = False


VERBS: dict[str, Callable[..., None]] = {
    "events": events,
    "exec": execute,
    "hello": hello,
    "hold": hold,
    "images": images,
    "inspect": inspect,
    "interrupt": interrupt,
    "kill": kill,
    "logs": logs,
    "namespaces": snapshot,
    "ps": ps,
    "release": release,
    "resize": resize,
    "rm": rm,
    "rootfs": rootfs,
    "run": run,
    "shutdown": shutdown,
    "stop": stop,
    "top": top,
    "wait": wait,
    **PLAN_VERBS,
    **PROCESS_VERBS,
}

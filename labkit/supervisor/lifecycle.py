"""La vita di un container nel supervisore: nasce da un piano, diventa un programma, finisce, riparte, sparisce.

Invariante: quello che un avvio non riuscito ha fatto è disfatto prima che il client lo sappia; un container
che ha già vissuto, o che è stato creato per dopo, resta con il suo strato, il suo nome e il suo indirizzo.
"""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.engine.container import complete
from labkit.engine.limits import supported
from labkit.engine.rootfs import ImageRoot
from labkit.engine.secrets import seal
from labkit.errors import ConflictError, InvalidError, LabError, from_dict
from labkit.kernel import capabilities, namespaces, procfs
from labkit.model import ContainerSpec, Step
from labkit.supervisor.health import Monitor
from labkit.supervisor.launcher import Child, container_plan, halves
from labkit.supervisor.report import ReportReader
from labkit.supervisor.state import Container
from labkit.supervisor.task import Task

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


def signal_number(name: str | int) -> int:
    """Il numero di un segnale da ``TERM``, ``SIGTERM`` o 15."""
    text = str(name).upper()
    if text.isdecimal() and int(text) in signal.valid_signals():
        return int(text)
    full = text if text.startswith("SIG") else f"SIG{text}"
    try:
        return int(signal.Signals[full])
    except KeyError:
        raise InvalidError(f"Il segnale «{name}» non esiste.", "kill(signal='SIGTERM')") from None


def create(
    server: Server,
    spec_data: dict[str, Any],
    secrets: dict[str, str] | None = None,
    image: ImageRoot | None = None,
    *,
    later: bool = False,
) -> Container:
    """Un container nuovo, con un nome e un piano, ma ancora senza niente nel kernel.

    ``secrets`` sono i valori (base64) dei segreti che la descrizione nomina; ``image`` un'immagine conservata già
    pronta, se no è una di quelle del laboratorio; ``later`` se non partirà subito: nessuno lo aspetta, già pronto, per
    chissà quanto.
    """
    requested = time.monotonic()
    spec = ContainerSpec.from_json(spec_data)
    image = image or server.launcher.image(spec.image)
    capabilities.compute(spec.cap_add, spec.cap_drop)
    if set(spec.secrets) != set(secrets or {}):
        raise InvalidError("I segreti mandati non sono quelli nominati.", "lab.run(…, secrets={'nome': 'valore'})")
    limits, warnings = supported(server.launcher.group, spec.limits, server.launcher.reasons)
    if spec.network.startswith("container:"):
        server.state.container(spec.network.partition(":")[2])
    number = server.state.new_number()
    spec = complete(spec, image, limits=limits, name=server.state.choose_name(spec.name, number))
    signal_number(spec.stop_signal)
    spec, volumes = server.volumes.claim(server.state, spec, image.volumes)
    held = seal({name: base64.b64decode(secrets[name], validate=True) for name in spec.secrets}) if secrets else -1
    try:
        place, lab, own = container_plan(server.launcher, spec, image, later=later)
    except BaseException:
        if held >= 0:
            os.close(held)
        server.volumes.release(volumes)
        raise
    container = Container(os.urandom(6).hex(), spec.name, spec, image, place, lab, own, server.launcher.context())
    container.requested = requested
    container.warnings = (*warnings, *server.images.losses(image))
    container.secrets, container.volumes = held, volumes
    server.state.add(container)
    return container


class Birth:
    """Un container che sta nascendo: dal clone3 all'execve. ``on_step`` serve a chi va passo per passo."""

    def __init__(self, server: Server, container: Container, child: Child) -> None:
        self.server = server
        self.container = container
        self.problem: LabError | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_failed: Callable[[LabError], None] = lambda problem: None
        self.on_step: Callable[[Step, LabError | None], None] = lambda step, problem: None
        task = self.task = container.task = Task(server.loop, child.pid, child.pidfd, container.log, container.audience)
        task.attach_streams(child.stdio.stdin, child.stdio.stdout, child.stdio.stderr)
        task.on_exit.append(self._exited)
        for listener in container.audience:
            listener.task = task  # whoever was attached to the last run is attached to this one
        self.report = ReportReader(server.loop, child.report, self._message, task.attach_terminal, self._ended)
        container.birth = self

    def _message(self, message: dict[str, Any]) -> None:
        if "error" in message:
            self.problem = from_dict(message["error"])
            self.container.record_failure(message["index"], self.problem.message)
        elif "steps" in message:
            self.container.record_times(message["steps"], message["ahead"])
        elif "step" in message:
            step = Step.from_json(message["step"])
            self.container.record_step(step)
            self.on_step(step, from_dict(message["refused"]) if "refused" in message else None)

    def _ended(self) -> None:
        """Il filo si è chiuso: o è diventato il programma, o non ce l'ha fatta, o è stato ucciso prima."""
        container = self.container
        container.birth = None
        if self.problem is None and container.all_steps()[-2].state == "done":
            last = container.all_steps()[-1]
            container.record_step(replace(last, state="done"))
            container.state = "running"
            container.kept = True
            container.program = program(container)
            container.started, container.started_at = time.monotonic(), time.time()
            container.first_instruction_ms = (container.started - container.requested) * 1000
            self.server.state.note("start", container)
            if container.spec.health and container.spec.health.command:
                container.monitor = Monitor(self.server, container, container.spec.health)
            self.on_ready()
            return
        why = f"Il container «{container.name}» è stato fermato mentre nasceva."
        problem = self.problem or ConflictError(why, "lab.ps(all=True)")
        unborn(self.server, container, problem)
        self.on_failed(problem)

    def _exited(self, code: int) -> None:
        self.report.drain()
        if self.container.task is self.task:
            ended(self.server, self.container, code)


def program(container: Container) -> int:
    """Il PID del programma appena partito: il primo figlio di init, o il PID 1 stesso."""
    assert container.task is not None
    first = procfs.children(container.task.pid)[:1] if container.spec.init else []
    return first[0] if first else container.task.pid


def launch(server: Server, container: Container, *, stdin: bool = False, stepped: bool = False) -> Birth:
    """Fa nascere il processo del container. Se non nasce l'errore si alza, e il container sparisce (o resta fermo)."""
    if any(errand.writes for errand in container.errands):
        raise ConflictError(f"Qualcuno sta copiando dei file in «{container.name}».", "riprova fra poco")
    container.manual = False
    container.started, container.error = 0.0, ""
    container.oom_kills, container.oom_killed = 0, False
    container.context.secrets = container.secrets
    try:
        container.context.network = neighbour(server, container)
        publish(server, container)
        child = server.launcher.start(
            container.lab_plan,
            container.own_plan,
            container.context,
            container.place,
            stdin=stdin or container.spec.interactive,
            tty=container.spec.tty,
            stepped=stepped,
        )
    except Exception as problem:
        unborn(server, container, problem)
        raise
    finally:
        if container.context.network >= 0:
            os.close(container.context.network)
            container.context.network = -1
    container.warm = child.warm
    for step in container.lab_plan.steps():
        container.record_step(step)
    server.groups.watch(container)
    return Birth(server, container, child)


def neighbour(server: Server, container: Container) -> int:
    """Il namespace di rete del container con cui divide la rete (``container:NOME``), aperto; -1 se ne ha una sua."""
    shared, _, name = container.spec.network.partition(":")
    if shared != "container":
        return -1
    _, task = living(server, name)
    return os.open(namespaces.path("net", task.pid), os.O_RDONLY | os.O_CLOEXEC)


def relaunch(server: Server, container: Container, *, stdin: bool = False) -> Birth:
    """Un altro giro di un container fermo: un programma nuovo nello stesso strato, con lo stesso nome e indirizzo."""
    container.requested = time.monotonic()
    kept = container.lab_plan.lasting()
    container.place = server.launcher.renew(container.place)
    container.lab_plan, container.own_plan = halves(server.launcher, container.spec, container.image, container.place)
    container.lab_plan.inherit(kept)
    container.context = server.launcher.context()
    container.steps = []
    return launch(server, container, stdin=stdin)


def unborn(server: Server, container: Container, problem: Exception) -> None:
    """Un avvio non riuscito: il container sparisce; se è da tenere resta com'era, e sa perché."""
    if not container.kept:
        destroy(server, container)
        return
    task, container.task = container.task, None
    if task:
        task.kill(signal.SIGKILL)
    unpublish(server, container)
    container.error = problem.message if isinstance(problem, LabError) else str(problem)
    container.exit_code = problem.exit_code if isinstance(problem, LabError) else 125
    container.state = "exited" if container.finished_at else "created"
    rest(server, container, container.exit_code)


def publish(server: Server, container: Container) -> None:
    """Apre sull'host le porte chieste, prima che il programma parta: se una è presa non nasce niente."""
    opened = []
    container.ports = ()
    for port in container.spec.publish:
        listener, number = server.listen(port)
        address = container.place.address or "127.0.0.1"  # of the lab, if it lives in the lab's own network
        with listener:
            pid = server.launcher.forward(listener, (address, port.container_port))
        container.forwarders.append(pid)
        opened.append(replace(port, host_port=number))
    container.ports = tuple(opened)


def unpublish(server: Server, container: Container) -> None:
    """Chiude le porte aperte."""
    for pid in container.forwarders:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if container.forwarders:
        server.unlisten([port.host_port for port in container.ports])
    container.forwarders.clear()


def ended(server: Server, container: Container, code: int) -> None:
    """Il programma è finito: le porte si chiudono; poi riparte, o resta fermo, o (con ``remove``) sparisce."""
    server.groups.look_at(container)
    container.exit_code = code
    container.oom_killed = code == 137 and container.oom_kills > 0
    container.state = "exited"
    unpublish(server, container)
    if container.monitor:
        container.monitor.stop()
    if not container.started:  # killed while it was being born
        _answer(container.waiters, None)
        return
    container.finished_at = time.time()
    wait = None if container.manual else container.restarts.wait(code, time.monotonic() - container.started)
    server.state.note("die", container, exit_code=code, **({} if wait is None else {"restart_after": wait}))
    _answer(container.next_exit, code)
    if wait is None:
        rest(server, container, code)
        return
    container.state = "restarting"
    container.pending = server.loop.after(wait, lambda: _again(server, container))


def _again(server: Server, container: Container) -> None:
    """L'attesa è finita: riparte. Se non ci riesce resta fermo, e ``inspect`` dice perché."""
    container.pending = None
    try:
        relaunch(server, container)
    except Exception as problem:  # noqa: BLE001  nobody asked: the reason stays in the container
        if container.state == "restarting":
            unborn(server, container, problem)


def rest(server: Server, container: Container, code: int | None) -> None:
    """Il container resta fermo: lo sa chi aspetta, e con ``remove`` sparisce."""
    if container.pending:
        container.pending.cancel()
        container.pending = None
        container.state = "exited"
    _answer(container.waiters, code)
    if container.spec.remove:
        destroy(server, container)


def _answer(waiters: list[Callable[[int | None], Any]], code: int | None) -> None:
    asked = waiters[:]
    waiters.clear()
    for waiter in asked:
        waiter(code)


def halt(server: Server, container: Container, grace: float, stopped: Callable[[int | None], Any]) -> None:
    """Ferma un container con il suo segnale, e con SIGKILL dopo ``grace`` secondi; ``stopped`` a cosa finita."""
    task = container.task
    container.manual = True
    if container.birth and container.kept and task:  # between two runs: nothing has run yet
        container.waiters.append(stopped)
        task.kill(signal.SIGKILL)
        return
    if container.pending:
        rest(server, container, container.exit_code)
    if not container.alive or task is None:
        stopped(container.exit_code)
        return
    container.waiters.append(stopped)
    _signal(server, container, task, signal_number(container.spec.stop_signal))
    thaw(container)  # a frozen program would not hear it before the end of the grace
    server.loop.after(grace, lambda: _signal(server, container, task, signal.SIGKILL))


def _signal(server: Server, container: Container, task: Task, number: int) -> None:
    if task.exit_code is None:
        server.state.note("kill", container, signal=int(number))
        task.kill(number)


def destroy(server: Server, container: Container) -> None:
    """Toglie un container: processo, strato, indirizzo, nome. Farlo due volte non fa danno."""
    container.manual = True
    if container.task:
        container.task.kill(signal.SIGKILL)
    waiting = container.task is None or container.pending is not None  # else its end will tell
    if container.pending:
        container.pending.cancel()
    if container.monitor:
        container.monitor.stop()
    unpublish(server, container)
    if server.state.containers.get(container.name) is not container:
        return
    server.state.remove(container)
    for errand in container.errands:
        errand.task.kill(signal.SIGKILL)
    if container.secrets >= 0:
        os.close(container.secrets)
    server.volumes.leave(container, anonymous=container.spec.remove or container.purge)
    server.launcher.release(container.place)
    server.launcher.discard(container.lab_plan, container.context)
    server.groups.forget(container)
    if waiting:
        _answer(container.waiters, container.exit_code)
    _answer(container.removal, container.exit_code)


def thaw(container: Container) -> None:
    """Se è in pausa, riprende: chi lo ferma vuole che senta il segnale."""
    if container.state == "paused" and container.place.group:
        container.place.group.write("cgroup.freeze", 0)


def living(server: Server, name: str) -> tuple[Container, Task]:
    """Il container ``name``, che deve girare o essere in pausa, e il suo processo."""
    container = server.state.container(name)
    if not container.alive or container.task is None:
        raise ConflictError(f"Il container «{container.name}» non gira ({container.state}).", "lab.ps(all=True)")
    return container, container.task


def running(server: Server, name: str) -> tuple[Container, Task]:
    """Il container ``name``, che deve girare, e il suo processo."""
    container, task = living(server, name)
    if container.state == "paused":
        why = f"Il container «{container.name}» è in pausa: i suoi processi sono fermi."
        raise ConflictError(why, f"labkit unpause {container.name}")
    return container, task

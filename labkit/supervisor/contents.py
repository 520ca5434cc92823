"""I verbi dei file di un container: diff, commit, export, cp. Li fa un figlio, a pezzi, con il passo di chi legge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from labkit.engine.container import environment
from labkit.engine.rootfs import MakeLayer
from labkit.errors import ConflictError, InvalidError, LabError
from labkit.supervisor.connection import Call
from labkit.supervisor.errand import Errand
from labkit.supervisor.groups import freeze
from labkit.supervisor.state import Container
from labkit.supervisor.zygote import Stdio

if TYPE_CHECKING:
    from labkit.engine.contents import View
    from labkit.supervisor.server import Server


def diff(server: Server, call: Call, name: str) -> None:
    """Le modifiche del container al suo filesystem: ``[[segno, percorso], …]``."""
    container = server.state.container(name)

    def work(view: View, tell: Callable[..., None]) -> Any:
        from labkit.engine.contents import changed

        return changed(view)

    _send(server, call, container, work, call.answer)


def layer(server: Server, call: Call, name: str, pause: bool = True) -> None:
    """Il tar dello strato del container, sullo stdout; poi com'è partito. Intanto, se gira, lo ferma (``pause``)."""
    container = server.state.container(name)

    def work(view: View, tell: Callable[..., None]) -> Any:
        from labkit.engine.contents import layer

        return layer(view, 1)

    def done(skipped: Any) -> None:
        call.answer({"skipped": skipped, "process": process(container), "image": container.image.digest})

    def go(paused: bool) -> None:
        def thaw() -> None:
            if paused and container.state == "paused":
                freeze(server, container, False, lambda: None, lambda problem: None)

        _send(server, call, container, work, done, streams=True, after=thaw)

    if pause and container.state == "running" and container.place.group:
        freeze(server, container, True, lambda: server.attempt(call, lambda: go(True)), lambda problem: go(False))
    else:
        go(False)


def export(server: Server, call: Call, name: str, below: bool = False) -> None:
    """Il tar della radice intera, sullo stdout; con ``below`` senza lo strato del container."""
    container = server.state.container(name)

    def work(view: View, tell: Callable[..., None]) -> Any:
        from labkit.engine.contents import export

        return export(view, 1, bool(below))

    _send(server, call, container, work, call.answer, streams=True)


def archive_get(server: Server, call: Call, name: str, path: str, look: bool = False) -> None:
    """Il tar di un file o di una cartella, sullo stdout; un evento ``stat`` dice che cos'è (con ``look``, e basta)."""
    container = server.state.container(name)
    wanted = _path(path)

    def work(view: View, tell: Callable[..., None]) -> Any:
        from labkit.engine.contents import get

        return get(view, wanted, -1 if look else 1, tell)

    _send(server, call, container, work, call.answer, streams=True)


def archive_put(server: Server, call: Call, name: str, path: str) -> None:
    """Un tar, dallo stdin, nella cartella ``path`` del container."""
    container = server.state.container(name)
    wanted = _path(path)
    if container.spec.read_only:
        raise ConflictError(f"La radice di «{container.name}» è di sola lettura.", "un container senza --read-only")
    if not container.alive:
        _make_layer(server, container)

    def work(view: View, tell: Callable[..., None]) -> Any:
        from labkit.engine.contents import put

        with open(0, "rb") as source:
            return put(view, wanted, source)

    _send(server, call, container, work, call.answer, streams=True, stdin=True)


def _path(path: Any) -> str:
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidError("Ci vuole il percorso di un file del container.", "get_archive('/etc/passwd')")
    return path


def _make_layer(server: Server, container: Container) -> None:
    """Lo strato di chi non è ancora partito: i primi passi del suo piano, che poi troverà già fatti."""
    lab = container.lab_plan
    kinds = [isinstance(operation, MakeLayer) for operation in lab.operations]
    if lab.position > kinds.index(True):
        return
    if not container.kept:
        raise ConflictError(f"Il piano di «{container.name}» non ha ancora fatto lo strato.", "plan.step()")
    while lab.position <= kinds.index(True):
        lab.advance(container.context)


def process(container: Container) -> dict[str, Any]:
    """Come è partito un container, con i nomi della configurazione OCI: così parte l'immagine che se ne fa."""
    info, spec = container.info(), container.spec
    env = [str(one) for one in environment(spec, container.image) if one.origin != "lab"]
    return {
        "Cmd": list(info.command[len(info.entrypoint) :]) or None,
        "Entrypoint": list(info.entrypoint) or None,
        "Env": env or None,
        "User": spec.user or None,
        "WorkingDir": spec.workdir or None,
        "Labels": dict(spec.labels) or None,
        "StopSignal": spec.stop_signal if spec.stop_signal != "SIGTERM" else None,
    }


def _send(
    server: Server,
    call: Call,
    container: Container,
    work: Callable[[View, Callable[..., None]], Any],
    done: Callable[[Any], None],
    *,
    streams: bool = False,
    stdin: bool = False,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Un figlio fa ``work`` sui file del container; ``done`` riceve ciò che torna, ``after`` arriva comunque."""
    done_here = container.lab_plan.operations[: container.lab_plan.position]
    made = any(isinstance(operation, MakeLayer) for operation in done_here)
    view = partial(
        server.launcher.view,
        container.image,
        container.place.folder if made else "",
        container.program if container.alive else 0,
    )

    def wanted(tell: Callable[..., None]) -> tuple[Any, int]:
        return work(view(), tell), -1

    def ended(value: Any, fd: int) -> None:
        container.errands.remove(errand)
        after()
        if isinstance(value, LabError):
            call.fail(value)
        else:
            server.attempt(call, lambda: done(value))

    if container.birth or container.state == "restarting":
        raise ConflictError(f"Il container «{container.name}» sta partendo.", "lab.ps(all=True)")
    writes = stdin and not container.alive  # what runs has its root for as many as want it
    if writes and container.errands:
        raise ConflictError(f"Qualcuno sta già usando i file di «{container.name}».", "riprova fra poco")
    stdio = Stdio(stdin=stdin, tty=False) if streams else None
    errand = Errand(server.loop, wanted, server.launcher.paths, call.event, ended, stdio=stdio, writes=writes)
    container.errands.append(errand)
    call.attach(errand.task)


CONTENT_VERBS: dict[str, Callable[..., None]] = {
    "archive_get": archive_get,
    "archive_put": archive_put,
    "diff": diff,
    "export": export,
    "layer": layer,
}

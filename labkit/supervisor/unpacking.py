"""Le immagini conservate, pronte in questo laboratorio: le spacchetta un figlio, e intanto il ciclo gira.

Invariante: un'immagine pronta ha il lucchetto dei suoi strati aperto qui; finito il laboratorio lo chiude il kernel.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from labkit.engine.rootfs import ImageRoot
from labkit.errors import InvalidError, LabError, from_dict
from labkit.kernel import libc
from labkit.kernel.explain import from_os_error
from labkit.model import to_json
from labkit.supervisor.connection import Call
from labkit.supervisor.report import ReportReader
from labkit.supervisor.zygote import Stdio, clean_child

if TYPE_CHECKING:
    from labkit.supervisor.server import Server

#: Which image, as a request says it: the same words are the same image.
Stored = dict[str, Any]
#: What makes an image ready, in the child: it tells how far it is, and gives the lock with it.
Work = Callable[[Stored, Callable[..., None]], tuple[ImageRoot, int]]


class Images:
    """Le immagini conservate che questo laboratorio ha già preparato, e quelle che sta preparando."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._ready: dict[str, ImageRoot] = {}
        self._locks: list[int] = []
        self._making: dict[str, _Making] = {}
        self._told: set[str] = set()

    def losses(self, image: ImageRoot) -> tuple[str, ...]:
        """Quello che di un'immagine qui non c'è; si dice una volta sola, al primo container."""
        if not image.losses or image.digest in self._told:
            return ()
        self._told.add(image.digest)
        return image.losses

    def prepare(self, call: Call, stored: Stored | None, then: Callable[[ImageRoot | None], None]) -> None:
        """Chiama ``then`` con l'immagine, subito se è pronta; senza ``stored`` non ce n'è una da preparare."""
        if stored is None:
            then(None)
            return
        if not isinstance(stored, dict):
            raise InvalidError("Dell'immagine ci vuole dove sta: store, descriptor, name.")
        key = json.dumps(stored, sort_keys=True)
        if key in self._ready:
            then(self._ready[key])
            return
        if key not in self._making:
            self._making[key] = _Making(self, key, self.server.launcher.unpack(stored))
        call.preparing = True
        self._making[key].waiting.append((call, then))

    def done(self, key: str, made: ImageRoot | LabError, lock: int) -> None:
        """La preparazione è finita, bene o male: lo sa chi l'aspettava, se non se n'è andato."""
        making = self._making.pop(key)
        if isinstance(made, ImageRoot):
            self._ready[key] = made
            self._locks.append(lock)
        for call, then in making.waiting:
            if not call.open:
                continue
            call.preparing = False
            if isinstance(made, LabError):
                call.fail(made)
            else:
                self.server.attempt(call, lambda then=then: then(made))  # type: ignore[misc]


class _Making:
    """Un'immagine che si prepara: chi l'aspetta, e il filo del figlio che ci lavora."""

    def __init__(self, images: Images, key: str, channel: socket.socket) -> None:
        self.images, self.key = images, key
        self.waiting: list[tuple[Call, Callable[[ImageRoot | None], None]]] = []
        self._fds: list[int] = []
        self._problem = LabError(
            "Chi spacchettava l'immagine è finito senza dire perché: forse non bastava la memoria.", "free -h"
        )
        channel.setblocking(False)
        ReportReader(images.server.loop, channel, self._message, self._fds.append, self._ended)

    def _message(self, message: dict[str, Any]) -> None:
        if "error" in message:
            self._problem = from_dict(message["error"])
            return
        for call, _ in self.waiting:
            if call.open:
                call.event({"unpacking": message})

    def _ended(self) -> None:
        made: ImageRoot | LabError = self._problem
        lock = -1
        if self._fds:
            with open(self._fds[0], "rb") as file:
                file.seek(0)
                made = ImageRoot.from_json(json.loads(file.read()))
            lock = self._fds[1] if len(self._fds) > 1 else -1
        self.images.done(self.key, made, lock)


def spawn(work: Work, stored: Stored, paths: list[str]) -> socket.socket:
    """Fa nascere il figlio che prepara un'immagine; torna il filo su cui racconta. ``paths`` sono le sue librerie."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid, pidfd = libc.clone3(0)
    if pid == 0:
        _become(work, stored, paths, theirs)
    os.close(pidfd)
    theirs.close()
    return mine


def _become(work: Work, stored: Stored, paths: list[str], channel: socket.socket) -> NoReturn:
    try:
        clean_child(Stdio(stdin=False, tty=True), (channel.fileno(),))
        libc.set_title("labkit-image")
        gc.enable()  # the supervisor does without, but a layer may have a hundred thousand entries
        sys.path += [path for path in paths if path not in sys.path]

        def tell(**message: Any) -> None:
            channel.send(json.dumps(message).encode())

        try:
            image, lock = work(stored, tell)
            record = os.memfd_create("labkit-image", os.MFD_CLOEXEC)
            with open(record, "wb", closefd=False) as file:
                file.write(json.dumps(to_json(image)).encode())
            for fd in (record, *([lock] if lock >= 0 else ())):
                socket.send_fds(channel, [b"{}"], [fd])
        except LabError as problem:
            tell(error=problem.to_dict())
        except OSError as problem:
            tell(error=from_os_error(problem).to_dict())
        except Exception as problem:  # noqa: BLE001  nothing may unwind into the supervisor's loop
            tell(error=LabError(f"L'immagine non si può preparare: {problem!r}.").to_dict())
    finally:
        os._exit(0)


def direct(mode: str, folder: str) -> Work:
    """Il lavoro vero: gli strati spacchettati per un laboratorio di quel modo (:func:`labkit.engine.stored.unpack`)."""

    def work(stored: Stored, tell: Callable[..., None]) -> tuple[ImageRoot, int]:
        from labkit.engine.stored import Source, unpack

        def layer(number: int, count: int, one: Any) -> None:
            tell(layer=number + 1, layers=count, digest=str(one.descriptor.digest), size=one.descriptor.size)

        return unpack(Source.from_json(stored), mode, folder, layer)

    return work


def pretended(stored: Stored, tell: Callable[..., None]) -> tuple[ImageRoot, int]:
    """Il lavoro del motore finto: legge la configurazione, e non spacchetta niente."""
    from labkit.engine.stored import Source, describe

    source = Source.from_json(stored)
    _, image = source.read()
    return describe(source.name, image, (f"/{source.name}",)), -1

"""Le immagini conservate, pronte in questo laboratorio: le spacchetta un figlio, e intanto il ciclo gira.

Invariante: un'immagine pronta ha il lucchetto dei suoi strati aperto qui; finito il laboratorio lo chiude il kernel.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.engine.rootfs import ImageRoot
from labkit.errors import InvalidError, LabError
from labkit.model import to_json
from labkit.supervisor.connection import Call
from labkit.supervisor.errand import Errand, Work

if TYPE_CHECKING:
    from labkit.supervisor.server import Server

#: Which image, as a request says it: the same words are the same image.
Stored = dict[str, Any]


class Images:
    """Le immagini conservate che questo laboratorio ha già preparato, e quelle che sta preparando."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._ready: dict[str, ImageRoot] = {}
        self._locks: list[int] = []
        self._making: dict[str, list[tuple[Call, Callable[[ImageRoot | None], None]]]] = {}
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
            launcher = self.server.launcher
            Errand(
                self.server.loop,
                launcher.unpack(stored),
                launcher.paths,
                lambda message: self._tell(key, message),
                lambda made, lock: self._done(key, made, lock),
            )
            self._making[key] = []
        call.preparing = True
        self._making[key].append((call, then))

    def _tell(self, key: str, message: dict[str, Any]) -> None:
        for call, _ in self._making[key]:
            if call.open:
                call.event({"unpacking": message})

    def _done(self, key: str, made: Any, lock: int) -> None:
        """La preparazione è finita, bene o male: lo sa chi l'aspettava, se non se n'è andato."""
        waiting = self._making.pop(key)
        if not isinstance(made, LabError):
            made = self._ready[key] = ImageRoot.from_json(made)
            self._locks.append(lock)
        for call, then in waiting:
            if not call.open:
                continue
            call.preparing = False
            if isinstance(made, LabError):
                call.fail(made)
            else:
                self.server.attempt(call, lambda then=then: then(made))  # type: ignore[misc]


def direct(stored: Stored, mode: str, folder: str) -> Work:
    """Il lavoro vero: gli strati spacchettati per un laboratorio di quel modo (:func:`labkit.engine.stored.unpack`)."""

    def work(tell: Callable[..., None]) -> tuple[Any, int]:
        from labkit.engine.stored import Source, unpack

        def layer(number: int, count: int, one: Any) -> None:
            tell(layer=number + 1, layers=count, digest=str(one.descriptor.digest), size=one.descriptor.size)

        image, lock = unpack(Source.from_json(stored), mode, folder, layer)
        return to_json(image), lock

    return work


def pruning(root: str, mode: str, folder: str) -> Work:
    """Il lavoro di chi fa pulizia fra gli strati spacchettati (:func:`labkit.engine.stored.prune`)."""

    def work(tell: Callable[..., None]) -> tuple[Any, int]:
        from labkit.engine.stored import prune

        return prune(root, mode, folder), -1

    return work


def layers_prune(server: Server, call: Call, store: str) -> None:
    """Toglie gli strati spacchettati di immagini che in ``store`` non ci sono più, se nessuno li usa; dice quanti."""
    if not isinstance(store, str) or not store.startswith("/") or "\0" in store:
        raise InvalidError("Ci vuole la cartella delle immagini.", "lab.prune_images()")

    def done(value: Any, fd: int) -> None:
        if isinstance(value, LabError):
            call.fail(value)
        else:
            call.answer(value)

    Errand(server.loop, server.launcher.prune(store), server.launcher.paths, lambda message: None, done)


LAYER_VERBS: dict[str, Callable[..., None]] = {"layers_prune": layers_prune}


def pretended(stored: Stored) -> Work:
    """Il lavoro del motore finto: legge la configurazione, e non spacchetta niente."""

    def work(tell: Callable[..., None]) -> tuple[Any, int]:
        from labkit.engine.stored import Source, describe

        source = Source.from_json(stored)
        _, image = source.read()
        return to_json(describe(source.name, image, (f"/{source.name}",))), -1

    return work

"""Gli strati spacchettati: una volta sola per tutti i container e tutti i laboratori, e mai a metà.

Uno strato spacchettato ha il nome della sua ``ChainID``: la stessa pila dà la stessa cartella. Chi usa una pila
tiene in condivisione il lucchetto del suo strato più alto, e finché vive nessuno la toglie: uno strato con un altro
sopra resta. Una cartella vale per l'avvio del
sistema che l'ha fatta: scrivere davvero sul disco ogni file costerebbe più che spacchettare di nuovo.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from labkit.errors import CorruptError, InvalidError
from labkit.images.digest import ChainID
from labkit.images.disk import explained, make_folder, try_lock
from labkit.images.image import Image, Layer
from labkit.images.pipeline import Limits
from labkit.images.rooted import remove
from labkit.images.store import Store
from labkit.images.unpack import Options, unpack
from labkit.images.whiteouts import OverlayWhiteouts


@dataclass(frozen=True)
class Unpacking:
    """Come si spacchetta in questo laboratorio; strati fatti in modi diversi stanno in cartelle diverse.

    ``kind`` dice di chi sono i file visti dall'host (la mappa degli utenti): lo sceglie chi chiama.
    """

    kind: str
    owners: bool = True
    userxattr: bool = True
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class ReadyLayer:
    """Uno strato pronto: la cartella da mettere in un overlay, e ciò che qui non si è potuto fare."""

    chain_id: ChainID
    folder: str
    skipped: dict[str, int]


class Layers:
    """Gli strati spacchettati di ``store``, in ``folder`` se non devono stare accanto alle immagini.

    Si usa da dentro il namespace utente del laboratorio.
    """

    def __init__(self, store: Store, how: Unpacking, folder: str = "") -> None:
        self.store, self.how = store, how
        self.root = f"{folder or f'{store.root}/layers'}/{how.kind}"
        with explained(f"preparare la cartella degli strati «{self.root}»"):
            for name in ("ready", "locks", "making"):
                make_folder(f"{self.root}/{name}")

    @contextmanager
    def use(self, image: Image) -> Iterator[tuple[ReadyLayer, ...]]:
        """Gli strati di un'immagine, dal più basso, spacchettati se serve; restano finché dura il ``with``."""
        ready, lock = self.hold(image)
        try:
            yield ready
        finally:
            if lock >= 0:
                os.close(lock)

    def hold(
        self, image: Image, tell: Callable[[int, Layer], None] = lambda number, layer: None
    ) -> tuple[tuple[ReadyLayer, ...], int]:
        """Come :meth:`use`, ma torna anche il descrittore del lucchetto (-1 se non ci sono strati).

        Finché è aperto, in questo processo o in un altro a cui è stato mandato, gli strati restano. ``tell`` sente,
        prima che cominci, ogni strato da spacchettare e il suo numero, da zero.
        """
        done: list[ReadyLayer] = []
        locks: list[int] = []
        try:
            for number, (layer, chain) in enumerate(zip(image.layers, image.chain_ids, strict=True)):
                locks.append(self._lock(chain))
                done.append(self._one(locks[-1], layer, chain, done, partial(tell, number, layer)))
            top = locks.pop() if locks else -1
        finally:
            for fd in locks:
                os.close(fd)
        return tuple(done), top

    def _one(
        self, fd: int, layer: Layer, chain: ChainID, below: Sequence[ReadyLayer], tell: Callable[[], None]
    ) -> ReadyLayer:
        while True:
            fcntl.flock(fd, fcntl.LOCK_SH)
            found = self._ready(chain)
            if found:
                return found
            # Not an upgrade: flock(2) drops the shared lock first, so what was seen may have changed.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not self._ready(chain):
                tell()
                with explained(f"spacchettare lo strato {layer.descriptor.digest.short}"):
                    self._make(layer, chain, below)

    def _lock(self, chain: ChainID) -> int:
        with explained("spacchettare uno strato"):
            return os.open(f"{self.root}/locks/{chain.encoded}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _ready(self, chain: ChainID) -> ReadyLayer | None:
        folder = f"{self.root}/ready/{chain.encoded}"
        try:
            with open(f"{folder}/done.json", encoding="utf-8") as file:
                done = json.load(file)
        except (OSError, ValueError):
            return None
        return ReadyLayer(chain, f"{folder}/fs", done["skipped"]) if done.get("boot") == boot_id() else None

    def _make(self, layer: Layer, chain: ChainID, below: Sequence[ReadyLayer]) -> None:
        """Spacchetta accanto e poi mette al suo posto; quello che un altro avesse lasciato a metà sparisce."""
        self._clear(f"making/{chain.encoded}")
        self._clear(f"ready/{chain.encoded}")
        building = f"{self.root}/making/{chain.encoded}"
        os.makedirs(f"{building}/fs", mode=0o755)
        folders = tuple(one.folder for one in reversed(below))
        options = Options(OverlayWhiteouts(self.how.userxattr), self.how.owners, folders, limits=self.how.limits)
        try:
            with layer.open() as blob:
                report = unpack(blob, f"{building}/fs", layer.descriptor.digest, layer.diff_id, options)
            with open(f"{building}/done.json", "w", encoding="utf-8") as file:
                under = below[-1].chain_id.encoded if below else ""
                json.dump({"boot": boot_id(), "skipped": report.skipped, "below": under}, file)
            os.rename(building, f"{self.root}/ready/{chain.encoded}")
        except InvalidError as problem:
            self._clear(f"making/{chain.encoded}")
            digest = layer.descriptor.digest
            if not self.store.blobs.verify(digest):
                if self.store.blobs.size(digest) is not None:
                    raise CorruptError(
                        f"Lo strato {digest} si è rovinato sul disco, e da qui si può solo leggere.",
                        "labkit rmi IMMAGINE, e poi labkit pull IMMAGINE",
                    ) from problem
                raise CorruptError(
                    f"Lo strato {digest} si è rovinato sul disco: l'ho messo da parte in {self.store.root}/corrupt.",
                    "scarica di nuovo l'immagine: prende solo quello che manca",
                ) from problem
            raise
        except BaseException:
            self._clear(f"making/{chain.encoded}")
            raise

    def _clear(self, name: str) -> None:
        folder = os.open(os.path.dirname(f"{self.root}/{name}"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(folder, os.fsencode(os.path.basename(name)))
        except FileNotFoundError:
            pass
        finally:
            os.close(folder)

    def prune(self, keep: Sequence[ChainID] = ()) -> int:
        """Toglie gli strati che nessuno usa adesso, tranne ``keep`` e quelli che hanno sotto; torna quanti."""
        kept = {chain.encoded for chain in keep}
        below = self._below({})
        waiting = [name for name in sorted(os.listdir(f"{self.root}/locks")) if name not in below.values()]
        gone = 0
        while waiting:
            name = waiting.pop()
            fd = os.open(f"{self.root}/locks/{name}", os.O_RDWR | os.O_CLOEXEC)
            try:
                # With its lock in hand nobody builds upon it: whoever does holds it, shared.
                if name in kept or not try_lock(fd) or name in self._below(below).values():
                    continue
                with explained("togliere uno strato spacchettato"):
                    gone += os.path.isdir(f"{self.root}/ready/{name}")
                    self._clear(f"ready/{name}")
                    self._clear(f"making/{name}")
            finally:
                os.close(fd)
            under = below.pop(name, "")
            if under and under not in below.values():
                waiting.append(under)
        return gone

    def _below(self, known: dict[str, str]) -> dict[str, str]:
        """Di ogni strato pronto il nome di quello di sotto; ``known`` sono quelli già letti, e si completa."""
        for name in os.listdir(f"{self.root}/ready"):
            if name not in known:
                try:
                    with open(f"{self.root}/ready/{name}/done.json", encoding="utf-8") as file:
                        known[name] = str(json.load(file).get("below", ""))
                except (OSError, ValueError):  # just removed, or left by a machine that was switched off
                    known[name] = ""
        return known


def boot_id() -> str:
    """Il numero dell'avvio di questo kernel (random(4)): cambia a ogni accensione."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()

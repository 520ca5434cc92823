"""Gli strati spacchettati: una volta sola per tutti i container e tutti i laboratori, e mai a metà.

Uno strato spacchettato ha il nome della sua ``ChainID``: la stessa pila dà la stessa cartella. Chi la usa
tiene un lucchetto in condivisione, e finché vive nessuno la toglie. Una cartella vale per l'avvio del
sistema che l'ha fatta: scrivere davvero sul disco ogni file costerebbe più che spacchettare di nuovo.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from labkit.errors import InvalidError
from labkit.images.blobs import CorruptError
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
    """Gli strati spacchettati di ``store``. Si usa da dentro il namespace utente del laboratorio."""

    def __init__(self, store: Store, how: Unpacking) -> None:
        self.store, self.how = store, how
        self.root = f"{store.root}/layers/{how.kind}"
        with explained(f"preparare la cartella degli strati «{self.root}»"):
            for name in ("ready", "locks", "making"):
                make_folder(f"{self.root}/{name}")

    @contextmanager
    def use(self, image: Image) -> Iterator[tuple[ReadyLayer, ...]]:
        """Gli strati di un'immagine, dal più basso, spacchettati se serve; restano finché dura il ``with``."""
        with ExitStack() as held:
            done: list[ReadyLayer] = []
            for layer, chain in zip(image.layers, image.chain_ids, strict=True):
                done.append(held.enter_context(self._one(layer, chain, [one.folder for one in reversed(done)])))
            yield tuple(done)

    @contextmanager
    def _one(self, layer: Layer, chain: ChainID, below: Sequence[str]) -> Iterator[ReadyLayer]:
        fd = self._lock(chain)
        try:
            while True:
                fcntl.flock(fd, fcntl.LOCK_SH)
                found = self._ready(chain)
                if found:
                    break
                # Not an upgrade: flock(2) drops the shared lock first, so what was seen may have changed.
                fcntl.flock(fd, fcntl.LOCK_EX)
                if not self._ready(chain):
                    with explained(f"spacchettare lo strato {layer.descriptor.digest.short}"):
                        self._make(layer, chain, below)
            yield found
        finally:
            os.close(fd)

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

    def _make(self, layer: Layer, chain: ChainID, below: Sequence[str]) -> None:
        """Spacchetta accanto e poi mette al suo posto; quello che un altro avesse lasciato a metà sparisce."""
        self._clear(f"making/{chain.encoded}")
        self._clear(f"ready/{chain.encoded}")
        building = f"{self.root}/making/{chain.encoded}"
        os.makedirs(f"{building}/fs", mode=0o755)
        options = Options(OverlayWhiteouts(self.how.userxattr), self.how.owners, tuple(below), self.how.limits)
        try:
            with layer.open() as blob:
                report = unpack(blob, f"{building}/fs", layer.descriptor.digest, layer.diff_id, options)
            with open(f"{building}/done.json", "w", encoding="utf-8") as file:
                json.dump({"boot": boot_id(), "skipped": report.skipped}, file)
            os.rename(building, f"{self.root}/ready/{chain.encoded}")
        except InvalidError as problem:
            self._clear(f"making/{chain.encoded}")
            if not self.store.blobs.verify(layer.descriptor.digest):
                raise CorruptError(
                    f"Lo strato {layer.descriptor.digest} si è rovinato sul disco: l'ho messo da parte in "
                    f"{self.store.root}/corrupt.",
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
        """Toglie gli strati che nessuno usa adesso, tranne ``keep``; torna quanti."""
        kept = {chain.encoded for chain in keep}
        gone = 0
        for name in sorted(os.listdir(f"{self.root}/locks")):
            fd = os.open(f"{self.root}/locks/{name}", os.O_RDWR | os.O_CLOEXEC)
            try:
                if name not in kept and try_lock(fd):
                    with explained("togliere uno strato spacchettato"):
                        gone += os.path.isdir(f"{self.root}/ready/{name}")
                        self._clear(f"ready/{name}")
                        self._clear(f"making/{name}")
            finally:
                os.close(fd)
        return gone


def boot_id() -> str:
    """Il numero dell'avvio di questo kernel (random(4)): cambia a ogni accensione."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()

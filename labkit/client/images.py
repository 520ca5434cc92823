"""Le immagini di questo utente: cercarle, prenderle da un registro, mandarle, salvarle, toglierle.

Non serve un laboratorio: le immagini stanno in una cartella che tutti i laboratori dell'utente condividono.
Un :class:`~labkit.client.lab.Lab` ha gli stessi verbi.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from labkit.backends.choice import tell
from labkit.client import progress
from labkit.client.image import Image, ImageList
from labkit.client.progress import Transfer
from labkit.client.registry import CourseRegistry
from labkit.client.table import Table
from labkit.draw.transfer import Piece
from labkit.errors import InvalidError, LabError
from labkit.images import archive
from labkit.images.config import History, timestamp
from labkit.images.descriptor import Descriptor, Platform
from labkit.images.disk import explained
from labkit.images.reference import DEFAULT_REGISTRY, Reference, parse
from labkit.images.registry import Registry
from labkit.images.registry_pull import pull
from labkit.images.registry_push import push
from labkit.images.store import Store, Stored, Usage
from labkit.limits import show_bytes

Show = Callable[[Transfer, Piece], None]


class Images:
    """I verbi delle immagini. ``show`` dice come si mostra un viaggio: vedi :mod:`labkit.client.progress`."""

    @property
    def store(self) -> Store:
        """La cartella delle immagini (``LABKIT_IMAGES`` dice dove, se no la cartella dei dati dell'utente)."""
        return Store()

    _registries: tuple[CourseRegistry, ...] = ()

    def registry(self, folder: str = "", port: int = 0) -> CourseRegistry:
        """Accende il registro del corso su questa macchina; finisce con il laboratorio.

        ``folder`` è dove tiene le immagini (senza, una cartella provvisoria); ``port=0`` ne sceglie una libera.
        """
        started = CourseRegistry(folder, port)
        self._registries = (*self._registries, started)
        return started

    # ------------------------------------------------------------ from and to a registry

    def pull(self, name: str, platform: str = "", *, tls_verify: bool = True) -> Image:
        """Prende un'immagine dal registro del suo nome, come ``docker pull``.

        ``platform`` (``"linux/arm64"``) la sceglie per un altro tipo di macchina. ``tls_verify=False`` si fida di un
        registro che parla in chiaro: quello di una classe. Con ``LABKIT_MIRRORS`` si prova prima uno specchio.
        Errori: :class:`~labkit.images.registry_origin.RegistryError` se il registro dice di no o non c'è rete,
        :class:`LabError` se non c'è posto; non resta niente a metà.
        """
        reference = parse(name)
        wanted = Platform.parse(platform) if platform else None
        store = self.store
        with self._travelling(reference, sending=False) as watch, _plain(reference, tls_verify) as registry:
            pull(store, reference, wanted, watch=watch, mirrors=mirrors(), registry=registry)
        return self.image(str(reference))

    def push(self, name: str, target: str = "", *, tls_verify: bool = True) -> Image:
        """Manda un'immagine al registro del suo nome, o a quello di ``target``, come ``docker push``.

        Ciò che il registro ha già non si manda. ``tls_verify=False`` come in :meth:`pull`.
        """
        store = self.store
        found = store.find(name)
        reference = parse(target) if target else found.reference
        if not reference or not reference.tag:
            raise InvalidError(f"«{name}» non ha un nome con cui mandarla.", f"labkit tag {name} REGISTRO/DEPOSITO:TAG")
        with self._travelling(reference, sending=True) as watch, _plain(reference, tls_verify) as registry:
            push(store, name, reference, watch=watch, registry=registry)
        return self.image(name)

    @contextmanager
    def _travelling(self, reference: Reference, sending: bool) -> Iterator[Transfer]:
        """Mostra un viaggio mentre dura; il titolo non ha il registro, che in un'aula cambia porta ogni volta."""
        mark = f":{reference.tag}" if reference.tag else ", per impronta"
        title = f"{reference.repository.removeprefix('library/')}{mark}"
        yield Transfer(title, sending, self._view(title, sending))

    def _view(self, title: str, sending: bool) -> Show:
        """Come si mostra un viaggio che comincia: in un notebook, con un disegno."""
        return progress.usual()

    # ------------------------------------------------------------ what there is

    def images(self) -> ImageList:
        """Le immagini che ci sono già, dalla più nuova, come ``docker images``."""
        found = []
        for stored in reversed(self.store.images()):
            try:
                found.append(self._handle(stored))
            except LabError as problem:  # one damaged image must not hide the others
                tell(f"Di un'immagine non so dire di più. {problem}")
        return ImageList(found)

    def image(self, name: str) -> Image:
        """Un'immagine che c'è già, per nome o per l'inizio del suo id; se no :class:`~labkit.errors.NotFoundError`."""
        return self._handle(self.store.find(name))

    def names(self, digest: str) -> list[str]:
        """Tutti i nomi dell'immagine con quell'impronta."""
        same = [one for one in self.store.images() if str(one.descriptor.digest) == digest]
        return [one.reference.familiar for one in same if one.reference]

    def _handle(self, stored: Stored) -> Image:
        name = stored.reference.familiar if stored.reference else ""
        return Image(self, name, self.store.image(stored.descriptor))

    def _made(self, descriptor: Descriptor, reference: Reference | None) -> Image:
        """L'handle di ciò che si è appena conservato."""
        return self._handle(Stored(reference, descriptor))

    # ------------------------------------------------------------ names

    def tag(self, source: str, target: str) -> Image:
        """Un altro nome per la stessa immagine, come ``docker tag``; chi aveva quel nome resta senza."""
        self.store.tag(source, target)
        return self.image(target)

    def rmi(self, name: str, force: bool = False) -> list[str]:
        """Toglie un nome e, con l'ultimo, l'immagine e ciò che usava solo lei, come ``docker rmi``.

        Con un id toglie l'immagine se ha un nome solo, o anche con di più se ``force``. Torna che cosa ha tolto.
        """
        return list(self.store.remove(name, force))

    # ------------------------------------------------------------ files

    def save(self, names: str | Sequence[str], path: str | os.PathLike[str]) -> int:
        """Mette una o più immagini in un file solo, come ``docker save``; torna i byte scritti.

        Lo leggono ``labkit load``, ``docker load``, ``podman load`` e chi legge il formato OCI; compare solo intero.
        """
        chosen = [names] if isinstance(names, str) else list(names)
        if not chosen:
            raise InvalidError("save ha bisogno di almeno un'immagine.", "lab.save('corso/prova:1', 'prova.tar')")
        final = os.path.abspath(os.fspath(path))
        half = f"{os.path.dirname(final)}/.{os.path.basename(final)}.{os.urandom(4).hex()}"
        with explained(f"scrivere «{final}»"):
            try:
                with open(half, "xb") as file:
                    size = self.save_to(chosen, file)
                os.rename(half, final)
            except BaseException:
                if os.path.exists(half):
                    os.unlink(half)
                raise
        return size

    def save_to(self, names: Sequence[str], out: BinaryIO) -> int:
        """Come :meth:`save`, verso un file già aperto: una pipe, per esempio."""
        return sum(out.write(piece) for piece in archive.save(self.store, names))

    def load(self, path: str | os.PathLike[str] | BinaryIO) -> ImageList:
        """Prende le immagini di un file di :meth:`save` (o di ``docker save``, o una cartella OCI in un tar)."""
        store = self.store
        with _opened(path) as file:
            loaded = archive.load(store, file)
        digests = dict.fromkeys(one.digest for one in loaded)
        found = [one for one in store.images() if one.descriptor.digest in digests]
        return ImageList([self._handle(one) for one in found])

    def import_image(
        self, path: str | os.PathLike[str] | BinaryIO, name: str = "", *, message: str = "", platform: str = ""
    ) -> Image:
        """Fa un'immagine di un solo strato dal tar di una radice, come ``docker import``.

        Con ``SOURCE_DATE_EPOCH`` nell'ambiente la data è quella: stessi byte, stessa impronta.
        """
        reference = parse(name) if name else None
        epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
        moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
        source = "-" if not isinstance(path, (str, os.PathLike)) else os.path.basename(os.fspath(path))
        step = History(created=timestamp(moment), comment=message or f"Imported from {source}")
        with _opened(path) as file:
            made = archive.import_root(
                self.store, file, reference, step, Platform.parse(platform) if platform else None
            )
        return self._made(made.manifest.descriptor, reference)

    # ------------------------------------------------------------ room

    def prune_images(self) -> int:
        """Toglie le immagini che non hanno più un nome, come ``docker image prune``; torna i byte liberati."""
        return self.store.prune()

    def df(self) -> DiskUsage:
        """Quanto posto occupano le immagini, come ``docker system df``."""
        return DiskUsage(self.store.df())


@dataclass(frozen=True, repr=False)
class DiskUsage(Table):
    """Il posto che occupano le immagini: ``usage`` sono i numeri, in byte."""

    usage: Usage

    HEADER = ("CHE COSA", "QUANTE", "SPAZIO", "RECUPERABILE")

    def rows(self) -> list[tuple[str, ...]]:
        share = 100 * self.usage.reclaimable // self.usage.size if self.usage.size else 0
        freed = f"{show_bytes(self.usage.reclaimable)} ({share}%)"
        return [("Immagini", str(self.usage.images), show_bytes(self.usage.size), freed)]


def mirrors() -> dict[str, list[str]]:
    """Gli specchi di Docker Hub, da provare prima di lui, come ``registry-mirrors`` di Docker.

    Li dice ``LABKIT_MIRRORS``: uno o più indirizzi, con una virgola fra l'uno e l'altro.
    """
    listed = [one.strip() for one in os.environ.get("LABKIT_MIRRORS", "").split(",") if one.strip()]
    for one in listed:
        if not one.startswith(("http://", "https://")):
            raise InvalidError(f"In LABKIT_MIRRORS «{one}» non è un indirizzo.", f"export LABKIT_MIRRORS=http://{one}")
    return {DEFAULT_REGISTRY: listed}


@contextmanager
def _plain(reference: Reference, tls_verify: bool) -> Iterator[Registry | None]:
    """Un registro che parla in chiaro, se chi lo usa lo ha chiesto; se no ``None``: si usa quello solito."""
    if tls_verify:
        yield None
        return
    registry = Registry(reference.registry, plain=True)
    try:
        yield registry
    finally:
        registry.transport.close()


@contextmanager
def _opened(path: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(path, (str, os.PathLike)):
        yield path
        return
    with explained(f"leggere «{os.fspath(path)}»"):
        file = open(path, "rb")  # noqa: SIM115  (closed below: what happens while reading has its own explanation)
    with file:
        yield file


__all__ = ["DiskUsage", "Image", "ImageList", "Images", "Show", "mirrors"]

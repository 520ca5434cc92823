"""Le immagini di questo utente: una cartella OCI (image-layout.md) condivisa da tutti i suoi laboratori.

``index.json`` dice i nomi, i blob stanno sotto le loro impronte, e nient'altro: chi usa che cosa si
ricava sempre da lì. Più processi insieme: chi aggiunge tiene ``writers`` in condivisione, chi fa pulizia
da solo; ``index.json`` si cambia con un lucchetto e un rename, e chi legge non aspetta nessuno.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from labkit.errors import ConflictError, CorruptError, InvalidError, LabError, NotFoundError
from labkit.images import descriptor as media
from labkit.images import manifest as manifests
from labkit.images.blobs import Blobs
from labkit.images.config import ImageConfig
from labkit.images.descriptor import Descriptor, Platform
from labkit.images.digest import Digest
from labkit.images.disk import explained, locked, make_folder, replace_file
from labkit.images.image import Image, Layer
from labkit.images.manifest import Index, Manifest
from labkit.images.reference import Reference, parse

REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_SHORTEST_ID = 3


def default_root() -> str:
    """Dove stanno le immagini: ``LABKIT_IMAGES``, oppure la cartella dei dati dell'utente."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.environ.get("LABKIT_IMAGES") or f"{data}/labkit/images"


@dataclass(frozen=True)
class Stored:
    """Una riga di ``index.json``: un nome (o nessuno) e il manifesto a cui porta."""

    reference: Reference | None
    descriptor: Descriptor


@dataclass(frozen=True)
class Usage:
    """Quanto spazio: in byte. ``reclaimable`` è ciò che nessun nome usa."""

    images: int
    blobs: int
    size: int
    reclaimable: int


class Store:
    """La cartella delle immagini ``root``; la crea se non c'è.

    Errori: :class:`LabError` se il disco dice di no, :class:`NotFoundError` per un nome che non c'è,
    :class:`~labkit.images.blobs.CorruptError` per un blob rovinato.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.abspath(root or default_root())
        with explained(f"preparare la cartella delle immagini «{self.root}»"):
            make_folder(self.root)
            self.blobs = Blobs(self.root)
            if not os.path.exists(f"{self.root}/oci-layout"):
                replace_file(f"{self.root}/oci-layout", _LAYOUT)

    # ------------------------------------------------------------ names

    def images(self) -> tuple[Stored, ...]:
        """Tutte le immagini, nell'ordine in cui sono arrivate."""
        path = f"{self.root}/index.json"
        try:
            with explained("leggere l'elenco delle immagini"), open(path, "rb") as file:
                data = file.read()
        except LabError as problem:
            if isinstance(problem.__cause__, FileNotFoundError):
                return ()
            raise
        try:
            found = Index.parse(data)
            return tuple(Stored(_named(one), one) for one in found.manifests)
        except InvalidError as problem:
            raise InvalidError(
                f"L'elenco delle immagini è rovinato: {problem.message}", f"mv {path} {path}.rovinato, e ripeti i pull"
            ) from None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Finché dura, nessuno fa pulizia: i blob aggiunti possono aspettare il loro nome."""
        with locked(f"{self.root}/writers", shared=True, busy="Qualcuno sta facendo pulizia fra le immagini."):
            yield

    def _change(self, change: Callable[[list[Stored]], list[Stored]]) -> None:
        with explained("aggiornare l'elenco delle immagini"), locked(f"{self.root}/names"):
            listed = [replace(one.descriptor, annotations=_notes(one)) for one in change(list(self.images()))]
            replace_file(f"{self.root}/index.json", Index.of(tuple(listed)).raw)

    def name(self, descriptor: Descriptor, reference: Reference | None) -> None:
        """Dà un nome a un manifesto che c'è già; chi aveva quel nome resta, senza (``<none>``)."""

        def change(listed: list[Stored]) -> list[Stored]:
            moved = [Stored(None, s.descriptor) if reference and s.reference == reference else s for s in listed]
            return _tidy([*moved, Stored(reference, descriptor)])

        self._change(change)

    def find(self, wanted: str) -> Stored:
        """Un'immagine per nome, o per l'inizio del suo id o della sua impronta (almeno tre cifre)."""
        listed = self.images()
        text = wanted.removeprefix("sha256:")
        is_id = not text.strip("0123456789abcdef") and (text != wanted or len(text) >= _SHORTEST_ID)
        reference = parse_quietly(wanted)
        if reference is None and not is_id:
            parse(wanted)  # it says what is wrong with the name
        for one in listed:
            other = one.reference
            pinned = reference and other and reference.name == other.name and reference.digest == one.descriptor.digest
            if reference and (other == reference or pinned):
                return one
        by_id = {
            one.descriptor.digest: one for one in listed if is_id and any(i.startswith(text) for i in self._ids(one))
        }
        if len(by_id) > 1:
            raise ConflictError(
                f"«{wanted}» è l'inizio dell'id di {len(by_id)} immagini.", "scrivi qualche cifra in più"
            )
        if by_id:
            return next(iter(by_id.values()))
        raise NotFoundError(f"L'immagine «{wanted}» non c'è.", f"labkit pull {reference.familiar}" if reference else "")

    def _ids(self, one: Stored) -> Iterator[str]:
        yield one.descriptor.digest.encoded
        try:
            yield self.manifest(one.descriptor).config.digest.encoded
        except LabError:  # damaged or incomplete: it can still be found by name
            return

    # ------------------------------------------------------------ images

    def manifest(self, descriptor: Descriptor, platform: Platform | None = None) -> Manifest:
        """Il manifesto di un descrittore; attraverso un indice, quello della piattaforma chiesta."""
        found = manifests.parse(self.blobs.read(descriptor), descriptor.media_type)
        if isinstance(found, Index):
            return self.manifest(found.choose(platform or Platform.current()))
        return found

    def image(self, wanted: str | Descriptor, platform: Platform | None = None) -> Image:
        """Un'immagine intera; i suoi strati si leggono da qui quando servono."""
        descriptor = wanted if isinstance(wanted, Descriptor) else self.find(wanted).descriptor
        manifest = self.manifest(descriptor, platform)
        config = ImageConfig(self.blobs.read(manifest.config))
        if len(manifest.layers) != len(config.diff_ids):
            raise InvalidError(
                f"L'immagine non è coerente: il manifesto ha {len(manifest.layers)} strati, "
                f"la configurazione {len(config.diff_ids)}."
            )
        pairs = zip(manifest.layers, config.diff_ids, strict=True)
        return Image(manifest, config, tuple(Layer(one, diff, partial(self.blobs.open, one)) for one, diff in pairs))

    def put(self, image: Image, reference: Reference | None = None) -> Descriptor:
        """Conserva un'immagine, e le dà un nome; gli strati che ci sono già non si riscrivono."""
        with self.writing():
            for layer in image.layers:
                if not self.blobs.has(layer.descriptor):
                    with layer.open() as file:
                        self.blobs.add(iter(lambda: file.read(1 << 18), b""), layer.descriptor)
            self.blobs.add_document(image.config.raw)
            self.blobs.add_document(image.manifest.raw)
            descriptor = replace(image.manifest.descriptor, platform=image.config.platform)
            self.name(descriptor, reference)
        return descriptor

    def tag(self, source: str, target: str) -> None:
        """Un altro nome per la stessa immagine (``docker tag``)."""
        reference = parse(target)
        if reference.digest:
            raise InvalidError(f"«{target}» ha un'impronta: un nome nuovo può avere solo un tag.")
        with self.writing():
            self.name(self.find(source).descriptor, reference)

    def remove(self, wanted: str, force: bool = False) -> tuple[str, ...]:
        """Toglie un nome (``docker rmi``); con l'ultimo nome se ne va l'immagine, e ciò che usava solo lei.

        Con un id toglie l'immagine se ha un nome solo, o comunque con ``force``. Torna ciò che ha tolto, come lo
        racconta Docker.
        """
        one = self.find(wanted)
        same = [other for other in self.images() if other.descriptor.digest == one.descriptor.digest]
        gone = [one] if one.reference and parse_quietly(wanted) == one.reference else same
        names = [other.reference.familiar for other in gone if other.reference]
        if len(names) > 1 and not force:
            raise ConflictError(f"L'immagine {wanted} ha più nomi: {', '.join(names)}.", f"labkit rmi {names[0]}")
        self._change(lambda listed: [other for other in listed if other not in gone])
        said = [f"Untagged: {name}" for name in names]
        if len(same) == len(gone):
            said.append(f"Deleted: {one.descriptor.digest}")
            try:
                self.gc(patience=0)
            except (ConflictError, CorruptError):  # what is left over goes at the next clean-up
                pass
        return tuple(said)

    def forget(self, descriptor: Descriptor) -> None:
        """Toglie dall'elenco un'immagine che non ha un nome; i suoi blob restano fino alla prossima pulizia."""
        self._change(lambda listed: [s for s in listed if s.reference or s.descriptor.digest != descriptor.digest])

    # ------------------------------------------------------------ room

    def reachable(self, listed: Iterable[Stored], whole: bool = False) -> set[Digest]:
        """Le impronte di tutto ciò che queste immagini usano; con ``whole`` un manifesto che manca è un errore."""
        found: set[Digest] = set()
        for image in listed:
            waiting = [image.descriptor]
            while waiting:
                one = waiting.pop()
                found.add(one.digest)
                if one.media_type not in (*media.MANIFESTS, *media.INDEXES):
                    continue
                if self.blobs.size(one.digest) is not None:
                    document = manifests.parse(self.blobs.read(one), one.media_type)
                    waiting += document.manifests if isinstance(document, Index) else document.blobs
                elif whole and one == image.descriptor:  # of an index one usually has one platform only
                    name = image.reference.familiar if image.reference else str(one.digest)
                    raise CorruptError(
                        f"Dell'immagine «{name}» manca il manifesto: non so che cosa usa, e non tolgo niente.",
                        f"labkit pull {name}, oppure labkit rmi {name}",
                    )
        return found

    def gc(self, patience: float = 10.0) -> int:
        """Toglie i blob che nessuna immagine usa e ciò che è rimasto a metà; torna i byte liberati."""
        busy = "Qualcuno sta aggiungendo immagini: la pulizia si fa quando ha finito."
        with explained("fare pulizia"), locked(f"{self.root}/writers", patience=patience, busy=busy):
            used = self.reachable(self.images(), whole=True)
            freed = sum(self.blobs.remove(digest) for digest in list(self.blobs.all()) if digest not in used)
            with locked(f"{self.root}/names"):  # a list that was being written when its process was killed
                for left in glob.glob(f"{glob.escape(self.root)}/.index.json.*"):
                    os.unlink(left)
            return freed + self.blobs.sweep()

    def prune(self) -> int:
        """Toglie le immagini senza nome (``docker image prune``) e tutto ciò che nessuno usa; torna i byte."""
        self._change(lambda listed: [one for one in listed if one.reference])
        return self.gc()

    def df(self) -> Usage:
        """Quanto occupano le immagini (``docker system df``)."""
        named = [one for one in self.images() if one.reference]
        sizes = {digest: self.blobs.size(digest) or 0 for digest in self.blobs.all()}
        used = self.reachable(named)
        free = sum(size for digest, size in sizes.items() if digest not in used)
        return Usage(len({one.descriptor.digest for one in self.images()}), len(sizes), sum(sizes.values()), free)

    def check(self) -> tuple[Digest, ...]:
        """Rilegge ogni blob; quelli rovinati vanno da parte. Torna le loro impronte."""
        return tuple(digest for digest in list(self.blobs.all()) if not self.blobs.verify(digest))


def parse_quietly(text: str) -> Reference | None:
    try:
        return parse(text)
    except InvalidError:
        return None


def _named(one: Descriptor) -> Reference | None:
    name = one.annotations.get(REF_NAME)
    return parse_quietly(name) if name else None


def _notes(one: Stored) -> dict[str, Any]:
    kept = {key: value for key, value in one.descriptor.annotations.items() if key != REF_NAME}
    return {**kept, REF_NAME: str(one.reference)} if one.reference else kept


def _tidy(listed: list[Stored]) -> list[Stored]:
    """Ogni riga una volta sola; una riga senza nome serve solo a chi un nome non lo ha."""
    named = {one.descriptor.digest for one in listed if one.reference}
    kept: dict[tuple[Reference | None, Digest], Stored] = {}
    for one in listed:
        if one.reference or one.descriptor.digest not in named:
            kept[one.reference, one.descriptor.digest] = one
    return list(kept.values())

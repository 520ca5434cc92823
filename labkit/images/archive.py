"""Immagini in un file solo: ``save`` e ``load``, ``import`` di una radice.

Si scrive un archivio che leggono tutti: una cartella OCI in un tar, con accanto il ``manifest.json`` che
``docker load`` cerca. Si leggono quello, gli archivi OCI di altri programmi e quelli vecchi di Docker. Un
archivio si legge in flusso: ogni file va nei blob appena passa, e conta solo ciò che i manifesti nominano.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from labkit.errors import InvalidError, NotFoundError
from labkit.images import descriptor as media
from labkit.images import tar_header as header
from labkit.images.compression import compress, decompressed, detect, pieces
from labkit.images.config import History, ImageConfig
from labkit.images.descriptor import LARGEST_DOCUMENT, Descriptor, Platform, take
from labkit.images.digest import DiffID, Digest
from labkit.images.image import Image, Layer
from labkit.images.manifest import Index, Manifest
from labkit.images.pipeline import Limits, bounded, hashed
from labkit.images.reference import Reference, parse
from labkit.images.store import REF_NAME, Store, parse_quietly
from labkit.images.tar import TarReader
from labkit.images.tar_header import BLOCK

_LAYERS = {"": media.LAYER, "gzip": media.LAYER_GZIP, "zstd": media.LAYER_ZSTD}
_END = bytes(2 * BLOCK)
#: Name of an image inside an archive of containerd: the whole name, while ref.name may be just the tag.
_CONTAINERD_NAME = "io.containerd.image.name"


# ---------------------------------------------------------------- save


def save(store: Store, names: Sequence[str]) -> Iterator[bytes]:
    """L'archivio con queste immagini, a pezzi; gli strati che hanno in comune ci sono una volta sola."""
    listed, docker, blobs = [], [], dict[str, Descriptor]()
    for name in names:
        found = store.find(name)
        image = store.image(found.descriptor)
        own = image.manifest.descriptor
        reference = found.reference if found.reference and parse_quietly(name) == found.reference else None
        notes = {_CONTAINERD_NAME: str(reference), REF_NAME: reference.tag or "latest"} if reference else {}
        listed.append(replace(own, platform=image.config.platform, annotations=notes))
        docker.append(
            {
                "Config": _blob_name(image.manifest.config),
                "RepoTags": [reference.familiar] if reference and reference.tag else None,
                "Layers": [_blob_name(layer) for layer in image.manifest.layers],
            }
        )
        blobs |= {_blob_name(one): one for one in (own, *image.manifest.blobs)}
    for name in ("blobs", "blobs/sha256"):
        yield _header(name, 0, tarfile.DIRTYPE)
    for name, one in sorted(blobs.items()):
        yield _header(name, one.size)
        with store.blobs.open(one) as file:
            yield from _checked(file, one)
        yield bytes(-one.size % BLOCK)
    for name, data in (
        ("index.json", Index.of(tuple(listed)).raw),
        ("manifest.json", json.dumps(docker).encode()),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
    ):
        yield _header(name, len(data)) + data + bytes(-len(data) % BLOCK)
    yield _END


def _blob_name(one: Descriptor) -> str:
    return f"blobs/{one.digest.algorithm}/{one.digest.encoded}"


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    one = tarfile.TarInfo(name)
    one.size, one.type, one.mode = size, kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return one.tobuf(tarfile.USTAR_FORMAT)


def _checked(file: BinaryIO, one: Descriptor) -> Iterator[bytes]:
    """I byte di un blob; se non sono i suoi è un errore, e l'archivio non si finisce."""
    hasher = one.digest.hasher()
    yield from hashed(pieces(file), hasher)
    if Digest.from_hasher(hasher) != one.digest:
        raise InvalidError(
            f"Il blob {one.digest} si è rovinato: l'archivio non è completo.", "scarica di nuovo l'immagine"
        )


# ---------------------------------------------------------------- load


def load(store: Store, source: BinaryIO, limits: Limits | None = None) -> tuple[Descriptor, ...]:
    """Legge un archivio (anche compresso) e ne conserva le immagini, con i loro nomi; torna i loro manifesti."""
    with store.writing():
        content = _Content(store)
        reader = TarReader(bounded(decompressed(pieces(source)), limits or Limits()))
        for number, entry in enumerate(reader):
            if number > 100_000:
                raise InvalidError("Nell'archivio ci sono più di 100000 voci: non è fatto di immagini.")
            content.take(entry, reader)
        if "index.json" in content.documents and "oci-layout" in content.documents:
            found = list(_from_oci(store, content))
        elif "manifest.json" in content.documents:
            found = list(_from_docker(store, content))
        else:
            raise InvalidError(
                "L'archivio non contiene immagini: non ha né index.json (OCI) né manifest.json (Docker).",
                "se è una radice intera (docker export) si legge con: labkit import",
            )
        for descriptor, reference in found:
            store.name(descriptor, reference)
    return tuple(descriptor for descriptor, _ in found)


@dataclass
class _Content:
    """Che cosa c'era nell'archivio: i documenti letti, e per ogni nome il blob in cui è finito."""

    store: Store
    documents: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, Descriptor] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def take(self, entry: header.Entry, reader: TarReader) -> None:
        name = _plain(entry.name)
        if entry.kind in (header.SYMLINK, header.LINK):
            # Old archives of Docker: a layer that is already elsewhere in the same archive.
            base = os.path.dirname(name) if entry.kind == header.SYMLINK else ""
            self.links[name] = os.path.normpath(os.path.join(base, os.fsdecode(entry.link)))
        elif entry.kind == header.REGULAR and entry.pieces is None:
            if "/" not in name and entry.size <= LARGEST_DOCUMENT:
                self.documents[name] = data = b"".join(reader.data())
                digest, size = self.store.blobs.add([data])
            else:
                digest, size = self.store.blobs.add(map(bytes, reader.data()))
            self.files[name] = Descriptor("", digest, size)

    def blob(self, name: str, what: str) -> Descriptor:
        """Il blob di un file dell'archivio, attraverso al massimo otto link."""
        for _ in range(8):
            if name in self.files:
                return self.files[name]
            name = self.links.get(name, "")
        raise InvalidError(f"Nell'archivio manca {what}.", "chiedi di nuovo l'archivio a chi lo ha fatto")


def _plain(name: bytes) -> str:
    return os.path.normpath(os.fsdecode(name)).lstrip("/")


def _from_oci(store: Store, content: _Content) -> Iterator[tuple[Descriptor, Reference | None]]:
    for listed in Index.parse(content.documents["index.json"]).manifests:
        if listed.media_type not in (*media.MANIFESTS, *media.INDEXES):
            continue  # signatures and other things that are not images
        image = store.image(replace(listed, platform=None))
        for blob in image.manifest.blobs:
            if not store.blobs.has(blob):
                raise InvalidError(f"Nell'archivio manca il pezzo {blob.digest} di un'immagine.")
        name = listed.annotations.get(_CONTAINERD_NAME) or listed.annotations.get(REF_NAME, "")
        # Many programs write only the tag there: it is no name.
        reference = parse_quietly(name) if "/" in name or ":" in name else None
        yield replace(image.manifest.descriptor, platform=image.config.platform), reference


def _from_docker(store: Store, content: _Content) -> Iterator[tuple[Descriptor, Reference | None]]:
    try:
        listed = json.loads(content.documents["manifest.json"])
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise InvalidError("Il manifest.json dell'archivio non è quello di «docker save».")
    for one in listed:
        found = content.blob(
            _plain(take(one, "Config", str, "manifest.json").encode()), "la configurazione di un'immagine"
        )
        raw = store.blobs.read(found)
        config = ImageConfig(raw)
        names = take(one, "Layers", list, "manifest.json", [])
        if len(names) != len(config.diff_ids):
            raise InvalidError(
                f"Nell'archivio un'immagine ha {len(names)} strati e la configurazione {len(config.diff_ids)}."
            )
        layers = []
        for name, diff_id in zip(names, config.diff_ids, strict=True):
            blob = content.blob(_plain(str(name).encode()), f"lo strato {diff_id}")
            layers.append(replace(blob, media_type=_LAYERS[_check_layer(store, blob, diff_id)]))
        manifest = Manifest.of(replace(found, media_type=media.CONFIG), tuple(layers))
        store.blobs.add_document(manifest.raw)
        descriptor = replace(manifest.descriptor, platform=config.platform)
        tags = [parse(tag) for tag in take(one, "RepoTags", list, "manifest.json", []) if isinstance(tag, str)]
        yield from ((descriptor, reference) for reference in tags or (None,))


def _check_layer(store: Store, blob: Descriptor, diff_id: DiffID) -> str:
    """Controlla che lo strato sia quello che la configurazione dice; torna com'è compresso."""
    hasher = diff_id.hasher()
    with store.blobs.open(blob) as file:
        kind = detect(file.read(4))
        file.seek(0)
        for piece in bounded(decompressed(pieces(file)), Limits()):
            hasher.update(piece)
    if DiffID.from_hasher(hasher) != diff_id:
        raise InvalidError(f"Nell'archivio lo strato {diff_id} non è quello che dice la configurazione.")
    return kind


# ---------------------------------------------------------------- import, and layers from a stream


def add_layer(store: Store, tar: Iterable[bytes], compression: str = "gzip") -> Layer:
    """Conserva un tar come strato, comprimendolo mentre passa; serve ``store.writing()`` attorno."""
    plain = DiffID.of(b"").hasher()
    digest, size = store.blobs.add(compress(hashed(tar, plain), compression))
    descriptor = Descriptor(_LAYERS[compression], digest, size)
    return Layer(descriptor, DiffID.from_hasher(plain), lambda: store.blobs.open(descriptor))


def import_root(
    store: Store,
    source: BinaryIO,
    reference: Reference | None,
    step: History,
    platform: Platform | None = None,
    **process: Any,
) -> Image:
    """Fa un'immagine di un solo strato da un tar (anche compresso), come ``docker import``."""
    with store.writing():
        layer = add_layer(store, _whole_tar(bounded(decompressed(pieces(source)), Limits())))
        image = Image.empty(platform).append(layer, step)
        if process:
            image = image.with_process(replace(step, empty_layer=True), **process)
        store.put(image, reference)
    return image


def _whole_tar(source: Iterator[bytes]) -> Iterator[bytes]:
    """Gli stessi byte, se sono un tar dall'inizio alla fine: un errore arriva prima che l'immagine esista."""
    seen: list[bytes] = []

    def watched() -> Iterator[bytes]:
        for piece in source:
            seen.append(piece)
            yield piece

    entries = 0
    reader = TarReader(watched())
    for _ in reader:
        entries += 1
        for _ in reader.data():
            yield from seen
            seen.clear()
    reader.drain()
    yield from seen
    if not entries:
        raise NotFoundError("Il tar è vuoto: non c'è niente da importare.")

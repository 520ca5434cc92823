"""Che cosa ha un registro: per ogni deposito i suoi blob, i suoi manifesti, i suoi tag.

I byte stanno una volta sola, sotto la loro impronta; un deposito tiene soltanto un segno per ciò che è
suo. Così cancellare da uno non toglie a un altro, e prendere un blob da un altro deposito non copia niente.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress

from labkit.errors import InvalidError
from labkit.images.blobs import Blobs
from labkit.images.descriptor import Descriptor, document, is_foreign
from labkit.images.digest import Digest
from labkit.images.disk import make_folder, replace_file
from labkit.images.reference import Reference

_UPLOAD = re.compile(r"[0-9a-f]{32}")


class Shelf:
    """Un deposito. Il nome deve essere già controllato: diventa una cartella."""

    def __init__(self, root: str, blobs: Blobs, repository: str) -> None:
        Reference("localhost", repository, "x")  # it says what is wrong with the name
        self.blobs, self.repository = blobs, repository
        self._folder = f"{root}/repositories/{repository}"

    def _mark(self, kind: str, digest: Digest) -> str:
        # An underscore begins no component of a repository's name: these folders cannot be taken for one.
        return f"{self._folder}/_{kind}/{digest.algorithm}-{digest.encoded}"

    def _tag(self, tag: str) -> str:
        Reference("localhost", "x", tag)
        return f"{self._folder}/_tags/{tag}"

    @property
    def exists(self) -> bool:
        return any(os.path.isdir(f"{self._folder}/_{kind}") for kind in ("blobs", "manifests"))

    # ------------------------------------------------------------ blobs

    def has_blob(self, digest: Digest) -> bool:
        return os.path.exists(self._mark("blobs", digest)) and self.blobs.size(digest) is not None

    def add_blob(self, digest: Digest) -> None:
        """Il blob, che c'è già, adesso è anche di questo deposito."""
        self._write("blobs", digest, b"")

    def remove_blob(self, digest: Digest) -> bool:
        return _unlink(self._mark("blobs", digest))

    # ------------------------------------------------------------ manifests and tags

    def manifest(self, where: str) -> tuple[Digest, bytes, str] | None:
        """Il manifesto di un tag o di un'impronta, con il suo tipo."""
        try:
            if ":" in where:
                digest = Digest(where)
            else:
                with open(self._tag(where), encoding="ascii") as file:
                    digest = Digest(file.read())
            with open(self._mark("manifests", digest), encoding="utf-8") as file:
                kind = file.read()
        except FileNotFoundError:
            return None
        size = self.blobs.size(digest)
        return (digest, self.blobs.read(Descriptor(kind, digest, size)), kind) if size is not None else None

    def put_manifest(self, where: str, raw: bytes, kind: str) -> tuple[Digest, Digest | None]:
        """Conserva un manifesto, se ciò che nomina è tutto qui; torna la sua impronta e quella del suo soggetto."""
        data = document(raw, "il manifesto")
        if data.get("mediaType") not in (None, kind):
            raise InvalidError(f"Il manifesto dice di essere {data['mediaType']}, e l'invio {kind}.")
        digest = Digest(where) if ":" in where else Digest.of(raw)
        hasher = digest.hasher()
        hasher.update(raw)
        if Digest.from_hasher(hasher) != digest:
            raise InvalidError(f"Il manifesto mandato non è {digest}.")
        self._check_parts(data)
        subject = Descriptor.from_dict(data["subject"], "il soggetto").digest if data.get("subject") else None
        if self.blobs.size(digest) is None:
            self.blobs.add([raw], Descriptor(kind, digest, len(raw)))
        self._write("manifests", digest, kind.encode())
        if subject:
            make_folder(self._mark("referrers", subject))
            replace_file(f"{self._mark('referrers', subject)}/{digest.algorithm}-{digest.encoded}", b"")
        if ":" not in where:
            path = self._tag(where)
            make_folder(os.path.dirname(path))
            replace_file(path, str(digest).encode())
        return digest, subject

    def _check_parts(self, data: dict[str, object]) -> None:
        """Un manifesto che nomina ciò che non c'è darebbe un'immagine che nessuno può scaricare."""
        layers, listed = data.get("layers") or [], data.get("manifests") or []
        if not isinstance(layers, list) or not isinstance(listed, list):
            raise InvalidError("Nel manifesto «layers» e «manifests» devono essere liste.")
        here = [one for one in layers if not (isinstance(one, dict) and is_foreign(str(one.get("mediaType"))))]
        blobs = [*here, *([data["config"]] if data.get("config") else [])]
        for blob in (Descriptor.from_dict(one, "il manifesto") for one in blobs):
            if not self.has_blob(blob.digest):
                raise InvalidError(
                    f"Il manifesto nomina {blob.digest}, che in questo deposito non c'è.", blob=str(blob.digest)
                )
        for one in listed:
            Descriptor.from_dict(one, "l'indice")  # a list of platforms may be partial

    def remove_manifest(self, where: str) -> bool:
        """Toglie un tag, oppure un manifesto e tutti i suoi tag."""
        if ":" not in where:
            return _unlink(self._tag(where))
        digest = Digest(where)
        for tag in self.tags():
            found = self.manifest(tag)
            if found and found[0] == digest:
                _unlink(self._tag(tag))
        return _unlink(self._mark("manifests", digest))

    def tags(self) -> list[str]:
        try:
            return sorted(
                name for name in os.listdir(f"{self._folder}/_tags") if "." not in name[:1] and len(name) <= 128
            )
        except FileNotFoundError:
            return []

    def referrers(self, subject: Digest) -> list[Descriptor]:
        """Chi parla di un manifesto: firme, inventari (distribution-spec, «Listing Referrers»)."""
        found = []
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._mark("referrers", subject))):
                manifest = self.manifest(name.replace("-", ":", 1))
                if not manifest:
                    continue
                digest, raw, kind = manifest
                data = json.loads(raw)
                # An image used as an artifact says what it is with the type of its configuration.
                artifact = data.get("artifactType") or (data.get("config") or {}).get("mediaType") or ""
                found.append(Descriptor(kind, digest, len(raw), None, data.get("annotations") or {}, artifact))
        return found

    # ------------------------------------------------------------ what may go

    def parts(self, where: str) -> set[Digest]:
        """L'impronta di un manifesto e quelle che nomina; niente se ``where`` è un tag: cade solo il nome."""
        found = self.manifest(where) if ":" in where else None
        return {found[0], *_named(found[1])} if found else set()

    def digests(self) -> set[Digest]:
        """Tutto ciò che il deposito tiene: blob e manifesti."""
        return {*self._marked("blobs"), *self._marked("manifests")}

    def forget(self, before: float, released: Collection[Digest]) -> None:
        """Lascia i blob che nessun manifesto del deposito nomina, se sono di prima di ``before`` o ``released``."""
        used = set[Digest]()
        for digest in self._marked("manifests"):
            if found := self.manifest(str(digest)):
                used |= _named(found[1])
        for digest in self._marked("blobs"):
            path = self._mark("blobs", digest)
            if digest not in used and (digest in released or os.stat(path).st_mtime <= before):
                _unlink(path)

    def _marked(self, kind: str) -> Iterator[Digest]:
        with suppress(FileNotFoundError):
            for name in os.listdir(f"{self._folder}/_{kind}"):
                with suppress(InvalidError):  # half-written names begin with a dot
                    yield Digest(name.replace("-", ":", 1))

    # ------------------------------------------------------------ uploads

    def upload(self, name: str) -> str:
        """Il file di un invio in corso; il nome lo abbiamo dato noi."""
        if not _UPLOAD.fullmatch(name):
            raise InvalidError("Questo non è il nome di un invio.")
        return f"{self._folder}/_uploads/{name}"

    def new_upload(self) -> str:
        """Comincia un invio; torna il suo nome."""
        make_folder(f"{self._folder}/_uploads")
        name = os.urandom(16).hex()
        with open(self.upload(name), "xb"):
            return name

    def finish_upload(self, name: str, digest: Digest) -> None:
        """L'invio è finito: se i byte sono quelli di ``digest`` diventano un blob del deposito."""
        path = self.upload(name)
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            self.blobs.add(iter(lambda: file.read(1 << 18), b""), Descriptor("", digest, size))
        self.add_blob(digest)
        os.unlink(path)

    def _write(self, kind: str, digest: Digest, data: bytes) -> None:
        path = self._mark(kind, digest)
        make_folder(os.path.dirname(path))
        replace_file(path, data)


def repositories(root: str) -> list[str]:
    """I depositi che hanno almeno un tag, in ordine."""
    base = f"{root}/repositories"
    return sorted(name for name, inside in _folders(root) if "_tags" in inside and os.listdir(f"{base}/{name}/_tags"))


def shelves(root: str, blobs: Blobs) -> Iterator[Shelf]:
    """Tutti i depositi, anche quelli che non hanno più tag."""
    for name, inside in _folders(root):
        if inside & {"_blobs", "_manifests"}:
            yield Shelf(root, blobs, name)


def _folders(root: str) -> Iterator[tuple[str, set[str]]]:
    """Ogni cartella sotto i depositi, con i nomi che ha dentro."""
    base = f"{root}/repositories"
    for folder, names, _ in os.walk(base):
        yield os.path.relpath(folder, base), set(names)
        names[:] = [name for name in names if not name.startswith("_")]


def forget_uploads(root: str) -> None:
    """Toglie gli invii lasciati a metà da un registro che si è spento."""
    for folder, _, files in os.walk(f"{root}/repositories"):
        if folder.endswith("/_uploads"):
            for name in files:
                os.unlink(f"{folder}/{name}")


def _named(raw: bytes) -> set[Digest]:
    """Le impronte dei blob che un manifesto nomina (di un indice: nessuna, i suoi manifesti hanno un segno loro)."""
    data = json.loads(raw)
    found = [*(data.get("layers") or []), *([data["config"]] if data.get("config") else [])]
    return {Descriptor.from_dict(one, "il manifesto").digest for one in found}


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True

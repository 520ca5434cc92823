"""Mandare un'immagine a un registro: prima i blob, per ultimo il manifesto che li nomina.

Un blob che il registro ha già non si manda; uno che ha in un altro deposito si fa prendere da lì.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from labkit.errors import InvalidError, LabError
from labkit.images.compression import pieces
from labkit.images.descriptor import Descriptor
from labkit.images.digest import Digest
from labkit.images.reference import Reference
from labkit.images.registry import Registry
from labkit.images.registry_origin import PassingError, RegistryError
from labkit.images.registry_transfer import Progress, Watch, move_all, one_at_a_time
from labkit.images.registry_transport import TRIES
from labkit.images.store import Store


def push(
    store: Store,
    name: str,
    target: Reference | None = None,
    *,
    watch: Watch = lambda progress: None,
    registry: Registry | None = None,
) -> Digest:
    """Manda un'immagine al registro del suo nome (o di ``target``); torna l'impronta del manifesto là."""
    found = store.find(name)
    reference = target or found.reference
    if not reference or not reference.tag:
        raise InvalidError(f"«{name}» non ha un nome con cui mandarla.", f"labkit tag {name} registro/deposito:tag")
    image = store.image(found.descriptor)
    known = registry or Registry(reference.registry)
    try:
        work = _Push(store, known, reference, one_at_a_time(watch))
        move_all(work.blob, image.manifest.blobs, known, work.watch)
        return known.put_manifest(reference, image.manifest.raw, image.manifest.media_type)
    finally:
        if not registry:
            known.transport.close()


class _Push:
    def __init__(self, store: Store, registry: Registry, reference: Reference, watch: Watch) -> None:
        self._store, self._registry, self._reference, self.watch = store, registry, reference, watch
        self._elsewhere = self._repositories()

    def _repositories(self) -> dict[Digest, str]:
        """In quali altri depositi dello stesso registro c'è già ciascun blob, per quanto ne sappiamo."""
        found: dict[Digest, str] = {}
        for one in self._store.images():
            other = one.reference
            if (
                not other
                or other.registry != self._reference.registry
                or other.repository == self._reference.repository
            ):
                continue
            try:
                found |= dict.fromkeys((b.digest for b in self._store.manifest(one.descriptor).blobs), other.repository)
            except LabError:  # damaged: it only means that nothing can be taken from there
                continue
        return found

    def blob(self, blob: Descriptor) -> None:
        repository, registry = self._reference.repository, self._registry
        if registry.has_blob(repository, blob):
            self.watch(Progress(blob, "exists", blob.size))
            return
        for attempt in range(1, TRIES + 1):
            try:
                location = self._start(blob, self._elsewhere.get(blob.digest, "") if attempt == 1 else "")
                if not location:
                    self.watch(Progress(blob, "mounted", blob.size))
                    return
                with self._store.blobs.open(blob) as file:
                    registry.finish_upload(
                        repository, blob, location, _watched(file, blob, self.watch, registry.transport.check)
                    )
                break
            except PassingError:
                if attempt == TRIES:
                    raise
                registry.transport.back_off(attempt)
        self.watch(Progress(blob, "done", blob.size))

    def _start(self, blob: Descriptor, source: str) -> str:
        """Comincia un invio; se l'altro deposito non si può leggere si manda come se non ci fosse."""
        try:
            return self._registry.start_upload(self._reference.repository, blob, source)
        except RegistryError as problem:
            if not source or problem.status not in (401, 403, 404):
                raise
            return self._registry.start_upload(self._reference.repository, blob)


def _watched(file: BinaryIO, blob: Descriptor, watch: Watch, check: Callable[[], None]) -> Iterator[bytes]:
    """I byte di un blob, raccontando quanti ne sono partiti; si può interrompere."""
    done = 0
    for piece in pieces(file):
        check()
        yield piece
        done += len(piece)
        watch(Progress(blob, "moving", done))

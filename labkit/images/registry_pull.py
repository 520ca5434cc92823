"""Scaricare un'immagine da un registro, per la piattaforma di questa macchina.

Niente si vede prima di essere intero e controllato: i blob entrano nella cartella delle immagini uno a
uno, il nome per ultimo. Un blob interrotto riprende da dov'era; uno che c'è già non si scarica.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from labkit.errors import InvalidError, LabError
from labkit.images import manifest as manifests
from labkit.images.config import ImageConfig
from labkit.images.descriptor import LARGEST_DOCUMENT, Descriptor, Platform
from labkit.images.manifest import Index, Manifest
from labkit.images.reference import Reference
from labkit.images.registry import Registry
from labkit.images.registry_origin import PassingError, RegistryError
from labkit.images.registry_transfer import Progress, Watch, move_all, one_at_a_time
from labkit.images.registry_transport import TRIES
from labkit.images.store import Store


def pull(
    store: Store,
    reference: Reference,
    platform: Platform | None = None,
    *,
    watch: Watch = lambda progress: None,
    mirrors: Mapping[str, Sequence[str]] | None = None,
    registry: Registry | None = None,
) -> Descriptor:
    """Scarica un'immagine e le dà il suo nome; torna il descrittore del suo manifesto.

    ``mirrors``: per ogni registro gli indirizzi da provare prima di lui; se uno non ce la fa si passa al
    prossimo. Errori: :class:`RegistryError` e, se i byte non sono quelli promessi, :class:`InvalidError`.
    """
    if registry:
        return _Pull(store, registry, reference, platform, watch).run()
    for url in (mirrors or {}).get(reference.registry, ()):
        try:
            mirror = Registry(reference.registry, url=url, plain=True)  # whoever wrote http:// there, chose it
            return _pull_from(store, mirror, reference, platform, watch)
        except (RegistryError, InvalidError):  # a mirror may be incomplete, or wrong: the registry itself decides
            continue
    return _pull_from(store, Registry(reference.registry), reference, platform, watch)


def _pull_from(
    store: Store, registry: Registry, reference: Reference, platform: Platform | None, watch: Watch
) -> Descriptor:
    try:
        return _Pull(store, registry, reference, platform, watch).run()
    finally:
        registry.transport.close()


class _Pull:
    def __init__(
        self, store: Store, registry: Registry, reference: Reference, platform: Platform | None, watch: Watch
    ) -> None:
        self._store, self._registry, self._reference = store, registry, reference
        self._platform, self._watch = platform or Platform.current(), one_at_a_time(watch)

    def run(self) -> Descriptor:
        with self._store.writing():
            manifest = self._manifest()
            # The small documents first: nothing large is fetched for an image that could not be used.
            if manifest.config.size > LARGEST_DOCUMENT:
                raise InvalidError(f"La configurazione dell'immagine ha {manifest.config.size} byte: sono troppi.")
            self._blob(manifest.config)
            config = ImageConfig(self._store.blobs.read(manifest.config))
            if len(config.diff_ids) != len(manifest.layers):
                raise InvalidError(
                    f"L'immagine «{self._reference.familiar}» non è coerente: ha {len(manifest.layers)} strati "
                    f"nel manifesto e {len(config.diff_ids)} nella configurazione."
                )
            self._check_room(manifest)
            move_all(self._blob, manifest.layers, self._registry, self._watch)
            self._store.blobs.add_document(manifest.raw)
            descriptor = replace(manifest.descriptor, platform=config.platform)
            self._store.name(descriptor, self._reference)
        return descriptor

    def _check_room(self, manifest: Manifest) -> None:
        """Se non ci sta, meglio saperlo prima di scaricare."""
        needed = sum(layer.size for layer in set(manifest.layers) if not self._store.blobs.has(layer))
        disk = os.statvfs(self._store.root)
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            raise LabError(
                f"Il disco è troppo pieno per «{self._reference.familiar}»: servono {needed >> 20} MiB, "
                f"e ce ne sono {free >> 20}.",
                "df -h, e poi: labkit image prune",
            )

    def _manifest(self) -> Manifest:
        found = manifests.parse(*self._registry.manifest(self._reference))
        if isinstance(found, Index):
            chosen = found.choose(self._platform)
            raw, kind = self._registry.manifest(self._reference, chosen)
            found = manifests.parse(raw, kind or chosen.media_type)
        if isinstance(found, Index):
            raise InvalidError(f"L'indice di «{self._reference.familiar}» contiene un altro indice: non lo seguo.")
        return found

    def _blob(self, blob: Descriptor) -> None:
        if self._store.blobs.has(blob):
            self._watch(Progress(blob, "exists", blob.size))
            return
        with self._store.blobs.partial(blob, self._registry.transport.check) as partial:
            if partial is None:  # another laboratory has just fetched it
                self._watch(Progress(blob, "exists", blob.size))
                return
            attempt = 0
            while partial.offset < blob.size or not blob.size:
                before = partial.offset
                try:
                    answer, offset = self._registry.open_blob(self._reference.repository, blob, before)
                    with answer:
                        if offset != before:
                            partial.restart()
                        for piece in answer.pieces(blob.size - partial.offset):
                            partial.write(piece)
                            self._watch(Progress(blob, "moving", partial.offset))
                    if partial.offset < blob.size:
                        raise PassingError(
                            f"Il registro {self._registry.name} ha smesso a metà di {blob.digest.short}."
                        )
                    break
                except PassingError:
                    self._registry.transport.check()
                    # As long as something arrives it is worth going on; only attempts in vain are counted.
                    attempt = 1 if partial.offset > before else attempt + 1
                    if attempt >= TRIES:
                        raise
                    self._registry.transport.back_off(attempt)
            partial.commit()
        self._watch(Progress(blob, "done", blob.size))

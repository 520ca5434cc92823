"""Un'immagine conservata diventa una radice: i suoi strati spacchettati, e come parte secondo la sua configurazione.

Lo fa un processo a parte, dentro il namespace utente del laboratorio: è l'unico posto del motore che importa ciò
che legge gli archivi, e lo importa solo quando serve.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from labkit.engine.rootfs import ImageRoot, Tree
from labkit.errors import InvalidError, LabError
from labkit.images.descriptor import Descriptor, Platform
from labkit.images.digest import ChainID
from labkit.images.image import Image, Layer
from labkit.images.layers import Layers, Unpacking
from labkit.images.store import Store
from labkit.images.unpack import DEVICES
from labkit.policy import HealthCheck

_NANOSECONDS = 1e9


@dataclass(frozen=True)
class Source:
    """Quale immagine: la cartella ``store`` che la conserva, il suo ``descriptor`` là dentro, il nome chiesto."""

    store: str
    descriptor: Descriptor
    name: str
    platform: Platform | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        """Dai dati di una richiesta: ``store``, ``descriptor`` (image-spec, descriptor.md), ``name``, ``platform``."""
        platform = data.get("platform")
        return cls(
            str(data["store"]),
            Descriptor.from_dict(data["descriptor"], "la richiesta"),
            str(data["name"]),
            Platform.parse(platform) if platform else None,
        )

    def read(self) -> tuple[Store, Image]:
        """La cartella aperta, e l'immagine con i documenti controllati."""
        store = _existing(self.store)
        image = store.image(self.descriptor, self.platform)
        if image.config.os != "linux":
            raise InvalidError(f"L'immagine «{self.name}» è per {image.config.platform}: qui c'è Linux.")
        return store, image


def unpack(
    source: Source, mode: str, folder: str, tell: Callable[[int, int, Layer], None] = lambda number, count, layer: None
) -> tuple[ImageRoot, int]:
    """L'immagine pronta e il lucchetto che tiene i suoi strati (-1 se non ne ha).

    ``mode`` è quello del laboratorio. Gli strati stanno accanto alle immagini, dove tutti i laboratori li trovano; in
    ``folder`` se là non si può scrivere. ``tell`` sente ogni strato prima che cominci: numero, quanti sono, quale.
    """
    store, image = source.read()
    layers = opened(store, mode, folder)
    ready, lock = layers.hold(image, lambda number, layer: tell(number, len(image.layers), layer))
    lowers = tuple(one.folder for one in reversed(ready))
    if not lowers:  # FROM scratch: overlay wants something to be under
        os.makedirs(f"{layers.root}/empty", mode=0o755, exist_ok=True)
        lowers = (f"{layers.root}/empty",)
    skipped: Counter[str] = Counter()
    for one in ready:
        skipped.update(one.skipped)
    del skipped[DEVICES]
    losses = (f"Dell'immagine «{source.name}» mancano: {what} ({count})." for what, count in sorted(skipped.items()))
    return describe(source.name, image, lowers, tuple(losses)), lock


def _existing(root: str) -> Store:
    """La cartella delle immagini ``root``, che deve esserci già: da qui non se ne fanno."""
    if not os.path.isfile(f"{root}/oci-layout"):
        raise InvalidError(f"Il laboratorio non vede la cartella delle immagini «{root}».", "lab = Lab()")
    return Store(root)


def opened(store: Store, mode: str, folder: str) -> Layers:
    """Gli strati spacchettati che un laboratorio di quel modo usa: accanto alle immagini, se là può scrivere."""
    shared = mode != "vm" and os.access(store.root, os.W_OK)
    return Layers(
        store, Unpacking(kind(mode), owners=mode != "nosub", userxattr=mode != "vm"), "" if shared else folder
    )


def prune(root: str, mode: str, folder: str) -> int:
    """Toglie gli strati spacchettati che nessuno usa e che nessuna immagine di ``root`` ha più; torna quanti."""
    store = _existing(root)
    keep: list[ChainID] = []
    for one in store.images():
        with suppress(LabError):  # damaged, or for another kind of machine: what it had can be made again
            keep += store.image(one.descriptor).chain_ids
    return opened(store, mode, folder).prune(keep)


def kind(mode: str) -> str:
    """Il nome degli strati fatti con questa mappa degli utenti: con un'altra i file sarebbero di altri."""
    maps = b""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", "rb") as file:
            maps += file.read()
    return f"{mode}-{hashlib.sha256(maps).hexdigest()[:12]}"


def describe(name: str, image: Image, lowers: tuple[str, ...], losses: tuple[str, ...] = ()) -> ImageRoot:
    """La radice di un'immagine con quegli strati, dall'alto, e ciò che la sua configurazione dice di chi parte."""
    process = image.config.process
    return ImageRoot(
        name=name,
        trees=(Tree("", lowers),),
        command=tuple(process.get("Cmd") or ()),
        env=image.config.env,
        entrypoint=tuple(process.get("Entrypoint") or ()),
        workdir=_absolute(process.get("WorkingDir") or ""),
        user=process.get("User") or "",
        stop_signal=process.get("StopSignal") or "",
        health=health(process.get("Healthcheck")),
        labels=tuple((key, str(value)) for key, value in (process.get("Labels") or {}).items()),
        volumes=tuple(sorted(process.get("Volumes") or ())),
        exposed=tuple(sorted(process.get("ExposedPorts") or ())),
        id=image.id,
        digest=image.digest,
        losses=losses,
    )


def _absolute(folder: str) -> str:
    return folder if not folder or folder.startswith("/") else f"/{folder}"


def health(data: Any) -> HealthCheck | None:
    """La prova di salute di un'immagine; i tempi sono in nanosecondi, zero vuol dire quello di Docker.

    >>> health({"Test": ["CMD", "true"], "Interval": 5000000000}).interval
    5.0
    """
    if not data:
        return None
    try:
        test = tuple(data.get("Test") or ())
        names = {"interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod"}
        times = {name: data[key] / _NANOSECONDS for name, key in names.items() if data.get(key)}
        retries = {"retries": data["Retries"]} if data.get("Retries") else {}
        return HealthCheck(test, **times, **retries) if test else None
    except (AttributeError, TypeError, KeyError):
        raise InvalidError("Nella configurazione dell'immagine il campo «Healthcheck» è scritto male.") from None

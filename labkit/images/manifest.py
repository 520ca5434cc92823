"""Il manifesto di un'immagine e l'indice di più piattaforme: quali byte la compongono.

Un documento arrivato da fuori tiene i suoi byte (``raw``): l'impronta è di quelli, e riscriverli uguali
non è garantito. Si leggono i formati OCI 1.1 e lo schema 2 di Docker; si scrive OCI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labkit.errors import InvalidError, NotFoundError
from labkit.images import descriptor as media
from labkit.images.descriptor import Descriptor, Platform, document, take

#: More layers than overlay takes (500, and Docker stops at 127): a manifest of a million lines is an attack.
MOST_LAYERS = 500
MOST_MANIFESTS = 1000


@dataclass(frozen=True)
class Manifest:
    """Il manifesto: la configurazione e gli strati, dal più basso (image-spec, manifest.md)."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def of(cls, config: Descriptor, layers: tuple[Descriptor, ...]) -> Manifest:
        """Un manifesto OCI nuovo."""
        data = {
            "schemaVersion": 2,
            "mediaType": media.MANIFEST,
            "config": config.to_dict(),
            "layers": [layer.to_dict() for layer in layers],
        }
        return cls.parse(media.write(data))

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "") -> Manifest:
        """Legge un manifesto; ``media_type`` è quello dichiarato da chi lo ha dato."""
        what = "il manifesto"
        data = document(raw, what)
        kind = _kind(data, media_type, what)
        if kind not in media.MANIFESTS:
            raise InvalidError(f"Non è il manifesto di un'immagine: il suo tipo è «{kind}».")
        if "manifests" in data:  # CVE-2021-41190: the same bytes read as two different things
            raise InvalidError("Il manifesto è ambiguo: ha anche l'elenco «manifests» di un indice. Non lo uso.")
        layers = take(data, "layers", list, what)
        if len(layers) > MOST_LAYERS:
            raise InvalidError(f"Il manifesto ha {len(layers)} strati: il massimo è {MOST_LAYERS}.")
        parts = tuple(Descriptor.from_dict(one, f"{what}, strato {n}") for n, one in enumerate(layers, 1))
        config = Descriptor.from_dict(take(data, "config", dict, what), f"{what}, campo config")
        return cls(raw, kind, config, parts)

    @cached_property
    def descriptor(self) -> Descriptor:
        """Il descrittore del manifesto stesso: la sua impronta è quella dell'immagine nel registro."""
        return Descriptor.of(self.media_type, self.raw)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Tutto ciò che il manifesto nomina: la configurazione e gli strati."""
        return (self.config, *self.layers)


@dataclass(frozen=True)
class Index:
    """L'indice: un manifesto per ogni piattaforma (image-spec, image-index.md)."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]

    @classmethod
    def of(cls, manifests: tuple[Descriptor, ...]) -> Index:
        """Un indice OCI nuovo."""
        listed = [one.to_dict() for one in manifests]
        return cls.parse(media.write({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": listed}))

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "") -> Index:
        what = "l'indice"
        data = document(raw, what)
        kind = _kind(data, media_type or media.INDEX, what)
        if kind not in media.INDEXES:
            raise InvalidError(f"Non è l'indice di un'immagine: il suo tipo è «{kind}».")
        if "layers" in data or "config" in data:
            raise InvalidError("L'indice è ambiguo: ha anche i campi di un manifesto. Non lo uso.")
        listed = take(data, "manifests", list, what)
        if len(listed) > MOST_MANIFESTS:
            raise InvalidError(f"L'indice ha {len(listed)} manifesti: il massimo è {MOST_MANIFESTS}.")
        return cls(raw, kind, tuple(Descriptor.from_dict(one, f"{what}, voce {n}") for n, one in enumerate(listed, 1)))

    @cached_property
    def descriptor(self) -> Descriptor:
        return Descriptor.of(self.media_type, self.raw)

    def choose(self, wanted: Platform) -> Descriptor:
        """Il manifesto per la piattaforma chiesta: fra quelli che vanno bene, quello con la variante esatta."""
        suited = [one for one in self.manifests if one.platform and one.platform.suits(wanted)]
        exact = [one for one in suited if one.platform and one.platform.plain() == wanted.plain()]
        if not suited:
            known = sorted(
                {str(one.platform) for one in self.manifests if one.platform and one.platform.os != "unknown"}
            )
            raise NotFoundError(
                f"L'immagine non c'è per {wanted}: c'è per {', '.join(known) or 'nessuna piattaforma'}.",
                f"scegline una: platform={known[0]!r}" if known else "",
            )
        return (exact or suited)[0]


def parse(raw: bytes, media_type: str = "") -> Manifest | Index:
    """Un manifesto o un indice, secondo il tipo che dichiara (o, se tace, secondo i suoi campi)."""
    kind = _kind(document(raw, "il manifesto"), media_type, "il manifesto")
    return Index.parse(raw, kind) if kind in media.INDEXES else Manifest.parse(raw, kind)


def _kind(data: Mapping[str, Any], declared: str, what: str) -> str:
    """Il tipo del documento; se il documento e chi lo ha dato non vanno d'accordo è un errore."""
    version = take(data, "schemaVersion", int, what)
    if version == 1:
        raise InvalidError(
            "L'immagine è nel vecchio formato di Docker (schema 1), senza impronte affidabili: non la leggo.",
            "chiedi a chi la pubblica di rifarla; Docker 1.10 (2016) o più nuovo scrive già lo schema 2",
        )
    if version != 2:
        raise InvalidError(f"Lo «schemaVersion» di {what} è {version}: conosco solo il 2.")
    inside = take(data, "mediaType", str, what, "")
    declared = declared.partition(";")[0].strip().lower()
    if inside and declared in (*media.MANIFESTS, *media.INDEXES) and inside != declared:
        raise InvalidError(
            f"Di {what} il registro dice che è «{declared}», e il documento che è «{inside}»: non mi fido."
        )
    return inside or declared or (media.INDEX if "manifests" in data else media.MANIFEST)

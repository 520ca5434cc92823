"""«Sono questi byte»: un descrittore dice tipo, impronta e misura di un contenuto che sta altrove.

I documenti JSON che arrivano da fuori passano da :func:`document`: misura e profondità limitate, e la
forma controllata campo per campo, così che un errore dica quale campo è sbagliato.
"""

from __future__ import annotations

import json
import platform as _platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from labkit.errors import InvalidError
from labkit.images.digest import Digest

#: Largest manifest, index or configuration that is read, in bytes (distribution-spec 1.1, «Pushing manifests»).
LARGEST_DOCUMENT = 4 << 20

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = f"{LAYER}+gzip"
LAYER_ZSTD = f"{LAYER}+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = f"{DOCKER_LAYER}.gzip"
#: Layers that only their owner may distribute (deprecated in image-spec 1.1): known, and refused by name.
_FOREIGN = ("nondistributable", "rootfs.foreign")
T = TypeVar("T")

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)
CONFIGS = (CONFIG, DOCKER_CONFIG)


def is_foreign(media_type: str) -> bool:
    """Se è uno strato che i registri non distribuiscono: i suoi byte stanno solo da chi lo ha fatto."""
    return any(word in media_type for word in _FOREIGN)


def document(data: bytes, what: str, largest: int = LARGEST_DOCUMENT) -> dict[str, Any]:
    """Un oggetto JSON letto con prudenza; ``what`` lo nomina negli errori («il manifesto»)."""
    if len(data) > largest:
        raise InvalidError(f"È troppo grande {what}: {len(data)} byte, e il massimo è {largest}.")
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        why = "parentesi una dentro l'altra senza fine" if isinstance(problem, RecursionError) else str(problem)
        raise InvalidError(f"Non è JSON {what}: {why}.") from None
    if not isinstance(found, dict):
        raise InvalidError(f"Doveva essere un oggetto JSON {what}, ed è {type(found).__name__}.")
    return found


def take(data: Mapping[str, Any], key: str, kind: type[T], what: str, default: T | None = None) -> T:
    """Il campo ``key``, se è del tipo giusto; se manca vale ``default``, e senza ``default`` è un errore."""
    value = data.get(key, default)
    if value is None and default is not None:  # Go writes null for an empty list
        value = default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "manca" if value is None else f"è {type(value).__name__}"
        raise InvalidError(f"Nel campo «{key}» di {what} ci vuole {kind.__name__}, e invece {found}.")
    return value


@dataclass(frozen=True)
class Platform:
    """Per quale kernel e quale processore è fatta un'immagine (image-spec, image-index.md, «platform»)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Legge ``linux/arm64/v8``; i nomi dei processori sono quelli di Go.

        >>> str(Platform.parse("linux/x86_64"))
        'linux/amd64'
        """
        parts = text.lower().split("/")
        if len(parts) not in (2, 3) or not all(part.isascii() and part.replace("_", "").isalnum() for part in parts):
            raise InvalidError(
                f"«{text}» non è una piattaforma.", "una piattaforma giusta: linux/amd64, linux/arm64/v8"
            )
        return cls(parts[0], _GO_NAMES.get(parts[1], parts[1]), "".join(parts[2:])).plain()

    @classmethod
    def current(cls) -> Platform:
        """Quella di questa macchina; i container sono sempre Linux."""
        machine = _platform.machine().lower()
        return cls("linux", _GO_NAMES.get(machine, machine), "v7" if machine == "armv7l" else "")

    def plain(self) -> Platform:
        """Senza la variante, quando è quella che tutti sottintendono (``arm64/v8``)."""
        return Platform(self.os, self.architecture) if (self.architecture, self.variant) in _USUAL else self

    def suits(self, wanted: Platform) -> bool:
        """Se un'immagine per questa piattaforma va bene a chi chiede ``wanted``."""
        mine, theirs = self.plain(), wanted.plain()
        same = (mine.os, mine.architecture) == (theirs.os, theirs.architecture)
        return same and (not theirs.variant or not mine.variant or mine.variant == theirs.variant)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], what: str) -> Platform:
        system, architecture = take(data, "os", str, what), take(data, "architecture", str, what)
        return cls(system, architecture, take(data, "variant", str, what, ""))

    def to_dict(self) -> dict[str, str]:
        named = {"architecture": self.architecture, "os": self.os, "variant": self.variant}
        return {key: value for key, value in named.items() if value}


_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm", "armv6l": "arm"}
_USUAL = {("arm64", "v8"), ("amd64", "v1")}


@dataclass(frozen=True)
class Descriptor:
    """Che cosa sono dei byte, e quali (image-spec, descriptor.md); ``size`` è in byte."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    artifact_type: str = ""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise InvalidError(f"La misura di {self.digest.short} è {self.size}: non può essere negativa.")

    @classmethod
    def of(cls, media_type: str, data: bytes, **more: Any) -> Descriptor:
        """Il descrittore di ``data``."""
        return cls(media_type, Digest.of(data), len(data), **more)

    @classmethod
    def from_dict(cls, data: Any, what: str) -> Descriptor:
        """Legge un descrittore dal JSON di un manifesto o di un indice."""
        if not isinstance(data, dict):
            raise InvalidError(f"In {what} ci vuole un descrittore, e c'è {type(data).__name__}.")
        media_type = take(data, "mediaType", str, what)
        if is_foreign(media_type):
            raise InvalidError(
                f"In {what} c'è uno strato che solo il suo proprietario può distribuire ({media_type}): non lo scarico."
            )
        place = take(data, "platform", dict, what, {})
        notes = take(data, "annotations", dict, what, {})
        if not all(isinstance(value, str) for value in notes.values()):
            raise InvalidError(f"Le annotazioni di {what} devono essere testi.")
        return cls(
            media_type,
            Digest(take(data, "digest", str, what)),
            take(data, "size", int, what),
            Platform.from_dict(place, what) if place else None,
            MappingProxyType(notes),
            take(data, "artifactType", str, what, ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """Nella forma, e nell'ordine, in cui si scrive nei documenti."""
        data: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.artifact_type:
            data["artifactType"] = self.artifact_type
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        if self.platform:
            data["platform"] = self.platform.to_dict()
        return data


def write(data: Mapping[str, Any]) -> bytes:
    """Un documento JSON in byte, sempre gli stessi per gli stessi dati."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()

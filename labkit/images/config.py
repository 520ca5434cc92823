"""La configurazione di un'immagine: come parte, con che storia è stata fatta, su quali strati.

I byte arrivati da fuori restano com'erano (``raw``), con i campi che qui non si conoscono: chi aggiunge
uno strato cambia solo ciò che deve (image-spec, config.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from labkit.errors import InvalidError
from labkit.images import descriptor as media
from labkit.images.descriptor import Descriptor, Platform, document, take
from labkit.images.digest import ChainID, DiffID, chain_ids

_WHAT = "la configurazione dell'immagine"


@dataclass(frozen=True)
class History:
    """Un passo della storia: chi lo ha fatto e se ha aggiunto uno strato."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    @classmethod
    def from_dict(cls, data: Any) -> History:
        if not isinstance(data, dict):
            raise InvalidError("Nella storia dell'immagine c'è una voce che non è un oggetto.")
        texts = {key: take(data, key, str, _WHAT, "") for key in ("created_by", "created", "comment", "author")}
        return cls(**texts, empty_layer=take(data, "empty_layer", bool, _WHAT, False))

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value}


@dataclass(frozen=True)
class ImageConfig:
    """La configurazione, in sola lettura; ``with_…`` ne danno un'altra."""

    raw: bytes

    def __post_init__(self) -> None:
        for part in ("platform", "created", "diff_ids", "history"):
            getattr(self, part)  # reading it checks it
        # How many layers the history tells of is not checked: it is a story, and some programs tell it badly.
        if len(self.history) > 10_000:
            raise InvalidError(f"La storia dell'immagine ha {len(self.history)} passi: il massimo è 10000.")
        for key, kind in _PROCESS.items():
            found = self.process.get(key)
            if found is not None and not kind(found):
                raise InvalidError(f"Nella configurazione dell'immagine il campo «{key}» è scritto male.")

    @classmethod
    def empty(cls, platform: Platform) -> ImageConfig:
        """La configurazione di un'immagine senza strati (``FROM scratch``)."""
        return cls(media.write({**platform.to_dict(), "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}))

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """Il documento intero. Non si modifica."""
        return document(self.raw, _WHAT)

    @cached_property
    def descriptor(self) -> Descriptor:
        """Il suo descrittore: la sua impronta è l'id dell'immagine (``docker images``)."""
        return Descriptor.of(media.CONFIG, self.raw)

    @property
    def architecture(self) -> str:
        return take(self.data, "architecture", str, _WHAT)

    @property
    def os(self) -> str:
        return take(self.data, "os", str, _WHAT)

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, take(self.data, "variant", str, _WHAT, ""))

    @property
    def created(self) -> str:
        """Quando è stata fatta (RFC 3339), o vuoto."""
        return take(self.data, "created", str, _WHAT, "")

    @cached_property
    def diff_ids(self) -> tuple[DiffID, ...]:
        """Le impronte degli strati decompressi, dal più basso."""
        rootfs = take(self.data, "rootfs", dict, _WHAT)
        if rootfs.get("type") != "layers":
            raise InvalidError("La configurazione dell'immagine non elenca i suoi strati (rootfs.type non è «layers»).")
        return tuple(
            DiffID(text if isinstance(text, str) else "") for text in take(rootfs, "diff_ids", list, _WHAT, [])
        )

    @property
    def chain_ids(self) -> tuple[ChainID, ...]:
        return chain_ids(self.diff_ids)

    @cached_property
    def history(self) -> tuple[History, ...]:
        """Come è stata fatta, dal primo passo."""
        return tuple(History.from_dict(step) for step in take(self.data, "history", list, _WHAT, []))

    @property
    def process(self) -> Mapping[str, Any]:
        """Come parte: ``Env``, ``Cmd``, ``Entrypoint``, ``User``, ``WorkingDir``, ``Labels``, ``ExposedPorts``…"""
        return take(self.data, "config", dict, _WHAT, {})

    @property
    def command(self) -> tuple[str, ...]:
        """``Entrypoint`` seguito da ``Cmd``."""
        return (*(self.process.get("Entrypoint") or ()), *(self.process.get("Cmd") or ()))

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Le variabili d'ambiente, come coppie."""
        return tuple(
            (name, value) for name, _, value in (item.partition("=") for item in self.process.get("Env") or ())
        )

    def with_layer(self, diff_id: DiffID, step: History, **fields: Any) -> ImageConfig:
        """Con uno strato in più in cima, e altri campi di partenza se servono."""
        rootfs = {**self.data["rootfs"], "diff_ids": [*map(str, self.diff_ids), str(diff_id)]}
        more = {"config": self._merged(fields)} if fields else {}
        return self._with(step, rootfs=rootfs, **more)

    def with_process(self, step: History, **fields: Any) -> ImageConfig:
        """Con altri campi di partenza; ``None`` toglie un campo. Non aggiunge strati."""
        return self._with(step, config=self._merged(fields))

    def _merged(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in {**self.process, **fields}.items() if value is not None}

    def _with(self, step: History, **changes: Any) -> ImageConfig:
        # History may be absent (hand-made images): a step for each layer that is there keeps the count true.
        past = self.history or tuple(History() for _ in self.diff_ids)
        changes["history"] = [one.to_dict() for one in (*past, step)]
        if step.created:
            changes["created"] = step.created
        if step.author:
            changes["author"] = step.author
        return ImageConfig(media.write({**self.data, **changes}))


def timestamp(moment: datetime) -> str:
    """Un istante come lo vuole la specifica (RFC 3339, in UTC)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _table(value: Any) -> bool:
    return isinstance(value, dict)


#: What a container needs to start must have the right shape before anyone uses it.
_PROCESS = {
    "Env": _texts, "Cmd": _texts, "Entrypoint": _texts, "User": _text, "WorkingDir": _text, "StopSignal": _text,
    "Labels": _table, "ExposedPorts": _table, "Volumes": _table,
}  # fmt: skip

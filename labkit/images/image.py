"""Immagini e strati immutabili: cambiare un'immagine vuol dire farne un'altra, che condivide il resto.

Un :class:`Layer` sa chi è (descrittore e ``DiffID``) e sa come farsi leggere; un':class:`Image` è una
configurazione più una fila di strati, e il suo manifesto segue da quelli.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from labkit.errors import InvalidError
from labkit.images import descriptor as media
from labkit.images.compression import compress
from labkit.images.config import History, ImageConfig
from labkit.images.descriptor import Descriptor, Platform
from labkit.images.digest import ChainID, DiffID
from labkit.images.manifest import Manifest


@dataclass(frozen=True)
class Layer:
    """Uno strato: i suoi byte come viaggiano, l'impronta del suo tar, e come leggerlo."""

    descriptor: Descriptor
    diff_id: DiffID
    open: Callable[[], BinaryIO] = field(compare=False, repr=False)

    @classmethod
    def from_tar(cls, tar: bytes, compression: str = "gzip") -> Layer:
        """Uno strato da un tar in memoria, compresso con ``gzip``, ``zstd`` o ``""`` (per niente)."""
        data = b"".join(compress([tar], compression))
        kinds = {"": media.LAYER, "gzip": media.LAYER_GZIP, "zstd": media.LAYER_ZSTD}
        return cls(Descriptor.of(kinds[compression], data), DiffID.of(tar), lambda: io.BytesIO(data))


@dataclass(frozen=True)
class Image:
    """Un'immagine intera e coerente: tanti strati quante impronte ha la configurazione."""

    manifest: Manifest
    config: ImageConfig
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if tuple(layer.descriptor.digest for layer in self.layers) != tuple(d.digest for d in self.manifest.layers):
            raise InvalidError("Gli strati dell'immagine non sono quelli del suo manifesto.")
        if tuple(layer.diff_id for layer in self.layers) != self.config.diff_ids:
            raise InvalidError(
                f"L'immagine non è coerente: il manifesto ha {len(self.layers)} strati e la configurazione "
                f"{len(self.config.diff_ids)}."
            )

    @classmethod
    def empty(cls, platform: Platform | None = None) -> Image:
        """L'immagine senza niente (``FROM scratch``).

        >>> Image.empty().layers
        ()
        """
        return cls._made(ImageConfig.empty(platform or Platform.current()), ())

    @classmethod
    def _made(cls, config: ImageConfig, layers: tuple[Layer, ...]) -> Image:
        return cls(Manifest.of(config.descriptor, tuple(layer.descriptor for layer in layers)), config, layers)

    @property
    def id(self) -> str:
        """L'id dell'immagine: l'impronta della sua configurazione, come in ``docker images``."""
        return str(self.manifest.config.digest)

    @property
    def digest(self) -> str:
        """L'impronta del manifesto: quella che si scrive dopo la ``@`` di un nome."""
        return str(self.manifest.descriptor.digest)

    @property
    def size(self) -> int:
        """I byte degli strati come viaggiano."""
        return sum(layer.descriptor.size for layer in self.layers)

    @property
    def chain_ids(self) -> tuple[ChainID, ...]:
        return self.config.chain_ids

    def append(self, layer: Layer, step: History, **fields: Any) -> Image:
        """L'immagine con uno strato in più in cima, e altri campi di partenza se servono; questa resta com'è."""
        return self._made(self.config.with_layer(layer.diff_id, step, **fields), (*self.layers, layer))

    def with_process(self, step: History, **fields: Any) -> Image:
        """L'immagine con altri campi di partenza (``Cmd``, ``Env``, ``User``…) e gli stessi strati."""
        return self._made(self.config.with_process(step, **fields), self.layers)

    def inspect(self) -> Mapping[str, Any]:
        """Quello che ``docker image inspect`` direbbe di lei, con gli stessi nomi."""
        return {
            "Id": self.id,
            "Digest": self.digest,
            "Created": self.config.created,
            "Architecture": self.config.architecture,
            "Variant": self.config.platform.variant,
            "Os": self.config.os,
            "Size": self.size,
            "Config": dict(self.config.process),
            "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in self.config.diff_ids]},
        }

    def history(self) -> tuple[tuple[History, int], ...]:
        """I passi che l'hanno fatta, dal primo, ciascuno con i byte dello strato che ha aggiunto (0 se nessuno)."""
        sizes = iter(layer.descriptor.size for layer in self.layers)
        steps = self.config.history or tuple(History() for _ in self.layers)
        return tuple((step, 0 if step.empty_layer else next(sizes, 0)) for step in steps)

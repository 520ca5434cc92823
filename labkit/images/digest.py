"""Le impronte: una sequenza di byte ha un nome solo, e quel nome si può ricalcolare.

Tre impronte che non si confondono mai, perché sono tre tipi: :class:`Digest` dei byte come viaggiano (di
solito compressi), :class:`DiffID` di uno strato decompresso, :class:`ChainID` di una pila di strati.
Un'impronta esiste solo se è scritta bene: può diventare un pezzo di percorso senza altri controlli.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Self

from labkit.errors import InvalidError

if TYPE_CHECKING:
    from _hashlib import HASH

#: The algorithms of the image specification (descriptor.md, «Registered algorithms») and how many hex digits each has.
ALGORITHMS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, order=True)
class _Fingerprint:
    """``algoritmo:cifre``; uguale solo a un'impronta dello stesso tipo."""

    text: str

    def __post_init__(self) -> None:
        algorithm, _, digits = self.text.partition(":")
        if ALGORITHMS.get(algorithm) != len(digits) or not _HEX.fullmatch(digits):
            known = " o ".join(ALGORITHMS)
            raise InvalidError(
                f"«{self.text[:100]}» non è un'impronta: serve {known}, due punti e le cifre esadecimali minuscole."
            )

    def __str__(self) -> str:
        return self.text

    @property
    def algorithm(self) -> str:
        return self.text.partition(":")[0]

    @property
    def encoded(self) -> str:
        """Le sole cifre, come le chiama la specifica."""
        return self.text.partition(":")[2]

    @property
    def short(self) -> str:
        """Le prime dodici cifre, come le mostra Docker."""
        return self.encoded[:12]

    def hasher(self) -> HASH:
        """Un calcolatore vuoto dello stesso algoritmo (:mod:`hashlib`)."""
        return hashlib.new(self.algorithm)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """L'impronta sha256 di ``data``."""
        return cls(f"sha256:{hashlib.sha256(data).hexdigest()}")

    @classmethod
    def from_hasher(cls, hasher: HASH) -> Self:
        """L'impronta di quello che il calcolatore ha visto fin qui."""
        return cls(f"{hasher.name}:{hasher.hexdigest()}")


class Digest(_Fingerprint):
    """L'impronta dei byte così come sono conservati e come viaggiano (image-spec, descriptor.md).

    >>> Digest.of(b"").short
    'e3b0c44298fc'
    """


class DiffID(_Fingerprint):
    """L'impronta di uno strato **decompresso**, cioè del suo tar (image-spec, config.md, «Layer DiffID»)."""


class ChainID(_Fingerprint):
    """L'impronta di una pila di strati: cambia se cambia uno qualunque di quelli sotto (config.md, «Layer ChainID»)."""


def chain_ids(diff_ids: Iterable[DiffID]) -> tuple[ChainID, ...]:
    """La ``ChainID`` di ogni strato, dal più basso: ``chain(n) = H(chain(n-1) + " " + diff(n))``.

    >>> a, b = DiffID.of(b"a"), DiffID.of(b"b")
    >>> chain_ids([a, b])[0].encoded == a.encoded
    True
    """

    def more(done: tuple[ChainID, ...], diff: DiffID) -> tuple[ChainID, ...]:
        return (*done, ChainID.of(f"{done[-1]} {diff}".encode()) if done else ChainID(str(diff)))

    return reduce(more, diff_ids, ())

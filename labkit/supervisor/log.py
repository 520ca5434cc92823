"""Quello che un container ha scritto: pezzi con l'ora e il flusso, entro un limite, come il driver json-file.

Invariante: si tengono al massimo ``max_files`` file di ``max_size`` byte; quello che si butta è sempre il più
vecchio, e se ne tiene il conto.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from labkit.policy import LOG_DEFAULT, LogLimits

#: Ogni pezzo conta questi byte in più: chi scrive un byte alla volta non deve costare cento volte il suo log.
PIECE_COST = 128

_SMALL = 4096
_MOMENT = 0.001
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class Piece(NamedTuple):
    """Byte letti in una volta sola: quando (secondi Unix), da quale flusso, quali."""

    time: float
    stream: int
    data: bytes


class _File:
    """Un file del log."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.size = 0


class Log:
    """Le ultime uscite di un processo, in ordine. ``dropped`` sono le righe buttate perché troppo vecchie."""

    def __init__(self, limits: LogLimits = LOG_DEFAULT) -> None:
        self.limits = limits
        self.dropped = 0
        self._files = deque([_File()])
        self._room = limits.max_size - PIECE_COST

    @property
    def size(self) -> int:
        """I byte che occupa, con il costo di ogni pezzo."""
        return sum(file.size for file in self._files)

    @property
    def pieces(self) -> Iterator[Piece]:
        """Tutto quello che si è tenuto."""
        return (piece for file in self._files for piece in file.pieces)

    def append(self, stream: int, data: bytes, now: float | None = None) -> None:
        """Aggiunge quello che il processo ha appena scritto."""
        moment = time.time() if now is None else now
        for start in range(0, len(data), self._room):
            self._add(Piece(moment, stream, data[start : start + self._room]))

    def _add(self, piece: Piece) -> None:
        file = self._files[-1]
        if file.pieces and self._continues(file.pieces[-1], piece):
            last = file.pieces.pop()
            file.size -= len(last.data) + PIECE_COST
            piece = Piece(last.time, last.stream, last.data + piece.data)
        cost = len(piece.data) + PIECE_COST
        if file.pieces and file.size + cost > self.limits.max_size:
            file = _File()
            self._files.append(file)
            if len(self._files) > self.limits.max_files:
                self.dropped += sum(old.data.count(b"\n") for old in self._files.popleft().pieces)
        file.pieces.append(piece)
        file.size += cost

    def _continues(self, last: Piece, new: Piece) -> bool:
        """Se il pezzo nuovo può stare con l'ultimo: la stessa riga, o lo stesso momento."""
        if last.stream != new.stream or len(last.data) + len(new.data) > min(_SMALL, self._room):
            return False
        return not last.data.endswith(b"\n") or new.time - last.time < _MOMENT


def lines(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Le righe intere, ognuna con l'ora in cui è cominciata; l'ultima di un flusso può non finire con «a capo».

    >>> [line.data for line in lines([Piece(1.0, 1, b"a"), Piece(2.0, 2, b"x\\n"), Piece(3.0, 1, b"b\\nc")])]
    [b'x\\n', b'ab\\n', b'c']
    """
    open_lines: dict[int, Piece] = {}
    for piece in pieces:
        for part in _LINE.findall(piece.data):
            begun = open_lines.pop(piece.stream, None)
            line = Piece(begun.time, piece.stream, begun.data + part) if begun else piece._replace(data=part)
            if part.endswith(b"\n"):
                yield line
            else:
                open_lines[piece.stream] = line
    yield from sorted(open_lines.values())


def stamp(moment: float) -> bytes:
    """L'ora di una riga come la scrive ``docker logs -t`` (RFC 3339, in UTC), con lo spazio.

    >>> stamp(0.25)
    b'1970-01-01T00:00:00.250000Z '
    """
    seconds, rest = divmod(int(moment * 1e6), 1_000_000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{rest:06d}Z ", time.gmtime(seconds)).encode()


class Stamper:
    """Mette l'ora davanti a ogni riga di quello che passa adesso."""

    def __init__(self) -> None:
        self._inside: set[int] = set()

    def __call__(self, stream: int, data: bytes) -> bytes:
        now = stamp(time.time())
        first = b"" if stream in self._inside else now
        ended = data.endswith(b"\n")
        (self._inside.discard if ended else self._inside.add)(stream)
        body = data[:-1] if ended else data
        return first + body.replace(b"\n", b"\n" + now) + (b"\n" if ended else b"")

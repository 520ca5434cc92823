"""Un flusso che corre su più thread: mentre uno decomprime, un altro calcola le impronte, un altro scrive.

``zlib``, ``hashlib`` e le scritture lasciano libero l'interprete: su due processori il lavoro si
sovrappone davvero. La fila fra un thread e l'altro è corta: la memoria non dipende dall'archivio.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.errors import InvalidError

if TYPE_CHECKING:
    from _hashlib import HASH

#: Pieces that may wait between two threads: with pieces of 256 KiB, two megabytes.
_WAITING = 8


@dataclass(frozen=True)
class Limits:
    """Quanto può costare uno strato: byte decompressi, voci, secondi. I valori vanno bene per immagini vere."""

    size: int = 32 << 30
    entries: int = 400_000
    seconds: float = 1800


def bounded(pieces: Iterable[bytes], limits: Limits) -> Iterator[bytes]:
    """Gli stessi pezzi; oltre la misura o il tempo è un errore."""
    total, end = 0, time.monotonic() + limits.seconds
    for piece in pieces:
        total += len(piece)
        if total > limits.size:
            raise InvalidError(
                f"Lo strato decompresso è più grande di {limits.size} byte: non lo apro, potrebbe essere una bomba."
            )
        if time.monotonic() > end:
            raise InvalidError(f"Lo strato non si è aperto in {limits.seconds:.0f} secondi: mi fermo.")
        yield piece


def hashed(pieces: Iterable[bytes], *hashers: HASH) -> Iterator[bytes]:
    """Gli stessi pezzi, visti anche dai calcolatori di impronte."""
    for piece in pieces:
        for hasher in hashers:
            hasher.update(piece)
        yield piece


@contextmanager
def ahead(pieces: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """Gli stessi pezzi, preparati da un altro thread; un suo errore esce qui. All'uscita il thread è finito."""
    line: queue.Queue[bytes | BaseException | None] = queue.Queue(_WAITING)
    stop = threading.Event()

    def work() -> None:
        last: BaseException | None = None
        try:
            for piece in pieces:
                line.put(piece)
                if stop.is_set():
                    return
        except BaseException as problem:  # noqa: BLE001  (it is raised again where the pieces are used)
            last = problem
        line.put(last)

    def found() -> Iterator[bytes]:
        while (piece := line.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    worker = threading.Thread(target=work, name="images-ahead", daemon=True)
    worker.start()
    try:
        yield found()
    finally:
        stop.set()
        while worker.is_alive():  # it may be waiting for room
            try:
                line.get_nowait()
            except queue.Empty:
                worker.join(0.001)

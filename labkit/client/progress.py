"""Un'immagine che viaggia, mostrata mentre viaggia: barre in un terminale, una riga per pezzo dove non c'è."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from labkit.draw import transfer
from labkit.draw.transfer import Piece
from labkit.images import descriptor as media
from labkit.images.digest import Digest
from labkit.images.registry_transfer import Progress

#: Secondi fra un disegno e il prossimo, mentre i byte passano.
PERIOD = 0.1


class Transfer:
    """I pezzi di un viaggio, nell'ordine in cui si sono visti; si chiama con ogni :class:`Progress`.

    ``show`` è chiamata quando un pezzo cambia stato, e al massimo ogni :data:`PERIOD` secondi mentre i byte passano.
    """

    def __init__(self, title: str, sending: bool, show: Callable[[Transfer, Piece], None]) -> None:
        self.title, self.sending = title, sending
        self._show = show
        self._pieces: dict[Digest, Piece] = {}
        self._drawn = 0.0
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            before = self._pieces.get(progress.digest)
            if before and before.ended:  # the same blob twice in one image
                return
            kind = "configurazione" if progress.blob.media_type in media.CONFIGS else "strato"
            piece = Piece(progress.digest.short, kind, progress.state, progress.done, progress.total)
            self._pieces[progress.digest] = piece
            now = time.monotonic()
            if not before or piece.state != before.state or now - self._drawn >= PERIOD:
                self._drawn = now
                self._show(self, piece)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(self._pieces.values())

    @property
    def travelled(self) -> int:
        """I byte che hanno viaggiato."""
        return transfer.travelled(self.pieces)

    def __repr__(self) -> str:
        return transfer.text(self.title, self.pieces, self.sending)


def quiet(shown: Transfer, piece: Piece) -> None:
    """Non mostra niente."""


def lines(out: TextIO) -> Callable[[Transfer, Piece], None]:
    """Una riga per ogni pezzo che è arrivato: dove non c'è un terminale."""

    def show(shown: Transfer, piece: Piece) -> None:
        if piece.ended:
            print(transfer.line(piece, shown.sending), file=out, flush=True)

    return show


def bars(out: TextIO) -> Callable[[Transfer, Piece], None]:
    """Tutte le righe, riscritte sul posto: in un terminale."""
    height = 0

    def show(shown: Transfer, piece: Piece) -> None:
        nonlocal height
        back = f"\033[{height}A" if height else ""
        height = len(shown.pieces)
        rows = "".join(f"\033[2K{transfer.line(one, shown.sending)}\n" for one in shown.pieces)
        out.write(f"{back}{rows}")
        out.flush()

    return show


def usual() -> Callable[[Transfer, Piece], None]:
    """Barre se l'uscita è un terminale, righe se no."""
    return bars(sys.stdout) if sys.stdout.isatty() else lines(sys.stdout)

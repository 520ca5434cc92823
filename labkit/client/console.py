"""La console di una macchina virtuale: il file in cui il suo kernel scrive, che si legge anche dopo la sua fine."""

from __future__ import annotations

import contextlib
import os
import weakref

from labkit import rundir
from labkit.client.output import clean
from labkit.draw import console as story

#: Byte che si leggono, gli ultimi.
KEPT = 1 << 20


class Console:
    """Quello che la macchina ha scritto fin qui.

    Il guardiano toglie il file quando la macchina finisce; chi lo aveva già aperto continua a leggerlo.
    """

    def __init__(self, lab_id: str) -> None:
        self._path = f"{rundir.base()}/{lab_id}/console"
        self._fd = -1

    def open(self) -> bool:
        """Vero se il file c'è (o c'era quando è stato aperto)."""
        if self._fd < 0:
            with contextlib.suppress(OSError):
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                weakref.finalize(self, os.close, self._fd)
        return self._fd >= 0

    def text(self) -> str:
        """Il testo, senza i caratteri che comandano un terminale; vuoto se non c'è una macchina."""
        if not self.open():
            return ""
        size = os.fstat(self._fd).st_size
        raw = os.pread(self._fd, KEPT, max(0, size - KEPT))
        return clean(raw.decode(errors="replace").replace("\r\n", "\n"))

    def panic(self) -> str:
        """Il motivo del panico, se il kernel della macchina si è fermato così."""
        return story.panic(self.text())

"""L'altro capo del rapporto: il supervisore ascolta un figlio che nasce, fino al suo execve."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from labkit.errors import LabError
from labkit.supervisor.loop import Loop


class ReportReader:
    """Legge i messaggi di un figlio; ``ended`` arriva una volta sola, quando il figlio chiude il filo."""

    def __init__(
        self,
        loop: Loop,
        channel: socket.socket,
        message: Callable[[dict[str, Any]], None],
        terminal: Callable[[int], None],
        ended: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.channel = channel
        self._message = message
        self._terminal = terminal
        self._ended = ended
        loop.read(channel.fileno(), self._readable)

    def order(self, word: bytes) -> None:
        """Un ordine per un figlio che va passo per passo."""
        self.channel.send(word)

    def drain(self) -> None:
        """Il figlio non c'è più: legge quello che aveva detto."""
        while self.channel.fileno() >= 0:
            self._readable(self.channel.fileno())

    def discard(self) -> None:
        """Non interessa più: chiude senza dire niente a nessuno."""
        if self.channel.fileno() >= 0:
            self.loop.forget(self.channel.fileno())
            self.channel.close()

    def _readable(self, fd: int) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self.channel, 65536, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if fds:
            self._terminal(fds[0])
        elif data:
            self._hear(json.loads(data))
        else:
            self.loop.forget(fd)
            self.channel.close()
            self._ended()

    def _hear(self, message: dict[str, Any]) -> None:
        """Un messaggio; se il supervisore inciampa lo dice a chi aspetta, come se avesse inciampato il figlio."""
        try:
            self._message(message)
        except Exception as problem:  # noqa: BLE001  whoever waits must have an answer
            error = LabError(f"Errore interno del laboratorio: {problem!r}.", "lab.close(), poi lab = Lab()")
            self._message({"error": error.to_dict(), "index": 0})

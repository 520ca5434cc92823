"""Molti fili in uno: il canale fra l'host e la macchina virtuale porta tutte le connessioni insieme.

::

    ┌──────┬─────────────┬───────────┬─────────┐
    │ tipo │ connessione │ lunghezza │ corpo … │
    │ 1 B  │ 4 B         │ 4 B       │         │
    └──────┴─────────────┴───────────┴─────────┘

Invariante: chi manda non ha mai in volo più di ``window`` byte che l'altro non ha ancora letto. Serve
alla console di User Mode Linux: la coda di una tty tiene 4096 byte, e quello che non ci sta si ferma lì
per sempre (n_tty). Senza ``window`` si manda a piacere.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

from labkit.errors import ProtocolError
from labkit.supervisor.loop import Loop

_HEADER = struct.Struct("!BII")
_CHUNK = 1 << 15

#: Oltre questi byte in attesa si smette di leggere chi li produce.
_HIGH = 1 << 19


class Kind(IntEnum):
    """Il tipo di un pacco."""

    OPEN = 1
    DATA = 2
    CLOSE = 3
    READ = 4
    MESSAGE = 5


def pack(kind: Kind, connection: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(kind, connection, len(body)) + body


class Parcels:
    """Rimette insieme i pacchi da pezzi di qualunque misura."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, int, bytes]]:
        """Aggiunge byte e dà i pacchi completi."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            kind, connection, length = _HEADER.unpack_from(self._buffer)
            if kind not in Kind.__members__.values() or length > 1 << 20:
                raise ProtocolError("Sul canale della macchina virtuale è arrivato qualcosa che non è un pacco.")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Kind(kind), connection, body


class _Line:
    """Una connessione: la presa locale, quello che aspetta di entrarci, le due direzioni già finite."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting = bytearray()
        self.no_more_in = False
        self.no_more_out = False


class Mux:
    """Un capo del canale.

    ``patient`` non dice niente finché l'altro capo non ha parlato: prima, la sua linea seriale farebbe
    eco e prenderebbe certi byte per comandi. ``acknowledge`` va messo da chi riceve da un capo che ha
    una ``window``: gli dice quanto ha letto.
    ``opened(bersaglio)`` dà la presa locale per una connessione chiesta dall'altro capo (o ``None``);
    ``message(dati)`` riceve i messaggi; ``lost()`` arriva quando il canale muore.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        *,
        window: int = 0,
        acknowledge: bool = False,
        patient: bool = False,
        opened: Callable[[str], socket.socket | None],
        message: Callable[[dict[str, Any]], None],
        lost: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.fd = fd
        self.window = window
        self.acknowledge = acknowledge
        self._opened = opened
        self._message = message
        self._lost = lost
        self._lines: dict[int, _Line] = {}
        self._parcels = Parcels()
        self._out = bytearray()
        self._in_flight = 0
        self._silent = patient
        self._next = 0
        #: Se è mai arrivato qualcosa dall'altro capo.
        self.answered = False
        self._paused: set[int] = set()
        os.set_blocking(fd, False)
        loop.read(fd, self._readable)

    # ---- from here to there

    def connect(self, sock: socket.socket, target: str) -> None:
        """Porta ``sock`` fino al ``target`` dell'altro capo."""
        self._next += 1
        self._lines[self._next] = _Line(sock)
        sock.setblocking(False)
        self._send(pack(Kind.OPEN, self._next, target.encode()))
        self._watch(self._next)

    def tell(self, **message: Any) -> None:
        """Un messaggio all'altro capo."""
        self._send(pack(Kind.MESSAGE, 0, json.dumps(message).encode()))

    def _watch(self, number: int) -> None:
        self.loop.read(self._lines[number].sock.fileno(), lambda fd: self._local(number))

    def _local(self, number: int) -> None:
        """Byte da una presa locale."""
        line = self._lines[number]
        try:
            data = line.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.loop.pause(line.sock.fileno())
            line.no_more_out = True
            self._send(pack(Kind.CLOSE, number))
            self._end_if_over(number)
            return
        self._send(pack(Kind.DATA, number, data))
        if len(self._out) > _HIGH:
            self.loop.pause(line.sock.fileno())
            self._paused.add(number)

    def _send(self, parcel: bytes) -> None:
        self._out += parcel
        self._flush(self.fd)

    def _flush(self, fd: int) -> None:
        if self._silent:
            return
        while self._out:
            room = self.window - self._in_flight if self.window else _CHUNK
            if room <= 0:
                self.loop.stop_writing(fd)
                return
            try:
                sent = os.write(fd, self._out[:room])
            except BlockingIOError:
                self.loop.write(fd, self._flush)
                return
            except OSError:
                self._die()
                return
            del self._out[:sent]
            self._in_flight += sent
        self.loop.stop_writing(fd)
        paused, self._paused = self._paused, set()
        for number in paused:
            if number in self._lines and not self._lines[number].no_more_out:
                self._watch(number)

    # ---- from there to here

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._die()
            return
        if self._silent:
            self._silent = False
            self._flush(fd)
        for kind, number, body in self._parcels.feed(data):
            self._receive(kind, number, body)
        if self.acknowledge:
            self._send(pack(Kind.READ, len(data)))

    def _receive(self, kind: Kind, number: int, body: bytes) -> None:
        if kind == Kind.OPEN:
            sock = self._opened(body.decode())
            if sock is None:
                self._send(pack(Kind.CLOSE, number))
                return
            sock.setblocking(False)
            self._lines[number] = _Line(sock)
            self._watch(number)
        elif kind == Kind.DATA and number in self._lines:
            self.answered = True
            self._lines[number].waiting += body
            self._deliver(number)
        elif kind == Kind.CLOSE and number in self._lines:
            self._lines[number].no_more_in = True
            self._deliver(number)
        elif kind == Kind.READ:
            self._in_flight -= number
            self._flush(self.fd)
        elif kind == Kind.MESSAGE:
            self._message(json.loads(body))

    def _deliver(self, number: int) -> None:
        """Dà alla presa locale quello che aspetta; se è lenta smette di leggere il canale."""
        line = self._lines.get(number)
        if line is None:
            return
        fd = line.sock.fileno()
        try:
            while line.waiting:
                del line.waiting[: line.sock.send(line.waiting)]
        except BlockingIOError:
            self.loop.write(fd, lambda _: self._deliver(number))
            if len(line.waiting) > _HIGH:
                self.loop.pause(self.fd)
            return
        except OSError:  # nobody reads any more: the other end will see its writes refused
            line.waiting.clear()
            line.no_more_in = True
        self.loop.stop_writing(fd)
        self.loop.read(self.fd, self._readable)
        if line.no_more_in:
            with contextlib.suppress(OSError):
                line.sock.shutdown(socket.SHUT_WR)
            self._end_if_over(number)

    def _end_if_over(self, number: int) -> None:
        line = self._lines[number]
        if line.no_more_in and line.no_more_out:
            self._end(number)

    def _end(self, number: int) -> None:
        line = self._lines.pop(number)
        self.loop.forget(line.sock.fileno())
        line.sock.close()

    def _die(self) -> None:
        """Il canale è morto: muoiono tutte le connessioni."""
        self.loop.forget(self.fd)
        for number in list(self._lines):
            self._end(number)
        self._lost()

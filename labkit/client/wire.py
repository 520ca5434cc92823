"""Il filo dalla parte del client: un thread che legge, un canale per ogni richiesta.

Invariante: un canale riceve zero o più pezzi ed eventi e poi una sola fine: il risultato o l'errore. Chi non
legge il suo canale ferma al massimo il suo programma: il thread che legge non aspetta nessuno.
Se il laboratorio muore, ogni canale aperto finisce con un :class:`~labkit.errors.LabClosedError`.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from labkit.client.holders import name_holder
from labkit.errors import LabClosedError, LabError, ProtocolError, from_dict
from labkit.protocol import (
    STDIN,
    STDOUT,
    VERSION,
    WINDOW,
    Decoder,
    Frame,
    Kind,
    cost,
    pack_credit,
    pack_json,
    pack_stdio,
)

_CHUNK = 1 << 16


class Channel:
    """Una richiesta aperta: si percorre per avere le uscite, poi :attr:`result` è la risposta."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.number = number
        self.events: list[Any] = []
        #: Chiamato per ogni evento, appena arriva.
        self.on_event: Callable[[Any], None] = lambda value: None
        self.closed = False
        self._discarding = False
        self._frames: queue.Queue[Frame | None] = queue.Queue()
        self._read = 0
        self._room = WINDOW
        self._flow = threading.Condition()
        self._over = False
        self._result: Any = None
        self._error: LabError | None = None

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Le uscite del processo man mano che arrivano: ``("stdout" | "stderr", byte)``."""
        while not self.closed:
            piece = self.receive()
            if piece is not None and isinstance(piece[1], bytes):
                yield piece

    def receive(self, timeout: float | None = None) -> tuple[str, Any] | None:
        """Il prossimo pezzo (``stdout``, ``stderr``, ``event``) o ``None`` se è arrivata la fine.

        Alza ``queue.Empty`` se passa ``timeout`` (in secondi).
        """
        frame = self._frames.get(timeout=timeout)
        if frame is None:
            self.closed = True
            self._error = self.wire.lost()
            return None
        if frame.kind == Kind.STDIO:
            stream, data = frame.stdio()
            self._read += cost(data)
            if self._read > WINDOW // 4:
                read, self._read = self._read, 0
                self.wire.give_back(self.number, read)
            return ("stdout" if stream == STDOUT else "stderr"), data
        if frame.kind == Kind.EVENT:
            value = frame.json()
            self.events.append(value)
            self.on_event(value)
            return "event", value
        self.closed = True
        if frame.kind == Kind.ERR:
            self._error = name_holder(from_dict(frame.json()))
        else:
            self._result = frame.json()
        return None

    @property
    def result(self) -> Any:
        """La risposta, aspettandola se serve; un errore del laboratorio si alza qui."""
        while not self.closed:
            self.receive()
        if self._error:
            raise self._error
        return self._result

    def send(self, data: bytes) -> None:
        """Byte per lo stdin del processo; aspetta, se il programma non legge quelli di prima."""
        for start in range(0, len(data), _CHUNK):
            piece = data[start : start + _CHUNK]
            with self._flow:
                while self._room < 0 and not self._over:
                    self._flow.wait()
                self._room -= cost(piece)
            self.wire.send(pack_stdio(self.number, STDIN, piece))

    def close_stdin(self) -> None:
        """Lo stdin è finito."""
        self.wire.send(pack_stdio(self.number, STDIN, b""))

    def resize(self, rows: int, columns: int) -> None:
        """La nuova misura del terminale del processo."""
        self.wire.call("resize", channel=self.number, rows=rows, columns=columns)

    def interrupt(self, signal: str = "SIGINT") -> None:
        """Un segnale al gruppo del processo attaccato a questo canale."""
        self.wire.call("interrupt", channel=self.number, signal=signal)

    def detach(self) -> None:
        """Lascia il processo senza fermarlo: da qui in poi il canale è finito."""
        self.wire.call("detach", channel=self.number)

    def discard(self) -> None:
        """Da qui le uscite non interessano più: si buttano appena arrivano, e il programma non aspetta."""
        self._discarding = True
        waiting = [self._frames.get_nowait() for _ in range(self._frames.qsize())]
        for frame in waiting:
            self.offer(frame)

    def offer(self, frame: Frame | None) -> None:
        """Dal thread che legge: un pezzo per chi percorre il canale, o un permesso per chi ci scrive."""
        if frame is not None and frame.kind == Kind.CREDIT:
            with self._flow:
                self._room += int(frame.json())
                self._flow.notify_all()
        elif frame is not None and frame.kind == Kind.STDIO and (self._discarding or self.closed):
            self.wire.give_back(self.number, cost(frame.stdio()[1]))
        else:
            self._frames.put(frame)
        if frame is None or frame.kind in (Kind.RET, Kind.ERR):
            with self._flow:
                self._over = True
                self._flow.notify_all()


class Wire:
    """La presa verso un laboratorio, condivisa da tutti i thread del notebook."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._owner = os.getpid()
        self._lock = threading.Lock()
        # Weak: a channel that its owner has dropped must not hold up the others.
        self._channels: weakref.WeakValueDictionary[int, Channel] = weakref.WeakValueDictionary()
        self._unanswered: set[int] = set()
        self._dropped: deque[int] = deque()
        self._next = 0
        self.closed = False
        #: Perché il kernel del laboratorio si è fermato, se aveva un kernel suo e si è fermato; altrimenti niente.
        self.last_words: Callable[[], str] = str
        greeting = Channel(self, 0)
        self._channels[0] = greeting
        self._reader = threading.Thread(target=self._read, name="labkit-filo", daemon=True)
        self._reader.start()
        self.hello: dict[str, Any] = greeting.result
        if self.hello["version"] != VERSION:
            raise ProtocolError("Il laboratorio aperto è di un'altra versione di labkit.", "chiudilo e riaprilo")

    def open(self, verb: str, /, **args: Any) -> Channel:
        """Manda una richiesta e torna il suo canale."""
        if os.getpid() != self._owner:
            raise LabError(
                "Questo laboratorio è del processo padre: un figlio nato con fork non lo può usare.",
                "apri un laboratorio nel figlio: Lab()",
            )
        with self._lock:
            self._next += 1
            channel = Channel(self, self._next)
            if self.closed:
                raise self.lost()
            self._channels[channel.number] = channel
            self._unanswered.add(channel.number)
            weakref.finalize(channel, self._dropped.append, channel.number).atexit = False
            self._let_go()
            self._send(pack_json(Kind.CALL, channel.number, {"verb": verb, "args": args}))
        return channel

    def _let_go(self) -> None:
        """Chi ha lasciato un canale a metà non leggerà più: il suo programma non deve aspettarlo."""
        while self._dropped:
            number = self._dropped.popleft()
            if number in self._unanswered:
                self._send(pack_credit(number, 2 * WINDOW))

    def call(self, verb: str, /, **args: Any) -> Any:
        """Manda una richiesta e aspetta la risposta."""
        return self.open(verb, **args).result

    def send(self, frame: bytes) -> None:
        with self._lock:
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        try:
            self._sock.sendall(frame)
        except OSError:
            raise self.lost() from None

    def give_back(self, number: int, amount: int) -> None:
        """Dice al laboratorio che di un canale si è letto: ne può mandare altrettanto."""
        try:
            self.send(pack_credit(number, amount))
        except LabClosedError:
            return  # there is nobody left who could send

    def lost(self) -> LabClosedError:
        """L'errore di chi usa un laboratorio che non c'è più."""
        if reason := self.last_words():
            return LabClosedError(
                f"Il kernel della macchina virtuale si è fermato, e il laboratorio con lui. Ha detto: «{reason}».",
                "lab = Lab()",
            )
        return LabClosedError("Il laboratorio è chiuso: tutto quello che conteneva non esiste più.", "lab = Lab()")

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while data := self._sock.recv(1 << 18):
                for frame in decoder.feed(data):
                    self._deliver(frame.channel, frame)
        except (OSError, ProtocolError):
            pass
        with self._lock:
            self.closed = True
        for number in list(self._channels):
            self._deliver(number, None)

    def _deliver(self, number: int, frame: Frame | None) -> None:
        """Un pezzo al suo canale; se nessuno lo tiene più, è come se fosse stato letto."""
        channel = self._channels.get(number)
        if channel is not None:
            channel.offer(frame)
        elif frame is not None and frame.kind == Kind.STDIO:
            self.give_back(number, cost(frame.stdio()[1]))
        if frame is None or frame.kind in (Kind.RET, Kind.ERR):
            self._channels.pop(number, None)
            self._unanswered.discard(number)

    def close(self) -> None:
        """Chiude la presa: il laboratorio, se era il suo primo client, finisce."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()

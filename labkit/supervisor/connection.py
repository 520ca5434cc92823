"""Un client collegato: le sue cornici che arrivano, le risposte che aspettano di partire."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError, ProtocolError
from labkit.protocol import Decoder, Frame, Kind, pack, pack_json, pack_stdio
from labkit.supervisor.loop import Loop

if TYPE_CHECKING:
    from labkit.supervisor.task import Listener, Task

#: Oltre questi byte in coda il client è «intasato»: chi produce si ferma.
_HIGH = 1 << 20
_LOW = 1 << 18

#: Oltre questi byte non ancora letti dal programma si smette di ascoltare chi li manda.
_STDIN_LIMIT = 1 << 20


class Call:
    """Una richiesta aperta: il canale su cui rispondere e il processo a cui è attaccata.

    ``readonly`` è di chi guarda soltanto (logs): non può scrivere al processo né fermarlo. ``early`` tiene
    lo stdin arrivato prima del processo, per i verbi che ne aspettano uno. ``audience`` è dove sta fra chi
    ascolta, ``rewrite`` che cosa fa di un pezzo prima di mandarlo.
    """

    def __init__(self, connection: Connection, channel: int) -> None:
        self.connection = connection
        self.channel = channel
        self.task: Task | None = None
        self.readonly = False
        self.early: list[bytes] | None = None
        self.audience: list[Listener] = []
        self.rewrite: Callable[[int, bytes], bytes] | None = None

    def listen(self, audience: list[Listener]) -> None:
        """Da adesso ascolta con gli altri di ``audience``, fino alla risposta."""
        self.audience = audience
        audience.append(self)

    def attach(self, task: Task) -> None:
        """Il processo della richiesta è nato: le sue uscite arrivano qui, e lo stdin che aspettava va a lui."""
        self.task = task
        self.listen(task.listeners)
        early, self.early = self.early, None
        for data in early or ():
            task.feed(data)

    def feed(self, data: bytes) -> None:
        """Byte per lo stdin del processo; vuoto vuol dire che sono finiti."""
        if self.task and not self.readonly:
            self.task.feed(data)
        elif self.early is not None:
            self.early.append(data)

    @property
    def stdin_full(self) -> bool:
        return (self.task.unread if self.task else sum(map(len, self.early or ()))) > _STDIN_LIMIT

    @property
    def open(self) -> bool:
        """Se aspetta ancora la sua risposta."""
        return self.connection.calls.get(self.channel) is self

    def answer(self, value: Any = None) -> None:
        """L'ultima risposta: il canale si chiude."""
        self._end(pack_json(Kind.RET, self.channel, value))

    def fail(self, problem: LabError) -> None:
        """L'ultima risposta, un errore."""
        self._end(pack_json(Kind.ERR, self.channel, problem.to_dict()))

    def event(self, value: Any) -> None:
        self.connection.send(pack_json(Kind.EVENT, self.channel, value))

    def stdio(self, stream: int, data: bytes) -> None:
        if self.rewrite:
            data = self.rewrite(stream, data)
        self.connection.send(pack_stdio(self.channel, stream, data))

    @property
    def congested(self) -> bool:
        return self.connection.congested

    def when_drained(self, callback: Callable[[], None]) -> None:
        self.connection.when_drained(callback)

    def leave(self) -> None:
        """Smette di ascoltare."""
        if self in self.audience:
            self.audience.remove(self)

    def _end(self, frame: bytes) -> None:
        if self.connection.calls.pop(self.channel, None) is self:
            self.connection.send(frame)
        self.leave()


class Connection:
    """La presa di un client e le sue richieste aperte."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        handle: Callable[[Call, Any], None],
        closed: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.calls: dict[int, Call] = {}
        self._handle = handle
        self._closed = closed
        self._decoder = Decoder()
        self._out = bytearray()
        self._drained: list[Callable[[], None]] = []
        sock.setblocking(False)
        loop.read(sock.fileno(), self._readable)

    @property
    def congested(self) -> bool:
        return len(self._out) > _HIGH

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Chiama ``callback`` una volta, quando la coda è di nuovo corta."""
        if callback not in self._drained:
            self._drained.append(callback)

    def send(self, data: bytes) -> None:
        """Manda, subito o appena si può; a un client che se n'è andato non si manda niente."""
        if self.sock.fileno() < 0:
            return
        if not self._out:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._out += data
        self.loop.write(self.sock.fileno(), self._writable)

    def _writable(self, fd: int) -> None:
        try:
            sent = self.sock.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self._out[:sent]
        if not self._out:
            self.loop.stop_writing(fd)
        if len(self._out) < _LOW:
            callbacks, self._drained = self._drained, []
            for callback in callbacks:
                callback()

    def _readable(self, fd: int) -> None:
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for frame in self._decoder.feed(data):
                self._receive(frame)
        except ProtocolError as problem:
            self.send(pack_json(Kind.ERR, 0, problem.to_dict()))
            self.close()
        except Exception:
            self.close()  # deaf from here on: better that the client knows
            raise

    def _receive(self, frame: Frame) -> None:
        if frame.kind == Kind.CALL:
            if frame.channel in self.calls:
                raise ProtocolError("Due richieste sullo stesso canale.")
            call = self.calls[frame.channel] = Call(self, frame.channel)
            self._handle(call, frame.json())
        elif frame.kind == Kind.STDIO:
            waiting = self.calls.get(frame.channel)
            if waiting:
                waiting.feed(frame.stdio()[1])
                self._wait_for_stdin(waiting)
        elif frame.kind == Kind.PING:
            self.send(pack(Kind.PING, frame.channel, frame.body))

    def _wait_for_stdin(self, call: Call) -> None:
        """Un programma che non legge ferma chi gli scrive, non la memoria del supervisore."""
        if self.sock.fileno() < 0:
            return
        if call.stdin_full and self.calls.get(call.channel) is call:
            self.loop.pause(self.sock.fileno())
            self.loop.after(0.01, lambda: self._wait_for_stdin(call))
        else:
            self.loop.read(self.sock.fileno(), self._readable)

    def close(self) -> None:
        """Il client se n'è andato: le sue richieste restano senza ascoltatore."""
        if self.sock.fileno() < 0:
            return
        self.loop.forget(self.sock.fileno())
        self.sock.close()
        self._out.clear()
        for call in list(self.calls.values()):
            call.leave()
        self.calls.clear()
        callbacks, self._drained = self._drained, []
        for callback in callbacks:
            callback()
        self._closed(self)

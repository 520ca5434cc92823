"""Un client collegato: le sue cornici che arrivano, le risposte che aspettano di partire."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError, ProtocolError
from labkit.protocol import WINDOW, Decoder, Frame, Kind, cost, pack, pack_credit, pack_json, pack_stdio
from labkit.supervisor.loop import Loop

if TYPE_CHECKING:
    from labkit.supervisor.task import Listener, Task

#: Oltre questi byte in coda il client è «intasato»: chi produce si ferma.
_HIGH = 1 << 20
_LOW = 1 << 18


class Call:
    """Una richiesta aperta: il canale su cui rispondere e il processo a cui è attaccata.

    ``readonly`` è di chi guarda soltanto (logs): non può scrivere al processo né fermarlo. ``early`` tiene
    lo stdin arrivato prima del processo, per i verbi che ne aspettano uno; ``preparing`` finché si prepara l'immagine
    del container che sarà. ``audience`` è dove sta fra chi
    ascolta, ``rewrite`` che cosa fa di un pezzo prima di mandarlo.
    """

    def __init__(self, connection: Connection, channel: int) -> None:
        self.connection = connection
        self.channel = channel
        self.task: Task | None = None
        self.readonly = False
        self.early: list[bytes] | None = None
        self.preparing = False
        self.audience: list[Listener] = []
        self.rewrite: Callable[[int, bytes], bytes] | None = None
        self._unread = 0
        self._owed = 0
        self._drained: list[Callable[[], None]] = []

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
            task.feed(data, self._taken)

    def feed(self, data: bytes) -> None:
        """Byte per lo stdin del processo; vuoto vuol dire che sono finiti."""
        self._owed += cost(data)
        if self._owed > 2 * WINDOW:
            raise ProtocolError("Su un canale sono arrivati più byte di quanti ne aveva il permesso.")
        if self.task and not self.readonly:
            self.task.feed(data, self._taken)
        elif self.early is not None:
            self.early.append(data)
        else:
            self._taken(data)

    def _taken(self, data: bytes) -> None:
        """Il programma ha preso questi byte: chi li ha mandati ne può mandare altrettanti."""
        self._owed -= cost(data)
        if self.open:
            self.connection.send(pack_credit(self.channel, cost(data)))

    def credit(self, amount: int) -> None:
        """Il client ha letto: se adesso c'è posto, chi produce riprende."""
        self._unread -= amount
        if self._unread <= WINDOW // 2:
            self._resume()

    def _resume(self) -> None:
        callbacks, self._drained = self._drained, []
        for callback in callbacks:
            callback()

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
        self._unread += cost(data)
        self.connection.send(pack_stdio(self.channel, stream, data))

    @property
    def congested(self) -> bool:
        return self._unread > WINDOW or self.connection.congested

    def when_drained(self, callback: Callable[[], None]) -> None:
        if callback not in self._drained:
            self._drained.append(callback)
        self.connection.when_drained(callback)

    def leave(self) -> None:
        """Smette di ascoltare; chi lo aspettava non lo aspetta più."""
        if self in self.audience:
            self.audience.remove(self)
        self._resume()

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
        self._dismissed = False
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
            if self._dismissed:
                self.close()
                return
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
            self._dismiss(problem)
        except Exception:
            self.close()  # deaf from here on: better that the client knows
            raise

    def _dismiss(self, problem: ProtocolError) -> None:
        """Chi non parla la lingua lo sa, dopo quello che aspettava già di partire; poi la presa si chiude."""
        self.loop.pause(self.sock.fileno())
        self.send(pack_json(Kind.ERR, 0, problem.to_dict()))
        self._dismissed = True
        if not self._out:
            self.close()

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
        elif frame.kind == Kind.CREDIT:
            amount, reader = frame.json(), self.calls.get(frame.channel)
            if not isinstance(amount, int):
                raise ProtocolError("Un CREDIT è un numero di byte.")
            if reader:
                reader.credit(amount)
        elif frame.kind == Kind.PING:
            self.send(pack(Kind.PING, frame.channel, frame.body))

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

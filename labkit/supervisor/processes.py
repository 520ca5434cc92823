"""I processi «a mano» visti dal supervisore: uno alla volta, una richiesta alla volta, un'etichetta ciascuno."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.errors import ConflictError, InvalidError, NotFoundError, from_dict
from labkit.protocol import Decoder, Kind, pack_json
from labkit.supervisor.connection import Call
from labkit.supervisor.launcher import Child
from labkit.supervisor.task import Task

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


#: Le richieste dopo le quali il processo può non tornare, perché è diventato un programma.
_BECOMES_A_PROGRAM = ("exec", "cell")


class Process:
    """Un processo a mano: il filo con il suo :mod:`worker`, la richiesta in corso."""

    def __init__(self, server: Server, label: str, child: Child) -> None:
        self.server = server
        self.label = label
        self.channel: socket.socket = child.report
        self.pid = child.pid
        self.call: Call | None = None
        self._verb = ""
        self._decoder = Decoder()
        self._out = bytearray()
        self.task = Task(server.loop, child.pid, child.pidfd)
        self.task.attach_streams(child.stdio.stdin, child.stdio.stdout, child.stdio.stderr)
        self.task.on_exit.append(self._exited)
        self.waiters: list[Callable[[int], Any]] = []
        server.loop.read(self.channel.fileno(), self._readable)

    def ask(self, call: Call, verb: str, args: dict[str, Any]) -> None:
        if self.call is not None:
            raise ConflictError(f"Il processo «{self.label}» sta ancora facendo un'altra cosa.", "aspetta, o p.close()")
        self.call, self._verb = call, verb
        call.task = self.task
        call.listen(self.task.listeners)
        self._out += pack_json(Kind.CALL, call.channel, {"verb": verb, "args": args})
        self._writable(self.channel.fileno())

    def _writable(self, fd: int) -> None:
        try:
            while self._out:
                del self._out[: self.channel.send(self._out)]
        except BlockingIOError:
            self.server.loop.write(fd, self._writable)
            return
        except OSError:
            self._out.clear()
        self.server.loop.stop_writing(fd)

    def _readable(self, fd: int) -> None:
        try:
            data = self.channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        for frame in self._decoder.feed(data):
            call, self.call = self.call, None
            if call is None:
                continue
            self.task.flush_output()  # what it printed comes before the answer
            value = frame.json()
            if frame.kind == Kind.ERR:
                call.fail(from_dict(value))
            else:
                if isinstance(value, dict) and "inside" in value and "pid" in value:
                    self.pid = value["pid"]
                call.answer(value)

    def _hang_up(self) -> None:
        """Il filo si è chiuso: il processo è diventato un programma (execve), oppure è finito."""
        if self.channel.fileno() >= 0:
            self.server.loop.forget(self.channel.fileno())
            self.channel.close()

    def _exited(self, code: int) -> None:
        self._hang_up()
        if self.server.processes.get(self.label) is self:
            del self.server.processes[self.label]
        call, self.call = self.call, None
        if call and self._verb in _BECOMES_A_PROGRAM:
            call.answer({"exit_code": code})
        elif call:
            call.fail(NotFoundError(f"Il processo «{self.label}» è finito prima di rispondere.", "p = lab.process()"))
        for waiter in self.waiters:
            waiter(code)


def _find(server: Server, label: str) -> Process:
    process: Process | None = server.processes.get(label)
    if process is None:
        raise NotFoundError(f"Il processo «{label}» non c'è più nel laboratorio.", "p = lab.process()")
    return process


def new(server: Server, call: Call, label: str = "") -> None:
    """Un processo nuovo, negli stessi namespace del laboratorio."""
    label = label or f"processo-{server.state.new_number()}"
    if label in server.processes or label in server.state.containers or label in ("laboratorio", "notebook"):
        old = f"{label}.close()" if label.isidentifier() else "close() su quello di prima"
        raise ConflictError(f"L'etichetta «{label}» è già usata.", f"{old}, oppure un'altra etichetta")
    if not label.isprintable() or len(label) > 64:
        raise InvalidError("L'etichetta di un processo è una parola corta, senza caratteri strani.", "label='uno'")
    process = server.processes[label] = Process(server, label, server.launcher.worker())
    call.answer({"label": label, "pid": process.pid})


def ask(server: Server, call: Call, label: str, verb: str, args: dict[str, Any]) -> None:
    """Una richiesta al processo: quello che stampa arriva come STDIO, la risposta per ultima."""
    _find(server, label).ask(call, verb, args)


def close(server: Server, call: Call, label: str) -> None:
    """Fa finire il processo, e risponde quando è finito."""
    process = server.processes.get(label)
    if process is None:
        call.answer()
        return
    process.waiters.append(lambda code: call.answer())
    process.task.kill(signal.SIGKILL)
    if process.pid != process.task.pid:  # it forked: the one that talks is a descendant
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


PROCESS_VERBS: dict[str, Callable[..., None]] = {
    "process": new,
    "process_ask": ask,
    "process_close": close,
}

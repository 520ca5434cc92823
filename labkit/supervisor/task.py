"""Un processo figlio con le sue uscite: chi le ascolta, che cosa ha detto, come è finito."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from labkit.protocol import STDERR, STDOUT
from labkit.supervisor.log import Log

if TYPE_CHECKING:
    from labkit.supervisor.loop import Loop

_CHUNK = 65536

#: Quanto può contenere al massimo un tubo (pipe(7), ``pipe-max-size``).
_PIPE_MAX = 1 << 20


class Listener(Protocol):
    """Chi ascolta le uscite di un processo, ``task`` se gli può anche scrivere; se è intasato il processo aspetta."""

    task: Task | None

    @property
    def congested(self) -> bool: ...
    def stdio(self, stream: int, data: bytes) -> None: ...
    def when_drained(self, callback: Callable[[], None]) -> None: ...


class Task:
    """Un figlio del supervisore: ``pid``, flussi, ascoltatori.

    Invariante: un flusso è sorvegliato dal ciclo solo se nessun ascoltatore è intasato; finito il
    processo, quello che resta nei flussi viene letto prima di dire a tutti che è finito.
    """

    def __init__(
        self, loop: Loop, pid: int, pidfd: int = -1, log: Log | None = None, listeners: list[Listener] | None = None
    ) -> None:
        self.loop = loop
        self.pid = pid
        self.pidfd = pidfd
        self.log = log
        self.exit_code: int | None = None
        self.listeners: list[Listener] = [] if listeners is None else listeners
        self.on_exit: list[Callable[[int], None]] = []
        self._streams: dict[int, int] = {}
        self._stdin = -1
        self._pending: deque[tuple[bytes, Callable[[bytes], None]]] = deque()
        self._written = 0  # of the first one
        self._stdin_ends = False
        self._terminal_comes = False
        self.terminal = -1
        loop.watch_child(pid, self._exited)

    def attach_streams(self, stdin: int, stdout: int, stderr: int) -> None:
        """I capi dei tubi del processo, non bloccanti; -1 dove non ce n'è, e tutti se arriverà un terminale."""
        self._stdin = stdin
        self._terminal_comes = stdout < 0
        for fd, stream in ((stdout, STDOUT), (stderr, STDERR)):
            if fd >= 0:
                self._streams[fd] = stream
                self.loop.read(fd, self._readable)

    def attach_terminal(self, master: int) -> None:
        """Il capo master del terminale: entra e esce tutto da lì."""
        os.set_blocking(master, False)
        self.terminal = self._stdin = master
        self._terminal_comes = False
        self._streams[master] = STDOUT
        self.loop.read(master, self._readable)
        self._flush_stdin(master)

    def resize(self, rows: int, columns: int) -> None:
        """La misura del terminale (TIOCSWINSZ, ioctl_tty(2))."""
        if self.terminal >= 0:
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process on the terminal is gone
            data = b""
        if not data:
            self._close_stream(fd)
            return
        self._deliver(fd, data)
        if any(listener.congested for listener in self.listeners):
            self.loop.pause(fd)
            for listener in self.listeners:
                listener.when_drained(self._resume)

    def _deliver(self, fd: int, data: bytes) -> None:
        stream = self._streams[fd]
        if self.log:
            self.log.append(stream, data)
        for listener in tuple(self.listeners):  # a client that is gone leaves the list
            listener.stdio(stream, data)

    def _resume(self) -> None:
        if not any(listener.congested for listener in self.listeners):
            for fd in self._streams:
                self.loop.read(fd, self._readable)

    def _close_stream(self, fd: int) -> None:
        del self._streams[fd]
        self.loop.forget(fd)
        if fd == self.terminal:
            self.terminal = self._stdin = -1
        os.close(fd)

    def feed(self, data: bytes, taken: Callable[[bytes], None] = lambda data: None) -> None:
        """Byte per lo stdin del processo; vuoto vuol dire che sono finiti. ``taken`` quando li ha presi (o buttati)."""
        if self._stdin < 0 and not self._terminal_comes:
            taken(data)
            return
        if data:
            self._pending.append((data, taken))
        else:
            self._stdin_ends = True
            taken(data)
        if self._stdin >= 0:
            self._flush_stdin(self._stdin)

    @property
    def unread(self) -> int:
        """I byte di stdin che il programma non ha ancora preso."""
        return sum(len(data) for data, _ in self._pending) - self._written

    def _flush_stdin(self, fd: int) -> None:
        try:
            while self._pending:
                data, taken = self._pending[0]
                self._written += os.write(fd, data[self._written :])
                if self._written == len(data):
                    self._written = 0
                    self._pending.popleft()
                    taken(data)
        except BlockingIOError:
            self.loop.write(fd, self._flush_stdin)
            return
        except OSError:  # nobody reads any more
            self._drop_stdin()
            self._stdin_ends = True
        self.loop.stop_writing(fd)
        if self._stdin_ends and fd != self.terminal:
            self.loop.forget(fd)
            os.close(fd)
            self._stdin = -1

    def _drop_stdin(self) -> None:
        """Quello che nessuno leggerà."""
        pending, self._pending, self._written = self._pending, deque(), 0
        for data, taken in pending:
            taken(data)

    def flush_output(self) -> None:
        """Legge quello che c'è adesso nei tubi, senza aspettare altro."""
        for fd in list(self._streams):
            left = _PIPE_MAX  # what a background process goes on writing must not keep us here
            try:
                while left > 0 and (data := os.read(fd, _CHUNK)):
                    left -= len(data)
                    self._deliver(fd, data)
            except OSError:
                pass

    def _exited(self, code: int) -> None:
        # Background processes may hold the pipes open: take what is there and let go.
        self.flush_output()
        for fd in list(self._streams):
            self._close_stream(fd)
        self.exit_code = code
        if self._stdin >= 0:
            self.loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
        self._terminal_comes = False
        self._drop_stdin()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        for callback in self.on_exit:
            callback(code)

    def kill(self, number: int) -> None:
        """Manda un segnale, se il processo è ancora suo (non ancora raccolto)."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):  # reaped already: its end is about to be told
                os.kill(self.pid, number)

"""Il terminale di chi scrive, unito a un programma del laboratorio come fa ``docker run -it``.

Invariante: comunque finisca (uscita, errore, Ctrl-C, SIGTERM, terminale chiuso), il terminale torna
com'era. I tasti li manda un thread; quello che il programma scrive lo stampa chi chiama; i segnali
(SIGWINCH per la finestra che cambia) arrivano al thread attraverso una pipe, e nessuno va perso anche
quando il kernel li consegna a un altro thread.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Protocol

from labkit.errors import LabError, NotFoundError


class Stream(Protocol):
    """Un programma attaccato: si scrive, si legge, e alla fine dice il suo codice di uscita."""

    @property
    def exit_code(self) -> int | None: ...
    def send(self, data: bytes) -> None: ...
    def resize(self, rows: int, columns: int) -> None: ...
    def close_stdin(self) -> None: ...
    def detach(self) -> None: ...
    def __iter__(self) -> Iterator[tuple[str, bytes]]: ...


def is_terminal(fd: int = 0) -> bool:
    """Se un descrittore è un terminale."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def window_size(fd: int) -> tuple[int, int]:
    """Righe e colonne del terminale; 24×80 se non è un terminale o non lo sa."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 24, 80
    return size.lines or 24, size.columns or 80


class RawMode:
    """Il terminale in modo «crudo»: ogni tasto, Ctrl-C compreso, va al programma (termios(3)).

    All'uscita rimette i modi di prima. Su ciò che non è un terminale non fa nulla.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawMode:
        if is_terminal(self.fd):
            self._saved = termios.tcgetattr(self.fd)
            self.apply()
        return self

    def apply(self) -> None:
        if self._saved is not None:
            tty.setraw(self.fd, termios.TCSANOW)  # TCSAFLUSH would throw away what is already typed

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._saved is not None:
            try:
                termios.tcsetattr(self.fd, termios.TCSANOW, self._saved)
            except termios.error:
                return  # the terminal itself is gone: nothing to restore


class _Signals:
    """Handlers for as long as the program is attached; only the main thread may install them.

    Every signal also writes its number into ``pipe``, at once and from whatever thread it came to.
    """

    def __init__(self, handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], Any]], pipe: int) -> None:
        self._handlers = handlers
        self._pipe = pipe
        self._before: dict[signal.Signals, Any] = {}
        self._pipe_before = -1

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, handler) for number, handler in self._handlers.items()}
            self._pipe_before = signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.set_wakeup_fd(self._pipe_before)
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _nothing(number: int, frame: FrameType | None) -> None:
    """The keys thread does it: see :class:`_Signals`."""


#: What is written to the keys thread, besides the numbers of signals.
_RESIZE, _QUIT = 254, 255


class DetachKeys:
    """Riconosce Ctrl-P Ctrl-Q fra i tasti, come Docker: un Ctrl-P aspetta il tasto dopo prima di partire.

    >>> keys = DetachKeys()
    >>> keys.feed(b"a\\x10"), keys.feed(b"b\\x10\\x11c")
    ((b'a', False), (b'\\x10b', True))
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """I tasti da mandare adesso, e se dopo bisogna lasciare il programma."""
        data = self._held + data
        before, found, _ = data.partition(b"\x10\x11")
        self._held = b"\x10" if not found and data.endswith(b"\x10") else b""
        return (before, True) if found else (data.removesuffix(self._held), False)


class _Keys:
    """The thread that carries keys and window sizes to the program."""

    def __init__(
        self, stream: Stream, raw: RawMode, stdin: int | None, size: int | None, detach: DetachKeys | None
    ) -> None:
        self._detach = detach
        self._stream = stream
        self._raw = raw
        self._stdin = stdin
        self._size = size
        self._wake, self.pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="labkit-keys", daemon=True)

    def __enter__(self) -> _Keys:
        self._thread.start()
        self.resized()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell(_QUIT)
        self._thread.join(1)

    def close(self) -> None:
        """The pipe, when no signal can be written to it any more."""
        if not self._thread.is_alive():
            os.close(self._wake)
            os.close(self.pipe)

    def resized(self) -> None:
        self._tell(_RESIZE)

    def _tell(self, what: int) -> None:
        try:
            os.write(self.pipe, bytes((what,)))
        except BlockingIOError:
            return  # thousands of wake-ups are already there: one more says nothing new

    def _run(self) -> None:
        try:
            self._carry()
        except (LabError, OSError, termios.error):
            return  # the program or the terminal is gone: who prints will know

    def _carry(self) -> None:
        stdin = self._stdin
        while True:
            ready, _, _ = select.select([self._wake] if stdin is None else [self._wake, stdin], [], [])
            if self._wake in ready:
                said = os.read(self._wake, 4096)
                if _QUIT in said:
                    return
                self._heard(said)
            if stdin in ready and stdin is not None:
                data = os.read(stdin, 65536)
                if data and self._detach:
                    data, leave = self._detach.feed(data)
                    if data:
                        self._stream.send(data)
                    if leave:
                        self._stream.detach()
                        return
                elif data:
                    self._stream.send(data)
                else:
                    stdin = None
                    self._stream.close_stdin()

    def _heard(self, said: bytes) -> None:
        if signal.SIGCONT in said:
            self._raw.apply()  # after `kill -STOP` and `fg` the shell has put back its own modes
        if self._size is not None and {_RESIZE, signal.SIGWINCH, signal.SIGCONT} & set(said):
            self._tell_size(*window_size(self._size))
        if {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} & set(said):
            # If the kernel gave it to another thread, the main one still sleeps: a nudge makes it look.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGWINCH)

    def _tell_size(self, rows: int, columns: int) -> None:
        try:
            self._stream.resize(rows, columns)
        except NotFoundError:
            return  # not born yet, or already over; a birth is told the size by its first output


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def attach(
    stream: Stream,
    *,
    interactive: bool,
    tty: bool,
    detachable: bool = False,
    stdin: int = 0,
    stdout: int = 1,
    stderr: int = 2,
) -> int:
    """Unisce il terminale (o le pipe) di chi chiama a ``stream`` finché il programma finisce; torna il suo codice.

    Con ``tty`` e un vero terminale: modo crudo, e ogni cambio della finestra arriva al programma; con
    ``detachable`` Ctrl-P Ctrl-Q lo lascia dov'è. Senza ``interactive`` l'ingresso non si legge. SIGTERM e SIGHUP
    diventano ``SystemExit`` (128 + n), dopo avere rimesso a posto il terminale.
    """
    raw = RawMode(stdin if tty and interactive else -1)
    size = stdout if tty and is_terminal(stdout) else None
    detach = DetachKeys() if detachable and tty and interactive and is_terminal(stdin) else None
    keys = _Keys(stream, raw, stdin if interactive else None, size, detach)
    handlers = {
        signal.SIGTERM: _leave,
        signal.SIGHUP: _leave,
        signal.SIGWINCH: _nothing,
        signal.SIGCONT: _nothing,
    }
    try:
        with raw, _Signals(handlers, keys.pipe), keys:
            for first, (name, data) in enumerate(stream):
                if first == 0:
                    keys.resized()  # the first one may have come before the program's terminal
                _write(stderr if name == "stderr" else stdout, data)
    finally:
        keys.close()
    return stream.exit_code if stream.exit_code is not None else 125

"""Il ciclo del supervisore: un solo thread che aspetta descrittori, figli e scadenze."""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable

from labkit.kernel import libc

#: epoll_wait(2) conta millisecondi in un int: chi ha pazienza senza fine si risveglia ogni tanto.
_LONGEST = 3600.0

#: Secondi di quiete prima di pensare al futuro: chi sta per finire, o per chiedere altro, passa avanti.
_QUIET = 0.002

Handler = Callable[[int], None]


def _is_child(pid: int) -> bool:
    """Se ``pid`` è un figlio, vivo o non ancora raccolto."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class Timer:
    """Una scadenza; :meth:`cancel` la toglie, anche se è già passata."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback:
            callback()


def survive(action: Callable[..., None], *arguments: int) -> bool:
    """Chiama ``action``; un errore che nessuno aspettava va sullo stderr, e il laboratorio va avanti lo stesso."""
    try:
        action(*arguments)
    except Exception:  # noqa: BLE001  one request must not end the others' containers
        traceback.print_exc()
        return False
    return True


class Loop:
    """Chi aspetta che cosa. Ogni descrittore ha al massimo chi lo legge e chi lo scrive."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._readers: dict[int, Handler] = {}
        self._writers: dict[int, Handler] = {}
        self._children: dict[int, Handler] = {}
        self._unclaimed: dict[int, int] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self.running = True
        #: Chiamato quando da un po' non c'è niente da fare, finché dice ``True``, un pezzo per volta.
        self.idle: Callable[[], bool] = lambda: False
        self._restless = True
        wake, self._wake = socket.socketpair()
        for end in (wake, self._wake):
            end.setblocking(False)
        self._wake_reader = wake
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        libc.ignore_stops()  # a shell left behind stops: nobody has to wake up for it
        self.read(wake.fileno(), self._children_ended)

    def read(self, fd: int, handler: Handler) -> None:
        """Chiama ``handler(fd)`` ogni volta che ``fd`` si può leggere."""
        self._readers[fd] = handler
        self._update(fd)

    def write(self, fd: int, handler: Handler) -> None:
        """Chiama ``handler(fd)`` ogni volta che ``fd`` si può scrivere."""
        self._writers[fd] = handler
        self._update(fd)

    def pause(self, fd: int) -> None:
        """Smette di leggere ``fd``."""
        self._readers.pop(fd, None)
        self._update(fd)

    def stop_writing(self, fd: int) -> None:
        if self._writers.pop(fd, None):
            self._update(fd)

    def forget(self, fd: int) -> None:
        """Da chiamare prima di chiudere ``fd``."""
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        self._update(fd)

    def _update(self, fd: int) -> None:
        events = (selectors.EVENT_READ if fd in self._readers else 0) | (
            selectors.EVENT_WRITE if fd in self._writers else 0
        )
        registered = fd in self._selector.get_map()
        if events and registered:
            self._selector.modify(fd, events)
        elif events:
            self._selector.register(fd, events)
        elif registered:
            self._selector.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Chiama ``callback()`` fra ``seconds`` secondi dell'orologio monotono."""
        self._timer_count += 1
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._timer_count, timer))
        return timer

    def watch_child(self, pid: int, handler: Handler) -> None:
        """Chiama ``handler(codice)`` quando il figlio ``pid`` finisce, anche se è già finito."""
        code = self._unclaimed.pop(pid, None)
        if code is not None and not _is_child(pid):  # else the number was an orphan's, and is now another's
            self.after(0, lambda: handler(code))
        else:
            self._children[pid] = handler

    def _children_ended(self, fd: int) -> None:
        try:
            while os.read(fd, 4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            result = os.waitstatus_to_exitcode(status)
            code = result if result >= 0 else 128 - result
            handler = self._children.pop(pid, None)
            if handler:
                survive(handler, code)
            else:
                # An orphan of the lab, or a child that nobody has claimed yet (exec's joiner).
                self._unclaimed[pid] = code
                while len(self._unclaimed) > 1000:
                    del self._unclaimed[next(iter(self._unclaimed))]

    def _patience(self) -> float | None:
        """Quanto si può aspettare prima della prossima scadenza."""
        return min(max(0.0, self._timers[0][0] - time.monotonic()), _LONGEST) if self._timers else None

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Chi ha qualcosa da dire; se tutti tacciono, intanto un pezzo di :attr:`idle`."""
        patience = self._patience()
        if not self._restless:
            ready = self._selector.select(patience)
            self._restless = bool(ready)
            return ready
        ready = self._selector.select(_QUIET if patience is None else min(_QUIET, patience))
        self._restless = bool(ready) or self.idle()
        return ready

    def run(self) -> None:
        """Gira finché ``running``."""
        while self.running:
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                timer = heapq.heappop(self._timers)[2]
                survive(timer.fire)
                self._restless = True
            for key, events in self._wait():
                fd = key.fd
                for kind, handlers in ((selectors.EVENT_READ, self._readers), (selectors.EVENT_WRITE, self._writers)):
                    if events & kind and fd in handlers and not survive(handlers[fd], fd):
                        self.forget(fd)  # whoever cannot take it now would not take it later: never round and round

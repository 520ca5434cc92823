"""La salute di un container: una prova ogni tanto, eseguita dentro di lui, e che cosa se ne ricava.

Come in Docker: un sì vuol dire sano; tanti no di fila, malato; finché dura il periodo di avvio un no non
conta. Un malato non si riavvia da solo: si vede, e lo si dice con un evento.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.policy import Health, HealthCheck, HealthStatus, Probe
from labkit.supervisor.joining import enter
from labkit.supervisor.task import Task

if TYPE_CHECKING:
    from labkit.supervisor.server import Server
    from labkit.supervisor.state import Container

#: Quante prove si ricordano, e quanto di ciò che una scrive.
REMEMBERED = 5
OUTPUT = 4096


class Attempt:
    """Una prova in corso: raccoglie ciò che scrive e dice il risultato una volta sola, o quando scade il tempo."""

    def __init__(self, done: Callable[[Probe], None]) -> None:
        self.early: list[bytes] | None = None
        self.task: Task | None = None
        self.congested = False
        self._done = done
        self._start = time.time()
        self._output = bytearray()
        self._over = False

    def attach(self, task: Task) -> None:
        self.task = task
        task.listeners.append(self)
        if self._over:
            self._kill()

    def stdio(self, stream: int, data: bytes) -> None:
        self._output += data[: OUTPUT - len(self._output)]

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Non è mai intasata: quello che è di troppo si butta."""

    def answer(self, value: Any = None) -> None:
        self._tell(int(value["exit_code"]), self._output.decode("utf-8", "replace"))

    def fail(self, problem: LabError) -> None:
        self._tell(problem.exit_code, problem.message)

    def expire(self, seconds: float) -> None:
        """Ci ha messo troppo: finisce lei con tutto quello che ha lanciato, e vale come un no."""
        self._tell(-1, f"La prova non è finita in {seconds:g} secondi.")

    def abandon(self) -> None:
        """Non interessa più."""
        self._over = True
        self._kill()

    def _kill(self) -> None:
        if self.task and self.task.exit_code is None:
            try:
                os.killpg(self.task.pid, signal.SIGKILL)
            except ProcessLookupError:  # born a moment ago: it has no session of its own yet
                self.task.kill(signal.SIGKILL)

    def _tell(self, code: int, output: str) -> None:
        if self._over:
            return
        self.abandon()
        self._done(Probe(self._start, time.time(), code, output))


class Monitor:
    """Chi prova: dal primo istante del programma fino alla sua fine."""

    def __init__(self, server: Server, container: Container, check: HealthCheck) -> None:
        self.server = server
        self.container = container
        self.check = check
        self.status: HealthStatus = "starting"
        self.streak = 0
        self.log: deque[Probe] = deque(maxlen=REMEMBERED)
        self._attempt: Attempt | None = None
        self._born = time.monotonic()
        self._timer = server.loop.after(check.interval, self._probe)

    def health(self) -> Health:
        return Health(self.status, self.streak, tuple(self.log))

    def stop(self) -> None:
        """Il programma è finito."""
        self._timer.cancel()
        if self._attempt:
            self._attempt.abandon()

    def _probe(self) -> None:
        if self.container.state != "running":  # paused: whoever enters would be frozen too
            self._timer = self.server.loop.after(self.check.interval, self._probe)
            return
        attempt = self._attempt = Attempt(self._result)
        self._timer = self.server.loop.after(self.check.timeout, lambda: attempt.expire(self.check.timeout))
        try:
            enter(self.server, self.container, attempt, self.check.command)
        except LabError as problem:
            attempt.fail(problem)
        except OSError as problem:
            attempt.fail(LabError(os.strerror(problem.errno or 0)))

    def _result(self, probe: Probe) -> None:
        self._timer.cancel()
        self._timer = self.server.loop.after(self.check.interval, self._probe)
        self.log.append(probe)
        if probe.exit_code == 0:
            self.streak = 0
            self._become("healthy")
            return
        if self.status == "starting" and time.monotonic() - self._born < self.check.start_period:
            return
        self.streak += 1
        if self.streak >= self.check.retries:
            self._become("unhealthy")

    def _become(self, status: HealthStatus) -> None:
        if status != self.status:
            self.status = status
            self.server.state.note("health_status", self.container, status=status)

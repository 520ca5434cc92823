"""Il processo delle reti: fa con pyroute2 i piani che cambiano le reti del laboratorio, uno alla volta.

pyroute2 pesa più di tutto il supervisore: sta in un processo solo, che nasce alla prima rete. Invariante: un piano è
fatto tutto o per niente, anche se il processo muore a metà. Chi nasce al suo posto disfa per prima cosa il piano
interrotto; solo dopo chi lo aveva chiesto riceve l'errore.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from labkit.engine.operation import Context, Operation, Plan
from labkit.errors import BackendError, LabError, from_dict
from labkit.kernel import libc
from labkit.kernel.explain import from_os_error
from labkit.supervisor.loop import Loop

#: Un piano più lungo non è di una rete.
_LONGEST = 1 << 17

Done = Callable[[LabError | None], None]


class Wirer:
    """Il processo delle reti dalla parte del supervisore.

    ``birth`` lo fa nascere e torna il filo; i piani partono nell'ordine in cui sono chiesti, uno alla volta.
    """

    def __init__(self, loop: Loop, birth: Callable[[], tuple[int, socket.socket]]) -> None:
        self._loop, self._birth = loop, birth
        self._channel: socket.socket | None = None
        self._waiting: deque[tuple[tuple[Operation, ...], Done]] = deque()
        #: What the process that died was doing: to be undone before anything else.
        self._broken: tuple[Operation, ...] = ()
        #: The process, as the lab numbers it; 0 if there is none.
        self.pid = 0

    def ask(self, operations: tuple[Operation, ...], done: Done) -> None:
        """Fa fare queste operazioni; ``done`` riceve l'errore, o ``None``."""
        self._waiting.append((operations, done))
        if len(self._waiting) == 1:
            self._send()

    def _send(self) -> None:
        """Il primo piano che aspetta parte; se il processo non c'è, nasce."""
        order = pickle.dumps((self._waiting[0][0], self._broken))
        try:
            if self._channel is not None:
                try:
                    self._channel.send(order)
                    return
                except BrokenPipeError:  # it died while it had nothing to do
                    self._bury(self._channel)
            self.pid, self._channel = self._birth()
            self._loop.read(self._channel.fileno(), self._heard)
            self._channel.send(order)
            self._broken = ()
        except OSError as problem:
            self._finish(from_os_error(problem))

    def _bury(self, channel: socket.socket) -> None:
        self._loop.forget(channel.fileno())
        channel.close()
        self._channel, self.pid = None, 0

    def _heard(self, fd: int) -> None:
        channel = self._channel
        assert channel is not None
        try:
            said = channel.recv(_LONGEST)
        except OSError:
            said = b""
        if said:
            answer = pickle.loads(said)
            self._finish(None if answer is None else from_dict(answer))
            return
        self._bury(channel)
        if not self._waiting:
            return
        operations, done = self._waiting[0]
        if not operations:  # whoever had to undo died too: no more of them for this one
            self._finish(_killed())
            return
        # First the next process undoes what is half done; then whoever had asked for it is told.
        self._broken = operations
        self._waiting[0] = ((), lambda problem: done(problem or _killed()))
        self._send()

    def _finish(self, problem: LabError | None) -> None:
        done = self._waiting.popleft()[1]
        if self._waiting:
            self._send()
        done(problem)


def _killed() -> LabError:
    return BackendError(
        "Il processo che fa le reti del laboratorio è finito mentre lavorava: quello che era a metà è stato disfatto, "
        "e un altro ha preso il suo posto.",
        "ripeti il comando",
    )


def become_wirer(channel: socket.socket, paths: list[str]) -> NoReturn:
    """Nel figlio appena nato: un piano alla volta, finché il supervisore vive."""
    import sys

    libc.set_title("labkit-reti")
    sys.path.extend(path for path in paths if path not in sys.path)
    try:
        from labkit.kernel.netlink import Wires

        context = Context(netlink=Wires())
        while order := channel.recv(_LONGEST):
            operations, broken = pickle.loads(order)
            for operation in reversed(broken):
                if operation.reversible:
                    operation.undo(context)
            channel.send(pickle.dumps(attempt(operations, context)))
    finally:
        os._exit(1)


def attempt(operations: tuple[Operation, ...], context: Context) -> dict[str, object] | None:
    """Fa il piano; se non riesce lo disfa e torna l'errore come dati."""
    plan = Plan(operations)
    try:
        plan.run(context)
    except LabError as problem:
        return problem.to_dict()
    except Exception as problem:  # noqa: BLE001  whatever pyroute2 says, nothing stays half done
        plan.rollback(context)
        return BackendError(f"La rete del laboratorio non è cambiata: {problem!r}.").to_dict()
    return None

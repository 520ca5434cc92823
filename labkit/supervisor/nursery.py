"""I nascituri: processi già nati in namespace nuovi, fermi ad aspettare di sapere quale container saranno.

Nascere è la parte cara di un avvio (il kernel fa sei namespace e copia le tabelle delle pagine di
Python) ed è uguale per tutti: si paga prima, quando il laboratorio non ha altro da fare. Chi aspetta non
ha ancora né rete, né radice, né flussi: il resto del piano è quello di sempre. Se nessuno è pronto si
nasce al momento.

Invariante: un nascituro diventa un container solo, o finisce con il laboratorio senza essere diventato niente.
"""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from labkit.engine.container import CONTAINER_NAMESPACES, Placement, plan, split
from labkit.engine.operation import Context, Operation, Plan
from labkit.engine.rootfs import ImageRoot, Tree
from labkit.errors import LabError
from labkit.kernel import libc, namespaces
from labkit.kernel import rtnetlink as rt
from labkit.model import ContainerSpec
from labkit.supervisor.zygote import Stdio, become, clean_child

#: Quanti aspettano: due, perché chi ne avvia uno spesso ne avvia un altro.
SIZE = 2

_MAX_ORDER = 1 << 20


@dataclass(frozen=True)
class Unborn:
    """Un nascituro dalla parte del supervisore; ``microseconds`` è quanto è costata la nascita."""

    pid: int
    pidfd: int
    channel: socket.socket
    microseconds: float

    def send(self, own: Plan, stdio: Stdio) -> bool:
        """Gli dice chi sarà e gli dà i suoi flussi; ``False`` se nel frattempo è morto."""
        order = pickle.dumps((own.operations, own.first_index))
        try:
            return socket.send_fds(self.channel, [order], stdio.child) == len(order)
        except OSError:
            return False

    def drop(self) -> None:
        """Lo lascia andare: senza filo finisce da solo."""
        self.channel.close()
        os.close(self.pidfd)


class Nursery:
    """Chi aspetta. ``context`` dà il contesto con cui un container lavora nel suo processo."""

    def __init__(self, context: Callable[[], Context], size: int = SIZE) -> None:
        self._context = context
        self._size = size
        self._waiting: deque[Unborn] = deque()
        self._last: Unborn | None = None

    def take(self) -> Unborn | None:
        """Un nascituro, se ce n'è uno."""
        self._last = self._waiting.popleft() if self._waiting else None
        return self._last

    def give_back(self, unborn: Unborn) -> None:
        """Chi l'aveva preso non ne ha fatto niente."""
        self._waiting.appendleft(unborn)

    def fill(self) -> None:
        """Ne fa nascere uno, se ne mancano: si chiama quando non c'è altro da fare.

        Chi sta diventando un container, e ha ancora il filo con il supervisore, ha la precedenza.
        """
        becoming = self._last is not None and self._last.channel.fileno() >= 0
        if becoming or len(self._waiting) >= self._size:
            return
        try:
            self._waiting.append(self._birth())
        except (LabError, OSError):
            # No more processes or namespaces allowed here: whoever asks for a container is told why.
            self._size = 0

    def _birth(self) -> Unborn:
        context = self._context()
        context.netlink = rt.Netlink()
        stdio = Stdio(stdin=False, tty=True)  # three times /dev/null, until the order comes
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            began = time.perf_counter_ns()
            pid, pidfd = libc.clone3(namespaces.flags(CONTAINER_NAMESPACES))
            if pid == 0:
                clean_child(stdio, (theirs.fileno(), context.netlink.fileno()))
                wait(context, theirs)
            return Unborn(pid, pidfd, mine, (time.perf_counter_ns() - began) / 1000)
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
            context.netlink.close()
            stdio.close_child()


def wait(context: Context, channel: socket.socket) -> NoReturn:
    """Nel nascituro: aspetta l'ordine e diventa quel container; se il filo si chiude finisce."""
    try:
        rehearse()
        order, fds, _, _ = socket.recv_fds(channel, _MAX_ORDER, 3)
        if not order:
            os._exit(0)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        operations, first_index = pickle.loads(order)
        become(Plan(operations, first_index), context, channel)
    finally:  # nothing may unwind into the supervisor's loop
        os._exit(125)


def rehearse() -> None:
    """Ripete a vuoto quello che servirà: le pagine di memoria condivise con il supervisore si copiano adesso."""
    image = ImageRoot("prova", (Tree("", ("/",)),))
    place = Placement("0", "/", "veth0", "10.88.0.2", 16, "10.88.0.1")
    operations: tuple[Operation, ...] = split(plan(ContainerSpec("prova", ("prova",)), image, place))[1].operations
    for operation in pickle.loads(pickle.dumps(operations)):
        operation.describe()
    rt.Netlink().close()
    rt.veth_message(place.link, "eth0", 0, 0)
    rt.address_message(0, place.ip, place.prefix)
    rt.default_route_message(place.gateway)

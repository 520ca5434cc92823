"""I nascituri: processi già nati in namespace nuovi, fermi ad aspettare di sapere quale container saranno.

Nascere è la parte cara di un avvio (il kernel fa sei namespace e copia le tabelle delle pagine di
Python) ed è uguale per tutti: si paga prima, quando il laboratorio non ha altro da fare. E chi ha avviato
un container spesso ne avvia un altro uguale: per quello un nascituro *atteso* fa prima anche la rete e i
mount, cioè ogni operazione del piano che dipende solo dall'immagine e dal posto. Il piano resta quello di
sempre: le operazioni già fatte si riconoscono perché sono uguali, e il loro costo è quello vero.

Invariante: un nascituro diventa un container solo, o finisce senza essere diventato niente.
"""

from __future__ import annotations

import os
import pickle
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from labkit.engine.container import CONTAINER_NAMESPACES, Placement, plan, split
from labkit.engine.operation import Context, Operation, Plan
from labkit.engine.rootfs import ImageRoot, MakeLayer, Tree, WriteIdentity
from labkit.errors import LabError
from labkit.kernel import libc, namespaces
from labkit.kernel import rtnetlink as rt
from labkit.model import ContainerSpec
from labkit.supervisor.zygote import Stdio, become, clean_child

#: Quanti attesi: due, perché chi ne avvia uno dopo l'altro non aspetti.
EXPECTED = 2

_MAX_ORDER = 1 << 20


@dataclass(frozen=True)
class Expectation:
    """Che container ci si aspetta: l'immagine (com'è adesso sul disco) e la rete."""

    image: ImageRoot
    network: str
    stamp: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, image: ImageRoot, network: str) -> Expectation:
        lowers = [os.stat(lower) for tree in image.trees for lower in tree.lowers]
        return cls(image, network, tuple((s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for s in lowers))


@dataclass(frozen=True)
class Unborn:
    """Un nascituro dalla parte del supervisore.

    ``lab`` è la parte del laboratorio, già fatta fino alla nascita; ``place`` il posto di chi è atteso.
    """

    pid: int
    pidfd: int
    channel: socket.socket
    lab: Plan
    microseconds: float
    place: Placement | None = None

    @property
    def alive(self) -> bool:
        """Se aspetta ancora: prima dell'ordine sul filo si può solo leggere la sua fine."""
        return not select.select([self.channel], [], [], 0)[0]

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
    """Chi aspetta: uno qualunque, e qualche atteso uguale all'ultimo container chiesto.

    ``context`` dà il contesto con cui un container lavora nel suo processo, ``place`` un posto per la rete
    chiesta, ``forget`` lo rende.
    """

    def __init__(
        self,
        context: Callable[[], Context],
        place: Callable[[str], Placement],
        forget: Callable[[list[Placement]], None],
    ) -> None:
        self._context, self._place, self._forget = context, place, forget
        self._expectation: Expectation | None = None
        self._anyone: Unborn | None = None
        self._expected: list[Unborn] = []
        self._promised: dict[str, Unborn] = {}
        self._last: Unborn | None = None
        self._enabled = True

    def reserve(self, image: ImageRoot, network: str) -> Placement | None:
        """Il posto di un atteso che va bene, promesso a chi lo chiede; ``None`` se non c'è."""
        expectation = Expectation.of(image, network)
        if expectation != self._expectation:
            self.clear()
            self._expectation = expectation
        while self._expected:
            unborn = self._expected.pop(0)
            if unborn.alive and unborn.place:
                self._promised[unborn.place.folder] = unborn
                return unborn.place
            self._abandon([unborn])
        return None

    def take(self, place: Placement | None) -> Unborn | None:
        """L'atteso promesso per quel posto, o uno qualunque; ``None`` se non aspetta nessuno."""
        promised = self._promised.pop(place.folder, None) if place else None
        if promised is None:
            promised, self._anyone = self._anyone, None
        self._last = promised
        return promised

    def give_up(self, place: Placement) -> bool:
        """Il container di quel posto non nascerà: se il posto era promesso, chi lo aspettava finisce."""
        unborn = self._promised.pop(place.folder, None)
        if unborn:
            self._abandon([unborn])
        return unborn is not None

    def clear(self) -> None:
        """Non ci si aspetta più niente: gli attesi finiscono, i loro posti tornano liberi."""
        self._expectation = None
        expected, self._expected = self._expected, []
        self._abandon(expected)

    def _abandon(self, unborns: list[Unborn]) -> None:
        for unborn in unborns:
            unborn.drop()
            unborn.lab.rollback(Context())
        self._forget([unborn.place for unborn in unborns if unborn.place])

    def fill(self) -> bool:
        """Ne fa nascere uno, se ne mancano: si chiama quando non c'è altro da fare. ``True`` se ne mancano ancora.

        Chi sta diventando un container, e ha ancora il filo con il supervisore, ha la precedenza.
        """
        if not self._enabled or (self._last is not None and self._last.channel.fileno() >= 0):
            return False
        try:
            if self._anyone is None:
                self._anyone = self._birth(Plan(()), Plan(()), None)
            elif self._expectation and len(self._expected) < EXPECTED:
                self._expected.append(self._expected_birth(self._expectation))
        except (LabError, OSError):
            # No more processes, namespaces or addresses here: whoever asks for a container is told why.
            self._enabled = False
            return False
        return self._expectation is not None and len(self._expected) < EXPECTED

    def _expected_birth(self, expectation: Expectation) -> Unborn:
        place = self._place(expectation.network)
        whole = plan(ContainerSpec(expectation.image.name, network=expectation.network), expectation.image, place)
        lab, own = split(whole)
        layer = Plan(tuple(operation for operation in lab.operations if isinstance(operation, MakeLayer)))
        try:
            layer.run(Context())
            known = [isinstance(operation, WriteIdentity) for operation in own.operations].index(True)
            return self._birth(layer, Plan(own.operations[:known], own.first_index), place)
        except BaseException:
            layer.rollback(Context())
            self._forget([place])
            raise

    def _birth(self, lab: Plan, known: Plan, place: Placement | None) -> Unborn:
        context = self._context()
        context.netlink = rt.Netlink()
        stdio = Stdio(stdin=False, tty=True)  # three times /dev/null, until the order comes
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            began = time.perf_counter_ns()
            pid, pidfd = libc.clone3(namespaces.flags(CONTAINER_NAMESPACES))
            if pid == 0:
                clean_child(stdio, (theirs.fileno(), context.netlink.fileno()))
                wait(known, context, theirs)
            return Unborn(pid, pidfd, mine, lab, (time.perf_counter_ns() - began) / 1000, place)
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
            context.netlink.close()
            stdio.close_child()


def wait(known: Plan, context: Context, channel: socket.socket) -> NoReturn:
    """Nel nascituro: fa quello che già sa, aspetta l'ordine e diventa quel container; se il filo si chiude finisce."""
    try:
        rehearse()
        try:
            known.run(context)
        except LabError:
            pass  # it has undone what it did: who asks for this container will meet the same refusal, and be told
        order, fds, _, _ = socket.recv_fds(channel, _MAX_ORDER, 3)
        if not order:
            os._exit(0)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        operations, first_index = pickle.loads(order)
        own = Plan(operations, first_index)
        own.inherit(known)
        become(own, context, channel)
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
    rt.veth_message(place.link, "eth0", 0, 0, rt.hardware_address(place.ip))
    rt.address_message(0, place.ip, place.prefix)
    rt.default_route_message(place.gateway)

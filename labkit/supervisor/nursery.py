"""I nascituri: processi già nati in namespace nuovi, fermi ad aspettare di sapere quale container saranno.

Nascere è la parte cara di un avvio (il kernel fa sei namespace e copia le tabelle delle pagine di
Python) ed è uguale per tutti: si paga prima, quando il laboratorio non ha altro da fare. E chi ha avviato
un container spesso ne avvia un altro uguale: per quello un nascituro *atteso* è già *caldo*. Ha fatto la
rete, la radice, le maschere: ogni operazione del piano che dipende solo dall'immagine e dal posto, non da
chi sarà il container. Il piano resta quello di sempre: le operazioni già fatte si riconoscono perché sono
uguali, e il loro costo è quello vero.

Invariante: un nascituro diventa un container solo, o finisce senza essere diventato niente. Fino all'ordine
sa solo immagine, rete e capability, non il nome, il comando o l'ambiente; quello che ha preparato non lo ha mai usato
nessuno.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from labkit.engine.container import CONTAINER_NAMESPACES, Placement, common, plan, split
from labkit.engine.limits import JoinCgroup, MakeCgroup
from labkit.engine.operation import Context, Plan
from labkit.engine.rootfs import ImageRoot, Tree
from labkit.engine.volumes import Opened
from labkit.errors import InvalidError, LabError
from labkit.kernel import libc, namespaces
from labkit.kernel import rtnetlink as rt
from labkit.kernel.cgroups import Cgroup
from labkit.model import ContainerSpec, to_json
from labkit.supervisor.zygote import Stdio, become, clean_child, forget_imports
from labkit.volumes import MOST as MOST_MOUNTS

#: Quanti attesi, se ``LABKIT_WARM`` non dice altro: due, perché chi ne avvia uno dopo l'altro non aspetti.
EXPECTED = 2

#: Più di così sarebbe memoria sprecata: un nascituro ne ha qualche megabyte suo.
MOST_EXPECTED = 16

#: Un ordine più lungo viaggia in un memfd: in un messaggio solo non entrerebbe (socket(7), SO_SNDBUF).
_SHORT_ORDER = 1 << 16
_ELSEWHERE = b"\0"

#: Flussi, segreti, ordine lungo, e due per ogni cosa da montare.
_MOST_FDS = 5 + 2 * MOST_MOUNTS

#: Secondi che si concedono a chi si sta ancora preparando.
_PATIENCE = 2.0


@dataclass(frozen=True)
class Expectation:
    """Che container ci si aspetta: l'immagine (le cartelle dei suoi strati come sono adesso), la rete, le capability.

    Invariante: c'è ogni campo della descrizione da cui dipende un'operazione fatta in anticipo
    (:func:`labkit.engine.container.common`). Chi ne aggiunge una aggiunge qui il suo campo.
    """

    spec: ContainerSpec
    image: ImageRoot
    stamp: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, spec: ContainerSpec, image: ImageRoot) -> Expectation:
        # The layers of a stored image never change under their name.
        lowers = [os.stat(lower) for tree in image.trees for lower in tree.lowers if not image.digest]
        stamp = tuple((s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for s in lowers)
        wanted = ContainerSpec(
            spec.image, ("programma",), network=spec.network, cap_add=spec.cap_add, cap_drop=spec.cap_drop
        )
        return cls(wanted, image, stamp)


@dataclass(frozen=True)
class Unborn:
    """Un nascituro dalla parte del supervisore.

    ``lab`` è la parte del laboratorio, già fatta fino alla nascita; ``place`` il posto di chi è atteso; ``group`` il
    cgroup in cui è già.
    """

    pid: int
    pidfd: int
    channel: socket.socket
    lab: Plan
    microseconds: float
    place: Placement | None = None
    group: Cgroup | None = None

    def await_ready(self) -> bool:
        """Se ha fatto quello che sapeva e aspetta; chi non ha finito si aspetta, perché è comunque più avanti.

        Si chiama una volta sola, perché consuma la sua risposta; ferma il ciclo al massimo ``_PATIENCE`` secondi.
        ``False`` se non c'è riuscito: chi chiede quel container lo farà da capo, e saprà perché.
        """
        said = select.select([self.channel], [], [], _PATIENCE)[0]
        return bool(said) and self.channel.recv(1) != b"" and not self.dead

    @property
    def dead(self) -> bool:
        """Se il suo processo è finito (pidfd_open(2): un pidfd si legge quando il processo finisce)."""
        return bool(select.select([self.pidfd], [], [], 0)[0])

    def send(self, own: Plan, stdio: Stdio, context: Context) -> bool:
        """Gli dice chi sarà e gli dà i suoi flussi, i segreti, ciò che monterà; ``False`` se nel frattempo è morto."""
        secrets = [context.secrets] if context.secrets >= 0 else []
        mounts = {target: len(opened.fds) for target, opened in context.mounts.items()}
        order = pickle.dumps((own.operations, own.first_index, len(secrets), mounts))
        fds = [*stdio.child, *secrets, *(fd for opened in context.mounts.values() for fd in opened.fds)]
        carrier = -1
        try:
            if len(order) > _SHORT_ORDER:
                carrier = os.memfd_create("labkit-order", os.MFD_CLOEXEC)
                with open(carrier, "wb", closefd=False) as file:
                    file.write(order)
                order = _ELSEWHERE
                fds.append(carrier)
            return socket.send_fds(self.channel, [order], fds) == len(order)
        except OSError:
            return False
        finally:
            if carrier >= 0:
                os.close(carrier)

    def drop(self) -> None:
        """Lo lascia andare: senza filo finisce da solo."""
        self.channel.close()
        os.close(self.pidfd)


def wanted() -> int:
    """Quanti attesi si vogliono: ``LABKIT_WARM``, da 0 (resta solo quello qualunque) a :data:`MOST_EXPECTED`."""
    text = os.environ.get("LABKIT_WARM", "") or str(EXPECTED)
    if not text.isascii() or not text.isdecimal() or int(text) > MOST_EXPECTED:
        raise InvalidError(
            f"LABKIT_WARM deve essere un numero da 0 a {MOST_EXPECTED}: «{text}» non lo è.", "unset LABKIT_WARM"
        )
    return int(text)


class Nursery:
    """Chi aspetta: uno qualunque, e qualche atteso uguale all'ultimo container chiesto.

    ``context`` dà il contesto con cui un container lavora nel suo processo, ``place`` un posto per la rete
    chiesta, ``group`` un cgroup, ``forget`` rende un posto.
    """

    def __init__(
        self,
        context: Callable[[], Context],
        place: Callable[[str], Placement],
        group: Callable[[], Cgroup | None],
        forget: Callable[[list[Placement]], None],
    ) -> None:
        self._context, self._place, self._group, self._forget = context, place, group, forget
        self._expectation: Expectation | None = None
        self._anyone: Unborn | None = None
        self._expected: list[Unborn] = []
        self._promised: dict[str, Unborn] = {}
        self._last: Unborn | None = None
        self._count = wanted()
        self._enabled = True

    def reserve(self, spec: ContainerSpec, image: ImageRoot) -> Placement:
        """Un posto: quello di un atteso che va bene, o uno nuovo per cui nascerà chi aspetta, se aspetta qualcuno."""
        expectation = Expectation.of(spec, image)
        if expectation != self._expectation:
            self.clear()
            self._expectation = expectation
        dead = [unborn for unborn in self._expected if unborn.dead]
        self._expected = [unborn for unborn in self._expected if unborn not in dead]
        self._abandon(dead)
        while self._expected:
            unborn = self._expected.pop(0)
            if unborn.await_ready() and unborn.place:
                self._promised[unborn.place.folder] = unborn
                return unborn.place
            self._abandon([unborn])
        place = self._place(spec.network)
        anyone, self._anyone = self._anyone, None
        if anyone and anyone.await_ready():
            place = replace(place, group=anyone.group)
            self._promised[place.folder] = anyone
        elif anyone:
            self._abandon([anyone])
        return place

    def take(self, place: Placement) -> Unborn | None:
        """Chi è promesso per quel posto; ``None`` se non aspetta nessuno."""
        self._last = self._promised.pop(place.folder, None)
        return self._last

    def groups(self) -> set[str]:
        """I nomi dei cgroup di chi aspetta."""
        everyone = [*self._expected, *self._promised.values(), *([self._anyone] if self._anyone else [])]
        return {unborn.group.name for unborn in everyone if unborn.group}

    def give_up(self, place: Placement) -> bool:
        """Il container di quel posto non nascerà: se il posto era promesso, chi lo aspettava finisce.

        ``True`` se il posto era di un atteso, e quindi è già stato reso; se no lo rende chi chiama.
        """
        unborn = self._promised.pop(place.folder, None)
        if unborn:
            self._abandon([unborn])
        return unborn is not None and unborn.place is not None

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
        """Ne fa nascere uno, se ne mancano: si chiama quando non c'è altro da fare. ``True`` se è nato.

        Chi sta diventando un container, e ha ancora il filo con il supervisore, ha la precedenza.
        """
        if not self._enabled or (self._last is not None and self._last.channel.fileno() >= 0):
            return False
        try:
            if self._anyone is None:
                self._anyone = self._anyone_birth()
            elif self._expectation and len(self._expected) < self._count:
                self._expected.append(self._expected_birth(self._expectation))
            else:
                return False
        except (LabError, OSError):
            # No more processes, namespaces or addresses here: whoever asks for a container is told why. From now on,
            # for the life of this lab, nobody is born ahead.
            self._enabled = False
            return False
        return True

    def _anyone_birth(self) -> Unborn:
        """Uno qualunque: di lui si sa solo che avrà un cgroup, e ci entra."""
        group = self._group()
        if group is None:
            return self._birth(Plan(()), Plan(()), None, None)
        lab = Plan((MakeCgroup(group),))
        try:
            lab.run(Context())
            return self._birth(lab, Plan((JoinCgroup(group),)), None, group)
        except BaseException:
            lab.rollback(Context())
            raise

    def _expected_birth(self, expectation: Expectation) -> Unborn:
        place = self._place(expectation.spec.network)
        lab, own = split(plan(expectation.spec, expectation.image, place))
        lasting = Plan(tuple(operation for operation in lab.operations if operation.lasting))
        try:
            lasting.run(Context())
            return self._birth(lasting, common(own), place, place.group)
        except BaseException:
            lasting.rollback(Context())
            self._forget([place])
            raise

    def _birth(self, lab: Plan, known: Plan, place: Placement | None, group: Cgroup | None) -> Unborn:
        context = self._context()
        context.netlink = rt.Netlink()
        stdio = Stdio(stdin=False, tty=True)  # three times /dev/null, until the order comes
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            began = time.perf_counter_ns()
            pid, pidfd = libc.clone3(namespaces.flags(CONTAINER_NAMESPACES))
            if pid == 0:
                wait(known, context, theirs, stdio)
            return Unborn(pid, pidfd, mine, lab, (time.perf_counter_ns() - began) / 1000, place, group)
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
            context.netlink.close()
            stdio.close_child()


def wait(known: Plan, context: Context, channel: socket.socket, stdio: Stdio) -> NoReturn:
    """Nel nascituro: fa quello che già sa, aspetta l'ordine e diventa quel container; se il filo si chiude finisce."""
    try:
        assert context.netlink is not None
        clean_child(stdio, (channel.fileno(), context.netlink.fileno()))
        rehearse()
        forget_imports()
        known.run(context)
        channel.send(b"!")
        order, fds, _, _ = socket.recv_fds(channel, _SHORT_ORDER, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
        if not order:
            os._exit(0)
        if order == _ELSEWHERE:
            with open(fds.pop(), "rb") as carrier:
                carrier.seek(0)
                order = carrier.read()
        for number, fd in enumerate(fds[:3]):
            os.dup2(fd, number)
            os.close(fd)
        operations, first_index, secrets, mounted = pickle.loads(order)
        rest = iter(fds[3:])
        context.secrets = next(rest) if secrets else -1
        context.mounts = {target: Opened(*(next(rest) for _ in range(count))) for target, count in mounted.items()}
        own = Plan(operations, first_index)
        own.inherit(known)  # what is known is the beginning of every plan of this expectation (Expectation)
        become(own, context, channel)
    finally:  # nothing may unwind into the supervisor's loop
        os._exit(125)


def rehearse() -> None:
    """Ripete a vuoto quello che servirà: le pagine di memoria che padre e figlio condividono si copiano adesso.

    Una pagina copiata durante un avvio costa di più: il processo si ferma ogni volta ad aspettare il kernel.
    """
    image = ImageRoot("prova", (Tree("", ("/",)),))
    place = Placement("0", "/", "veth0", "10.88.0.2", 16, "10.88.0.1")
    own = split(plan(ContainerSpec("prova", ("prova",)), image, place))[1]
    again = Plan(pickle.loads(pickle.dumps(own.operations)), own.first_index)
    json.dumps([to_json(step) for step in again.steps()])
    rt.Netlink().close()
    rt.veth_message(place.link, "eth0", 0, 0, rt.hardware_address(place.ip))
    rt.address_message(0, place.ip, place.prefix)
    rt.default_route_message(place.gateway)

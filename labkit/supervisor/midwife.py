"""La levatrice: un processo che fa nascere chi aspetterà di diventare un container (:mod:`labkit.supervisor.nursery`).

Dopo una nascita padre e figlio dividono le pagine di memoria, e ognuno paga una copia alla prima scrittura: se a
sdoppiarsi fosse il supervisore pagherebbe mentre qualcuno aspetta una risposta. La levatrice non ha altro da fare,
e i suoi nati sono figli del supervisore (``CLONE_PARENT``).

Ognuno nasce in due tempi. Il primo processo ha i namespace del laboratorio, e resta indietro come un guscio
(:func:`labkit.kernel.libc.hatch`); ne esce il nascituro, nei namespace nuovi, con la stessa memoria. Così l'execve,
che se no passerebbe metà dell'avvio a liberare la memoria di Python, lascia questo lavoro al guscio.

I fili sono tre. Su quello della levatrice arriva un ordine per nascita: i passi da fare subito e una *culla*. La
culla è il filo su cui il supervisore sente il guscio (un byte e il suo pidfd) e poi il nato (PID, microsecondi, il suo
filo e il suo pidfd); se si chiude prima, non è nato nessuno. Sul filo del nato va un «!» quando è pronto, e torna
l'ordine che ne fa un container.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from labkit.engine.container import CONTAINER_NAMESPACES, Placement, plan, split
from labkit.engine.isolation import DropBoundingSet, Execute, SetHostname, identify
from labkit.engine.operation import Context, Plan
from labkit.engine.rootfs import ImageRoot, Tree, put
from labkit.engine.volumes import Opened
from labkit.errors import LabError
from labkit.kernel import capabilities, libc, namespaces, seccomp
from labkit.kernel import rtnetlink as rt
from labkit.model import ContainerSpec
from labkit.supervisor.zygote import Report, Stdio, become, clean_child, close_others, forget_imports
from labkit.volumes import MOST as MOST_MOUNTS

#: Un ordine più lungo viaggia in un memfd: in un messaggio solo non entrerebbe (socket(7), SO_SNDBUF).
_SHORT_ORDER = 1 << 16
#: What the message says then: the order is in the last descriptor.
_ELSEWHERE = b"\0"

#: Flussi, segreti, ordine lungo, e due per ogni cosa da montare.
_MOST_FDS = 5 + 2 * MOST_MOUNTS

#: Secondi che si concedono a chi sta ancora nascendo, o si sta ancora preparando.
PATIENCE = 2.0


def readable(fd: int, seconds: float) -> bool:
    """Se entro tot secondi ``fd`` si può leggere. select(2) non sa guardare un descrittore da 1024 in su, poll sì."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def send_order(channel: socket.socket, order: Any, fds: list[int]) -> None:
    """Manda un ordine con dei descrittori, di qualunque misura; un OSError se dall'altra parte non c'è nessuno."""
    data = pickle.dumps(order)
    if len(data) <= _SHORT_ORDER:
        socket.send_fds(channel, [data], fds)
        return
    carrier = os.memfd_create("labkit-order", os.MFD_CLOEXEC)
    with open(carrier, "wb") as file:
        file.write(data)
        file.flush()
        socket.send_fds(channel, [_ELSEWHERE], [*fds, carrier])


def receive_order(channel: socket.socket) -> tuple[Any, list[int]]:
    """Aspetta un ordine e lo torna con i suoi descrittori; se il filo si chiude, questo processo finisce."""
    data, fds, _, _ = socket.recv_fds(channel, _SHORT_ORDER, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
    if not data:
        os._exit(0)
    if data == _ELSEWHERE:
        with open(fds.pop(), "rb") as carrier:
            carrier.seek(0)
            data = carrier.read()
    return pickle.loads(data), fds


class Newborn:
    """Chi sta nascendo, dalla parte del supervisore: chi è si sa da :meth:`arrive` in poi.

    ``channel`` è il suo filo; ``microseconds`` quanto è costato farlo nascere; il guscio finisce con
    :meth:`leave_shell`.
    """

    def __init__(self, cradle: socket.socket) -> None:
        self.pid = self.pidfd = self._shell = -1
        self.microseconds = 0.0
        self.channel = self._cradle = cradle
        self._deadline = time.monotonic() + PATIENCE

    def arrive(self, patience: float) -> bool:
        """Se è nato, aspettando al massimo ``patience`` secondi."""
        deadline = time.monotonic() + patience
        while self.pid < 0:
            if not readable(self._cradle.fileno(), max(0.0, deadline - time.monotonic())):
                return False
            said, fds, _, _ = socket.recv_fds(self._cradle, 64, 2, socket.MSG_CMSG_CLOEXEC)
            if len(fds) == 1:
                self._shell = fds[0]
            elif len(fds) == 2:
                self._cradle.close()
                self.channel, self.pidfd = socket.socket(fileno=fds[0]), fds[1]
                pid, microseconds = said.split()
                self.pid, self.microseconds = int(pid), float(microseconds)
            else:
                self._deadline = 0.0  # nobody was born, and nobody will be
                return False
        return True

    def coming(self) -> bool:
        """Se deve ancora nascere; di chi è appena nato intanto si prende nota."""
        return not self.arrive(0) and time.monotonic() < self._deadline

    def drop(self) -> None:
        """Lo lascia andare: senza filo finisce da solo. Chi sta nascendo si aspetta, per trovare il suo guscio."""
        self.arrive(PATIENCE)
        self.channel.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)

    @property
    def dead(self) -> bool:
        """Se il suo processo è finito (pidfd_open(2): un pidfd si legge quando il processo finisce)."""
        return self.pidfd >= 0 and readable(self.pidfd, 0)

    def leave_shell(self) -> None:
        """Il guscio finisce, e con lui la memoria, se il nato non la usa ancora. Si chiama una volta sola."""
        if self._shell >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._shell, signal.SIGKILL)
            os.close(self._shell)


class Midwife:
    """La levatrice dalla parte del supervisore: nasce alla prima richiesta, finisce con il laboratorio.

    ``context`` dà il contesto con cui un container lavora nel suo processo.
    """

    def __init__(self, context: Callable[[], Context]) -> None:
        self._context = context
        self._wire: socket.socket | None = None

    def deliver(self, known: Plan) -> Newborn:
        """Chiede una nascita, senza aspettarla: il nato farà i passi di ``known`` e poi aspetterà il suo ordine."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._ask(known, theirs)
            except BaseException:
                mine.close()
                raise
        return Newborn(mine)

    def _ask(self, known: Plan, cradle: socket.socket) -> None:
        order = (known.operations, known.first_index)
        if self._wire:
            try:
                return send_order(self._wire, order, [cradle.fileno()])
            except ConnectionError:  # somebody has killed her
                self._wire.close()
        self._wire = self._start()
        return send_order(self._wire, order, [cradle.fileno()])

    def _start(self) -> socket.socket:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdio = Stdio(stdin=False, tty=True)  # three times /dev/null
        with theirs:
            pid, pidfd = libc.clone3(0)
            if pid == 0:
                attend(theirs, self._context, stdio)
        os.close(pidfd)
        stdio.close_child()
        return mine


def attend(wire: socket.socket, context: Callable[[], Context], stdio: Stdio) -> NoReturn:
    """Nella levatrice: una nascita per ogni richiesta, finché il supervisore vive."""
    try:
        clean_child(stdio, (wire.fileno(),))
        gc.freeze()
        gc.disable()
        while True:
            (operations, first_index), fds = receive_order(wire)
            began = time.perf_counter_ns()
            with socket.socket(fileno=fds[0]) as cradle, contextlib.suppress(OSError):
                pid, pidfd = libc.clone3(libc.CLONE_PARENT)
                if pid == 0:
                    wait(Plan(operations, first_index), context(), cradle, began)
                os.close(pidfd)
    finally:
        os._exit(0)


def wait(known: Plan, context: Context, cradle: socket.socket, began: int) -> NoReturn:
    """Nel nato: fa quello che già sa, aspetta l'ordine e diventa quel container; se il filo si chiude finisce.

    Il filo lo fa lui: la culla resta aperta anche nel guscio, e la sua fine non direbbe che l'execve è riuscita.
    """
    try:
        close_others((cradle.fileno(),))
        context.netlink = rt.Netlink()
        socket.send_fds(cradle, [b"."], [os.pidfd_open(os.getpid())])
        pid = libc.hatch(namespaces.flags(CONTAINER_NAMESPACES))
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = b"%d %f" % (pid, (time.perf_counter_ns() - began) / 1000)
        socket.send_fds(cradle, [told], [theirs.fileno(), os.pidfd_open(os.getpid())])
        cradle.close()
        theirs.close()
        forget_imports()
        known.run(context)
        rehearse(known, context)
        channel.send(b"!")
        (operations, secrets, mounted), fds = receive_order(channel)
        for number, fd in enumerate(fds[:3]):
            os.dup2(fd, number)
            os.close(fd)
        rest = iter(fds[3:])
        context.secrets = next(rest) if secrets else -1
        context.mounts = {target: Opened(*(next(rest) for _ in range(count))) for target, count in mounted.items()}
        known.proceed(operations)
        become(known, context, channel)
    finally:  # nothing may unwind into the midwife's loop
        os._exit(125)


def rehearse(known: Plan, context: Context) -> None:
    """Nel nato: ripete a vuoto ciò che farà all'ordine.

    Le pagine di memoria che divide con la levatrice si copiano adesso, una per una, e non mentre qualcuno aspetta. Ogni
    passo è di quelli che non cambiano niente: un nome uguale, tutte le capability, un file che non resta.
    """
    place = Placement("0", "/", "veth0", "10.88.0.2", 16, "10.88.0.1")
    whole = plan(ContainerSpec("prova", ("prova",)), ImageRoot("prova", (Tree("", ("/",)),)), place)
    again = Plan(pickle.loads(pickle.dumps(split(whole)[1].operations)))
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, theirs:
        Report(mine).send(steps=again.times(), ahead=again.ahead)
    rt.veth_message(place.link, "eth0", 0, 0, rt.hardware_address(place.ip))
    rt.address_message(0, place.ip, place.prefix)
    rt.default_route_message(place.gateway)
    caps = (operation.capabilities for operation in known.operations if isinstance(operation, DropBoundingSet))
    seccomp.program(frozenset(next(caps, capabilities.DOCKER_DEFAULT)))
    for operation in (
        SetHostname(os.uname().nodename),
        Execute(("prova",), (("PATH", "/proc/self/fd/prova"),)),
    ):
        with contextlib.suppress(OSError, LabError):
            operation.execute(context)
    with contextlib.suppress(OSError):
        identify("")
        capabilities.keep(capabilities.ALL)
    if context.root >= 0:
        with contextlib.suppress(OSError):
            put(context.root, "etc/.labkit", "")
            os.unlink("etc/.labkit", dir_fd=context.root)

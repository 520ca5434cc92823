"""I pacchetti di un'interfaccia del laboratorio, in formato pcap: il verbo ``capture`` e il figlio che li raccoglie.

La presa (packet(7)) si apre qui, nel namespace di rete del laboratorio, così un nome sbagliato si sa subito; un figlio
legge e scrive, perché il ciclo del supervisore non dipenda dal traffico. Chi non legge in fretta perde pacchetti, e
lo sa: il kernel li conta.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from labkit.errors import InvalidError, NotFoundError
from labkit.kernel.explain import from_os_error
from labkit.packets import header, record
from labkit.supervisor.connection import Call
from labkit.supervisor.task import Task

if TYPE_CHECKING:
    from labkit.supervisor.server import Server

#: Most packets and seconds of one capture, and bytes kept of a packet.
MOST, LONGEST, WIDEST = 100_000, 3600, 65535

# linux/if_ether.h, linux/if_packet.h, asm-generic/socket.h, linux/if_arp.h
_ETH_P_ALL = 3
_SOL_PACKET, _ADD_MEMBERSHIP, _STATISTICS, _MR_PROMISC = 263, 1, 6, 1
_SO_TIMESTAMPNS = 35
_WITH_ETHERNET = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK
_OUTGOING = 4


def capture(
    server: Server, call: Call, interface: str, limit: int = 10_000, seconds: int = 600, snaplen: int = 2048
) -> None:
    """I pacchetti che passano su ``interface``, finché il client non interrompe, al massimo ``limit`` o ``seconds``.

    Arriva un file pcap, di pacchetti tagliati a ``snaplen`` byte; da quando ne arriva l'inizio si ascolta, e si può
    interrompere. La risposta dice quanti pacchetti nessuno ha letto in tempo (``lost``).
    """
    for value, most, name in ((limit, MOST, "limit"), (seconds, LONGEST, "seconds"), (snaplen, WIDEST, "snaplen")):
        if not isinstance(value, int) or not 0 < value <= most:
            raise InvalidError(f"{name} va da 1 a {most}.", f"lab.capture('lab0', {name}={min(100, most)})")
    listener = listen(interface)
    try:
        child = server.launcher.capture(listener, limit, seconds, snaplen)
    except BaseException:
        listener.close()
        raise
    task = Task(server.loop, child.pid, child.pidfd)
    task.attach_streams(-1, child.stdio.stdout, child.stdio.stderr)

    def ended(code: int) -> None:
        _, lost = struct.unpack("II", listener.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        listener.close()
        call.answer({"lost": lost})

    task.on_exit.append(ended)
    call.attach(task)


def listen(interface: str) -> socket.socket:
    """Una presa che riceve tutto quello che passa su ``interface`` (packet(7)), anche se è per altri."""
    names = [name for _, name in socket.if_nameindex()]
    if interface not in names:
        raise NotFoundError(
            f"Nel laboratorio non c'è un'interfaccia «{interface}». Ci sono: {', '.join(names)}.", "lab.capture('lab0')"
        )
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # deaf, until it is bound to one interface
    except OSError as problem:
        if problem.errno == errno.EAFNOSUPPORT:
            raise NotFoundError("Il kernel del laboratorio non sa catturare pacchetti (CONFIG_PACKET).") from None
        raise from_os_error(problem, "socket") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # what the machine allows of it
        everybody = struct.pack("IHH8x", socket.if_nametoindex(interface), _MR_PROMISC, 0)
        sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, everybody)
        sock.bind((interface, _ETH_P_ALL))
        if sock.getsockname()[3] not in _WITH_ETHERNET:
            raise InvalidError(f"«{interface}» non è un'interfaccia Ethernet.", "lab.capture('lab0')")
    except OSError as problem:
        sock.close()
        raise from_os_error(problem, "bind") from None
    except InvalidError:
        sock.close()
        raise
    return sock


def collect(sock: socket.socket, limit: int, seconds: int, snaplen: int) -> NoReturn:
    """Nel figlio: scrive sullo stdout un file pcap; finisce da sé, con un segnale o con chi lo legge.

    A SIGINT prende ciò che è già passato e finisce: chi ha aspettato una risposta la trova nella cattura.
    """
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, lambda *_: sock.setblocking(False))
        signal.alarm(seconds)
        os.write(1, header(snaplen))  # the promise that a SIGINT, from now on, is heard
        twice = sock.getsockname()[3] == _WITH_ETHERNET[1]  # on the loopback whoever is sent is received too
        buffer, count = bytearray(WIDEST), 0
        while count < limit:
            size, notes, _, place = sock.recvmsg_into([buffer], socket.CMSG_SPACE(16), socket.MSG_TRUNC)
            if twice and place[2] == _OUTGOING:
                continue
            _write(record(_moment(notes), bytes(buffer[: min(size, snaplen)]), size))
            count += 1
        code = 0
    except BlockingIOError:
        code = 0
    finally:
        os._exit(code)


def _moment(notes: list[tuple[int, int, bytes]]) -> int:
    """Quando è passato, in nanosecondi Unix: lo dice il kernel, accanto al pacchetto."""
    for level, kind, data in notes:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", data)
            return int(seconds) * 10**9 + int(nanoseconds)
    return time.time_ns()


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


CAPTURE_VERBS: dict[str, Callable[..., None]] = {"capture": capture}

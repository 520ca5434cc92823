"""La strada veloce verso rtnetlink(7): i pochi messaggi che servono ad accendere un container.

pyroute2 (in :mod:`labkit.kernel.netlink`) è la libreria di rete del corso; qui non si usa perché
importarla costa più di tutto l'avvio di un container. Ogni funzione ``*_message`` costruisce un
messaggio, :meth:`Netlink.talk` ne manda un gruppo con una sola chiamata e aspetta la conferma.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from labkit.kernel.explain import error

Message = tuple[int, int, bytes]

# linux/rtnetlink.h, linux/netlink.h, linux/if_link.h, linux/if_addr.h
RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE = 16, 17, 20, 21, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 2, 1, 4, 5
#: An IPv6 address that nobody else can have: it works at once, without asking around first.
IFA_F_NODAD = 2
IFF_UP = 1
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_LINK, RTN_UNICAST = 254, 3, 253, 1
LOOPBACK_INDEX = 1


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) & 3)


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _link(index: int = 0, up: bool = True) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)


def up_message(index: int) -> Message:
    """Accende l'interfaccia ``index``."""
    return RTM_NEWLINK, 0, _link(index)


def down_message(index: int) -> Message:
    """Spegne l'interfaccia ``index``; le strade che passavano di lì spariscono."""
    return RTM_NEWLINK, 0, _link(index, up=False)


def delete_message(name: str) -> Message:
    """Toglie l'interfaccia ``name``; di un cavo, anche l'altro capo."""
    return RTM_DELLINK, 0, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(IFLA_IFNAME, _name(name))


def bridge_message(name: str, hardware: bytes) -> Message:
    """Crea un bridge acceso, con un suo indirizzo MAC.

    Senza, il kernel gli dà il più basso fra quelli dei suoi cavi: cambia quando uno arriva o se ne va, e chi lo
    ricordava per un po' parla a nessuno.
    """
    info = _attribute(IFLA_LINKINFO, _attribute(IFLA_INFO_KIND, b"bridge"))
    names = _attribute(IFLA_IFNAME, _name(name)) + _attribute(IFLA_ADDRESS, hardware)
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _link() + names + info


def hardware_address(ip: str) -> bytes:
    """L'indirizzo MAC di chi ha quell'IPv4, come lo sceglie Docker: chi riparte ha lo stesso, e i vicini lo ritrovano.

    >>> hardware_address("10.88.0.2").hex(":")
    '02:42:0a:58:00:02'
    """
    return b"\x02\x42" + socket.inet_aton(ip)


def veth_message(name: str, peer: str, peer_namespace: int, master: int, hardware: bytes, mtu: int = 0) -> Message:
    """Crea una coppia veth: ``name`` acceso qui e attaccato al bridge ``master``, ``peer`` nell'altro namespace.

    Il capo lontano, di indirizzo MAC ``hardware``, nasce spento: due capi accesi nello stesso messaggio danno ENOTCONN.
    ``mtu`` 0 è quello che sceglie il kernel.
    """
    size = _attribute(IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
    other = _link(up=False) + _attribute(IFLA_IFNAME, _name(peer)) + _attribute(IFLA_ADDRESS, hardware) + size
    other += _attribute(IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
    info = _attribute(IFLA_INFO_KIND, b"veth") + _attribute(IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, other))
    body = _link() + _attribute(IFLA_IFNAME, _name(name)) + _attribute(IFLA_MASTER, struct.pack("=I", master)) + size
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + _attribute(IFLA_LINKINFO, info)


def address_message(index: int, ip: str, prefix: int) -> Message:
    """Dà all'interfaccia un indirizzo, IPv4 o IPv6, con la sua maschera."""
    return RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _address(index, ip, prefix)


def remove_address_message(index: int, ip: str, prefix: int) -> Message:
    """Toglie all'interfaccia un indirizzo."""
    return RTM_DELADDR, 0, _address(index, ip, prefix)


def _address(index: int, ip: str, prefix: int) -> bytes:
    family, raw = _packed(ip)
    body = struct.pack("=BBBBi", family, prefix, IFA_F_NODAD if family == socket.AF_INET6 else 0, 0, index)
    return body + _attribute(IFA_LOCAL, raw) + _attribute(IFA_ADDRESS, raw)


def default_route_message(gateway: str) -> Message:
    """La strada per tutto il resto del mondo passa da ``gateway``."""
    family, raw = _packed(gateway)
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0)
    return RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body + _attribute(RTA_GATEWAY, raw)


def neighbour_route_message(ip: str, index: int) -> Message:
    """L'indirizzo ``ip``, anche se è di un'altra rete, si trova direttamente sul cavo dell'interfaccia ``index``."""
    family, raw = _packed(ip)
    body = struct.pack(
        "=BBBBBBBBI", family, len(raw) * 8, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_LINK, RTN_UNICAST, 0
    )
    body += _attribute(RTA_DST, raw) + _attribute(RTA_OIF, struct.pack("=I", index))
    return RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body


def _packed(ip: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return family, socket.inet_pton(family, ip)


class Netlink:
    """Una presa netlink: appartiene per sempre al namespace di rete in cui è nata."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def talk(self, *messages: Message) -> None:
        """Manda i messaggi insieme e aspetta che il kernel confermi l'ultimo; il primo errore si alza."""
        last = len(messages)
        packets = []
        for position, (kind, extra, body) in enumerate(messages, start=1):
            ack = NLM_F_ACK if position == last else 0
            packets.append(struct.pack("=LHHLL", 16 + len(body), kind, NLM_F_REQUEST | extra | ack, position, 0))
            packets.append(body)
        self._socket.send(b"".join(packets))
        while True:
            answer = self._socket.recv(65536)
            offset = 0
            while offset < len(answer):
                length, kind, _, sequence, _ = struct.unpack_from("=LHHLL", answer, offset)
                if kind == NLMSG_ERROR:
                    code = struct.unpack_from("=i", answer, offset + 16)[0]
                    if code:
                        raise error("rtnetlink", -code, f"messaggio {sequence}")
                    if sequence == last:
                        return
                offset += (length + 3) & ~3


def index_of(name: str) -> int:
    """L'indice dell'interfaccia ``name`` nel namespace di rete di chi chiama."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise error("rtnetlink", errno.ENODEV, name) from None


def open_namespace() -> int:
    """Un descrittore del namespace di rete di chi chiama."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

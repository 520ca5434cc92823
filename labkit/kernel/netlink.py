"""La rete vista e cambiata con pyroute2, la libreria di rete del corso (rtnetlink(7)).

È l'unico modulo che importa pyroute2; ogni funzione vale per il namespace di rete di chi chiama.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from labkit.errors import KernelError, NotFoundError
from labkit.kernel import libc
from labkit.kernel.explain import error

#: An IPv6 address that nobody else can have: it works at once, without asking around first (linux/if_addr.h).
_NODAD = 2


def _index(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise error("rtnetlink", 19, name)
    return int(found[0])


def links() -> dict[str, str]:
    """Le interfacce di rete e il loro stato (``up`` o ``down``), in ordine di indice."""
    with IPRoute() as ip:
        return {link.get_attr("IFLA_IFNAME"): link["state"] for link in ip.get_links()}


def addresses() -> dict[str, list[str]]:
    """Gli indirizzi IPv4 di ogni interfaccia, come ``10.88.0.2/16``."""
    with IPRoute() as ip:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ip.get_links()}
        found: dict[str, list[str]] = {name: [] for name in names.values()}
        for entry in ip.get_addr(family=2):
            found[names[entry["index"]]].append(f"{entry.get_attr('IFA_ADDRESS')}/{entry['prefixlen']}")
        return found


def link_up(name: str) -> None:
    """Accende l'interfaccia ``name`` (come ``ip link set NAME up``)."""
    with IPRoute() as ip:
        try:
            ip.link("set", index=_index(ip, name), state="up")
        except NetlinkError as problem:
            raise error("rtnetlink", problem.code, name) from None


class Wires:
    """I bridge e i cavi di un namespace di rete, cambiati da chi ci vive (un processo con un solo thread).

    Ogni metodo alza :class:`~labkit.errors.KernelError` con la frase del kernel; ``remove`` non si lamenta di ciò
    che non c'è.
    """

    def __init__(self) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._ip = IPRoute()

    def bridge(self, name: str, mac: str, addresses: list[tuple[str, int]], mtu: int) -> None:
        """Un bridge acceso, con i suoi indirizzi; ``mac`` non cambia quando un cavo arriva o se ne va."""
        with _explained(name):
            self._ip.link("add", ifname=name, kind="bridge", address=mac, mtu=mtu)
            index = _index(self._ip, name)
            for address, prefix in addresses:
                _give(self._ip, index, address, prefix)
            self._ip.link("set", index=index, state="up")

    def cable(self, link: str, bridge: str, pid: int, interface: str, mac: str, mtu: int) -> None:
        """Un cavo: ``link`` qui, attaccato al bridge; ``interface`` nel namespace di rete di ``pid``."""
        with _explained(link):
            peer: dict[str, Any] = {"ifname": interface, "net_ns_pid": pid, "address": mac, "mtu": mtu}
            master = _index(self._ip, bridge)
            self._ip.link("add", ifname=link, kind="veth", mtu=mtu, master=master, state="up", peer=peer)

    def remove(self, name: str) -> None:
        """Toglie un bridge o un cavo; di un cavo, anche l'altro capo."""
        with _explained(name), suppress(KernelError):
            self._ip.link("del", index=_index(self._ip, name))

    @contextmanager
    def inside(self, pid: int) -> Iterator[Inside]:
        """La rete di un altro processo, finché dura il blocco (setns(2))."""
        try:
            there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError("Il container è finito mentre la sua rete cambiava.", "lab.ps(all=True)") from None
        try:
            libc.setns(there, libc.CLONE_NEWNET)
            try:
                ip = IPRoute()
            finally:
                libc.setns(self._home, libc.CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield Inside(ip)
        finally:
            ip.close()


class Inside:
    """La rete di un container, dalla parte delle sue schede."""

    def __init__(self, ip: IPRoute) -> None:
        self._ip = ip

    def turn_on(self, interface: str, addresses: list[tuple[str, int]]) -> None:
        """Accende una scheda e le dà i suoi indirizzi."""
        with _explained(interface):
            index = _index(self._ip, interface)
            self._ip.link("set", index=index, state="up")
            for address, prefix in addresses:
                _give(self._ip, index, address, prefix)

    def route(self, interface: str, names: str, gateways: tuple[str, ...]) -> None:
        """Le strade che passano da una scheda: verso ``names``, che è sul cavo, e verso tutto il resto."""
        with _explained(interface):
            index = _index(self._ip, interface)
            if names:
                self._ip.route("replace", dst=f"{names}/32", oif=index, scope="link")
            for gateway in gateways:
                self._ip.route("replace", dst="::/0" if ":" in gateway else "0.0.0.0/0", gateway=gateway, oif=index)


def _give(ip: IPRoute, index: int, address: str, prefix: int) -> None:
    more = {"flags": _NODAD} if ":" in address else {}
    ip.addr("add", index=index, address=address, prefixlen=prefix, **more)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Un no del kernel detto da pyroute2 diventa un errore del corso."""
    try:
        yield
    except NetlinkError as problem:
        raise error("rtnetlink", problem.code or errno.EIO, name) from None

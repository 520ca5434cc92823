"""La rete di un container, fatta dal processo che sta nascendo: un cavo virtuale verso il bridge del laboratorio."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from labkit.engine.operation import Context, Operation
from labkit.kernel import libc
from labkit.kernel import rtnetlink as rt

INTERFACE = "eth0"

#: Where the lab's resolver answers: the same address from every network of the lab.
NAMES = "10.88.0.1"


@dataclass(frozen=True)
class Endpoint:
    """Dove un container tocca una rete del laboratorio: scheda, cavo, indirizzi. Cose scelte, non ancora fatte.

    ``index`` è il numero del bridge nel kernel; ``gateway`` (e ``gateway6``) c'è se da qui passa la strada per tutto
    il resto; ``names`` è l'indirizzo del servizio di nomi, se la strada per arrivarci passa di qui.
    """

    network: str
    bridge: str
    index: int
    link: str
    interface: str
    ip: str
    prefix: int
    mac: str
    ip6: str = ""
    prefix6: int = 64
    gateway: str = ""
    gateway6: str = ""
    names: str = ""
    mtu: int = 0
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConnectVeth(Operation):
    """Un cavo: un capo sul bridge del laboratorio, l'altro (``eth0``) nel namespace di rete nuovo."""

    link: str
    ip: str

    syscall: ClassVar[str] = "sendmsg (RTM_NEWLINK)"
    man: ClassVar[str] = "veth(4), rtnetlink(7)"

    def describe(self) -> str:
        return f"tira un cavo virtuale (veth) dal bridge del laboratorio a {INTERFACE} del container"

    def execute(self, context: Context) -> None:
        namespace = rt.open_namespace()
        try:
            hardware = rt.hardware_address(self.ip)
            context.netlink.talk(rt.veth_message(self.link, INTERFACE, namespace, context.bridge, hardware))
        finally:
            os.close(namespace)

    def undo(self, context: Context) -> None:
        """Stacca il cavo. Quando finisce il container ci pensa il kernel, e nessuno aspetta."""
        context.netlink.talk(rt.delete_message(self.link))


@dataclass(frozen=True)
class ConfigureNetwork(Operation):
    """Accende le interfacce e dà indirizzo e strada; senza indirizzo accende solo ``lo``."""

    ip: str = ""
    prefix: int = 16
    gateway: str = ""

    syscall: ClassVar[str] = "sendmsg (RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE)"
    man: ClassVar[str] = "rtnetlink(7)"

    def describe(self) -> str:
        if not self.ip:
            return "accende lo, l'interfaccia verso sé stesso: il container non ha altra rete"
        return f"accende lo e {INTERFACE}, gli dà l'indirizzo {self.ip}/{self.prefix} e la strada per {self.gateway}"

    def execute(self, context: Context) -> None:
        inside = rt.Netlink()
        try:
            messages = [rt.up_message(rt.LOOPBACK_INDEX)]
            if self.ip:
                index = rt.index_of(INTERFACE)
                messages += [
                    rt.up_message(index),
                    rt.address_message(index, self.ip, self.prefix),
                    rt.default_route_message(self.gateway),
                ]
            inside.talk(*messages)
        finally:
            inside.close()

    def undo(self, context: Context) -> None:
        inside = rt.Netlink()
        try:
            messages = [rt.down_message(rt.LOOPBACK_INDEX)]
            if self.ip:
                index = rt.index_of(INTERFACE)
                messages += [rt.remove_address_message(index, self.ip, self.prefix), rt.down_message(index)]
            inside.talk(*messages)
        finally:
            inside.close()


@dataclass(frozen=True)
class ConnectEndpoint(Operation):
    """Un cavo verso una rete che qualcuno ha creato nel laboratorio."""

    endpoint: Endpoint

    syscall: ClassVar[str] = "sendmsg (RTM_NEWLINK)"
    man: ClassVar[str] = "veth(4), rtnetlink(7)"

    def describe(self) -> str:
        return f"tira un cavo virtuale (veth) dalla rete «{self.endpoint.network}» a {self.endpoint.interface}"

    def execute(self, context: Context) -> None:
        end = self.endpoint
        namespace = rt.open_namespace()
        try:
            hardware = bytes.fromhex(end.mac.replace(":", ""))
            context.netlink.talk(rt.veth_message(end.link, end.interface, namespace, end.index, hardware, end.mtu))
        finally:
            os.close(namespace)

    def undo(self, context: Context) -> None:
        context.netlink.talk(rt.delete_message(self.endpoint.link))


@dataclass(frozen=True)
class ConfigureEndpoint(Operation):
    """Accende la scheda e le dà indirizzi e strade."""

    endpoint: Endpoint

    syscall: ClassVar[str] = "sendmsg (RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE)"
    man: ClassVar[str] = "rtnetlink(7)"

    def describe(self) -> str:
        end = self.endpoint
        road = f" e la strada per {end.gateway}" if end.gateway else ""
        six = f", l'indirizzo {end.ip6}/{end.prefix6}" if end.ip6 else ""
        return f"accende {end.interface}, gli dà l'indirizzo {end.ip}/{end.prefix}{six}{road}"

    def execute(self, context: Context) -> None:
        inside = rt.Netlink()
        try:
            inside.talk(*endpoint_messages(self.endpoint, rt.index_of(self.endpoint.interface)))
        finally:
            inside.close()

    def undo(self, context: Context) -> None:
        inside = rt.Netlink()
        try:
            end, index = self.endpoint, rt.index_of(self.endpoint.interface)
            addresses = [(end.ip, end.prefix), *([(end.ip6, end.prefix6)] if end.ip6 else [])]
            inside.talk(*(rt.remove_address_message(index, *address) for address in addresses), rt.down_message(index))
        finally:
            inside.close()


def endpoint_messages(end: Endpoint, index: int) -> list[rt.Message]:
    """Quello che si dice al kernel per accendere la scheda ``index``: prima gli indirizzi, poi le strade."""
    messages = [rt.up_message(index), rt.address_message(index, end.ip, end.prefix)]
    if end.ip6:
        messages.append(rt.address_message(index, end.ip6, end.prefix6))
    if end.names:
        messages.append(rt.neighbour_route_message(end.names, index))
    return [*messages, *(rt.default_route_message(road) for road in (end.gateway, end.gateway6) if road)]


@dataclass(frozen=True)
class JoinNetwork(Operation):
    """Entra nella rete di un altro container: da lì in poi hanno le stesse schede e gli stessi indirizzi."""

    container: str

    syscall: ClassVar[str] = "setns"
    man: ClassVar[str] = "setns(2), network_namespaces(7)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"entra nel namespace net del container «{self.container}»"

    def execute(self, context: Context) -> None:
        libc.setns(context.network, libc.CLONE_NEWNET)


def network_operations(
    network: str, link: str, ip: str, prefix: int, gateway: str, endpoints: tuple[Endpoint, ...] = ()
) -> list[Operation]:
    """Le operazioni di rete: cavi e indirizzi, solo ``lo`` se non ce ne sono, oppure la rete di qualcun altro."""
    if network == "host":
        return []
    if network.startswith("container:"):
        return [JoinNetwork(network.partition(":")[2])]
    operations: list[Operation] = [ConnectVeth(link, ip), ConfigureNetwork(ip, prefix, gateway)]
    if not ip:
        operations = [ConfigureNetwork()]
    for end in endpoints:
        operations += [ConnectEndpoint(end), ConfigureEndpoint(end)]
    return operations

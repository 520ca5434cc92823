"""La rete di un container, fatta dal processo che sta nascendo: un cavo virtuale verso il bridge del laboratorio."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from labkit.engine.operation import Context, Operation
from labkit.kernel import rtnetlink as rt

INTERFACE = "eth0"


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


def network_operations(link: str, ip: str, prefix: int, gateway: str) -> list[Operation]:
    """Le operazioni di rete: cavo e indirizzo, oppure solo ``lo`` se ``ip`` è vuoto."""
    if not ip:
        return [ConfigureNetwork()]
    return [ConnectVeth(link, ip), ConfigureNetwork(ip, prefix, gateway)]

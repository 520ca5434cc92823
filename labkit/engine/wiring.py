"""Le reti del laboratorio che cambiano mentre vive: bridge che nascono, cavi che si tirano a container già partiti.

Queste operazioni le esegue il processo delle reti (:mod:`labkit.supervisor.wirer`), che ha pyroute2:
``context.netlink`` è un :class:`labkit.kernel.netlink.Wires`. Annullarne una che è rimasta a metà non fa danno.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from labkit.engine.network import Endpoint
from labkit.engine.operation import Context, Operation


@dataclass(frozen=True)
class MakeBridge(Operation):
    """Una rete nuova è un bridge con il suo indirizzo."""

    network: str
    bridge: str
    mac: str
    addresses: tuple[tuple[str, int], ...]
    mtu: int

    syscall: ClassVar[str] = "sendmsg (RTM_NEWLINK, RTM_NEWADDR)"
    man: ClassVar[str] = "rtnetlink(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"

    def describe(self) -> str:
        return f"crea il bridge {self.bridge} della rete «{self.network}»"

    def execute(self, context: Context) -> None:
        context.netlink.bridge(self.bridge, self.mac, list(self.addresses), self.mtu)

    def undo(self, context: Context) -> None:
        context.netlink.remove(self.bridge)


@dataclass(frozen=True)
class RemoveLink(Operation):
    """Toglie un bridge, o un cavo con tutti e due i capi."""

    link: str

    syscall: ClassVar[str] = "sendmsg (RTM_DELLINK)"
    man: ClassVar[str] = "rtnetlink(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"toglie {self.link} dalla rete del laboratorio"

    def execute(self, context: Context) -> None:
        context.netlink.remove(self.link)


@dataclass(frozen=True)
class PlugCable(Operation):
    """Un cavo fra una rete e un container che gira."""

    endpoint: Endpoint
    pid: int

    syscall: ClassVar[str] = "sendmsg (RTM_NEWLINK)"
    man: ClassVar[str] = "veth(4), rtnetlink(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"

    def describe(self) -> str:
        return f"tira un cavo virtuale (veth) dalla rete «{self.endpoint.network}» a {self.endpoint.interface}"

    def execute(self, context: Context) -> None:
        end = self.endpoint
        context.netlink.cable(end.link, end.bridge, self.pid, end.interface, end.mac, end.mtu)

    def undo(self, context: Context) -> None:
        context.netlink.remove(self.endpoint.link)


@dataclass(frozen=True)
class TurnOn(Operation):
    """La scheda nuova del container si accende e ha il suo indirizzo."""

    endpoint: Endpoint
    pid: int

    syscall: ClassVar[str] = "setns, sendmsg (RTM_NEWLINK, RTM_NEWADDR)"
    man: ClassVar[str] = "setns(2), rtnetlink(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"

    def describe(self) -> str:
        return f"accende {self.endpoint.interface} nel container e gli dà l'indirizzo {self.endpoint.ip}"

    def execute(self, context: Context) -> None:
        end = self.endpoint
        addresses = [(end.ip, end.prefix), *([(end.ip6, end.prefix6)] if end.ip6 else [])]
        with context.netlink.inside(self.pid) as inside:
            inside.turn_on(end.interface, addresses)

    def undo(self, context: Context) -> None:
        """Niente da fare: la scheda sparisce con il suo cavo."""


@dataclass(frozen=True)
class Reroute(Operation):
    """Le strade del container passano da questa scheda."""

    endpoint: Endpoint
    pid: int

    syscall: ClassVar[str] = "setns, sendmsg (RTM_NEWROUTE)"
    man: ClassVar[str] = "setns(2), rtnetlink(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"

    def describe(self) -> str:
        return f"fa passare da {self.endpoint.interface} le strade del container"

    def execute(self, context: Context) -> None:
        end = self.endpoint
        with context.netlink.inside(self.pid) as inside:
            inside.route(end.interface, end.names, tuple(road for road in (end.gateway, end.gateway6) if road))

    def undo(self, context: Context) -> None:
        """Niente da fare: le strade spariscono con la scheda."""

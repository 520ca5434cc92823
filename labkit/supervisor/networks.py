"""Le reti del laboratorio: quali ci sono, chi ha quale indirizzo.

Invariante: due reti non hanno indirizzi in comune; un indirizzo è di un container solo, da quando il suo posto è scelto
fino a quando sparisce. Qui non si tocca il kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from labkit.engine.container import Placement
from labkit.engine.network import INTERFACE, NAMES, Endpoint
from labkit.errors import BackendError, ConflictError, InvalidError, NotFoundError
from labkit.kernel.rtnetlink import hardware_address
from labkit.networks import PREDEFINED, Attachment, NetworkInfo, Subnet, check_name

#: The network of all.
DEFAULT = Subnet.parse("10.88.0.0/16")

#: Whence a network takes its addresses if nobody chooses them, and how many bits are the network's.
POOL, POOL_PREFIX = Subnet.parse("10.89.0.0/16"), 24
POOL6, POOL6_PREFIX = Subnet.parse("fd89::/48"), 64

#: linux/if.h, IFNAMSIZ: fifteen letters and the end.
_LONGEST_NAME = 15
_MTU = 1500


@dataclass
class Network:
    """Una rete che qualcuno ha creato. ``index`` è il numero del suo bridge nel kernel: 0 finché il bridge non c'è."""

    name: str
    subnet: Subnet
    gateway: str
    bridge: str
    subnet6: Subnet | None = None
    gateway6: str = ""
    internal: bool = False
    mtu: int = _MTU
    index: int = 0
    created_at: float = field(default_factory=time.time)
    taken: set[str] = field(default_factory=set)
    macs: set[str] = field(default_factory=set)
    next_number: int = 1

    @property
    def mac(self) -> str:
        """L'indirizzo MAC del suo bridge."""
        return hardware_address(self.gateway).hex(":")

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Gli indirizzi del suo bridge."""
        six = ((self.gateway6, self.subnet6.prefix),) if self.subnet6 else ()
        return ((self.gateway, self.subnet.prefix), *six)

    def info(self) -> NetworkInfo:
        return NetworkInfo(
            self.name,
            "bridge",
            subnet=str(self.subnet),
            gateway=self.gateway,
            subnet6=str(self.subnet6 or ""),
            gateway6=self.gateway6,
            internal=self.internal,
            mtu=self.mtu,
            bridge=self.bridge,
            created_at=self.created_at,
        )

    def take(self, wanted: str) -> str:
        """Un indirizzo libero, o quello chiesto."""
        if wanted:
            if not self.subnet.usable(wanted):
                raise InvalidError(
                    f"L'indirizzo {wanted} non è della rete «{self.name}», che va da {self.subnet.address(1)} a "
                    f"{self.subnet.address(self.subnet.size - 2)}.",
                    f"ip='{self.subnet.address(min(10, self.subnet.size - 2))}'",
                )
            if wanted in self.taken:
                raise ConflictError(
                    f"L'indirizzo {wanted} della rete «{self.name}» è già di qualcuno.",
                    f"lab.network.inspect('{self.name}') dice di chi",
                )
            self.taken.add(wanted)
            return wanted
        last = self.subnet.size - 2
        for _ in range(last):
            number = self.next_number
            self.next_number = number + 1 if number < last else 1
            if (ip := self.subnet.address(number)) not in self.taken:
                self.taken.add(ip)
                return ip
        raise BackendError(
            f"Gli indirizzi della rete «{self.name}» ({self.subnet}) sono finiti: ne ha {last}, uno è del gateway.",
            "togli qualche container, oppure crea una rete più grande: subnet='10.100.0.0/16'",
        )

    def take6(self, wanted: str, ip: str) -> str:
        """L'indirizzo IPv6: quello chiesto, o lo stesso numero dell'IPv4."""
        if self.subnet6 is None:
            if wanted:
                raise InvalidError(f"La rete «{self.name}» non ha indirizzi IPv6.", "lab.network.create(…, ipv6=True)")
            return ""
        number = int.from_bytes(bytes(map(int, ip.split(".")))) - self.subnet.first
        wanted = wanted or self.subnet6.address(number)
        if not self.subnet6.usable(wanted):
            raise InvalidError(f"L'indirizzo {wanted} non è della rete «{self.name}» ({self.subnet6}).")
        if wanted in self.taken:
            raise ConflictError(f"L'indirizzo {wanted} della rete «{self.name}» è già di qualcuno.",
                                f"lab.network.inspect('{self.name}') dice di chi")  # fmt: skip
        self.taken.add(wanted)
        return wanted


class Networks:
    """Le reti che qualcuno ha creato, per nome. ``link`` dà un nome nuovo per un cavo."""

    def __init__(self, link: Callable[[], str]) -> None:
        self._link = link
        self.known: dict[str, Network] = {}
        self._count = 0

    def __getitem__(self, name: str) -> Network:
        if name not in self.known or not self.known[name].index:
            names = ", ".join([*PREDEFINED, *self.known])
            raise NotFoundError(
                f"La rete «{name}» non c'è. Quelle che ci sono: {names}.", f"lab.network.create('{name}')"
            )
        return self.known[name]

    def design(
        self, name: str, subnet: str = "", gateway: str = "", internal: bool = False, ipv6: str = "", mtu: int = 0
    ) -> Network:
        """Una rete nuova, con un nome e degli indirizzi di nessun altro; il suo bridge non c'è ancora."""
        if check_name(name) in self.known or name in PREDEFINED:
            raise ConflictError(
                f"C'è già una rete di nome «{name}».", f"lab.network.rm('{name}'), oppure un altro nome"
            )
        if not isinstance(mtu, int) or (mtu and not 1280 <= mtu <= 65535):
            raise InvalidError(f"Un pacchetto di {mtu} byte non va bene: da 1280 a 65535.", "mtu=1500")
        chosen = Subnet.parse(subnet) if subnet else self._free(POOL, POOL_PREFIX)
        if chosen.bits != 32:
            raise InvalidError("subnet vuole indirizzi IPv4; quelli IPv6 si chiedono con ipv6=.", "ipv6=True")
        six = None
        if ipv6:
            six = self._free(POOL6, POOL6_PREFIX) if ipv6 == "auto" else Subnet.parse(ipv6)
            if six.bits != 128:
                raise InvalidError("ipv6 vuole True, oppure una rete di indirizzi IPv6.", "ipv6='fd00:1::/64'")
        for other in (DEFAULT, *self._subnets()):
            for mine in (chosen, *([six] if six else [])):
                if mine.overlaps(other):
                    raise ConflictError(
                        f"La rete {mine} ha indirizzi in comune con {other}, che è di «{self._owner(other)}».",
                        "un'altra subnet, oppure nessuna: la sceglie il laboratorio",
                    )
        if gateway and not chosen.usable(gateway):
            raise InvalidError(
                f"Il gateway {gateway} non è un indirizzo di {chosen}.", f"gateway='{chosen.address(1)}'"
            )
        self._count += 1
        bridge = f"br-{name}" if len(name) <= _LONGEST_NAME - 3 else f"br-{self._count}"
        if bridge in {network.bridge for network in self.known.values()}:
            bridge = f"br--{self._count}"
        gateway6 = six.address(1) if six else ""
        gateway = gateway or chosen.address(1)
        network = Network(name, chosen, gateway, bridge, six, gateway6, bool(internal), mtu or _MTU)
        network.taken |= {network.gateway, *([network.gateway6] if six else [])}
        self.known[name] = network
        return network

    def forget(self, name: str) -> None:
        """La rete non c'è più."""
        self.known.pop(name, None)

    def _subnets(self) -> list[Subnet]:
        return [found for n in self.known.values() for found in (n.subnet, n.subnet6) if found]

    def _owner(self, subnet: Subnet) -> str:
        return next((n.name for n in self.known.values() if subnet in (n.subnet, n.subnet6)), "bridge")

    def _free(self, pool: Subnet, prefix: int) -> Subnet:
        taken = self._subnets()
        step = 1 << (pool.bits - prefix)
        for number in range(min(pool.size // step, 1 << 16)):
            found = Subnet(pool.first + number * step, prefix, pool.bits)
            if not any(found.overlaps(other) for other in taken):
                return found
        raise BackendError(
            f"Non c'è più posto per un'altra rete in {pool}.", "scegli tu gli indirizzi: subnet='10.100.0.0/24'"
        )

    # ---- who is where

    def join(self, place: Placement, attachments: Iterable[Attachment]) -> Placement:
        """Lo stesso posto, con un capo in ognuna di quelle reti (quella di tutti l'ha già)."""
        ends: list[Endpoint] = []
        try:
            for attachment in attachments:
                if attachment.network != "bridge":
                    ends.append(self.endpoint(replace(place, endpoints=tuple(ends)), attachment))
        except BaseException:
            for end in ends:
                self.release(end)
            raise
        return replace(place, endpoints=tuple(ends)) if ends else place

    def endpoint(self, place: Placement, attachment: Attachment) -> Endpoint:
        """Un capo nuovo per quel posto: la scheda che viene dopo le sue, un indirizzo libero."""
        network = self[attachment.network]
        mac = attachment.mac.lower()
        if mac in network.macs:
            raise ConflictError(f"L'indirizzo MAC {mac} sulla rete «{network.name}» è già di qualcuno.",
                                f"lab.network.inspect('{network.name}') dice di chi")  # fmt: skip
        ip = network.take(attachment.ip)
        try:
            ip6 = network.take6(attachment.ip6, ip)
        except BaseException:
            network.taken.discard(ip)
            raise
        used = {INTERFACE} if place.ip else set()
        used |= {end.interface for end in place.endpoints}
        number = next(n for n in range(len(used) + 1) if f"eth{n}" not in used)
        routed = bool(place.gateway) or any(end.gateway for end in place.endpoints)
        mac = mac or hardware_address(ip).hex(":")
        network.macs.add(mac)
        return Endpoint(
            network.name,
            network.bridge,
            network.index,
            self._link(),
            f"eth{number}",
            ip,
            network.subnet.prefix,
            mac,
            ip6,
            network.subnet6.prefix if network.subnet6 else 64,
            gateway="" if routed or network.internal else network.gateway,
            gateway6="" if routed or network.internal else network.gateway6,
            names="" if place.ip or any(end.names for end in place.endpoints) else NAMES,
            mtu=network.mtu,
            aliases=attachment.aliases,
        )

    def renew(self, place: Placement) -> Placement:
        """Gli stessi capi con cavi dal nome nuovo: quelli di prima possono esserci ancora."""
        return replace(place, endpoints=tuple(replace(end, link=self._link()) for end in place.endpoints))

    def heir(self, place: Placement) -> Placement:
        """Chi ha perso la scheda da cui passavano le strade le fa passare da un'altra, se può."""
        ends = list(place.endpoints)
        if ends and not place.ip and not any(end.names for end in ends):
            ends[0] = replace(ends[0], names=NAMES)
        if not place.gateway and not any(end.gateway for end in ends):
            for number, end in enumerate(ends):
                network = self.known.get(end.network)
                if network and not network.internal:
                    ends[number] = replace(end, gateway=network.gateway, gateway6=network.gateway6)
                    break
        return replace(place, endpoints=tuple(ends))

    def release(self, end: Endpoint) -> None:
        """Rende gli indirizzi di un capo che non c'è più."""
        network = self.known.get(end.network)
        if network:
            network.taken -= {end.ip, end.ip6}
            network.macs.discard(end.mac)

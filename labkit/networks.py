"""Le reti di un laboratorio, come dati: le file di indirizzi, come un container si attacca, chi sta dove."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from labkit.errors import InvalidError

#: Le reti che ogni laboratorio ha: quella di tutti, quella del laboratorio stesso, nessuna.
PREDEFINED = ("bridge", "host", "none")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_ALIAS = re.compile(r"(?=.{1,253}$)[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?)*")  # fmt: skip  # noqa: E501
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)


def check_name(name: str) -> str:
    """Il nome di una rete, se può esserlo (le regole di Docker)."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r} non può essere il nome di una rete: lettere, cifre, «_», «.» e «-».",
            "lab.network.create('interna')",
        )
    return name


def packed(ip: str) -> bytes:
    """I byte di un indirizzo: 4 (IPv4) o 16 (IPv6).

    >>> packed("10.89.0.2").hex()
    '0a590002'
    """
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    except (OSError, TypeError, ValueError):
        raise InvalidError(f"«{ip}» non è un indirizzo IP.", "ip='10.89.0.10'") from None


@dataclass(frozen=True)
class Subnet:
    """Una fila di indirizzi che cominciano con gli stessi ``prefix`` bit, scritta come ``10.89.0.0/24``.

    >>> lan = Subnet.parse("10.89.0.0/24")
    >>> lan.address(1), "10.89.0.7" in lan, lan.overlaps(Subnet.parse("10.0.0.0/8"))
    ('10.89.0.1', True, True)
    """

    first: int
    prefix: int
    bits: int = 32

    @classmethod
    def parse(cls, text: str) -> Subnet:
        """Legge ``INDIRIZZO/BIT``; alza :class:`~labkit.errors.InvalidError` se non è l'inizio di una fila."""
        address, slash, prefix = str(text).partition("/")
        raw = packed(address)
        bits = len(raw) * 8
        if not slash or not (prefix.isascii() and prefix.isdecimal() and int(prefix) <= bits - 2):
            raise InvalidError(
                f"«{text}» non è una rete: ci vogliono il primo indirizzo e i bit fissi, al massimo {bits - 2}.",
                "subnet='10.89.0.0/24'",
            )
        size = 1 << (bits - int(prefix))
        found = cls(int.from_bytes(raw) // size * size, int(prefix), bits)
        if found.first != int.from_bytes(raw):
            raise InvalidError(f"«{text}» non comincia dal suo primo indirizzo.", f"subnet='{found}'")
        return found

    @property
    def size(self) -> int:
        """Quanti indirizzi ha."""
        return 1 << (self.bits - self.prefix)

    def address(self, number: int) -> str:
        """L'indirizzo al posto ``number``, contando da 0."""
        raw = (self.first + number).to_bytes(self.bits // 8)
        return socket.inet_ntop(socket.AF_INET6 if self.bits == 128 else socket.AF_INET, raw)

    def __contains__(self, ip: str) -> bool:
        raw = packed(ip)
        return len(raw) * 8 == self.bits and self.first <= int.from_bytes(raw) < self.first + self.size

    def usable(self, ip: str) -> bool:
        """Se un container può averlo: non il primo, che è della rete, né l'ultimo, che vuol dire «tutti»."""
        return ip in self and 0 < int.from_bytes(packed(ip)) - self.first < self.size - 1

    def overlaps(self, other: Subnet) -> bool:
        """Se le due file hanno qualche indirizzo in comune."""
        near = self.first < other.first + other.size and other.first < self.first + self.size
        return self.bits == other.bits and near

    def __str__(self) -> str:
        return f"{self.address(0)}/{self.prefix}"


@dataclass(frozen=True)
class Attachment:
    """Come un container sta su una rete: i nomi che ha lì, l'indirizzo e il MAC se qualcuno li ha scelti."""

    network: str
    aliases: tuple[str, ...] = ()
    ip: str = ""
    ip6: str = ""
    mac: str = ""

    def __post_init__(self) -> None:
        check_name(self.network)
        if self.network in ("host", "none"):
            raise InvalidError(
                f"A «{self.network}» non ci si può collegare insieme ad altre reti.",
                f"network='{self.network}', da sola",
            )
        for alias in self.aliases:
            if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
                raise InvalidError(f"{alias!r} non può essere un nome sulla rete.", "aliases=['web']")
        for ip, size in ((self.ip, 4), (self.ip6, 16)):
            if ip and len(packed(ip)) != size:
                raise InvalidError(f"«{ip}» non è un indirizzo IPv{4 if size == 4 else 6}.", "ip='10.89.0.10'")
        if self.mac and (not _MAC.fullmatch(self.mac) or int(self.mac[:2], 16) & 1):
            raise InvalidError(f"«{self.mac}» non può essere l'indirizzo MAC di una scheda.", "mac='02:42:0a:59:00:0a'")
        if self.network == "bridge" and (self.aliases or self.ip or self.ip6 or self.mac):
            raise InvalidError(
                "Sulla rete «bridge» nomi e indirizzi non si scelgono: si può in una rete tua.",
                "lab.network.create('interna')",
            )

    @classmethod
    def parse(cls, text: str) -> Attachment:
        """Legge ``RETE`` oppure ``name=RETE,alias=NOME,ip=…,ip6=…,mac-address=…`` come ``docker run --network``.

        >>> Attachment.parse("name=interna,alias=web").aliases
        ('web',)
        """
        if "=" not in text:
            return cls(text)
        values: dict[str, list[str]] = {}
        for piece in text.split(","):
            key, _, value = piece.partition("=")
            values.setdefault(key, []).append(value)
        known = {"name": "network", "ip": "ip", "ip6": "ip6", "mac-address": "mac"}
        aliases = tuple(values.pop("alias", ()))
        if not set(values) <= set(known) or "name" not in values or any(len(given) > 1 for given in values.values()):
            raise InvalidError(f"Non capisco la rete «{text}».", "network='name=interna,alias=web,ip=10.89.0.10'")
        return cls(aliases=aliases, **{known[key]: given[0] for key, given in values.items()})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attachment:
        return cls(**{**data, "aliases": tuple(data.get("aliases", ()))})


@dataclass(frozen=True)
class Member:
    """Un container su una rete: scheda, indirizzi, nomi; ``link`` è il capo del cavo sul bridge."""

    container: str
    network: str
    interface: str
    ip: str
    ip6: str = ""
    mac: str = ""
    link: str = ""
    aliases: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Member:
        return cls(**{**data, "aliases": tuple(data["aliases"])})


@dataclass(frozen=True)
class NetworkInfo:
    """Una rete come la dà ``inspect``: ``subnet`` e ``gateway`` vuoti se non ha indirizzi suoi.

    ``internal`` se da lì non si esce; ``bridge`` è il nome del bridge nel kernel del laboratorio; ``members`` chi c'è.
    """

    name: str
    driver: str
    subnet: str = ""
    gateway: str = ""
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    mtu: int = 1500
    bridge: str = ""
    created_at: float = 0.0
    members: tuple[Member, ...] = field(default_factory=tuple)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkInfo:
        values = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        values["members"] = tuple(Member.from_json(row) for row in data.get("members", ()))
        return cls(**values)

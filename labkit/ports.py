"""Le porte pubblicate: da quale della macchina a quale del container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.errors import InvalidError

PROTOCOLS = ("tcp", "udp")


@dataclass(frozen=True)
class Port:
    """Una porta pubblicata: ``host_ip:host_port`` sulla macchina porta a ``container_port``.

    ``host_port`` 0 vuol dire «una libera qualunque».

    >>> Port.parse("8080:80")
    Port(container_port=80, host_port=8080, host_ip='127.0.0.1', protocol='tcp')
    """

    container_port: int
    host_port: int = 0
    host_ip: str = "127.0.0.1"
    protocol: str = "tcp"

    def __post_init__(self) -> None:
        if not 1 <= self.container_port <= 65535 or not 0 <= self.host_port <= 65535:
            raise InvalidError(
                f"La porta {self.host_port}:{self.container_port} non esiste: una porta va da 1 a 65535.",
                "publish='8080:80'",
            )
        numbers = self.host_ip.split(".")
        if len(numbers) != 4 or not all(n.isascii() and n.isdecimal() and int(n) < 256 for n in numbers):
            raise InvalidError(
                f"«{self.host_ip}» non è un indirizzo IPv4 di questa macchina.", "publish='127.0.0.1:8080:80'"
            )
        if self.protocol not in PROTOCOLS:
            raise InvalidError(f"Una porta è tcp o udp: «{self.protocol}» non lo è.", "publish='5353:53/udp'")

    @classmethod
    def parse(cls, text: str | int) -> Port:
        """Legge una porta sola, come in :meth:`parse_all`."""
        found = cls.parse_all(text)
        if len(found) != 1:
            raise InvalidError(f"«{text}» sono {len(found)} porte: qui ne va una.", "publish='8080:80'")
        return found[0]

    @classmethod
    def parse_all(cls, text: str | int) -> tuple[Port, ...]:
        """Legge ``[IP:][PORTA_HOST:]PORTA_CONTAINER[/tcp|/udp]`` come l'opzione ``-p`` di docker run.

        Al posto di una porta può esserci una fila, lunga uguale dalle due parti.

        >>> [str(port) for port in Port.parse_all("8000-8001:80-81/udp")]
        ['127.0.0.1:8000->80/udp', '127.0.0.1:8001->81/udp']
        """
        body, _, protocol = str(text).partition("/")
        parts = body.rsplit(":", 2)
        inside, outside = _row(parts[-1]), _row(parts[-2]) if len(parts) > 1 and parts[-2] else ()
        misread = not inside or outside is None or (len(parts) == 2 and not parts[0])
        if misread or protocol not in ("", *PROTOCOLS):
            raise InvalidError(
                f"Non capisco la porta «{text}»: ci vuole [IP:]PORTA_HOST:PORTA_CONTAINER[/udp].", "publish='8080:80'"
            )
        if outside and len(outside) != len(inside or ()):
            raise InvalidError(f"In «{text}» le due file di porte non sono lunghe uguali.", "publish='8000-8002:80-82'")
        ip = parts[0] if len(parts) == 3 else "127.0.0.1"
        pairs = zip(inside or (), outside or (0,) * len(inside or ()), strict=True)
        return tuple(cls(port, host, ip, protocol or "tcp") for port, host in pairs)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Port:
        protocol = str(data.get("protocol", "tcp"))
        return cls(int(data["container_port"]), int(data["host_port"]), str(data["host_ip"]), protocol)

    def meets(self, other: Port) -> bool:
        """Se sulla macchina le due porte sono la stessa."""
        anywhere = "0.0.0.0" in (self.host_ip, other.host_ip) or self.host_ip == other.host_ip
        return anywhere and (self.host_port, self.protocol) == (other.host_port, other.protocol)

    def __str__(self) -> str:
        return f"{self.host_ip}:{self.host_port}->{self.container_port}/{self.protocol}"


def _row(text: str) -> tuple[int, ...] | None:
    """Una porta, o una fila come ``8000-8002``; ``None`` se non lo è."""
    first, dash, last = text.partition("-")
    ends = (first, last) if dash else (first, first)
    if not all(end.isascii() and end.isdecimal() and len(end) <= 5 for end in ends) or int(ends[0]) > int(ends[1]):
        return None
    return tuple(range(int(ends[0]), int(ends[1]) + 1))

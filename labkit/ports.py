"""Le porte pubblicate: da quale della macchina a quale del container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.errors import InvalidError


@dataclass(frozen=True)
class Port:
    """Una porta pubblicata: ``host_ip:host_port`` sulla macchina porta a ``container_port``.

    ``host_port`` 0 vuol dire «una libera qualunque».

    >>> Port.parse("8080:80")
    Port(container_port=80, host_port=8080, host_ip='127.0.0.1')
    """

    container_port: int
    host_port: int = 0
    host_ip: str = "127.0.0.1"

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

    @classmethod
    def parse(cls, text: str | int) -> Port:
        """Legge ``[IP:][PORTA_HOST:]PORTA_CONTAINER[/tcp]`` come l'opzione ``-p`` di docker run."""
        body, _, proto = str(text).partition("/")
        parts = body.rsplit(":", 2)
        if proto not in ("", "tcp") or not all(p.isdecimal() for p in parts[-2:] if p != "" or len(parts) < 3):
            raise InvalidError(
                f"Non capisco la porta «{text}»: ci vuole [IP:]PORTA_HOST:PORTA_CONTAINER, solo tcp.",
                "publish='8080:80'",
            )
        ip = parts[0] if len(parts) == 3 else "127.0.0.1"
        return cls(int(parts[-1]), int(parts[-2] or 0) if len(parts) > 1 else 0, ip)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Port:
        return cls(int(data["container_port"]), int(data["host_port"]), str(data["host_ip"]))

    def __str__(self) -> str:
        return f"{self.host_ip}:{self.host_port}->{self.container_port}/tcp"

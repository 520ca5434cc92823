"""Dove un registro può mandare chi lo usa, e dove no.

HTTP in chiaro solo verso questa stessa macchina; un rinvio, o il servizio dei gettoni, non scende mai da
https a http, e un registro lontano non manda mai dentro questa macchina o la sua rete.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from labkit.errors import RegistryError as RegistryError


class PassingError(RegistryError):
    """Un guasto che può passare da solo: si riprova."""


@dataclass(frozen=True)
class Origin:
    """Con chi si parla: schema, macchina e porta. Le credenziali valgono per uno solo."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """L'origine di un indirizzo; rifiuta quelli che non sono http(s), o che hanno dentro un utente."""
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname or not port or "@" in parts.netloc:
            raise RegistryError("Il registro manda a un indirizzo che non è http o https, o che ha dentro un utente.")
        return cls(parts.scheme, parts.hostname.lower(), port)

    @property
    def local(self) -> bool:
        """Se è questa macchina (127.0.0.0/8, ::1, localhost)."""
        return is_local(self.host)

    @property
    def private(self) -> bool:
        """Se porta a un indirizzo che da fuori non si può raggiungere: questa macchina, la rete di casa."""
        return self.local or any(_inside(address) for address in addresses(self.host))


def is_local(host: str) -> bool:
    """Se ``host`` (senza porta) è questa macchina."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def addresses(host: str) -> set[str]:
    """Gli indirizzi di un nome; nessuno se qui non si sa (ci penserà il proxy, se c'è)."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def _inside(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])  # fe80::1%eth0
    return not (getattr(found, "ipv4_mapped", None) or found).is_global


def check_move(start: Origin, target: Origin, what: str) -> None:
    """Rifiuta un passaggio pericoloso da ``start`` a ``target``; ``what`` lo racconta («il rinvio»)."""
    if target == start:  # whoever chose the registry has chosen this
        return
    if target.scheme == "http" and not target.local:
        raise RegistryError(f"Il registro {start.host} con {what} manda in chiaro (http) a {target.host}: non ci vado.")
    if start.scheme == "https" and target.scheme == "http":
        raise RegistryError(f"Il registro {start.host} con {what} scende da https a http: non ci vado.")
    if target.host != start.host and target.private and not start.private:
        raise RegistryError(
            f"Il registro {start.host} con {what} manda a {target.host}, che è dentro la tua rete: non ci vado."
        )

"""Chi si chiama come, per il servizio di nomi: il processo chiede (:mod:`labkit.supervisor.resolver`), qui si risponde.

Un container conosce per nome solo chi sta con lui su una rete che qualcuno ha creato: come in Docker, sulla rete di
tutti i nomi non ci sono.
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from labkit.engine.network import Endpoint
from labkit.supervisor.state import Container

if TYPE_CHECKING:
    from labkit.supervisor.server import Server

#: Secondi prima di rifare il processo, se quello di prima è finito appena nato.
_PAUSE = 1.0

#: Lettere dell'id che valgono come nome, come in Docker.
_SHORT_ID = 12


class Naming:
    """Il servizio di nomi dalla parte del supervisore. ``servers`` sono quelli di fuori: nessuno, senza Internet."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._channel: socket.socket | None = None
        self._wanted = False
        self._born = 0.0
        self.servers: tuple[str, ...] = ()

    def start(self) -> None:
        """D'ora in poi qualcuno risponde; se il processo finisce, ne nasce un altro."""
        if not self._wanted:
            self._wanted = True
            self._begin()

    def _begin(self) -> None:
        self._born = time.monotonic()
        self._channel = self._server.launcher.resolver()
        if self._channel is not None:
            self._server.loop.read(self._channel.fileno(), self._asked)

    def _asked(self, fd: int) -> None:
        channel = self._channel
        assert channel is not None
        data = channel.recv(1 << 16)
        if not data:
            self._server.loop.forget(fd)
            channel.close()
            soon = time.monotonic() - self._born < _PAUSE
            self._server.loop.after(_PAUSE if soon else 0, self._begin)
            return
        asked = json.loads(data)
        values = self.names_of(asked) if asked["address"] else self.addresses_of(asked)
        answer = {"id": asked["id"], "values": values, "servers": self.servers}
        channel.send(json.dumps(answer).encode())

    def addresses_of(self, asked: dict[str, Any]) -> list[str] | None:
        """Gli indirizzi di chi si chiama così sulle reti di chi chiede; ``None`` se non si chiama così nessuno."""
        name, _, network = str(asked["name"]).rpartition(".")
        found: list[str] = []
        for container, end in self._neighbours(asked["source"]):
            names = _names(container, end)
            if asked["name"] in names or (end.network.lower() == network and name in names):
                found += filter(None, (end.ip, end.ip6))
        return found or None

    def names_of(self, asked: dict[str, Any]) -> list[str] | None:
        """Il nome di chi ha quell'indirizzo (``web.interna``), come in Docker; ``None`` se non è di nessuno."""
        for container, end in self._neighbours(asked["source"]):
            if asked["address"] in (end.ip, end.ip6):
                return [f"{container.name}.{end.network}"]
        return None

    def _neighbours(self, source: str) -> list[tuple[Container, Endpoint]]:
        """Chi vive sulle reti di chi chiede; un processo del laboratorio le vede tutte."""
        everyone = [
            (container, end)
            for container in self._server.state.containers.values()
            if container.task and container.task.exit_code is None
            for end in container.place.endpoints
        ]
        mine = {end.network for container, end in everyone if _is(container, source)}
        known = mine or any(_is(container, source) for container in self._server.state.containers.values())
        return [(container, end) for container, end in everyone if end.network in mine or not known]


def _is(container: Container, ip: str) -> bool:
    return ip == container.place.ip or any(ip == end.ip for end in container.place.endpoints)


def _names(container: Container, end: Endpoint) -> set[str]:
    return {container.name.lower(), container.id[:_SHORT_ID], *(alias.lower() for alias in end.aliases)}

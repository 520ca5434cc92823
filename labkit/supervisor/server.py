"""Il supervisore: PID 1 del laboratorio, un ciclo solo, un verbo alla volta.

Invariante: finisce quando il primo client se ne va o lo chiede, e finendo porta con sé ogni processo
del laboratorio.
"""

from __future__ import annotations

import errno
import gc
import json
import socket
import time
from collections.abc import Callable
from typing import Any

from labkit.errors import BackendError, ConflictError, LabError, ProtocolError
from labkit.kernel.explain import error, from_os_error
from labkit.model import Event, Feature, to_json
from labkit.ports import Port
from labkit.protocol import VERSION, Kind, pack_json
from labkit.supervisor.connection import Call, Connection
from labkit.supervisor.groups import Groups
from labkit.supervisor.launcher import DirectLauncher, Launcher
from labkit.supervisor.loop import Loop
from labkit.supervisor.naming import Naming
from labkit.supervisor.shelf import Shelf
from labkit.supervisor.state import State
from labkit.supervisor.unpacking import Images
from labkit.supervisor.volumes import Volumes
from labkit.supervisor.wirer import Wirer


class Server:
    """Quello che i verbi hanno in mano: il ciclo, lo stato, chi fa nascere i processi, il guardiano."""

    def __init__(self, config: dict[str, Any], launcher: Launcher, loop: Loop, guard: socket.socket) -> None:
        self.config = config
        self.launcher = launcher
        self.loop = loop
        self.guard = guard
        self.state = State()
        self.state.on_event = self._tell
        self.processes: dict[str, Any] = {}
        self.followers: list[tuple[Call, Callable[[Event], bool]]] = []
        self.connections: list[Connection] = []
        self.owner: Connection | None = None
        self.volumes = Volumes(Shelf(config["volumes"]), loop, visible=config.get("visible"))
        self.images = Images(self)
        self.wirer = Wirer(loop, launcher.wirer)
        self.naming = Naming(self)
        self.groups = Groups(self, launcher.group, launcher.reasons, config.get("kmsg", -1))

    def hello(self) -> dict[str, Any]:
        """Quello che un client vuole sapere appena collegato."""
        return {
            "version": VERSION,
            "id": self.config["id"],
            "code": self.config["code"],
            "backend": self.config["backend"],
            "mode": self.config["mode"],
            "folder": self.config["folder"],
            "features": to_json(self.features()),
        }

    def features(self) -> list[Feature]:
        return self.launcher.features()

    def accept(self, sock: socket.socket) -> Connection:
        connection = Connection(self.loop, sock, self.dispatch, self.disconnected)
        self.connections.append(connection)
        return connection

    def disconnected(self, connection: Connection) -> None:
        self.connections.remove(connection)
        self.followers = [(call, right) for call, right in self.followers if call.connection is not connection]
        if connection is self.owner:
            self.loop.running = False

    def dispatch(self, call: Call, request: Any) -> None:
        """Una richiesta: il verbo è cercato in una tabella chiusa, ogni errore torna come dati."""
        from labkit.supervisor.verbs import VERBS

        def act() -> None:
            if not isinstance(request, dict) or not isinstance(request.get("args"), dict):
                raise ProtocolError("Una richiesta deve avere un verbo e degli argomenti.")
            verb = VERBS.get(str(request.get("verb")))
            if verb is None:
                raise ProtocolError(f"Il laboratorio non conosce il verbo «{request.get('verb')}».")
            verb(self, call, **request["args"])

        self.attempt(call, act, str(request.get("verb")) if isinstance(request, dict) else "")

    def attempt(self, call: Call, act: Callable[[], None], what: str = "") -> None:
        """Fa qualcosa per una richiesta: un errore è la sua risposta, e il laboratorio va avanti."""
        try:
            act()
        except LabError as problem:
            call.fail(problem)
        except OSError as problem:
            call.fail(from_os_error(problem))
        except Exception as problem:  # noqa: BLE001  whatever one request holds, the lab goes on
            call.fail(ProtocolError(f"Argomenti sbagliati per {what}: {problem}."))

    def follow(self, call: Call, right: Callable[[Event], bool]) -> None:
        """Da adesso a quella richiesta si dicono gli eventi per cui ``right`` è vero."""
        self.followers.append((call, right))

    def rest(self) -> bool:
        """Quando non c'è altro da fare: fa nascere chi servirà; ``True`` se è nato qualcuno, e forse non basta."""
        return self.launcher.rest()

    def _tell(self, event: Event) -> None:
        """Un evento a chi li segue; chi ha già avuto la sua ultima risposta non segue più."""
        self.followers = [(call, right) for call, right in self.followers if call.open]
        for call, right in self.followers:
            if right(event):
                call.event(to_json(event))

    def listen(self, port: Port) -> tuple[socket.socket, int]:
        """Una presa che aspetta nella rete dell'host, chiesta al guardiano."""
        if port.protocol == "udp" and self.config["mode"] == "vm":
            why = "Da una macchina virtuale si pubblicano solo porte tcp: il canale con l'host porta connessioni."
            raise BackendError(why, "Lab(backend='direct')")
        self.guard.settimeout(5)
        self.guard.send(json.dumps({"listen": [port.host_ip, port.host_port, port.protocol]}).encode())
        data, fds, _, _ = socket.recv_fds(self.guard, 4096, 1)
        answer = json.loads(data)
        if fds:
            return socket.socket(fileno=fds[0]), int(answer["port"])
        why = error("bind", answer["errno"]).message.partition(", ")[2]
        owner = next(
            (c.name for c in self.state.containers.values() if c.forwarders and any(map(port.meets, c.ports))), ""
        )
        held = owner or answer["errno"] != errno.EADDRINUSE  # else whoever asks may know the process that has it
        raise ConflictError(
            f"La porta {port.host_port} di {port.host_ip} non si può pubblicare: {why}"
            + (f" La tiene il container «{owner}»." if owner else ""),
            "scegli un'altra porta, o lascia scegliere: publish='80'",
            **({} if held else {"port": port.host_port, "protocol": port.protocol}),
        )

    def unlisten(self, ports: list[int]) -> None:
        """Porte che non servono più: in una macchina virtuale le tiene aperte l'host."""
        for port in ports:
            self.guard.send(json.dumps({"unlisten": port}).encode())


def serve_lab(config: dict[str, Any], wire: socket.socket, door: socket.socket, guard: socket.socket) -> None:
    """Fa il mondo del laboratorio e risponde ai client finché il primo non se ne va."""
    started = time.monotonic()
    launcher: Launcher
    if config["mode"] == "fake":
        from labkit.supervisor.fake import FakeLauncher

        launcher = FakeLauncher(config["paths"])
    else:
        launcher = DirectLauncher(config)
    loop = Loop()
    server = Server(config, launcher, loop, guard)
    server.owner = server.accept(wire)
    door.setblocking(False)
    loop.read(door.fileno(), lambda fd: _welcome(server, door))
    # The end of the wire is not enough: a process that inherited the client's socket keeps it open.
    if "client_pidfd" in config:  # not in a virtual machine: there the client is on the other side
        loop.read(config["client_pidfd"], lambda fd: setattr(loop, "running", False))
    # Everything alive now stays for ever: keep it out of the collector, and of the children's copies.
    gc.collect()
    gc.freeze()
    gc.disable()
    hello = server.hello() | {"boot_ms": (time.monotonic() - started) * 1000}
    server.owner.send(pack_json(Kind.RET, 0, hello))
    loop.idle = server.rest
    loop.run()


def _welcome(server: Server, door: socket.socket) -> None:
    try:
        sock, _ = door.accept()
    except BlockingIOError:
        return
    connection = server.accept(sock)
    connection.send(pack_json(Kind.RET, 0, server.hello()))

"""I verbi delle reti: nascono, si guardano, spariscono; i container ci si attaccano e se ne staccano mentre girano.

Chi è dove lo decide :mod:`labkit.supervisor.networks`, e vale subito; i cavi li tira il processo delle reti, e se non
ci riesce la decisione è ritirata.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.engine.network import NAMES, Endpoint
from labkit.engine.operation import Operation
from labkit.engine.wiring import MakeBridge, PlugCable, RemoveLink, Reroute, TurnOn
from labkit.errors import ConflictError, LabError, NotFoundError
from labkit.model import to_json
from labkit.networks import PREDEFINED, Attachment, Member, NetworkInfo
from labkit.supervisor.connection import Call
from labkit.supervisor.launcher import halves
from labkit.supervisor.networks import DEFAULT
from labkit.supervisor.state import Container, members

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


def create(
    server: Server,
    call: Call,
    name: str,
    subnet: str = "",
    gateway: str = "",
    internal: bool = False,
    ipv6: str = "",
    mtu: int = 0,
) -> None:
    """Una rete nuova: un bridge con il suo indirizzo."""
    networks = server.launcher.networks
    network = networks.design(name, subnet, gateway, internal, ipv6, mtu)

    def made(problem: LabError | None) -> None:
        if problem:
            networks.forget(name)
            call.fail(problem)
            return
        network.index = server.launcher.index_of(network.bridge)
        server.naming.start()
        call.answer(to_json(describe(server, name)))

    server.wirer.ask((MakeBridge(name, network.bridge, network.mac, network.addresses, network.mtu),), made)


def listing(server: Server, call: Call) -> None:
    """Tutte le reti: prima quelle che ci sono sempre."""
    known = [name for name, network in server.launcher.networks.known.items() if network.index]
    call.answer([to_json(describe(server, name)) for name in (*PREDEFINED, *known)])


def inspect(server: Server, call: Call, name: str) -> None:
    call.answer(to_json(describe(server, name)))


def describe(server: Server, name: str) -> NetworkInfo:
    """Una rete e chi c'è, adesso."""
    if name in ("host", "none"):
        return NetworkInfo(name, "host" if name == "host" else "null")
    if name == "bridge":
        info = NetworkInfo(name, "bridge", str(DEFAULT), NAMES, bridge="lab0")
    else:
        info = server.launcher.networks[name].info()
    return replace(info, members=tuple(m for m in everyone(server) if m.network == name))


def everyone(server: Server) -> list[Member]:
    """Ogni capo di ogni container."""
    return [member for container in server.state.containers.values() for member in members(container)]


def remove(server: Server, call: Call, name: str) -> None:
    """Toglie una rete su cui non c'è nessuno."""
    _removable(server, name)
    _take_away(server, name, lambda problem: call.fail(problem) if problem else call.answer())


def _removable(server: Server, name: str) -> None:
    if name in PREDEFINED:
        raise ConflictError(f"La rete «{name}» c'è sempre, e non si può togliere.", "lab.network.ls()")
    there = [member.container for member in describe(server, name).members]
    if there:
        raise ConflictError(
            f"La rete «{name}» è in uso: ci sono {', '.join(there)}.",
            f"lab.network.disconnect('{name}', '{there[0]}'), oppure togli il container",
        )


def _take_away(server: Server, name: str, done: Callable[[LabError | None], None]) -> None:
    network = server.launcher.networks[name]
    index, network.index = network.index, 0  # from now on nobody can come in

    def removed(problem: LabError | None) -> None:
        if problem:
            network.index = index
        else:
            server.launcher.networks.forget(name)
        done(problem)

    server.wirer.ask((RemoveLink(network.bridge),), removed)


def prune(server: Server, call: Call) -> None:
    """Toglie tutte le reti su cui non c'è nessuno; risponde con i nomi."""
    known = [name for name, network in server.launcher.networks.known.items() if network.index]
    used = {member.network for member in everyone(server)}
    empty = [name for name in known if name not in used]
    waiting = len(empty)
    if not empty:
        call.answer([])

    def gone(problem: LabError | None) -> None:
        nonlocal waiting
        waiting -= 1
        if problem:
            call.fail(problem)
        elif not waiting:
            call.answer(empty)

    for name in empty:
        _take_away(server, name, gone)


def connect(server: Server, call: Call, container: str, attachment: dict[str, Any]) -> None:
    """Attacca un container a una rete: se gira, subito; se no, quando partirà."""
    wanted = Attachment.from_json(attachment)
    found = _movable(server, container)
    if wanted.network == "bridge":
        raise ConflictError(
            "Alla rete «bridge» ci si collega solo nascendo.", "lab.run(…, network=['bridge', 'altra'])"
        )
    if any(end.network == wanted.network for end in found.place.endpoints):
        raise ConflictError(
            f"Il container «{found.name}» è già sulla rete «{wanted.network}».",
            f"lab.network.inspect('{wanted.network}')",
        )
    end = server.launcher.networks.endpoint(found.place, wanted)
    _settle(server, found, (*found.spec.networks, wanted), (*found.place.endpoints, end))

    def plugged(problem: LabError | None) -> None:
        here = server.state.containers.get(found.name) is found
        if problem:
            if here:
                _detach(server, found, wanted.network)
            call.fail(problem)
            return
        server.state.note("connect", found, network=wanted.network)
        call.answer(to_json(next((m for m in members(found) if m.network == wanted.network), None)))

    if not found.alive or found.task is None:
        plugged(None)
        return
    pid = found.task.pid
    routes = (Reroute(end, pid),) if end.names or end.gateway else ()
    server.wirer.ask((PlugCable(end, pid), TurnOn(end, pid), *routes), plugged)


def disconnect(server: Server, call: Call, container: str, network: str) -> None:
    """Stacca un container da una rete: il cavo sparisce, e le strade passano da un'altra, se c'è."""
    found = _movable(server, container)
    member = next((m for m in members(found) if m.network == network), None)
    if member is None:
        raise NotFoundError(f"Il container «{found.name}» non è sulla rete «{network}».", "lab.network.ls()")
    running = found.alive and found.task is not None
    if running and found.ports and member.ip == found.place.address:
        raise ConflictError(
            f"Le porte pubblicate di «{found.name}» passano dalla rete «{network}».", "ferma prima il container"
        )
    before = {end.network: end for end in found.place.endpoints}
    _detach(server, found, network)
    changed = [end for end in found.place.endpoints if end != before[end.network]]

    def unplugged(problem: LabError | None) -> None:
        if problem:
            call.fail(problem)
            return
        server.state.note("disconnect", found, network=network)
        call.answer()

    if not running or found.task is None:
        unplugged(None)
        return
    pid = found.task.pid
    roads: list[Operation] = [Reroute(end, pid) for end in changed]
    server.wirer.ask((RemoveLink(member.link), *roads), unplugged)


def _movable(server: Server, name: str) -> Container:
    """Un container che ha una rete sua, e che non sta nascendo proprio adesso."""
    found = server.state.container(name)
    if found.spec.network == "host" or found.spec.network.startswith("container:"):
        raise ConflictError(
            f"Il container «{found.name}» non ha una rete sua: vive in quella di «{found.spec.network}».",
            "un container nuovo, con network='bridge'",
        )
    if found.birth or (found.state == "created" and not found.kept and found.lab_plan.position):
        raise ConflictError(f"Il container «{found.name}» sta nascendo: la sua rete non si cambia adesso.", "riprova")
    return found


def _settle(server: Server, container: Container, networks: tuple[Attachment, ...], ends: tuple[Endpoint, ...]) -> None:
    """D'ora in poi il container sta su quelle reti, anche se riparte."""
    name = networks[0].network if networks else "none"
    container.spec = replace(container.spec, network=name, attachments=networks)
    container.place = replace(container.place, endpoints=ends)
    if container.context.pid < 0 and container.lab_plan.position == 0:  # it has a plan, and has not begun it
        container.lab_plan, container.own_plan = halves(
            server.launcher, container.spec, container.image, container.place
        )


def _detach(server: Server, container: Container, network: str) -> None:
    """D'ora in poi il container non sta più su quella rete."""
    place = container.place
    if network == "bridge":
        server.launcher.leave_bridge(place)
        container.place = place = replace(place, link="", ip="", gateway="")
    for end in place.endpoints:
        if end.network == network:
            server.launcher.networks.release(end)
    left = replace(place, endpoints=tuple(end for end in place.endpoints if end.network != network))
    container.place = server.launcher.networks.heir(left)
    kept = tuple(one for one in container.spec.networks if one.network != network)
    _settle(server, container, kept, container.place.endpoints)


NETWORK_VERBS: dict[str, Callable[..., None]] = {
    "network_connect": connect,
    "network_create": create,
    "network_disconnect": disconnect,
    "network_inspect": inspect,
    "network_ls": listing,
    "network_prune": prune,
    "network_rm": remove,
}

"""I cgroup dei container visti dal supervisore: i limiti che si cambiano, il conto, chi viene ucciso, la pulizia.

Il kernel dice che in un gruppo la memoria è finita con un eventfd (versione 1) o cambiando
``memory.events`` (versione 2, inotify): uno solo per tutti i gruppi, poi si guarda di chi è cresciuto il conto.
Chi è stato ucciso lo racconta il diario del kernel, dove si può leggere.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.engine.limits import limit_operations, reason, supported
from labkit.engine.operation import Context, Plan
from labkit.errors import ConflictError, LabError, NotFoundError
from labkit.kernel import cgroups, libc
from labkit.kernel.accounts import account, frozen, oom_kills, victim
from labkit.kernel.cgroups import Cgroup
from labkit.model import to_json

if TYPE_CHECKING:
    from labkit.supervisor.connection import Call
    from labkit.supervisor.server import Server
    from labkit.supervisor.state import Container

_IN_MODIFY = 0x00000002  # sys/inotify.h

#: Secondi dopo un avviso in cui si riguarda: nella versione 1 arriva prima che la vittima sia scelta.
_LOOKS = (0.0, 0.02, 0.2)


class Groups:
    """Sorveglia i gruppi dei container vivi.

    ``kmsg`` è il descrittore del diario del kernel, -1 se qui non si può leggere.
    """

    def __init__(self, server: Server, group: Cgroup, reasons: dict[str, str], kmsg: int = -1) -> None:
        self.server = server
        self.group = group
        self.reasons = reasons
        self.kmsg = kmsg
        self._victims: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._sweeping = False
        self._events = -1
        version = group.version("memory")
        if version == 1:
            self._events = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        elif version == 2:
            self._events = libc.syscall("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        if version:
            server.loop.read(self._events, self._alarm)

    def watch(self, container: Container) -> None:
        """Il container sta per partire: da qui in poi un'uccisione nel suo gruppo si saprà."""
        group = container.place.group
        try:
            if group and self.group.version("memory") == 2:
                name = os.fsencode(group.path("memory.events"))
                libc.syscall("inotify_add_watch", self._events, name, _IN_MODIFY)
            elif group and self.group.version("memory") == 1:
                path = group.path("memory.events")
                control = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    cgroups.write(f"{os.path.dirname(path)}/cgroup.event_control", f"{self._events} {control}")
                finally:
                    os.close(control)
        except OSError:
            return  # a kernel without the notification (PREEMPT_RT has none): the end of the program will tell

    def _alarm(self, fd: int) -> None:
        try:
            while os.read(fd, 4096):
                pass
        except BlockingIOError:
            pass
        for delay in _LOOKS:
            self.server.loop.after(delay, self.look)

    def look(self) -> None:
        """Di chi è cresciuto il conto degli uccisi?"""
        for container in list(self.server.state.containers.values()):
            self.look_at(container)

    def look_at(self, container: Container) -> None:
        """Un evento ``oom`` per ogni vittima che il kernel ha scelto in questo container da quando si è guardato.

        Il conto può essere più alto delle vittime: chi muore insieme a una è contato anche lui.
        """
        group = container.place.group
        if group is None or container.task is None:
            return
        now = oom_kills(group)
        new = max(0, now - container.oom_seen)
        container.oom_seen += new
        container.oom_kills += new
        if new:
            self._read_kernel_log()
            for pid, name in self._victims.pop(group.name, None) or [(0, "")]:
                self.server.state.note("oom", container, pid=pid, process=name, memory=container.spec.limits.memory)

    def _read_kernel_log(self) -> None:
        """Le righe nuove del diario: quelle che parlano di noi dicono chi è stato ucciso."""
        while self.kmsg >= 0:
            try:
                record = os.read(self.kmsg, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                return
            except OSError:  # EPIPE: some records were overwritten before we read them
                continue
            found = victim(record)
            if found and self._ours(found[0]):
                self._victims[os.path.basename(found[0])].append((found[1], found[2]))

    def _ours(self, path: str) -> bool:
        return bool(os.path.basename(os.path.dirname(path)) == self.server.config["cgroup"]["name"])

    def forget(self, container: Container) -> None:
        """Il container non c'è più: il suo gruppo si toglie, appena i suoi processi sono finiti."""
        if container.place.group:
            self._victims.pop(container.place.group.name, None)
            self.sweep()

    def sweep(self, delay: float = 0.0) -> None:
        """Toglie i gruppi di chi non c'è più; se qualcuno sta ancora finendo ci riprova fra poco."""
        if self._sweeping:
            return
        self._sweeping = True

        def again() -> None:
            self._sweeping = False
            if not self.server.launcher.sweep({c.place.group.name for c in self._living() if c.place.group}):
                self.sweep(min(1.0, max(0.01, delay * 2)))

        self.server.loop.after(delay, again)

    def _living(self) -> list[Container]:
        return list(self.server.state.containers.values())


def change(server: Server, container: Container, data: dict[str, Any]) -> tuple[str, ...]:
    """Cambia i limiti di un container, anche mentre gira; torna una riga per ogni limite che qui non vale."""
    wanted = container.spec.limits.changed(data)
    kept, lines = supported(server.groups.group, wanted, server.groups.reasons)
    group = container.place.group
    if group and container.state in ("running", "paused"):
        Plan(tuple(limit_operations(group, kept, container.spec.limits))).run(Context())
    container.limit(kept)
    return lines


def update(server: Server, call: Call, name: str, limits: dict[str, Any]) -> None:
    """I limiti nuovi di un container: la risposta dice quali valgono."""
    container = server.state.container(name)
    lines = change(server, container, limits)
    server.state.note("update", container, **{key: to_json(value) for key, value in limits.items()})
    call.answer({"limits": to_json(container.spec.limits), "warnings": list(lines)})


def stats(server: Server, call: Call, name: str = "") -> None:
    """Il conto di un container, o di tutti quelli che girano."""
    chosen = [server.state.container(name)] if name else [c for c in server.state.containers.values() if c.alive]
    rows = []
    for container in chosen:
        group = container.place.group
        if group is None and name:
            why, remedy = reason("memory.current", server.groups.reasons)
            raise ConflictError(f"Del container «{container.name}» nessuno tiene il conto: {why}.", remedy)
        rows.append({**(account(group) if group else {}), "name": container.name, "time": time.monotonic()})
    call.answer(rows)


def pause(server: Server, call: Call, name: str) -> None:
    """Ferma tutti i processi del container, dove sono (``cgroup.freeze``); risponde quando sono fermi."""
    _freeze(server, call, name, True)


def unpause(server: Server, call: Call, name: str) -> None:
    """I processi riprendono da dove erano."""
    _freeze(server, call, name, False)


def _freeze(server: Server, call: Call, name: str, stop: bool) -> None:
    freeze(server, server.state.container(name), stop, call.answer, call.fail)


def freeze(
    server: Server, container: Container, stop: bool, then: Callable[[], None], fail: Callable[[LabError], None]
) -> None:
    """Ferma i processi di un container, o li lascia andare; ``then`` a cosa fatta, ``fail`` se non ci si riesce."""
    name = container.name
    wanted = "running" if stop else "paused"
    if container.state != wanted:
        raise ConflictError(f"Il container «{name}» {_IS[container.state]}.", "lab.ps(all=True)")
    group = container.place.group
    try:
        if group is None:
            raise NotFoundError("non ha un cgroup")
        group.write("cgroup.freeze", int(stop))
    except NotFoundError:
        why, remedy = reason("cgroup.freeze", server.groups.reasons)
        raise ConflictError(f"Il container «{name}» qui non si può mettere in pausa: {why}.", remedy) from None
    deadline = time.monotonic() + 5

    def check() -> None:
        if container.state != wanted:  # it ended meanwhile
            fail(ConflictError(f"Il container «{name}» è finito.", "lab.ps(all=True)"))
        elif frozen(group) is stop:
            container.state = "paused" if stop else "running"
            server.state.note("pause" if stop else "unpause", container)
            then()
        elif time.monotonic() > deadline:
            fail(LabError(f"I processi di «{name}» non si sono {'fermati' if stop else 'mossi'} in 5 secondi."))
        else:
            server.loop.after(0.002, check)

    check()


#: How a container that cannot be paused, or cannot go on, is.
_IS = {
    "created": "non è ancora partito",
    "running": "gira, non è in pausa",
    "paused": "è già in pausa",
    "restarting": "sta per ripartire",
    "exited": "è finito",
}

GROUP_VERBS: dict[str, Callable[..., None]] = {"pause": pause, "stats": stats, "unpause": unpause, "update": update}

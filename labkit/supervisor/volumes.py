"""I volumi visti dal supervisore: chi li monta, chi li può togliere, i verbi che ne parlano."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.engine.rootfs import remove_tree
from labkit.engine.volumes import DATA
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError
from labkit.kernel import libc
from labkit.model import ContainerSpec, to_json
from labkit.supervisor.connection import Call
from labkit.supervisor.errand import Errand
from labkit.supervisor.loop import Loop
from labkit.supervisor.shelf import Shelf, usage
from labkit.supervisor.zygote import Stdio
from labkit.volumes import Mount, Volume, check, driver_refused

if TYPE_CHECKING:
    from labkit.supervisor.server import Server
    from labkit.supervisor.state import Container, State


class Volumes:
    """Lo scaffale, e i lucchetti dei container di questo laboratorio."""

    def __init__(self, shelf: Shelf, loop: Loop, *, visible: Sequence[str] | None) -> None:
        self.shelf, self.loop = shelf, loop
        #: In una macchina virtuale, le cartelle dell'host che ci si vedono: le altre là sono sue.
        self.visible = visible

    def claim(
        self, state: State, spec: ContainerSpec, declared: Sequence[str] = ()
    ) -> tuple[ContainerSpec, dict[str, int]]:
        """La descrizione con i suoi volumi veri, fatti se non c'erano, e i lucchetti che li tengono.

        Un anonimo prende un nome; ``volumes_from`` diventa i volumi di quei container; ogni posto ``declared``
        dall'immagine (``VOLUME``) in cui non si monta altro ha un volume anonimo. Se qualcosa va storto non resta
        tenuto niente; un volume fatto adesso resta, come in Docker.
        """
        asked = [*spec.mounts, *self._borrowed(state, spec)]
        taken = {posixpath.normpath(mount.target) for mount in asked}
        more = [Mount("volume", place, anonymous=True) for place in declared if posixpath.normpath(place) not in taken]
        mounts = check([*asked, *more])
        if not mounts:
            return spec, {}
        held: dict[str, int] = {}
        try:
            named = []
            for mount in mounts:
                if mount.type == "bind" and not self._seen(mount.source):
                    raise InvalidError(
                        f"«{mount.source}» dalla macchina virtuale non si vede: là ci sono i programmi di questa "
                        "macchina, non le cartelle di chi la usa.",
                        "un volume: volumes='dati:/dati', oppure Lab(backend='direct')",
                    )
                if mount.type == "volume":
                    name = self.shelf.create("" if mount.anonymous and not mount.source else mount.source)
                    held.setdefault(name, -1)
                    if held[name] < 0:
                        held[name] = self.shelf.hold(name)
                    mount = replace(mount, source=name)
                named.append(mount)
        except BaseException:
            self.release(held)
            raise
        return replace(spec, mounts=tuple(named), volumes_from=()), held

    def _borrowed(self, state: State, spec: ContainerSpec) -> list[Mount]:
        own = {mount.target for mount in spec.mounts}
        found: dict[str, Mount] = {}
        for text in spec.volumes_from:
            name, _, mode = text.partition(":")
            if mode not in ("", "ro", "rw"):
                raise InvalidError(f"Non capisco «{text}»: ci vuole un container, e se vuoi :ro.",
                                   "volumes_from='dati:ro'")  # fmt: skip
            for mount in state.container(name).spec.mounts:
                if mount.target not in own and mount.type != "tmpfs":
                    found[mount.target] = replace(mount, read_only=mount.read_only or mode == "ro", anonymous=False)
        return list(found.values())

    def _seen(self, path: str) -> bool:
        """Se quel percorso è davvero di questa macchina."""
        return self.visible is None or any(path == top or path.startswith(top + "/") for top in self.visible)

    @staticmethod
    def release(held: dict[str, int]) -> None:
        """Lascia i lucchetti."""
        for fd in held.values():
            if fd >= 0:
                os.close(fd)
        held.clear()

    def leave(self, container: Container, anonymous: bool) -> None:
        """Il container non c'è più: lascia i suoi volumi; con ``anonymous`` i suoi senza nome se ne vanno."""
        self.release(container.volumes)
        if not anonymous:
            return
        for mount in container.spec.mounts:
            if mount.type == "volume" and mount.anonymous:
                try:
                    self.discard([self.shelf.remove(mount.source)])
                except (ConflictError, NotFoundError):  # another container has it too, or somebody took it away
                    continue

    def discard(self, folders: Iterable[str], done: Callable[[], None] = lambda: None) -> None:
        """Cancella, in un figlio, cartelle che non hanno più un nome: il ciclo non aspetta il disco. Poi ``done``."""
        gone = list(folders)
        if not gone:
            done()
            return
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            try:
                for folder in gone:
                    remove_tree(folder)
            finally:
                os._exit(0)
        os.close(pidfd)
        self.loop.watch_child(pid, lambda code: done())

    def volume(self, state: State, name: str, size: bool = False) -> Volume:
        """Un volume, con i container di questo laboratorio che lo montano."""
        found = self.shelf.inspect(name)
        users = tuple(c.name for c in state.containers.values() if name in c.volumes)
        return replace(found, used_by=users, size=usage(found.mountpoint) if size else -1)


def create(
    server: Server, call: Call, name: str = "", labels: Any = (), driver: str = "local", options: Any = ()
) -> None:
    """Un volume nuovo, o quello che c'è già con quel nome."""
    if driver != "local" or options:
        raise driver_refused(driver if driver != "local" else str(options))
    made = server.volumes.shelf.create(name, [(str(key), str(value)) for key, value in labels])
    call.answer(to_json(server.volumes.volume(server.state, made)))


def ls(server: Server, call: Call, size: bool = False) -> None:
    """Tutti i volumi, anche quelli fatti da altri laboratori."""
    server.volumes.discard(server.volumes.shelf.leftovers())
    call.answer([to_json(server.volumes.volume(server.state, name, size)) for name in server.volumes.shelf.names()])


def inspect(server: Server, call: Call, name: str) -> None:
    call.answer(to_json(server.volumes.volume(server.state, name, size=True)))


def rm(server: Server, call: Call, name: str) -> None:
    """Toglie un volume che nessuno usa, con i suoi dati."""
    server.volumes.discard([server.volumes.shelf.remove(name)], call.answer)


def prune(server: Server, call: Call, all: bool = False) -> None:
    """Toglie gli anonimi che nessuno usa, o (``all``) tutti quelli che nessuno usa; torna nomi e byte liberati."""
    shelf = server.volumes.shelf
    names = shelf.unused(all)
    freed = sum(usage(shelf.path(name)) for name in names)
    gone = [shelf.remove(name) for name in names]
    server.volumes.discard([*gone, *shelf.leftovers()], lambda: call.answer({"names": names, "freed": freed}))


def backup(server: Server, call: Call, name: str) -> None:
    """Il tar di un volume, sullo stdout."""
    lock = server.volumes.shelf.hold(name)
    data = f"{server.volumes.shelf.path(name)}/{DATA}"

    def work(tell: Callable[..., None]) -> tuple[Any, int]:
        from labkit.engine.backups import backup

        return backup(data, 1), -1

    def done(value: Any, fd: int) -> None:
        os.close(lock)
        _answer(call, value)

    call.attach(Errand(server.loop, work, server.launcher.paths, call.event, done, stdio=_stdio(False)).task)


def restore(server: Server, call: Call, name: str) -> None:
    """Un volume nuovo, con dentro il tar che arriva dallo stdin: il nome lo prende solo quando c'è tutto."""
    shelf = server.volumes.shelf
    if shelf.exists(name):
        raise ConflictError(f"Il volume «{name}» c'è già: una copia si rimette in un volume nuovo.",
                            f"labkit volume rm {name}, oppure un altro nome")  # fmt: skip
    building = shelf.begin(fresh=False)
    owners = server.config["mode"] != "nosub"

    def work(tell: Callable[..., None]) -> tuple[Any, int]:
        from labkit.engine.backups import restore

        with open(0, "rb") as source:
            return restore(f"{building}/{DATA}", source, owners=owners), -1

    def done(value: Any, fd: int) -> None:
        if isinstance(value, LabError):
            server.volumes.discard([building], lambda: call.fail(value))
        elif shelf.finish(building, name):
            call.answer(value)
        else:
            call.fail(ConflictError(f"Il volume «{name}» intanto lo ha fatto un altro.", "labkit volume ls"))

    call.attach(Errand(server.loop, work, server.launcher.paths, call.event, done, stdio=_stdio(True)).task)


def _stdio(stdin: bool) -> Stdio:
    return Stdio(stdin=stdin, tty=False)


def _answer(call: Call, value: Any) -> None:
    if isinstance(value, LabError):
        call.fail(value)
    else:
        call.answer(value)


VOLUME_VERBS: dict[str, Callable[..., None]] = {
    "volume_backup": backup,
    "volume_create": create,
    "volume_inspect": inspect,
    "volume_ls": ls,
    "volume_prune": prune,
    "volume_restore": restore,
    "volume_rm": rm,
}

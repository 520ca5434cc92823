"""Montare in un container ciò che non è della sua immagine: un volume, una cartella della macchina, un tmpfs.

Prima della nascita il laboratorio *apre* ciò che si monterà (:class:`OpenMount`): una copia staccata del mount, di cui
il container riceve solo il descrittore (open_tree(2)). Dopo il cambio di radice il container la *attacca*
(:class:`AttachMount`). Fra il controllo e l'uso nessuno può scambiare una cartella con un link: i percorsi si leggono
una volta sola, quello di fuori con i diritti di chi ha il laboratorio, quello di dentro senza uscire dalla radice.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from labkit.engine.copyup import copy_tree, empty
from labkit.engine.operation import Context, Operation
from labkit.errors import InvalidError, KernelError, NotFoundError
from labkit.kernel import libc, mounts
from labkit.volumes import Mount, refused_source, refused_target

#: In un volume: i dati, e il segno che nessuno lo ha ancora usato.
DATA, FRESH = "_data", "nuovo"

_FLAGS = {"private": libc.MS_PRIVATE, "shared": libc.MS_SHARED, "slave": libc.MS_SLAVE}


@dataclass(frozen=True)
class Opened:
    """Ciò che aspetta di essere attaccato: la copia del mount e, di un volume, la sua cartella (se no -1)."""

    tree: int
    home: int = -1

    @property
    def fds(self) -> tuple[int, ...]:
        return (self.tree,) if self.home < 0 else (self.tree, self.home)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


@dataclass(frozen=True)
class OpenMount(Operation):
    """Apre la cartella che il container vedrà; ``path`` è la sua, o quella del volume."""

    mount: Mount
    path: str

    syscall: ClassVar[str] = "open_tree"
    man: ClassVar[str] = "open_tree(2)"
    where: ClassVar[Literal["lab", "container"]] = "lab"

    def describe(self) -> str:
        what = f"il volume «{self.mount.source}»" if self.mount.type == "volume" else self.mount.source
        return f"apre {what}, che il container vedrà in {self.mount.target}"

    def execute(self, context: Context) -> None:
        home = -1
        path = self.path
        if self.mount.type == "volume":
            home = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"{path}/{DATA}"
        try:
            tree = _open_source(path)
        except BaseException:
            if home >= 0:
                os.close(home)
            raise
        context.mounts[self.mount.target] = Opened(tree, home)

    def undo(self, context: Context) -> None:
        if opened := context.mounts.pop(self.mount.target, None):
            opened.close()


def _open_source(path: str) -> int:
    try:
        there = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as problem:
        why = {errno.ENOENT: "non c'è", errno.EACCES: "non si può aprire"}.get(
            problem.errno or 0, str(problem.strerror)
        )
        raise NotFoundError(f"«{path}» {why}: non si può dare a un container.", f"mkdir -p {path}") from None
    try:
        refused_source(os.readlink(f"/proc/self/fd/{there}"))  # where the links of the path really lead
        return libc.open_tree(f"/proc/self/fd/{there}")
    finally:
        os.close(there)


@dataclass(frozen=True)
class AttachMount(Operation):
    """Monta nel container ciò che il laboratorio ha aperto per lui."""

    mount: Mount

    syscall: ClassVar[str] = "openat2, mount_setattr, move_mount"
    man: ClassVar[str] = "move_mount(2), mount_setattr(2)"

    def describe(self) -> str:
        mount = self.mount
        what = f"il volume «{mount.source}»" if mount.type == "volume" else f"{mount.source}, della macchina,"
        return f"monta {what} in {mount.target}{', in sola lettura' if mount.read_only else ''}"

    def execute(self, context: Context) -> None:
        mount, opened = self.mount, context.mounts[self.mount.target]
        if opened.home >= 0:
            _fill(context.root, mount, opened.home)
        attributes = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV
        if mount.read_only:
            attributes |= libc.MOUNT_ATTR_RDONLY
        kind = mount.propagation
        libc.mount_setattr(opened.tree, attributes, 0, libc.AT_EMPTY_PATH | libc.AT_RECURSIVE)
        _attach(context.root, mount.target, opened.tree)
        recursive = libc.AT_RECURSIVE if kind.startswith("r") else 0
        flag = _FLAGS[kind.removeprefix("r")]
        libc.mount_setattr(opened.tree, 0, 0, libc.AT_EMPTY_PATH | recursive, flag)

    def undo(self, context: Context) -> None:
        mounts.umount(f"{context.mountpoint}{self.mount.target}")


@dataclass(frozen=True)
class AttachTmpfs(Operation):
    """Un filesystem in memoria, solo di questo container, vuoto a ogni partenza."""

    mount: Mount

    syscall: ClassVar[str] = "fsopen, fsmount, move_mount"
    man: ClassVar[str] = "tmpfs(5)"

    def describe(self) -> str:
        size = f", di {self.mount.size} byte al massimo" if self.mount.size else ""
        return f"monta in {self.mount.target} un tmpfs: memoria, vuota{size}"

    def execute(self, context: Context) -> None:
        mount = self.mount
        options: dict[str, str | None] = {"mode": f"{mount.mode:o}"}
        if mount.size:
            options["size"] = str(mount.size)
        attributes = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV
        attributes |= 0 if mount.exec else libc.MOUNT_ATTR_NOEXEC
        attributes |= libc.MOUNT_ATTR_RDONLY if mount.read_only else 0
        tree = libc.fsmount("tmpfs", options, attributes)
        try:
            _attach(context.root, mount.target, tree)
        finally:
            os.close(tree)

    def undo(self, context: Context) -> None:
        mounts.umount(f"{context.mountpoint}{self.mount.target}")


def open_operations(wanted: Sequence[Mount], shelf: str) -> list[Operation]:
    """La parte del laboratorio: apre ciò che si monterà; ``shelf`` è la cartella dei volumi."""
    return [
        OpenMount(mount, f"{shelf}/{mount.source}" if mount.type == "volume" else mount.source)
        for mount in wanted
        if mount.type != "tmpfs"
    ]


def mount_operations(wanted: Sequence[Mount]) -> list[Operation]:
    """La parte del container: attacca, da chi sta più in alto a chi sta più in basso."""
    return [AttachTmpfs(mount) if mount.type == "tmpfs" else AttachMount(mount) for mount in wanted]


def _attach(root: int, target: str, tree: int) -> None:
    """Attacca ``tree`` al suo posto nella radice: i link dell'immagine si seguono, ma dentro la radice."""
    place = _place(root, target.strip("/"), stat.S_ISDIR(os.fstat(tree).st_mode))
    try:
        refused_target(os.readlink(f"/proc/self/fd/{place}"))  # a link of the image may lead onto /proc
        libc.move_mount(tree, place, target)
    finally:
        os.close(place)


_INSIDE = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS


def _place(root: int, path: str, folder: bool) -> int:
    """Il posto ``path`` dentro ``root``, cartella o file; ciò che manca si crea, come fa Docker."""
    kind = os.O_DIRECTORY if folder else 0
    try:
        found = libc.openat2(root, path, os.O_PATH | kind, _INSIDE)
    except KernelError as problem:
        if problem.name == "ENOTDIR":
            raise InvalidError(f"Nell'immagine «/{path}» passa per un file, e qui ci vuole una cartella.") from None
        if problem.name != "ENOENT":
            raise
        parent, _, name = path.rpartition("/")
        where = _place(root, parent, True) if parent else os.dup(root)
        try:
            if folder:
                os.mkdir(name, 0o755, dir_fd=where)
            else:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=where))
        except FileExistsError:
            raise InvalidError(
                f"Nell'immagine «/{path}» è un link che non porta a niente: lì non si può montare un volume."
            ) from None
        finally:
            os.close(where)
        return libc.openat2(root, path, os.O_PATH | kind, _INSIDE)
    if not folder and stat.S_ISDIR(os.fstat(found).st_mode):
        os.close(found)
        raise InvalidError(f"«/{path}» nell'immagine è una cartella, e ciò che ci vuoi montare è un file.")
    return found


def _fill(root: int, mount: Mount, home: int) -> None:
    """Un volume mai usato prende ciò che l'immagine ha al suo posto; chi arriva insieme aspetta che sia pieno.

    Il segno si toglie alla fine: se la copia si interrompe a metà, chi viene dopo ricomincia da capo.
    """
    fcntl.flock(home, fcntl.LOCK_EX)
    try:
        os.stat(FRESH, dir_fd=home, follow_symlinks=False)
        if mount.copy:
            _copy_up(root, mount.target.strip("/"), home)
        os.unlink(FRESH, dir_fd=home)
        os.fsync(home)
    except FileNotFoundError:
        pass  # somebody has used it already
    finally:
        fcntl.flock(home, fcntl.LOCK_UN)


def _copy_up(root: int, path: str, home: int) -> None:
    try:
        source = libc.openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, _INSIDE)
    except KernelError as problem:
        if problem.name in ("ENOENT", "ENOTDIR"):
            return
        raise
    try:
        data = os.open(DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=home)
        try:
            empty(data)
            copy_tree(source, data)
        finally:
            os.close(data)
    finally:
        os.close(source)

"""I mount fatti bene: ogni bersaglio è risolto dentro una radice, mai attraverso un link dell'immagine.

Un filesystem si prepara staccato (fsopen(2), fsmount(2)) e poi si attacca a una cartella già aperta
(move_mount(2)): fra il controllo e l'uso nessuno può scambiare la cartella con un link simbolico.
"""

from __future__ import annotations

import os
import stat

from labkit.errors import InvalidError, KernelError
from labkit.kernel import libc
from labkit.kernel.explain import from_os_error
from labkit.kernel.namespaces import first_user_namespace

_ATTRIBUTES = {
    "ro": libc.MOUNT_ATTR_RDONLY,
    "nosuid": libc.MOUNT_ATTR_NOSUID,
    "nodev": libc.MOUNT_ATTR_NODEV,
    "noexec": libc.MOUNT_ATTR_NOEXEC,
}

_FLAGS = {
    "ro": libc.MS_RDONLY,
    "nosuid": libc.MS_NOSUID,
    "nodev": libc.MS_NODEV,
    "noexec": libc.MS_NOEXEC,
    "remount": libc.MS_REMOUNT,
    "bind": libc.MS_BIND,
    "rbind": libc.MS_BIND | libc.MS_REC,
    "move": libc.MS_MOVE,
    "private": libc.MS_PRIVATE,
    "rprivate": libc.MS_PRIVATE | libc.MS_REC,
    "slave": libc.MS_SLAVE,
    "rslave": libc.MS_SLAVE | libc.MS_REC,
}


def flags(names: tuple[str, ...]) -> int:
    """I flag di mount(2) dai nomi di mount(8).

    >>> flags(("ro", "nosuid"))
    3
    """
    unknown = [name for name in names if name not in _FLAGS]
    if unknown:
        raise InvalidError(f"Opzione di mount sconosciuta: {unknown[0]}. Ci sono: {', '.join(_FLAGS)}.")
    total = 0
    for name in names:
        total |= _FLAGS[name]
    return total


def mount(source: str, target: str, fstype: str = "", *options: str, data: str = "") -> None:
    """Monta come il comando ``mount``: ``mount("tmpfs", "/mnt", "tmpfs", "nosuid", data="size=1m")`` (mount(2)).

    Come per la syscall, un ``bind`` nuovo ignora ``ro``: ci vuole un secondo ``"remount", "bind", "ro"``.
    """
    libc.mount(source or None, target, fstype or None, flags(options), data or None)


def umount(target: str) -> None:
    """Smonta ``target``, anche se qualcuno lo sta ancora usando (umount2(2), MNT_DETACH)."""
    libc.umount2(target, libc.MNT_DETACH)


def open_directory(root: int, path: str) -> int:
    """Un descrittore ``O_PATH`` della cartella ``path`` dentro ``root``; i pezzi che mancano si creano."""
    flags = os.O_PATH | os.O_DIRECTORY
    resolve = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_SYMLINKS
    try:
        return libc.openat2(root, path, flags, resolve)
    except KernelError as problem:
        if problem.name != "ENOENT":
            raise
    parent, _, name = path.rpartition("/")
    where = open_directory(root, parent) if parent else libc.openat2(root, ".", flags, resolve)
    try:
        os.mkdir(name, 0o755, dir_fd=where)
    except OSError as problem:
        raise from_os_error(problem, "mkdir") from None
    finally:
        os.close(where)
    return libc.openat2(root, path, flags, resolve)


def attach(root: int, path: str, fstype: str, options: dict[str, str | None], *attributes: str) -> None:
    """Monta un filesystem nuovo su ``path`` dentro ``root`` (fsopen(2), move_mount(2))."""
    bits = 0
    for name in attributes:
        bits |= _ATTRIBUTES[name]
    target = open_directory(root, path)
    try:
        mounted = libc.fsmount(fstype, options, bits)
        try:
            libc.move_mount(mounted, target, path)
        finally:
            os.close(mounted)
    finally:
        os.close(target)


def attach_copy(root: int, path: str, source: str) -> None:
    """Attacca su ``path`` una copia dell'albero di mount ``source`` (open_tree(2))."""
    target = open_directory(root, path)
    try:
        tree = libc.open_tree(source)
        try:
            libc.move_mount(tree, target, path)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def escape(path: str) -> str:
    r"""Protegge i caratteri che overlay usa come separatori.

    >>> print(escape("/a:b,c"))
    /a\:b\,c
    """
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


#: Quello che mount(2) legge delle opzioni: una pagina, zero finale compreso.
_MOST_OPTIONS = 4096


def overlay(
    target: str, lowers: tuple[str, ...], upper: str = "", work: str = "", userxattr: bool | None = None
) -> None:
    """Monta un overlay: ``lowers`` dall'alto in basso, ``upper`` scrivibile (overlayfs, documentazione del kernel).

    Senza ``upper`` è di sola lettura. ``userxattr`` è obbligatorio in un namespace utente: senza, le
    cartelle opache danno EIO. Se non si dice, lo si mette dove serve.
    """
    if userxattr is None:
        userxattr = not first_user_namespace()
    options = ["lowerdir=" + ":".join(map(escape, lowers))]
    if upper:
        options += [f"upperdir={escape(upper)}", f"workdir={escape(work)}"]
    if userxattr:
        options.append("userxattr")
    text = ",".join(options)
    if len(os.fsencode(text)) < _MOST_OPTIONS:
        libc.mount("overlay", target, "overlay", libc.MS_NODEV, text)
        return
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened: list[int] = []
    try:
        opened.extend(os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for lower in lowers)
        os.chdir("/proc/self/fd")  # each layer is now as long as its number
        options[0] = "lowerdir=" + ":".join(map(str, opened))
        libc.mount("overlay", target, "overlay", libc.MS_NODEV, ",".join(options))
    finally:
        os.fchdir(here)
        for fd in (*opened, here):
            os.close(fd)


def read_only(target: str, *, recursive: bool = False) -> None:
    """Rende di sola lettura il mount ``target``; con ``recursive`` anche quelli montati sotto (mount_setattr(2))."""
    fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        depth = libc.AT_RECURSIVE if recursive else 0
        libc.mount_setattr(fd, libc.MOUNT_ATTR_RDONLY, 0, libc.AT_EMPTY_PATH | depth)
    finally:
        os.close(fd)


#: Quello che /proc e /sys hanno già, e che un remount deve ripetere.
_QUIET = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC


def bind_read_only(path: str) -> bool:
    """Copre ``path`` (in /proc o /sys) con sé stesso in sola lettura; ``False`` se non c'è."""
    try:
        libc.mount(path, path, None, libc.MS_BIND)
    except KernelError as problem:
        if problem.name == "ENOENT":
            return False
        raise
    libc.mount(None, path, None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | _QUIET)
    return True


def mask(path: str, null: str = "/dev/null") -> bool:
    """Nasconde ``path``: un file sotto ``/dev/null``, una cartella sotto un tmpfs vuoto; ``False`` se non c'è."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        libc.mount("tmpfs", path, "tmpfs", libc.MS_RDONLY | _QUIET, "size=0")
    else:
        libc.mount(null, path, None, libc.MS_BIND)
    return True


def supports_user_xattr(folder: str) -> bool:
    """Se il filesystem di ``folder`` accetta attributi ``user.*``, che overlay usa in un namespace utente.

    Un tmpfs li ha da Linux 6.6.
    """
    probe = f"{folder}/.xattr-{os.getpid()}"
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.setxattr(probe, "user.labkit", b"1")
    except OSError:
        return False
    finally:
        os.unlink(probe)
    return True

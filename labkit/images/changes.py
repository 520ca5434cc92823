"""Che cosa un container ha cambiato nella sua radice: come ``docker diff``, leggendo solo il suo strato.

Si confronta lo strato scrivibile di un overlay con ciò che c'è sotto, un nome alla volta e mai attraverso un link. Un
file è cambiato se lo dicono permessi, proprietario, misura o ora; una cartella se lo dicono i permessi o il
proprietario, oppure se è cambiato qualcosa che contiene.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from labkit.images.rooted import Rooted

_OPAQUE_XATTRS = ("user.overlay.opaque", "trusted.overlay.opaque")
_CAPABILITY = "security.capability"

#: Files that the laboratory writes for each container, as Docker mounts them: never a change of the program's.
LAB_FILES = frozenset({b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"})
#: Folders that the laboratory makes where an image has none: alone, they are not a change either.
LAB_FOLDERS = frozenset({b"dev", b"etc", b"proc", b"run", b"run/secrets", b"sys"})

#: Path, from the root and without the first slash → ``A`` (added), ``C`` (changed), ``D`` (deleted).
Changes = Mapping[bytes, str]


def changes(upper: str, lower: str, where: str = "") -> Changes:
    """Le modifiche che la cartella ``upper`` di un overlay porta a ``lower``, l'unione degli strati di sotto.

    In ordine: una cartella viene prima di ciò che contiene. ``where`` è la cartella della radice su cui sta l'overlay.
    """
    comparison = _Comparison(upper, lower, os.fsencode(where))
    try:
        comparison.run()
    finally:
        comparison.close()
    found = comparison.found
    return {path: found[path] for path in sorted(found, key=lambda path: path.split(b"/"))}


class _Comparison:
    def __init__(self, upper: str, lower: str, where: bytes) -> None:
        self._where = where + b"/" if where else b""
        self._upper, self._lower = Rooted(upper), Rooted(lower)
        self._made: set[bytes] = set()
        self.found: dict[bytes, str] = {}

    def close(self) -> None:
        self._upper.close()
        self._lower.close()

    def run(self) -> None:
        waiting: list[tuple[list[bytes], bool]] = [([], True)]
        while waiting:
            names, continues = waiting.pop()
            folder = self._upper.folder(names, create=False)
            below = self._lower.folder(names, create=False) if continues else -1
            inside = {os.fsencode(name) for name in os.listdir(folder)}
            for name in inside:
                deeper = self._compare([*names, name], folder, below)
                if deeper is not None:
                    waiting.append(([*names, name], deeper))
            if continues and is_opaque(folder):
                for name in {os.fsencode(name) for name in os.listdir(below)} - inside:
                    if _old(below, name):
                        self._note([*names, name], "D")

    def _compare(self, names: list[bytes], folder: int, below: int) -> bool | None:
        """Annota un nome; se è una cartella, dice se continua quella di sotto."""
        path, name = b"/".join(names), names[-1]
        if self._where + path in LAB_FILES:
            return None
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        old = _old(below, name)
        if is_whiteout(info):
            if old:
                self._note(names, "D")
            return None
        directory = stat.S_ISDIR(info.st_mode)
        if old is None and directory and self._where + path in LAB_FOLDERS:
            self._made.add(path)
        elif old is None:
            self._note(names, "A")
        elif _different(old, info) or (stat.S_ISREG(info.st_mode) and _power(folder, name) != _power(below, name)):
            self._note(names, "C")
        return (old is not None and stat.S_ISDIR(old.st_mode)) if directory else None

    def _note(self, names: list[bytes], kind: str) -> None:
        self.found[b"/".join(names)] = kind
        for depth in range(len(names) - 1, 0, -1):
            parent = b"/".join(names[:depth])
            if parent in self.found:
                break
            self.found[parent] = "A" if parent in self._made else "C"


def is_whiteout(info: os.stat_result) -> bool:
    """Se è il segno con cui overlay cancella un nome di sotto (un dispositivo 0:0)."""
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def is_opaque(folder: int) -> bool:
    """Se la cartella aperta nasconde tutta quella di sotto (overlayfs, «opaque»)."""
    for name in _OPAQUE_XATTRS:
        try:
            if os.getxattr(folder, name) == b"y":
                return True
        except OSError:  # not there, or not for us
            continue
    return False


def _old(folder: int, name: bytes) -> os.stat_result | None:
    """Quello che c'era sotto; ``None`` se niente."""
    if folder < 0:
        return None
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return None if is_whiteout(info) else info


def _different(old: os.stat_result, new: os.stat_result) -> bool:
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev):
        return True
    return not stat.S_ISDIR(new.st_mode) and (old.st_size, old.st_mtime_ns) != (new.st_size, new.st_mtime_ns)


def _power(folder: int, name: bytes) -> bytes:
    """Le capability di un programma (capabilities(7))."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.getxattr(fd, _CAPABILITY)
    except OSError:
        return b""
    finally:
        os.close(fd)

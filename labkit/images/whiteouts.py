"""Che cosa fa uno strato dei file che stanno sotto: li nasconde (overlay), o li toglie (una cartella sola).

Nel tar di uno strato ``.wh.NOME`` vuol dire «NOME di sotto non c'è più», e ``.wh..wh..opq`` «di questa
cartella, sotto, non c'è più niente» (image-spec, layer.md). Valgono solo per gli strati di sotto: ciò
che porta lo stesso strato resta, in qualunque ordine sia scritto.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

from labkit.errors import InvalidError
from labkit.images.rooted import Rooted, remove
from labkit.images.tar_header import show

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"
#: The bookkeeping of AUFS, that old layers still carry: it is nobody's file.
_AUFS = b".wh..wh."


class Whiteouts(Protocol):
    """Il modo di scrivere le cancellazioni di uno strato in un albero; ``layer`` se l'archivio è uno strato."""

    layer: bool

    def hide(self, tree: Rooted, names: list[bytes]) -> None:
        """``names`` degli strati di sotto non si vede più."""

    def opaque(self, tree: Rooted, names: list[bytes]) -> None:
        """Degli strati di sotto, nella cartella ``names``, non si vede più niente."""

    def fresh(self, folder: int) -> None:
        """Questa cartella ha preso il posto di un'altra cosa: non continua quella di sotto."""

    def placeholder(self, info: os.stat_result) -> bool:
        """Se quello che si è trovato è il segno di una cancellazione, e non un file."""

    def note(self, tree: Rooted, names: list[bytes]) -> None:
        """``names`` appartiene a questo strato."""


def split(names: list[bytes]) -> tuple[str, list[bytes]]:
    """Che cosa dice un nome: ``file``, ``hide``, ``opaque`` o ``aufs``, e di quale percorso parla."""
    for number, name in enumerate(names, 1):
        if not name.startswith(PREFIX):
            continue
        last = number == len(names)
        if name == OPAQUE and last:
            return "opaque", names[:-1]
        if name.startswith(_AUFS) and name != OPAQUE:
            return "aufs", names
        hidden = name.removeprefix(PREFIX)
        if not last or hidden in (b"", b".", b".."):
            raise InvalidError(
                f"Nello strato «{show(b'/'.join(names))}» non è il nome di un file e non cancella niente di preciso."
            )
        return "hide", [*names[:-1], hidden]
    return "file", names


class OverlayWhiteouts:
    """Come le vuole il kernel per lo strato inferiore di un overlay: un dispositivo 0:0, un attributo.

    ``userxattr`` se l'overlay sarà montato in un namespace utente, con l'opzione omonima (overlayfs,
    «User xattr»): l'attributo è ``user.overlay.opaque``, altrimenti ``trusted.overlay.opaque``.
    """

    layer = True

    def __init__(self, userxattr: bool = True) -> None:
        self.xattr = f"{'user' if userxattr else 'trusted'}.overlay.opaque"

    def hide(self, tree: Rooted, names: list[bytes]) -> None:
        folder, name = tree.folder(names[:-1]), names[-1]
        try:
            os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=folder)
        except FileExistsError:
            # This very layer has the name: a file hides what is under it anyway, a folder must say so.
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                self.fresh(tree.folder(names))

    def opaque(self, tree: Rooted, names: list[bytes]) -> None:
        self.fresh(tree.folder(names))

    def fresh(self, folder: int) -> None:
        os.setxattr(folder, self.xattr, b"y")

    def placeholder(self, info: os.stat_result) -> bool:
        return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0

    def note(self, tree: Rooted, names: list[bytes]) -> None:
        pass


class RemovingWhiteouts:
    """Toglie davvero: gli strati si spacchettano uno dopo l'altro nella stessa cartella, senza overlay.

    Una per strato: ricorda che cosa è di questo, perché una cancellazione vale solo per quelli di sotto.
    """

    layer = True

    def __init__(self) -> None:
        self._ours: set[tuple[int, bytes]] = set()  # (inode of the folder, name)

    def hide(self, tree: Rooted, names: list[bytes]) -> None:
        try:
            folder = tree.folder(names[:-1], create=False)
            info = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if self._key(tree, names) not in self._ours:
            remove(folder, names[-1])
            tree.forget()
        elif stat.S_ISDIR(info.st_mode):
            self.opaque(tree, names)

    def opaque(self, tree: Rooted, names: list[bytes]) -> None:
        waiting = [names]
        while waiting:
            current = waiting.pop()
            folder = tree.folder(current)
            inode = os.fstat(folder).st_ino
            for entry in os.listdir(folder):
                name = os.fsencode(entry)
                if (inode, name) not in self._ours:
                    remove(folder, name)
                elif stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    waiting.append([*current, name])
        tree.forget()

    def fresh(self, folder: int) -> None:
        pass

    def placeholder(self, info: os.stat_result) -> bool:
        return False

    def note(self, tree: Rooted, names: list[bytes]) -> None:
        if self._key(tree, names) not in self._ours:
            self._ours.update(self._key(tree, names[:depth]) for depth in range(1, len(names) + 1))

    @staticmethod
    def _key(tree: Rooted, names: list[bytes]) -> tuple[int, bytes]:
        return os.fstat(tree.folder(names[:-1])).st_ino, names[-1]


class NoWhiteouts:
    """L'archivio non è uno strato: nessun nome cancella niente."""

    layer = False

    def hide(self, tree: Rooted, names: list[bytes]) -> None:
        pass

    def opaque(self, tree: Rooted, names: list[bytes]) -> None:
        pass

    def fresh(self, folder: int) -> None:
        pass

    def placeholder(self, info: os.stat_result) -> bool:
        return False

    def note(self, tree: Rooted, names: list[bytes]) -> None:
        pass

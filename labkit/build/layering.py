"""Lo strato di un ``COPY``, ``ADD`` o ``WORKDIR``: un tar scritto sapendo che cosa c'è sotto.

Ogni cartella sopra ciò che si aggiunge è nello strato com'era nell'immagine (chi spacchetta strato per strato ne ha
bisogno), un link dell'immagine si segue dentro la sua radice, e con ``SOURCE_DATE_EPOCH`` nessuna ora va oltre quella:
lo stesso contenuto dà sempre gli stessi byte.
"""

from __future__ import annotations

import posixpath
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labkit.build.sources import Item, Thing
from labkit.build.view import Node, View, plain
from labkit.errors import ConflictError, InvalidError
from labkit.images import tar_header as header
from labkit.images.tar import TarReader
from labkit.images.whiteouts import PREFIX

_BLOCK = header.BLOCK
#: The end of an archive (POSIX.1-2001): two empty blocks.
END = bytes(2 * _BLOCK)


@dataclass(frozen=True)
class Owner:
    """Di chi è ciò che si aggiunge."""

    uid: int = 0
    gid: int = 0


class Draft:
    """Uno strato che si scrive sopra ``view``; ``now`` è l'ora delle cartelle nuove, ``epoch`` l'ultima permessa."""

    def __init__(self, view: View, now: int, epoch: int | None = None) -> None:
        self._view = view
        self._now = now
        self._epoch = epoch
        self._kinds: dict[str, bytes] = {}

    def copy(self, item: Item, target: str, owner: Owner | None, mode: int | None) -> Iterator[bytes]:
        """I pezzi di tar di un :class:`Item` messo a ``target`` (già senza link)."""
        for thing in item.things():
            if thing.kind == header.DIRECTORY and not thing.path:  # a new destination is a folder like any other
                yield from self.folder(target, owner or Owner())
                continue
            path = posixpath.join(target, thing.path) if thing.path else target
            whose = owner or Owner(thing.uid, thing.gid)
            bits = thing.mode if mode is None or thing.kind == header.SYMLINK else mode
            yield from self._put(path, thing, whose, bits)

    def folder(self, path: str, owner: Owner) -> Iterator[bytes]:
        """Una cartella, con quelle che la contengono, se non c'è ancora."""
        path = self._view.resolve(path)
        self._refuse_file(path)
        if not self._is_folder(path):
            yield from self._put(path, Thing("", header.DIRECTORY, 0o755, self._now), owner, 0o755)

    def unpack(self, archive: Iterable[bytes], target: str, owner: Owner | None) -> Iterator[bytes]:
        """Il contenuto di un archivio, sotto ``target``: ``ADD archivio.tar.gz /``."""
        reader = TarReader(iter(archive))
        for entry in reader:
            path = posixpath.join(target, plain(entry.name))
            if posixpath.basename(path).startswith(PREFIX.decode()):
                raise InvalidError(
                    f"Nell'archivio «{entry.shown}» ha un nome che in uno strato vuol dire «cancellato»."
                )
            if entry.kind not in (header.REGULAR, header.DIRECTORY, header.SYMLINK, header.LINK) or entry.pieces:
                raise InvalidError(f"Nell'archivio «{entry.shown}» non è un file, una cartella o un link.")
            link = entry.link.decode("utf-8", "surrogateescape")
            if entry.kind == header.LINK:
                folder, name = posixpath.split(posixpath.join(target, plain(entry.link)))
                link = posixpath.join(self._view.resolve(folder), name)
                if self._kinds.get(link) != header.REGULAR:
                    raise InvalidError(f"Nell'archivio «{entry.shown}» è un link a un file che non c'è.")
            thing = Thing(plain(entry.name), entry.kind, entry.mode, entry.mtime_ns // 10**9, link, entry.size,
                          data=map(bytes, reader.data()))  # fmt: skip
            yield from self._put(path, thing, owner or Owner(entry.uid, entry.gid), entry.mode)

    # ------------------------------------------------------------ one entry

    def _put(self, path: str, thing: Thing, owner: Owner, mode: int) -> Iterator[bytes]:
        folder, name = posixpath.split(path)
        if name.startswith(PREFIX.decode()):
            raise InvalidError(f"«{name}» è un nome che in uno strato vuol dire «cancellato».", "un altro nome")
        is_folder = thing.kind == header.DIRECTORY
        path = self._view.resolve(path) if is_folder else posixpath.join(self._view.resolve(folder), name)
        if is_folder:
            self._refuse_file(path)
            if not path:
                return
        elif self._is_folder(path):
            raise ConflictError(f"«/{path}» nell'immagine è una cartella, e qui ci andrebbe un file.", f"/{path}/")
        yield from self._above(posixpath.dirname(path) if path else "", owner)
        self._kinds[path] = header.REGULAR if thing.kind == header.LINK else thing.kind
        yield _header(path, thing.kind, mode, owner, self._clamped(thing.mtime), thing.size, thing.link)
        size = 0
        for piece in thing.data:
            size += len(piece)
            yield piece
        if size != thing.size:
            raise InvalidError(f"«/{path}» ha cambiato misura mentre lo copiavo.", "riprova")
        yield bytes(-size % _BLOCK)

    def _above(self, folder: str, owner: Owner) -> Iterator[bytes]:
        """Le cartelle che contengono una cosa, dalla più alta."""
        parts = folder.split("/") if folder else []
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            self._refuse_file(path)
            if self._view.is_folder(path):
                yield from self._known(path)
            elif path not in self._kinds:
                self._kinds[path] = header.DIRECTORY
                yield _header(path, header.DIRECTORY, 0o755, owner, self._clamped(self._now))

    def _known(self, path: str) -> Iterator[bytes]:
        if path and path not in self._kinds:
            node: Node = self._view.nodes[path]
            self._kinds[path] = header.DIRECTORY
            mtime = self._clamped(node.mtime_ns // 10**9)
            yield _header(path, header.DIRECTORY, node.mode, Owner(node.uid, node.gid), mtime)

    def _is_folder(self, path: str) -> bool:
        return self._kinds.get(path) == header.DIRECTORY or self._view.is_folder(path)

    def _refuse_file(self, path: str) -> None:
        known = self._view.nodes.get(path)
        kind = self._kinds.get(path) or (known.kind if known else header.DIRECTORY)
        if kind != header.DIRECTORY:
            raise ConflictError(f"«/{path}» nell'immagine è un file, e qui ci vuole una cartella.", "un altro percorso")

    def _clamped(self, mtime: int) -> int:
        return mtime if self._epoch is None else min(mtime, self._epoch)


def _header(path: str, kind: bytes, mode: int, owner: Owner, mtime: int, size: int = 0, link: str = "") -> bytes:
    one = tarfile.TarInfo(path + ("/" if kind == header.DIRECTORY else ""))
    one.type, one.mode, one.uid, one.gid = kind, stat.S_IMODE(mode), owner.uid, owner.gid
    one.mtime, one.size, one.linkname = mtime, size, link
    return one.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def owner(text: str, view: View) -> Owner:
    """``utente[:gruppo]``, con i nomi che l'immagine conosce; senza gruppo vale lo stesso numero.

    >>> owner("33", View())
    Owner(uid=33, gid=33)
    """
    user, colon, group = text.partition(":")
    uid = _number(user, "etc/passwd", "utente", view)
    return Owner(uid, _number(group, "etc/group", "gruppo", view) if colon and group else uid)


def _number(text: str, file: str, what: str, view: View) -> int:
    if text.isascii() and text.isdecimal():
        number = int(text)
        if number > 0xFFFFFFFE:
            raise InvalidError(f"{text} è troppo grande per essere il numero di un {what}.")
        return number
    for line in view.accounts.get(file, "").splitlines():
        fields = line.split(":")
        if fields[0] == text and len(fields) > 2 and fields[2].isdecimal():
            return int(fields[2])
    raise InvalidError(f"Nell'immagine non c'è il {what} «{text}» (/{file}).", "il suo numero, per esempio 33:33")

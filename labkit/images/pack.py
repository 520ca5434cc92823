"""Da cartella a strato: l'inverso di :mod:`unpack`.

:func:`diff` legge lo strato scrivibile di un overlay e ne fa il tar di uno strato, con le cancellazioni
come le vuole la specifica (layer.md); :func:`tree` mette in un tar una radice intera, come ``docker
export``. Lo stesso albero dà sempre lo stesso archivio: nomi in ordine, nessun nome di utente.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from labkit.errors import LabError
from labkit.images.attributes import OVERLAY_XATTRS
from labkit.images.changes import Changes, is_opaque, is_whiteout
from labkit.images.rooted import Rooted
from labkit.images.tar_header import BLOCK, show
from labkit.images.tar_sparse import MOST_PIECES
from labkit.images.whiteouts import OPAQUE, PREFIX

_KINDS = {stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
          stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE}  # fmt: skip
#: The end of an archive, filled up to the record of twenty blocks that every tar expects.
_END = bytes(2 * BLOCK)
_PIECE = 1 << 18


@dataclass
class Packed:
    """Che cosa è finito nell'archivio, e ciò che un tar non può portare, contato per motivo."""

    entries: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def diff(upper: str, report: Packed | None = None, only: Changes | None = None) -> Iterator[bytes]:
    """Il tar di uno strato, a pezzi, dalla cartella ``upper`` di un overlay (fermo: nessuno ci scrive).

    Con ``only`` ci va soltanto ciò che :func:`~labkit.images.changes.changes` ha trovato cambiato: una cartella che
    overlay ha copiato senza che nessuno la cambiasse resta fuori.
    """
    return _Packer(upper, report or Packed(), whiteouts=True, only=only).pieces()


def tree(root: str, report: Packed | None = None) -> Iterator[bytes]:
    """Il tar di una radice intera, a pezzi (``docker export``)."""
    return _Packer(root, report or Packed(), whiteouts=False).pieces()


def resource(path: str, name: bytes, report: Packed | None = None) -> Iterator[bytes]:
    """Il tar di un file, di un link o di una cartella con quello che contiene, sotto il nome ``name``."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        return _Packer(path, report or Packed(), whiteouts=False, prefix=name + b"/").pieces()
    folder, last = os.path.split(os.fsencode(path))
    return _Packer(os.fsdecode(folder), report or Packed(), whiteouts=False).one(last, name)


class _Packer:
    def __init__(
        self, root: str, report: Packed, whiteouts: bool, only: Changes | None = None, prefix: bytes = b""
    ) -> None:
        self._root, self._report, self._whiteouts = root, report, whiteouts
        self._only, self._prefix = only, prefix
        self._gone: dict[bytes, list[bytes]] = {}
        for path in (path for path, kind in (only or {}).items() if kind == "D"):
            folder, slash, name = path.rpartition(b"/")
            self._gone.setdefault(folder + slash, []).append(name)
        self._links: dict[tuple[int, int], bytes] = {}

    def one(self, last: bytes, name: bytes) -> Iterator[bytes]:
        """Una cosa sola della radice, che non è una cartella."""
        tree = Rooted(self._root)
        try:
            yield from self._one(tree.fd, last, name, os.stat(last, dir_fd=tree.fd, follow_symlinks=False))
            yield _END
        finally:
            tree.close()

    def pieces(self) -> Iterator[bytes]:
        # A stack of names, not of descriptors: a tree may be deeper than a process may have files open.
        # Folder by folder: some readers set the time of a folder when its entries end.
        tree = Rooted(self._root)
        try:
            waiting: list[list[bytes]] = [[]]
            while waiting:
                names = waiting.pop()
                folder = tree.folder(names, create=False)
                where = self._prefix + b"".join(name + b"/" for name in names)
                if where or self._only is None:  # the root of the writable layer says nothing of the image's
                    yield from self._header(where or b"./", folder, os.fstat(folder))
                inside: list[bytes] = []
                yield from self._contents(folder, where, inside)
                waiting += [[*names, name] for name in reversed(inside)]
            yield _END
        finally:
            tree.close()

    def _contents(self, folder: int, where: bytes, inside: list[bytes]) -> Iterator[bytes]:
        if self._only is not None:
            for name in self._gone.get(where, ()):
                yield self._whiteout(where + PREFIX + name)
        elif self._whiteouts and is_opaque(folder):
            yield self._whiteout(where + OPAQUE)
        for name in sorted(map(os.fsencode, os.listdir(folder))):
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            path = where + name
            if self._only is not None and self._only.get(path, "D") == "D":
                continue
            if self._whiteouts and is_whiteout(info):
                yield self._whiteout(where + PREFIX + name)
            elif self._whiteouts and name.startswith(PREFIX):
                raise LabError(
                    f"«{show(path)}» ha un nome che in uno strato vuol dire «cancellato»: così non si può conservare.",
                    f"mv '{show(path)}' un-altro-nome",
                )
            elif stat.S_IFMT(info.st_mode) not in _KINDS:
                self._report.skipped["le prese (socket): in un tar non ci stanno"] += 1
            elif stat.S_ISDIR(info.st_mode):
                inside.append(name)
            else:
                yield from self._one(folder, name, path, info)

    def _whiteout(self, path: bytes) -> bytes:
        self._report.entries += 1
        return tarfile.TarInfo(os.fsdecode(path)).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    def _one(self, folder: int, name: bytes, path: bytes, info: os.stat_result) -> Iterator[bytes]:
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1:
            first = self._links.setdefault(key, path)
            if first != path:
                yield from self._header(path, -1, info, hard=first)
                return
        if stat.S_ISREG(info.st_mode):
            # A running program may have put a FIFO there meanwhile: opening it would wait for the other end.
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                info = os.fstat(fd)
                if not stat.S_ISREG(info.st_mode):
                    raise LabError(f"«{show(path)}» è cambiato mentre lo leggevo.", "ferma il container e riprova")
                holes = _map(fd, info)
                yield from self._header(path, fd, info, holes=holes)
                yield from _data(fd, holes or _Map(b"", [(0, info.st_size)]), path)
            finally:
                os.close(fd)
        else:
            target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(info.st_mode) else b""
            yield from self._header(path, -1, info, target=target)

    def _header(
        self,
        path: bytes,
        fd: int,
        info: os.stat_result,
        hard: bytes = b"",
        target: bytes = b"",
        holes: _Map | None = None,
    ) -> Iterator[bytes]:
        pax: dict[str, str] = {}
        one = tarfile.TarInfo(os.fsdecode(path))
        one.type = tarfile.LNKTYPE if hard else _KINDS[stat.S_IFMT(info.st_mode)]
        one.linkname = os.fsdecode(hard or target)
        one.mode, one.uid, one.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
        one.size = info.st_size if stat.S_ISREG(info.st_mode) and not hard else 0
        seconds, nanoseconds = divmod(info.st_mtime_ns, 10**9)
        one.mtime = seconds
        if nanoseconds and seconds >= 0:
            pax["mtime"] = f"{seconds}.{nanoseconds:09}"
        if one.isdev():
            one.devmajor, one.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
        for name, value in _xattrs(fd):
            pax[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        if holes:  # GNU tar's manual, «PAX Format, Version 1.0»: the map comes first in the data
            pax |= {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": one.name}
            pax["GNU.sparse.realsize"] = str(one.size)
            one.name, one.size = f"GNUSparseFile.0/{os.path.basename(one.name)}", holes.size
        one.pax_headers = pax
        self._report.entries += 1
        yield one.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _xattrs(fd: int) -> list[tuple[str, bytes]]:
    if fd < 0:
        return []
    try:
        names = sorted(name for name in os.listxattr(fd) if not name.startswith((*OVERLAY_XATTRS, "security.selinux")))
    except OSError as problem:
        if problem.errno == errno.ENOTSUP:
            return []
        raise
    return [(name, os.getxattr(fd, name)) for name in names]


@dataclass(frozen=True)
class _Map:
    """I pezzi pieni di un file con dei buchi, e la tabella che li racconta a chi legge l'archivio."""

    table: bytes
    pieces: list[tuple[int, int]]

    @property
    def size(self) -> int:
        return len(self.table) + sum(size for _, size in self.pieces)


def _map(fd: int, info: os.stat_result) -> _Map | None:
    """Dove sono i buchi di un file (lseek(2), SEEK_HOLE); ``None`` se non ne ha."""
    if info.st_blocks * 512 >= info.st_size:
        return None
    pieces = []
    end = 0
    while end < info.st_size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno != errno.ENXIO:  # ENXIO: only a hole from here on
                raise
            break
        end = os.lseek(fd, start, os.SEEK_HOLE)
        pieces.append((start, end - start))
    if end < info.st_size or not pieces:  # GNU tar wants to read where the file ends
        pieces.append((info.st_size, 0))
    if pieces == [(0, info.st_size)] or len(pieces) > MOST_PIECES:
        return None
    table = b"".join(b"%d\n" % number for number in (len(pieces), *(n for piece in pieces for n in piece)))
    return _Map(table + bytes(-len(table) % BLOCK), pieces)


def _data(fd: int, content: _Map, path: bytes) -> Iterator[bytes]:
    yield content.table
    for start, size in content.pieces:
        os.lseek(fd, start, os.SEEK_SET)
        left = size
        while left:
            data = os.read(fd, min(left, _PIECE))
            if not data:
                raise LabError(
                    f"«{show(path)}» è diventato più corto mentre lo leggevo.", "ferma il container e riprova"
                )
            left -= len(data)
            yield data
    yield bytes(-content.size % BLOCK)

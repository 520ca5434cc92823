"""Di chi è un file e che cosa se ne può fare: ciò che si scrive dopo averlo creato.

L'ordine conta: chown(2) toglie set-id e capability, quindi viene prima; l'ora viene per ultima. Gli
attributi con cui overlay decide che cosa mostrare non si prendono mai da un archivio.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labkit.errors import InvalidError
from labkit.images.tar_header import Entry

#: Attributes that say to overlay what to show: an archive must not say it, only we.
OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")
#: What a filesystem, or a user who is not root of the machine, may answer to setxattr(2).
_UNSETTABLE = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Facts:
    """Permessi, proprietario, ora (in nanosecondi), attributi."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of_entry(cls, entry: Entry) -> Facts:
        """Come dice l'archivio."""
        return cls(entry.mode, entry.uid, entry.gid, entry.mtime_ns, tuple(entry.xattrs.items()))

    @classmethod
    def of_folder(cls, folder: int) -> Facts:
        """Come è una cartella aperta."""
        info = os.fstat(folder)
        names = [name for name in os.listxattr(folder) if not name.startswith(OVERLAY_XATTRS)]
        xattrs = tuple((name, os.getxattr(folder, name)) for name in names)
        return cls(stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, xattrs)

    def apply(self, fd: int, shown: str, owners: bool, skip: Callable[[str], None]) -> None:
        """Li scrive sul file aperto; ``skip`` sente il motivo di ciò che qui non si può scrivere."""
        if owners:
            with known_owner(shown):
                os.fchown(fd, self.uid, self.gid)
        os.fchmod(fd, self.mode)
        for name, value in self.xattrs:
            if name.startswith(OVERLAY_XATTRS):
                skip("gli attributi riservati a overlay")
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as problem:
                # ext4 says ENOSPC of an attribute larger than a block: the disk is full only if it has no blocks.
                too_large = (errno.E2BIG, errno.ERANGE, *([errno.ENOSPC] if os.fstatvfs(fd).f_bavail else []))
                if problem.errno in too_large:
                    raise InvalidError(
                        f"In «{shown}» c'è un attributo di {len(value)} byte: questo disco non ne tiene di così grandi."
                    ) from None
                if problem.errno not in _UNSETTABLE:
                    raise
                skip(f"l'attributo {name.split('.')[0]}.*, che qui non si può mettere")
        os.utime(fd, ns=(self.mtime_ns, self.mtime_ns))


@contextmanager
def known_owner(shown: str) -> Iterator[None]:
    """Un chown(2) rifiutato perché quell'utente, in questo namespace, non esiste."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.EPERM, errno.EOVERFLOW):
            raise
        raise InvalidError(
            f"Il proprietario di «{shown}» è un utente che in questo laboratorio non esiste.",
            "servono più subuid (labkit doctor dice quanti ce ne sono)",
        ) from None

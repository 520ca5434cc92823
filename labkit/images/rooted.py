"""Un albero da cui non si esce: ogni percorso si risolve da dentro la sua radice.

Si cammina un descrittore di cartella alla volta, con ``O_NOFOLLOW``: un link simbolico si legge e si
segue come se la radice fosse ``/``, ``..`` si ferma alla radice. È ciò che farebbe openat2(2) con
``RESOLVE_IN_ROOT``, e qui basta perché nell'albero scrive solo chi lo sta facendo.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict

from labkit.errors import InvalidError
from labkit.images.tar_header import show

#: Linux follows forty links in one name, then ELOOP (path_resolution(7)).
MOST_LINKS = 40
#: Folders kept open: the entries of a tar come folder by folder.
_KEPT = 32
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def parts(name: bytes) -> list[bytes]:
    """I pezzi di un nome d'archivio; un nome assoluto vale dalla radice, ``..`` è rifiutato.

    >>> parts(b"./etc//passwd")
    [b'etc', b'passwd']
    """
    found = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in found:
        raise InvalidError(f"Nell'archivio «{show(name)}» cerca di salire con «..»: non lo apro.")
    return found


class Rooted:
    """La radice aperta. Chi la riempie può ridefinire :meth:`made` e :meth:`give_way`."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, _FOLDER)
        self._open: OrderedDict[tuple[bytes, ...], tuple[int, list[bytes]]] = OrderedDict()

    def close(self) -> None:
        self.forget()
        os.close(self.fd)

    def forget(self) -> None:
        """Chiude le cartelle tenute aperte: dopo che qualcosa è stato tolto possono essere quelle sbagliate."""
        for folder, _ in self._open.values():
            os.close(folder)
        self._open.clear()

    def folder(self, names: list[bytes], create: bool = True) -> int:
        """Il descrittore di una cartella, che resta di questo oggetto; crea quelle che mancano."""
        if not names:
            return self.fd
        key = tuple(names)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key][0]
        self._open[key] = found = self._walk(names, create)
        if len(self._open) > _KEPT:
            os.close(self._open.popitem(last=False)[1][0])
        return found[0]

    def _walk(self, names: list[bytes], create: bool) -> tuple[int, list[bytes]]:
        """La cartella aperta, e dove sta davvero: i nomi senza link, dalla radice."""
        known = self._open.get(tuple(names[:-1]))
        start, where = known or (self.fd, [])
        here, where, links = os.dup(start), list(where), 0
        todo = [names[-1]] if known else list(reversed(names))
        try:
            while todo:
                name = todo.pop()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    if where:
                        where.pop()
                        here = _move(here, b"..")
                    continue
                gave_way = False
                try:
                    here = _move(here, name)
                    where.append(name)
                    continue
                except FileNotFoundError:
                    if not create:
                        raise
                except OSError as problem:
                    if problem.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise
                    if stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                        links += 1
                        if links > MOST_LINKS:
                            raise _lost(names, "ci sono troppi link simbolici uno dentro l'altro") from None
                        target = os.readlink(name, dir_fd=here)
                        if target.startswith(b"/"):
                            top = os.dup(self.fd)
                            os.close(here)
                            here, where = top, []
                        todo += reversed(target.split(b"/"))
                        continue
                    gave_way = create and self.give_way(here, name)
                    if not gave_way:
                        raise _lost(names, f"«{show(name)}» non è una cartella") from None
                os.mkdir(name, 0o755, dir_fd=here)
                here = _move(here, name)
                where.append(name)
                self.made(where, here, gave_way)
        except BaseException:
            os.close(here)
            raise
        return here, where

    def made(self, names: list[bytes], folder: int, gave_way: bool) -> None:
        """La cartella ``names`` mancava ed è stata creata; ``gave_way`` se al suo posto c'era altro."""

    def give_way(self, folder: int, name: bytes) -> bool:
        """Toglie ciò che sta al posto di una cartella, se può andarsene; di solito non può."""
        return False


def _move(here: int, name: bytes) -> int:
    """Entra in ``name`` e chiude da dove si viene; un link simbolico è ELOOP o ENOTDIR."""
    there = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return there


def _lost(names: list[bytes], why: str) -> InvalidError:
    return InvalidError(f"Nell'archivio «{show(b'/'.join(names))}» non porta da nessuna parte: {why}.")


def remove(folder: int, name: bytes) -> None:
    """Toglie ``name`` con tutto quello che contiene, profondo quanto vuole.

    Senza ricorsione e con pochi descrittori: ogni sottocartella sale accanto a ``name`` con un nome
    provvisorio, e tocca a lei. Una cartella profonda mille livelli si toglie come una piatta.
    """
    try:
        os.unlink(name, dir_fd=folder)
        return
    except OSError as problem:
        # unlink(2) says EISDIR on Linux, POSIX says EPERM.
        if problem.errno not in (errno.EISDIR, errno.EPERM) or not _is_folder(folder, name):
            raise
    waiting = [name]
    while waiting:
        current = waiting.pop()
        inside = os.open(current, _FOLDER, dir_fd=folder)
        try:
            for entry in os.listdir(inside):
                child = os.fsencode(entry)
                if _is_folder(inside, child):
                    aside = b".labkit-" + os.urandom(8).hex().encode()  # no name of an archive
                    os.rename(child, aside, src_dir_fd=inside, dst_dir_fd=folder)
                    waiting.append(aside)
                else:
                    os.unlink(child, dir_fd=inside)
        finally:
            os.close(inside)
        os.rmdir(current, dir_fd=folder)


def _is_folder(folder: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)

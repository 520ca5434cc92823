"""Scrivere sul disco in modo che si veda tutto o niente, e dire in italiano perché non si può.

Una cosa nuova nasce accanto, con un nome provvisorio; si controlla, si scrive davvero (fsync), e solo
allora prende il suo nome. I lucchetti sono flock(2): il kernel li toglie quando il processo finisce.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from labkit.errors import ConflictError, LabError

_WHY = {
    errno.ENOSPC: ("il disco è pieno", "df -h, e poi: labkit image prune"),
    errno.EDQUOT: ("la tua parte di disco è finita", "quota, e poi: labkit image prune"),
    errno.EROFS: ("il disco è in sola lettura", "export LABKIT_IMAGES=/una/cartella/scrivibile"),
    errno.EACCES: ("non hai il permesso", "export LABKIT_IMAGES=/una/cartella/tua"),
    errno.EPERM: ("il sistema non lo permette", "export LABKIT_IMAGES=/una/cartella/tua"),
    errno.EMFILE: ("ci sono troppi file aperti", "ulimit -n 4096"),
    errno.ENFILE: ("ci sono troppi file aperti in tutta la macchina", "chiudi qualche programma"),
    errno.EADDRINUSE: ("la porta è già presa", "ss -ltnp dice da chi; oppure scegli un'altra porta"),
    errno.EIO: ("il disco non risponde come deve", "sudo dmesg | tail"),
}


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Un errore del disco diventa una frase: «Non riesco a ``doing``: il disco è pieno»."""
    try:
        yield
    except OSError as problem:
        if isinstance(problem, LabError):
            raise
        why, remedy = _WHY.get(problem.errno or 0, (os.strerror(problem.errno or 0), ""))
        raise LabError(f"Non riesco a {doing}: {why}.", remedy, errno=problem.errno or 0) from problem


def make_folder(path: str) -> None:
    """Una cartella (e quelle sopra) che può usare solo chi la fa: dentro ci sono anche programmi set-uid."""
    os.makedirs(path, mode=0o700, exist_ok=True)


def sync_folder(path: str) -> None:
    """Scrive davvero i nomi di una cartella: un rename(2) resta anche se va via la corrente."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_file(path: str, data: bytes) -> None:
    """Il file diventa ``data`` in un colpo solo: chi legge vede il vecchio o il nuovo."""
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.{os.urandom(8).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(folder)


@contextmanager
def locked(path: str, *, shared: bool = False, patience: float = 60.0, busy: str = "") -> Iterator[int]:
    """Tiene il lucchetto ``path`` (flock(2)); se altri lo tengono aspetta ``patience`` secondi, poi è un conflitto."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + patience
        while not try_lock(fd, shared=shared):
            if time.monotonic() > end:
                raise ConflictError(busy or f"Un altro programma sta usando «{path}».", "riprova fra poco")
            time.sleep(0.02)
        yield fd
    finally:
        os.close(fd)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Prende il lucchetto se è libero."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

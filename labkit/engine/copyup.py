"""Copia un albero di file fra due cartelle già aperte: solo descrittori, mai percorsi interi.

Serve a riempire un volume nuovo con ciò che l'immagine ha al suo posto, da dentro il container appena nato: lì non
si può più importare niente, e un percorso intero passerebbe per i link dell'immagine.
"""

from __future__ import annotations

import os
import stat

from labkit.kernel import libc

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 24


def copy_tree(source: int, target: int) -> None:
    """Copia in ``target`` (vuota) tutto ciò che c'è in ``source``: proprietari, permessi, tempi, hard link.

    Di un proprietario che qui non esiste resta quello di chi copia; i dispositivi non si copiano.
    """
    _copy_folder(source, target, {}, target, ())
    libc.syscall("syncfs", target)


def empty(folder: int) -> None:
    """Toglie tutto ciò che c'è in una cartella aperta."""
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            inside = os.open(name, _FOLDER, dir_fd=folder)
            try:
                empty(inside)
            finally:
                os.close(inside)
            os.rmdir(name, dir_fd=folder)


def _copy_folder(
    source: int, target: int, seen: dict[tuple[int, int], tuple[str, ...]], top: int, path: tuple[str, ...]
) -> None:
    for name in os.listdir(source):
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        place = (*path, name)
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            below, there = os.open(name, _FOLDER, dir_fd=source), os.open(name, _FOLDER, dir_fd=target)
            try:
                _copy_folder(below, there, seen, top, place)
            finally:
                os.close(below)
                os.close(there)
            continue
        first = seen.setdefault((info.st_dev, info.st_ino), place) if info.st_nlink > 1 else place
        if first != place:
            os.link("/".join(first), name, src_dir_fd=top, dst_dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(info.st_mode):
            _copy_file(source, target, name)
            _keep(info, name, target)
        elif stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            _keep(info, name, target)
        elif stat.S_ISFIFO(info.st_mode):
            os.mkfifo(name, 0o600, dir_fd=target)
            _keep(info, name, target)
    _own(os.fstat(source), target)


def _copy_file(source: int, target: int, name: str) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while os.sendfile(writer, reader, None, _PIECE):
                pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _keep(info: os.stat_result, name: str, folder: int) -> None:
    """Proprietario, permessi e tempi di una cosa che non è una cartella."""
    try:
        os.chown(name, info.st_uid, info.st_gid, dir_fd=folder, follow_symlinks=False)
    except OSError:  # an owner that this lab does not have (user_namespaces(7))
        pass
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=folder)
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=folder, follow_symlinks=False)


def _own(info: os.stat_result, folder: int) -> None:
    """Lo stesso di una cartella aperta, quando è già piena."""
    try:
        os.fchown(folder, info.st_uid, info.st_gid)
    except OSError:
        pass
    os.fchmod(folder, stat.S_IMODE(info.st_mode))
    os.utime(folder, ns=(info.st_atime_ns, info.st_mtime_ns))

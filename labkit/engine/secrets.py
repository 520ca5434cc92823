"""I segreti di un container: file in memoria, suoi soltanto, che non passano mai da un piano.

I valori stanno in un *memfd* (memfd_create(2)) tenuto aperto dal supervisore: memoria del kernel, senza nome e
senza file. L'operazione li copia di lì in un tmpfs del container, senza che passino dalla memoria di chi copia
(sendfile(2)). Il piano, e chiunque lo guardi, conosce solo i nomi.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from labkit.engine.isolation import identify
from labkit.engine.operation import Context, Operation
from labkit.kernel import libc, mounts

#: Dove un programma li trova: la cartella di Docker.
FOLDER = "run/secrets"

#: Quanto può contenere il tmpfs: più di quanto un client possa mandare, anche con pagine da 64 KiB.
_SIZE = "4m"

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def seal(values: Mapping[str, bytes]) -> int:
    """I segreti in un memfd che nessuno può più cambiare: torna il descrittore. Una riga dice nomi e misure."""
    fd = os.memfd_create("labkit-secrets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(json.dumps({name: len(value) for name, value in values.items()}).encode() + b"\n")
        file.writelines(values.values())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def sealed(fd: int) -> Iterator[tuple[str, int, int]]:
    """Quello che c'è in un memfd di :func:`seal`: nome, dove comincia, quanto è lungo."""
    with open(fd, "rb", closefd=False, buffering=0) as file:
        file.seek(0)
        head = b""
        while not head.endswith(b"\n"):  # one byte at a time: the values stay out of our memory
            head += file.read(1)
    start = len(head)
    for name, size in json.loads(head).items():
        yield name, start, size
        start += size


@dataclass(frozen=True)
class MountSecrets(Operation):
    """I segreti in ``/run/secrets``: un tmpfs di sola lettura, che solo l'utente del programma può aprire."""

    names: tuple[str, ...]
    user: str = ""

    syscall: ClassVar[str] = "fsopen, fsmount, sendfile"
    man: ClassVar[str] = "tmpfs(5), memfd_create(2), sendfile(2)"

    def describe(self) -> str:
        return f"mette in /run/secrets, in memoria, i segreti che solo il programma legge: {', '.join(self.names)}"

    def execute(self, context: Context) -> None:
        who = identify(self.user, context.root)
        options: dict[str, str | None] = {"mode": "0700", "size": _SIZE}
        mounts.attach(context.root, FOLDER, "tmpfs", options, "nosuid", "nodev", "noexec")
        try:
            folder = libc.openat2(context.root, FOLDER, os.O_RDONLY | os.O_DIRECTORY, libc.RESOLVE_NO_SYMLINKS)
            try:
                for name, start, size in sealed(context.secrets):
                    _pour(context.secrets, start, size, folder, name, who.uid, who.gid)
                os.fchown(folder, who.uid, who.gid)
                os.fchmod(folder, 0o500)
                libc.mount_setattr(folder, libc.MOUNT_ATTR_RDONLY, 0, libc.AT_EMPTY_PATH)
            finally:
                os.close(folder)
        except BaseException:
            self.undo(context)  # half a folder of secrets is not a step that can be tried again
            raise

    def undo(self, context: Context) -> None:
        mounts.umount(f"{context.mountpoint}/{FOLDER}")


def _pour(source: int, start: int, size: int, folder: int, name: str, uid: int, gid: int) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400, dir_fd=folder)
    try:
        while size:
            sent = os.sendfile(fd, source, start, size)
            start, size = start + sent, size - sent
        os.fchown(fd, uid, gid)
    finally:
        os.close(fd)

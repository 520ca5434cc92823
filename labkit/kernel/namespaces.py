"""I namespace: crearli, riconoscerli, entrarci, tenerli aperti (namespaces(7)).

Un namespace si riconosce dall'inode di ``/proc/PID/ns/TIPO``: due processi con lo stesso inode
vivono nello stesso namespace. Vive finché un processo ci sta dentro o un descrittore lo tiene aperto.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType

from labkit.errors import InvalidError, NotFoundError
from labkit.kernel import libc
from labkit.kernel.explain import from_os_error
from labkit.model import NAMESPACES, IdMap

#: Dal nome usato nel corso al flag ``CLONE_NEW*`` di clone(2).
FLAGS = {
    "uts": libc.CLONE_NEWUTS,
    "mount": libc.CLONE_NEWNS,
    "pid": libc.CLONE_NEWPID,
    "ipc": libc.CLONE_NEWIPC,
    "net": libc.CLONE_NEWNET,
    "user": libc.CLONE_NEWUSER,
    "cgroup": libc.CLONE_NEWCGROUP,
    "time": libc.CLONE_NEWTIME,
}


def flags(kinds: Iterable[str]) -> int:
    """La somma dei flag ``CLONE_NEW*`` dei tipi dati.

    >>> hex(flags(["uts", "net"]))
    '0x44000000'
    """
    total = 0
    for kind in kinds:
        if kind not in FLAGS:
            raise InvalidError(
                f"«{kind}» non è un tipo di namespace: gli otto tipi sono {', '.join(NAMESPACES)}.", "unshare('uts')"
            )
        total |= FLAGS[kind]
    return total


def path(kind: str, pid: int | str = "self") -> str:
    """Il file che rappresenta il namespace ``kind`` del processo ``pid``."""
    flags([kind])
    return f"/proc/{pid}/ns/{'mnt' if kind == 'mount' else kind}"


def namespace_id(kind: str, pid: int | str = "self") -> int:
    """L'inode che identifica il namespace ``kind`` del processo ``pid`` (namespaces(7))."""
    try:
        text = os.readlink(path(kind, pid))
    except FileNotFoundError:
        raise NotFoundError(f"Il processo {pid} non c'è (o questo kernel non ha il namespace {kind}).") from None
    except OSError as problem:
        raise from_os_error(problem, "readlink") from None
    return int(text[text.index("[") + 1 : -1])


def namespace_ids(pid: int | str = "self") -> dict[str, int]:
    """Gli inode degli otto namespace del processo ``pid``, nell'ordine del corso."""
    found = {}
    for kind in NAMESPACES:
        try:
            found[kind] = namespace_id(kind, pid)
        except NotFoundError:
            if kind == "time":  # kernels before 5.6
                continue
            raise
    return found


def unshare(*kinds: str) -> None:
    """Crea un namespace nuovo per ogni tipo e ci porta il processo che chiama (unshare(2)).

    Per ``pid`` e ``time`` entrano nel nuovo namespace i figli, non chi chiama.
    """
    if not kinds:
        raise InvalidError("unshare ha bisogno di almeno un tipo di namespace.", "unshare('uts')")
    libc.unshare(flags(kinds))


def setns(target: int | str | Namespace, *kinds: str) -> None:
    """Entra nei namespace di un processo (per PID), oppure in quello tenuto aperto (setns(2)).

    Senza ``kinds`` e con un PID si entra in tutti quelli diversi dai propri.
    """
    if isinstance(target, Namespace):
        libc.setns(target.fd, FLAGS[target.kind])
        return
    mine, theirs = namespace_ids(), namespace_ids(target)
    wanted = kinds or tuple(kind for kind in theirs if theirs[kind] != mine[kind])
    pidfd = open_process(int(target))
    try:
        libc.setns(pidfd, flags(wanted))
    finally:
        os.close(pidfd)


def open_process(pid: int) -> int:
    """Un pidfd di ``pid``: resta di quel processo anche se il numero viene riusato (pidfd_open(2))."""
    try:
        return os.pidfd_open(pid)
    except OSError as problem:
        raise from_os_error(problem, "pidfd_open") from None


class Namespace:
    """Un namespace tenuto aperto: vive anche se tutti i suoi processi finiscono, fino a :meth:`close`."""

    def __init__(self, kind: str, pid: int | str = "self") -> None:
        self.kind = kind
        try:
            self.fd = os.open(path(kind, pid), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            raise from_os_error(problem, "open") from None

    @property
    def id(self) -> int:
        return os.fstat(self.fd).st_ino

    def enter(self) -> None:
        """Ci porta il processo che chiama (setns(2))."""
        setns(self)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Namespace({self.kind!r})"


def _write(target: str, text: str) -> None:
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as problem:
        raise from_os_error(OSError(problem.errno, "", target), "write") from None


def id_map(inside: int, outside: int, count: int = 1, pid: int | str = "self") -> None:
    """Scrive la mappa degli utenti e dei gruppi di un namespace utente appena creato.

    Vale una volta sola; senza privilegi si può mappare solo il proprio id, e ``setgroups`` va
    prima spento (user_namespaces(7)).
    """
    if min(inside, outside) < 0 or count < 1:
        raise InvalidError("Gli id partono da 0 e il numero di id è almeno 1.", "id_map(0, 1000, 1)")
    _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", f"{inside} {outside} {count}")
    _write(f"/proc/{pid}/gid_map", f"{inside} {outside} {count}")


def id_maps(pid: int | str = "self", which: str = "uid") -> list[IdMap]:
    """Le righe di ``/proc/PID/uid_map`` (o ``gid_map``) (user_namespaces(7))."""
    with open(f"/proc/{pid}/{which}_map", encoding="ascii") as lines:
        return [IdMap(*map(int, line.split())) for line in lines]


_PROC_USER_INIT_INO = 0xEFFFFFFD  # not the map: root's own laboratory has the identity too


def first_user_namespace() -> bool:
    """Se siamo nel namespace utente con cui il kernel è partito: il suo numero è fisso (linux/proc_ns.h)."""
    return namespace_id("user") == _PROC_USER_INIT_INO


def time_offset(monotonic: int = 0, boottime: int = 0) -> None:
    """Sposta gli orologi del namespace time appena creato, in secondi, prima del primo figlio (time_namespaces(7))."""
    _write("/proc/self/timens_offsets", f"monotonic {monotonic} 0\nboottime {boottime} 0\n")

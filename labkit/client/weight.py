"""Quanta memoria occupano dei processi, vista dall'host: la somma delle loro PSS.

La PSS di un processo (smaps, proc_pid_smaps(5)) conta una pagina condivisa una frazione per ciascuno di quelli che
la usano: sommata, non conta niente due volte. Fa eccezione un file senza nome, come la memoria di User Mode Linux: i
suoi aiutanti hanno lo stesso spazio di indirizzi, e le sue pagine restano anche se nessuno le guarda. Si conta lui,
una volta. Un processo che intanto finisce pesa zero.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator

#: Of each mapping: the inode of its file (0: none), and its share in kB.
_MAPPING = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (\d+).*?^Pss:\s+(\d+) kB", re.MULTILINE | re.DOTALL)


def pss(pids: Iterable[int]) -> int:
    """I byte di memoria di quei processi.

    >>> pss([os.getpid()]) > 0
    True
    """
    total = 0
    files: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps", "rb") as file:
            mappings = [(int(inode), int(share) << 10) for inode, share in _MAPPING.findall(file.read())]
            nameless = dict(_nameless(pid))
            total += sum(share for inode, share in mappings if inode not in nameless)
            files |= nameless
    return total + sum(files.values())


def _nameless(pid: int) -> Iterator[tuple[int, int]]:
    """Inode and bytes of the files that a process holds and that no folder names any more."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed while we looked
            info = os.stat(f"/proc/{pid}/fd/{name}")
            if stat.S_ISREG(info.st_mode) and info.st_nlink == 0:
                yield info.st_ino, info.st_blocks * 512


def descendants(ancestor: int) -> list[int]:
    """I processi nati da ``ancestor``, e dai suoi figli, adesso; lui no.

    >>> os.getpid() in descendants(os.getppid())
    True
    """
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        born = children.get(waiting.pop(), [])
        found += born
        waiting += born
    return found


def inside(inode: int) -> list[int]:
    """I processi dell'host che vivono nel namespace pid con quel numero."""
    found = []
    for pid, _ in _parents():
        with contextlib.suppress(OSError):  # someone else's process, or one that has just ended
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == inode:
                found.append(pid)
    return found


def files(pids: Iterable[int]) -> dict[str, int]:
    """I file che quei processi nominano nella loro riga di comando, con i byte che occupano sul disco."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            home = os.readlink(f"/proc/{pid}/cwd")
            for word in re.split(rb"[\0=,]", file.read()):
                path = os.path.join(home, os.fsdecode(word))
                if os.path.isfile(path):
                    found[path] = os.stat(path).st_blocks * 512
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Every process and its parent (fields 1 and 4 of /proc/PID/stat)."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                yield int(name), int(file.read().rpartition(b")")[2].split()[1])

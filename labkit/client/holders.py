"""Chi tiene una porta di questa macchina: il processo che ha la sua presa (proc(5), ``/proc/net/tcp``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from labkit.errors import LabError

#: linux/tcp_states.h: chi ascolta in tcp; in udp una presa senza un altro capo ha lo stato di una chiusa.
_WAITING = {"tcp": "0A", "udp": "07"}


def name_holder(problem: LabError) -> LabError:
    """Lo stesso errore; se parla di una porta presa, dice anche da chi, quando da qui si può sapere."""
    port, protocol = problem.details.get("port"), problem.details.get("protocol")
    if isinstance(port, int) and protocol in _WAITING and (who := holder(port, str(protocol))):
        problem.message = f"{problem.message} La tiene {who}."
    return problem


def holder(port: int, protocol: str = "tcp") -> str:
    """Il processo che tiene la porta, come «nginx» (PID 7); vuoto se è di un altro utente, o di nessuno."""
    inodes = {f"socket:[{inode}]" for kind in ("", "6") for inode in _inodes(f"/proc/net/{protocol}{kind}", port)}
    if not inodes:
        return ""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if inodes & set(_open_things(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    return f"«{file.read().strip()}» (PID {pid})"
        except OSError:  # gone meanwhile, or of somebody else
            continue
    return ""


def _open_things(folder: str) -> Iterator[str]:
    """Che cosa c'è dietro ogni descrittore; uno che intanto si è chiuso non conta."""
    for fd in os.listdir(folder):
        with suppress(FileNotFoundError):
            yield os.readlink(f"{folder}/{fd}")


def _inodes(path: str, port: int) -> list[str]:
    """Gli inode delle prese in attesa su quella porta."""
    state = _WAITING["udp" if "udp" in path else "tcp"]
    try:
        with open(path, encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == state and int(row[1].rpartition(":")[2], 16) == port]

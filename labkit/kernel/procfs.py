"""Quello che il kernel racconta di sé in /proc, solo letto (proc(5)): la verità per i widget."""

from __future__ import annotations

import os

from labkit.errors import NotFoundError


def read(pid: int | str, name: str) -> str:
    """Il contenuto di ``/proc/PID/NAME``."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        raise NotFoundError(f"Il processo {pid} non c'è più.") from None


def pids() -> list[int]:
    """I PID visibili da chi chiama: quelli del suo namespace pid, se /proc è montato lì dentro."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def status(pid: int | str = "self") -> dict[str, str]:
    """Le righe di ``/proc/PID/status`` come dizionario."""
    lines = (line.split(":", 1) for line in read(pid, "status").splitlines())
    return {key: value.strip() for key, value in lines}


def start_time(pid: int) -> int:
    """L'istante di nascita del processo (campo 22 di ``stat``): con il PID lo identifica per sempre."""
    return int(read(pid, "stat").rpartition(")")[2].split()[19])


def children(pid: int) -> list[int]:
    """I figli del processo, dal più vecchio (campi 4 e 22 di ``stat``)."""
    found = []
    for other in pids():
        try:
            fields = read(other, "stat").rpartition(")")[2].split()
        except NotFoundError:
            continue
        if int(fields[1]) == pid:
            found.append((int(fields[19]), other))
    return [child for _, child in sorted(found)]


def comm(pid: int | str = "self") -> str:
    """Il nome breve del processo."""
    return read(pid, "comm").rstrip("\n")


def command(pid: int | str = "self") -> list[str]:
    """La riga di comando del processo."""
    return read(pid, "cmdline").rstrip("\0").split("\0")


def mount_points(pid: int | str = "self") -> list[str]:
    """I punti di mount visibili al processo, nell'ordine in cui sono stati fatti."""
    return [line.split()[4] for line in read(pid, "mountinfo").splitlines()]

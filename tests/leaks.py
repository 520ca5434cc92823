"""Che cosa c'è sulla macchina per colpa nostra: si guarda prima e dopo una prova, e deve essere uguale.

«Nostro» vuol dire di questo processo di prova, e non di un altro che gira accanto: i suoi discendenti,
e i processi che hanno nell'ambiente la sua cartella dei laboratori (``LABKIT_RUN``), che ereditano anche
quando il padre muore. Mount e schede di rete della macchina sono di tutti: là un laboratorio non deve
mai lasciare traccia, quindi si confrontano interi, tolto ciò che fanno Docker, Podman e systemd.
"""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
LINKS = Path("/sys/class/net")

_FOREIGN_MOUNTS = re.compile(r"^/(var/lib/(docker|containers)|run/(docker|containers|credentials|user|netns))(/|$)")
_FOREIGN_LINKS = re.compile(r"docker\d|podman\d|cni-|br-[0-9a-f]{12}$")
#: Programs that a whole test session keeps: Chromium and its driver, Python's own helper.
_LONG_LIVED = (b"playwright", b"chromium", b"multiprocessing.resource_tracker")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    start: int
    command: bytes
    marked: bool

    def __str__(self) -> str:
        shown = self.command.replace(b"\0", b" ").decode(errors="replace").strip()
        return f"{self.pid} {shown[:160] or '(zombie: nessuno lo ha aspettato)'}"


@dataclass(frozen=True)
class Snapshot:
    """Una fotografia; ogni campo è un insieme di frasi, una per cosa trovata."""

    processi: frozenset[str]
    namespace: frozenset[str]
    descrittori: frozenset[str]
    mount: frozenset[str]
    schede: frozenset[str]
    cgroup: frozenset[str]
    cartelle: frozenset[str]


def processes(mark: str, proc: Path = PROC) -> dict[int, Process]:
    """Tutti i processi che si possono leggere; ``marked`` se hanno ``mark`` nell'ambiente."""
    found = {}
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            stat = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it ended while we looked
            continue
        try:
            marked = bool(mark) and mark.encode() in (folder / "environ").read_bytes()
        except OSError:  # another user's
            marked = False
        pid = int(folder.name)
        found[pid] = Process(pid, int(stat[1]), int(stat[19]), command, marked)
    return found


def ours(everyone: dict[int, Process], me: int) -> list[Process]:
    """I discendenti di ``me`` e dei processi marcati, senza ``me``, i suoi antenati e i programmi di sessione."""
    children: dict[int, list[int]] = {}
    for process in everyone.values():
        children.setdefault(process.parent, []).append(process.pid)
    above = set()
    pid = me
    while pid in everyone and pid not in above:
        above.add(pid)
        pid = everyone[pid].parent
    found: dict[int, Process] = {}
    waiting = [*children.get(me, ()), *(process.pid for process in everyone.values() if process.marked)]
    while waiting:
        process = everyone[waiting.pop()]
        if process.pid in found or process.pid in above or any(name in process.command for name in _LONG_LIVED):
            continue
        found[process.pid] = process
        waiting += children.get(process.pid, ())
    return list(found.values())


def namespaces(pids: Iterable[int], proc: Path = PROC) -> set[str]:
    """I namespace in cui vivono questi processi, come ``net:[4026531840]``."""
    found = set()
    for pid in pids:
        try:
            found |= {os.readlink(entry) for entry in (proc / str(pid) / "ns").iterdir()}
        except OSError:  # it ended while we looked, or it is another user's
            continue
    return found


def held(proc: Path = PROC) -> set[str]:
    """I descrittori di questo processo che tengono in vita un namespace o un processo."""
    found = set()
    for entry in (proc / "self" / "fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:  # the descriptor of this very listing
            continue
        if re.fullmatch(r"[a-z_]+:\[\d+\]", target) and not target.startswith(("pipe:", "socket:")):
            found.add(target)
        elif target == "anon_inode:[pidfd]":
            found.add(f"pidfd, descrittore {entry.name}")
    return found


def mounts(text: str) -> set[str]:
    """I mount di ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)) che devono restare uguali."""
    found = set()
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        number, _, _, root, target = left.split()[:5]
        if not _FOREIGN_MOUNTS.match(target):
            found.add(f"{target} ({right.split()[0]}, da {root}, mount {number})")
    return found


def cgroups(mine: set[int], alive: Iterable[int], base: Path = CGROUPS) -> set[str]:
    """Le cartelle ``labkit-PID-…``, tranne quelle di un processo vivo che non è nostro."""
    found = set()
    for folder, names, _ in os.walk(base):
        for name in names:
            match = re.match(r"labkit-(\d+)", name)
            if match and (int(match[1]) in mine or int(match[1]) not in alive):
                found.add(f"{folder}/{name}")
    return found


def folders(run: str) -> set[str]:
    """Le cartelle dei laboratori dentro ``LABKIT_RUN``."""
    return {str(path) for path in Path(run).iterdir()} if os.path.isdir(run) else set()


def take(run: str) -> Snapshot:
    """La fotografia di adesso; ``run`` è la cartella ``LABKIT_RUN`` di questo processo di prova."""
    gc.collect()
    everyone = processes(run)
    mine = ours(everyone, os.getpid())
    pids = {process.pid for process in mine}
    return Snapshot(
        processi=frozenset(map(str, mine)),
        namespace=frozenset(namespaces(pids) - namespaces([os.getpid()])),
        descrittori=frozenset(held()),
        mount=frozenset(mounts((PROC / "self" / "mountinfo").read_text())),
        schede=frozenset(name for name in os.listdir(LINKS) if not _FOREIGN_LINKS.match(name)),
        cgroup=frozenset(cgroups(pids | {os.getpid()}, everyone)),
        cartelle=frozenset(folders(run)),
    )


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """Che cosa c'è in più, una riga per cosa; mount e schede non devono nemmeno sparire."""
    lines = []
    for field in fields(Snapshot):
        old, new = getattr(before, field.name), getattr(after, field.name)
        lines += [f"{field.name}: in più {thing}" for thing in sorted(new - old)]
        if field.name in ("mount", "schede"):
            lines += [f"{field.name}: sparito {thing}" for thing in sorted(old - new)]
    return lines


def wait(before: Snapshot, look: Callable[[], Snapshot], grace: float = 10.0) -> list[str]:
    """Aspetta, al massimo ``grace`` secondi, che tutto torni come ``before``; dà quello che è rimasto."""
    end = time.monotonic() + grace
    while (left := difference(before, look())) and time.monotonic() < end:
        time.sleep(0.05)
    return left

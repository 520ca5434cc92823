"""Il conto di un cgroup: quanto ha usato, quante volte è stato fermato, chi il kernel ha ucciso.

Le due versioni dicono le stesse cose in file e unità diverse; qui escono sempre uguali. Fonti:
Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/*.rst, accounting/psi.rst.
"""

from __future__ import annotations

import os
import re
from typing import Any

from labkit.errors import NotFoundError
from labkit.kernel.cgroups import Cgroup

#: Un limite della versione 1 più grande di così è «nessun limite»: il più grande numero di pagine che ci sta.
_NONE = 1 << 60

_OOM = re.compile(r"oom-kill:.*,task_memcg=([^,]*),task=(.*),pid=(\d+),uid=\d+")


def account(group: Cgroup) -> dict[str, Any]:
    """Il conto di adesso, con i nomi e le unità di :class:`~labkit.limits.Stats`; manca ciò che qui non si conta."""
    found: dict[str, Any] = {}
    found.update(_memory(group))
    found.update(_cpu(group))
    if pids := _folder(group, "pids"):
        found["pids"] = _number(f"{pids}/pids.current")
        found["pids_limit"] = _number(f"{pids}/pids.max")
        found["pids_refused"] = _rows(f"{pids}/pids.events").get("max")
    found.update(_io(group))
    found["pressure"] = _pressure(group)
    return {name: value for name, value in found.items() if value is not None}


def oom_kills(group: Cgroup) -> int:
    """Quanti processi del gruppo il kernel ha ucciso perché la memoria era finita."""
    if not (folder := _folder(group, "memory")):
        return 0
    file = "memory.events" if group.version("memory") == 2 else "memory.oom_control"
    return _rows(f"{folder}/{file}").get("oom_kill", 0)


def victim(record: str) -> tuple[str, int, str] | None:
    """Da una riga del diario del kernel (``/dev/kmsg``) al cgroup, al PID e al nome di chi è stato ucciso.

    >>> victim("6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/lab/c1,task=dd,pid=7,uid=0")
    ('/lab/c1', 7, 'dd')
    """
    found = _OOM.search(record)
    return (found[1], int(found[3]), found[2]) if found else None


def _folder(group: Cgroup, controller: str) -> str:
    return next((part.folder for part in group.parts if controller in part.controllers), "")


def _text(path: str) -> str:
    """Il testo di un file piccolo; "" se non c'è: è il kernel di un altro, o il gruppo è appena finito."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 8192).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _number(path: str) -> int | None:
    """Il numero in un file; ``None`` se non c'è o se vuol dire «nessun limite»."""
    text = _text(path).strip()
    value = int(text) if text.isdecimal() else None
    return None if value is None or value >= _NONE else value


def _rows(path: str) -> dict[str, int]:
    """Le righe ``nome numero`` di un file."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _memory(group: Cgroup) -> dict[str, Any]:
    if not (folder := _folder(group, "memory")):
        return {}
    two = group.version("memory") == 2
    now, peak, limit = ("current", "peak", "max") if two else ("usage_in_bytes", "max_usage_in_bytes", "limit_in_bytes")
    return {
        "memory": _number(f"{folder}/memory.{now}"),
        "memory_peak": _number(f"{folder}/memory.{peak}"),
        "memory_limit": _number(f"{folder}/memory.{limit}"),
        "oom_kills": oom_kills(group),
    }


def _cpu(group: Cgroup) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if folder := _folder(group, "cpu"):
        two = group.version("cpu") == 2
        rows = _rows(f"{folder}/cpu.stat")
        found["periods"] = rows.get("nr_periods", 0)
        found["throttled_periods"] = rows.get("nr_throttled", 0)
        found["throttled_seconds"] = rows.get("throttled_usec", 0) / 1e6 if two else rows.get("throttled_time", 0) / 1e9
        if two and "usage_usec" in rows:
            found["cpu_seconds"] = rows["usage_usec"] / 1e6
    if folder := _folder(group, "cpuacct"):
        used = _number(f"{folder}/cpuacct.usage")
        found["cpu_seconds"] = None if used is None else used / 1e9
    return found


def _io(group: Cgroup) -> dict[str, Any]:
    if not (folder := _folder(group, "io")):
        return {}
    if group.version("io") == 2:
        text = _text(f"{folder}/io.stat")
        read, written = re.findall(r"\brbytes=(\d+)", text), re.findall(r"\bwbytes=(\d+)", text)
    else:
        text = _text(f"{folder}/blkio.throttle.io_service_bytes")
        read, written = re.findall(r" Read (\d+)", text), re.findall(r" Write (\d+)", text)
    return {"io_read": sum(map(int, read)), "io_written": sum(map(int, written))}


def _pressure(group: Cgroup) -> dict[str, float]:
    """La percentuale degli ultimi 10 secondi in cui almeno uno ha aspettato (PSI, solo versione 2)."""
    part = next((part for part in group.parts if part.version == 2), None)
    found = {}
    for name in ("cpu", "memory", "io") if part else ():
        value = re.match(r"some avg10=([0-9.]+)", _text(f"{part.folder}/{name}.pressure")) if part else None
        if value:
            found[name] = float(value[1])
    return found


def frozen(group: Cgroup) -> bool:
    """Se tutti i processi del gruppo sono fermi (``cgroup.events``)."""
    try:
        return "frozen 1" in group.read("cgroup.events")
    except (NotFoundError, OSError):
        return False

"""Dai limiti scritti come in Docker alle operazioni sui cgroup: fare il gruppo, limitarlo, entrarci.

Che cosa è un limite, e come si scrive, lo dice :mod:`labkit.limits`.

:func:`settings` è pura: un limite diventa il file e il valore della versione 2. Dove il controllore sta
nella versione 1 lo traduce :mod:`labkit.kernel.cgroups`, e il piano dice il file che si scrive davvero.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from labkit.engine.operation import Context, Operation
from labkit.kernel import cgroups, libc
from labkit.kernel.cgroups import Cgroup
from labkit.limits import UNLIMITED, Limits, show_bytes

#: Il periodo della quota di CPU, in microsecondi: quello di Docker.
PERIOD = 100_000

#: Quale file della versione 2 serve a ogni limite: se qui non c'è, quel limite non si può avere.
NEEDS = {
    "memory": "memory.max",
    "memory_swap": "memory.swap.max",
    "cpus": "cpu.max",
    "cpu_shares": "cpu.weight",
    "cpuset_cpus": "cpuset.cpus",
    "pids_limit": "pids.max",
    "device_read_bps": "io.max",
    "device_write_bps": "io.max",
}


@dataclass(frozen=True)
class Setting:
    """Un file della versione 2, il valore da scriverci, e che cosa vuol dire in parole."""

    file: str
    value: str
    meaning: str


def settings(limits: Limits, before: Limits = UNLIMITED) -> tuple[Setting, ...]:
    """I file da scrivere per passare da ``before`` a ``limits``, nell'ordine in cui vanno scritti.

    Prima ``memory.max``: nella versione 1 il totale con lo swap si calcola da lui.

    >>> settings(Limits(cpus=0.5))
    (Setting(file='cpu.max', value='50000 100000', meaning='0.5 CPU per volta'),)
    """
    found = []
    swap = (limits.memory, limits.memory_swap) != (before.memory, before.memory_swap)
    if limits.memory != before.memory:
        meaning = f"{show_bytes(limits.memory)} di memoria" if limits.memory else "memoria senza limite"
        found.append(Setting("memory.max", str(limits.memory or "max"), meaning))
        together = "tutto il container" if limits.memory else "il solo programma che la vuole"
        found.append(
            Setting("memory.oom.group", str(int(limits.memory > 0)), f"se la memoria finisce muore {together}")
        )
    if swap:
        extra = swap_bytes(limits)
        meaning = "swap senza limite" if extra < 0 else f"{show_bytes(extra)} di swap" if extra else "niente swap"
        found.append(Setting("memory.swap.max", "max" if extra < 0 else str(extra), meaning))
    if limits.cpus != before.cpus:
        quota = f"{round(limits.cpus * PERIOD)}" if limits.cpus else "max"
        meaning = f"{limits.cpus:g} CPU per volta" if limits.cpus else "CPU senza quota"
        found.append(Setting("cpu.max", f"{quota} {PERIOD}", meaning))
    if limits.cpu_shares != before.cpu_shares:
        shares = limits.cpu_shares or 1024
        found.append(Setting("cpu.weight", str(cgroups.weight(shares)), f"peso {shares} quando le CPU non bastano"))
    if limits.cpuset_cpus != before.cpuset_cpus:
        found.append(Setting("cpuset.cpus", limits.cpuset_cpus, f"solo le CPU {limits.cpuset_cpus or 'di tutti'}"))
    if limits.pids_limit != before.pids_limit:
        meaning = f"al massimo {limits.pids_limit} processi e thread" if limits.pids_limit else "processi senza limite"
        found.append(Setting("pids.max", str(limits.pids_limit or "max"), meaning))
    for name, key, verb in (("device_read_bps", "rbps", "lettura"), ("device_write_bps", "wbps", "scrittura")):
        now, old = dict(getattr(limits, name)), dict(getattr(before, name))
        for device in sorted({*now, *old}):
            if now.get(device) != old.get(device):
                rate = now.get(device)
                meaning = f"{verb} da {device}: {f'{show_bytes(rate)} al secondo' if rate else 'senza limite'}"
                found.append(Setting("io.max", f"{device} {key}={rate or 'max'}", meaning))
    return tuple(found)


def swap_bytes(limits: Limits) -> int:
    """I byte di solo swap: come in Docker, se non è detto, tanti quanti di memoria; -1 senza limite."""
    if not limits.memory or limits.memory_swap == -1:
        return -1
    return limits.memory_swap - limits.memory if limits.memory_swap else limits.memory


@dataclass(frozen=True)
class MakeCgroup(Operation):
    """Il gruppo del container: una cartella in ogni gerarchia."""

    cgroup: Cgroup

    syscall: ClassVar[str] = "mkdir"
    man: ClassVar[str] = "cgroups(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"
    lasting: ClassVar[bool] = True

    def describe(self) -> str:
        return f"fa il suo cgroup, «{self.cgroup.name}», dove il kernel terrà il conto di quello che usa"

    def execute(self, context: Context) -> None:
        self.cgroup.create()

    def undo(self, context: Context) -> None:
        """Toglie le cartelle; se un processo sta ancora finendo ci riprova il supervisore, e alla fine il guardiano."""
        self.cgroup.remove()


@dataclass(frozen=True)
class SetLimit(Operation):
    """Un limite: un numero scritto in un file del gruppo. ``back`` è quello di prima."""

    cgroup: Cgroup
    setting: Setting
    back: str

    syscall: ClassVar[str] = "write"
    man: ClassVar[str] = "cgroups(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"

    def describe(self) -> str:
        file = os.path.basename(self.cgroup.path(self.setting.file))
        return f"limita il gruppo: {self.setting.meaning} ({file})"

    def execute(self, context: Context) -> None:
        self.cgroup.write(self.setting.file, self.setting.value)

    def undo(self, context: Context) -> None:
        self.cgroup.write(self.setting.file, self.back)


@dataclass(frozen=True)
class JoinCgroup(Operation):
    """Il processo entra nel gruppo, e con lui i figli che farà.

    Con ``view`` prende anche un namespace cgroup nuovo, di cui il gruppo è la radice (cgroup_namespaces(7)).
    L'annullamento torna nel gruppo di prima; il namespace nuovo resta, perché il kernel non lo disfa.
    """

    cgroup: Cgroup
    view: bool = True

    syscall: ClassVar[str] = "write, unshare"
    man: ClassVar[str] = "cgroups(7), cgroup_namespaces(7)"

    def describe(self) -> str:
        return "entra nel suo cgroup: da qui in poi conta quello che usa, e i limiti valgono"

    def execute(self, context: Context) -> None:
        self.cgroup.add()
        if self.view:
            libc.unshare(libc.CLONE_NEWCGROUP)

    def undo(self, context: Context) -> None:
        self.cgroup.leave()


def limit_operations(cgroup: Cgroup, limits: Limits, before: Limits = UNLIMITED) -> list[SetLimit]:
    """Le operazioni per passare da ``before`` a ``limits``: per un container nuovo, da nessun limite."""
    there, back = settings(limits, before), settings(before, limits)
    pairs = zip(there, back, strict=True)  # settings() names the same files, in the same order, both ways
    return [SetLimit(cgroup, setting, old.value) for setting, old in pairs if cgroup.offers(setting.file)]


def supported(cgroup: Cgroup, limits: Limits, reasons: dict[str, str]) -> tuple[Limits, tuple[str, ...]]:
    """I limiti che qui si possono avere, e una riga per ognuno degli altri: che cosa non vale, e perché.

    ``reasons`` dice perché manca un controllore.
    """
    missing = {
        name: file
        for name, file in NEEDS.items()
        if getattr(limits, name) != getattr(UNLIMITED, name) and not cgroup.offers(file)
    }
    # memory_swap is a sum with memory: without the one there is not the other.
    gone = {*missing, "memory_swap"} if "memory" in missing else set(missing)
    kept = replace(limits, **{name: getattr(UNLIMITED, name) for name in gone})
    lines = []
    for name, file in missing.items():
        why, remedy = reason(file, reasons)
        lines.append(f"Il limite {name} qui non vale: {why}. Rimedio: {remedy}")
    return kept, tuple(lines)


def reason(file: str, reasons: dict[str, str]) -> tuple[str, str]:
    """Perché qui manca un file, e dove c'è: se non è un permesso che manca, è il kernel che non lo sa fare."""
    controller = "cgroup" if file.endswith(".pressure") else file.partition(".")[0]
    why = reasons.get(controller) or reasons.get("")
    if why:
        return why, "Lab(backend='uml'), dove il kernel è tutto del laboratorio"
    return "questo kernel non lo sa fare", "Lab(backend='qemu'), che ha un kernel più completo"

"""I limiti di un container e il suo conto, come dati immutabili: quanto può usare, quanto ha usato.

I nomi e i valori sono quelli di ``docker run`` e ``docker update``. Qui non si tocca il kernel: che file
dei cgroup diventino i limiti è scritto in :mod:`labkit.engine.limits`, chi li legge è il supervisore.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InvalidError

#: Sotto questi byte un programma non parte nemmeno (è il minimo di Docker).
LEAST_MEMORY = 6 << 20

Rates = tuple[tuple[str, int], ...]


def show_bytes(count: int) -> str:
    """I byte come si dicono: ``64 MiB``.

    >>> show_bytes(64 << 20), show_bytes(1536), show_bytes(10)
    ('64 MiB', '1,5 KiB', '10 B')
    """
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}".replace(".0 ", " ").replace(".", ",")
    return f"{count} B"


@dataclass(frozen=True)
class Limits:
    """Quanto può usare un container; zero o vuoto vuol dire «quanto c'è».

    ``memory`` e ``memory_swap`` sono byte; ``memory_swap`` è la somma di memoria e swap, -1 senza limite, e
    se manca è il doppio di ``memory``, come in Docker. ``cpus`` è quante CPU per volta (0.5 = mezza),
    ``cpu_shares`` il peso quando le CPU non bastano (di solito 1024), ``cpuset_cpus`` su quali CPU
    (``"0-1"``), ``pids_limit`` quanti processi e thread, ``device_read_bps`` e ``device_write_bps``
    coppie ``(dispositivo, byte al secondo)``.

    >>> Limits(memory=64 << 20, cpus=0.5).memory
    67108864
    """

    memory: int = 0
    memory_swap: int = 0
    cpus: float = 0.0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    pids_limit: int = 0
    device_read_bps: Rates = ()
    device_write_bps: Rates = ()

    def __post_init__(self) -> None:
        for name in ("memory", "memory_swap", "cpu_shares", "pids_limit"):
            value, least = getattr(self, name), -1 if name == "memory_swap" else 0
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 62:
                raise InvalidError(f"{name} vuole un numero da zero in su: {value!r} non lo è.", f"{name}=0")
        if 0 < self.memory < LEAST_MEMORY:
            raise InvalidError(
                f"memory={show_bytes(self.memory)} è troppo poco: il minimo è {show_bytes(LEAST_MEMORY)}.",
                "memory='16m'",
            )
        if self.memory_swap and not self.memory:
            raise InvalidError(
                "memory_swap è la somma di memoria e swap: ci vuole anche memory.", "memory='64m', memory_swap='64m'"
            )
        if 0 < self.memory_swap < self.memory:
            raise InvalidError(
                "memory_swap è la somma di memoria e swap: non può essere meno di memory.",
                f"memory_swap={self.memory}, cioè niente swap",
            )
        if not isinstance(self.cpus, (int, float)) or isinstance(self.cpus, bool) or not 0 <= self.cpus <= 10000:
            raise InvalidError(f"cpus vuole un numero di CPU: {self.cpus!r} non lo è.", "cpus=0.5")
        if 0 < self.cpus < 0.01:
            raise InvalidError(f"cpus={self.cpus} è troppo poco: il minimo è 0.01.", "cpus=0.1")
        if self.cpu_shares and not 2 <= self.cpu_shares <= 262144:
            raise InvalidError(f"cpu_shares va da 2 a 262144: {self.cpu_shares} no.", "cpu_shares=512")
        if self.cpuset_cpus and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", self.cpuset_cpus, re.ASCII):
            raise InvalidError(f"cpuset_cpus vuole un elenco di CPU: «{self.cpuset_cpus}» no.", "cpuset_cpus='0-1'")
        for name in ("device_read_bps", "device_write_bps"):
            for device, rate in getattr(self, name):
                if not str(device).startswith("/dev/") or "\0" in device or not isinstance(rate, int) or rate < 1:
                    raise InvalidError(
                        f"{name} vuole un dispositivo e dei byte al secondo: {device!r} e {rate!r} no.",
                        f"{name}='/dev/sda:4m'",
                    )

    def __bool__(self) -> bool:
        return self != UNLIMITED

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Limits:
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise InvalidError(
                f"Limiti sconosciuti: {', '.join(unknown)}.", f"i limiti sono {', '.join(sorted(known))}"
            )
        values = dict(data)
        for name in ("device_read_bps", "device_write_bps"):
            values[name] = tuple((str(device), rate) for device, rate in values.get(name, ()))
        return cls(**values)

    def changed(self, data: Mapping[str, Any]) -> Limits:
        """Gli stessi limiti con quelli di ``data`` (nomi e valori già letti) al posto dei vecchi.

        Se cambia solo la memoria, lo swap che non era stato scelto la segue.
        """
        return Limits.from_json({**dataclasses.asdict(self), **data})


#: I limiti di chi non ne sceglie: nessuno.
UNLIMITED = Limits()

#: I nomi dei limiti, nell'ordine in cui il corso li presenta.
LIMIT_NAMES = (
    "memory", "memory_swap", "cpus", "cpu_shares", "cpuset_cpus", "pids_limit", "device_read_bps", "device_write_bps",
)  # fmt: skip


@dataclass(frozen=True)
class Stats:
    """Il conto di un container in un istante, come ``docker stats``; ``None`` dove la macchina non lo tiene.

    ``time`` sono secondi dell'orologio monotono. Byte: ``memory`` adesso, ``memory_peak`` il massimo,
    ``memory_limit`` (``None`` senza limite), ``io_read`` e ``io_written`` da e verso i dischi. Secondi:
    ``cpu_seconds`` di CPU usati, ``throttled_seconds`` persi in attesa della quota. Numeri: ``oom_kills``
    processi uccisi perché la memoria era finita, ``periods`` e ``throttled_periods`` periodi della quota
    (0,1 s) e quelli in cui è finita, ``pids`` processi e thread, ``pids_limit``, ``pids_refused`` nascite
    negate. ``pressure`` è la percentuale degli ultimi 10 secondi in cui qualcuno ha aspettato ``cpu``,
    ``memory`` o ``io`` (PSI). Fonte: cgroup-v2.rst, cgroup-v1/ del kernel.
    """

    name: str
    time: float
    memory: int | None = None
    memory_peak: int | None = None
    memory_limit: int | None = None
    oom_kills: int | None = None
    cpu_seconds: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    pids: int | None = None
    pids_limit: int | None = None
    pids_refused: int | None = None
    io_read: int | None = None
    io_written: int | None = None
    pressure: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stats:
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data})

    def cpu_percent(self, before: Stats) -> float:
        """Quanta CPU ha usato dopo ``before``: 100 vuol dire una CPU intera.

        >>> Stats("c", 3.0, cpu_seconds=2.5).cpu_percent(Stats("c", 1.0, cpu_seconds=1.5))
        50.0
        """
        elapsed = self.time - before.time
        if elapsed <= 0 or self.cpu_seconds is None or before.cpu_seconds is None:
            return 0.0
        return 100 * (self.cpu_seconds - before.cpu_seconds) / elapsed

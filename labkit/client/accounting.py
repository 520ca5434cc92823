"""I comandi di ``labkit`` sui limiti: update stats pause unpause."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from labkit.client.commands import connect, each
from labkit.client.container import Container
from labkit.client.lab import Lab
from labkit.errors import InvalidError
from labkit.limits import LIMIT_NAMES, Stats, show_bytes

HEADER = ("NOME", "CPU %", "MEMORIA / LIMITE", "MEM %", "PROCESSI", "LETTI / SCRITTI", "UCCISI")

#: Secondi fra una riga e la prossima.
PERIOD = 1.0


def update(args: argparse.Namespace) -> int:
    """``labkit update``: come ``docker update``."""
    wanted = limits(args)
    if not wanted:
        raise InvalidError("labkit update: nessun limite da cambiare.", f"labkit update --memory 64m {args.names[0]}")
    return each(args, lambda container: container.update(**wanted))


def pause(args: argparse.Namespace) -> int:
    """``labkit pause``: come ``docker pause``."""
    return each(args, Container.pause)


def unpause(args: argparse.Namespace) -> int:
    """``labkit unpause``: come ``docker unpause``."""
    return each(args, Container.unpause)


def limits(args: argparse.Namespace) -> dict[str, object]:
    """I limiti scritti sulla riga di comando."""
    return {name: value for name in LIMIT_NAMES if (value := getattr(args, name)) is not None}


def stats(args: argparse.Namespace) -> int:
    """``labkit stats``: la tabella di ``docker stats``, che si aggiorna finché non si preme Ctrl-C."""
    with connect(args.lab) as lab:
        before = sample(lab, args.names)
        while True:
            time.sleep(PERIOD / 2 if args.no_stream else PERIOD)
            now = sample(lab, args.names)
            if not args.no_stream and sys.stdout.isatty():
                print("\033[H\033[J", end="")
            print(table(before, now), flush=True)
            if args.no_stream:
                return 0
            before = now


def sample(lab: Lab, names: list[str]) -> dict[str, Stats]:
    """Il conto di adesso, per nome."""
    found = [Container(lab, name).stats() for name in names] if names else lab.stats()
    return {one.name: one for one in found}


def table(before: dict[str, Stats], now: dict[str, Stats]) -> str:
    """La tabella; la CPU è quella usata fra i due conti."""
    rows = [HEADER, *(_row(before.get(name), stats) for name, stats in now.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(before: Stats | None, now: Stats) -> tuple[str, ...]:
    share = f"{100 * now.memory / now.memory_limit:.1f}" if now.memory is not None and now.memory_limit else "–"
    return (
        now.name,
        "–" if before is None or now.cpu_seconds is None else f"{now.cpu_percent(before):.1f}",
        f"{_shown(now.memory, show_bytes)} / {_shown(now.memory_limit, show_bytes)}",
        share,
        _shown(now.pids, str) + (f" / {now.pids_limit}" if now.pids_limit else ""),
        f"{_shown(now.io_read, show_bytes)} / {_shown(now.io_written, show_bytes)}",
        _shown(now.oom_kills, str),
    )


def _shown(value: int | None, how: Callable[[int], str]) -> str:
    return "–" if value is None else how(value)

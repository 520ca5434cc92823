"""Il cruscotto di un container: memoria, CPU e processi, adesso e negli ultimi secondi, accanto ai loro limiti.

Ogni riga ha un numero, una barra rispetto al limite e la linea di quello che è successo. I segni dicono quando il
limite è scattato: qualcuno ucciso, il programma fermato dalla quota, un processo negato.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import THIN, clean, count, fit, number
from labkit.limits import Limits, Stats, show_bytes

_WIDTH, _ROW, _TOP, _LEFT, _PLOT, _RIGHT, _HIGH = 680, 92, 40, 14, 212, 16, 58

#: Quanti conti si ricordano: mezzo minuto, a due al secondo.
SAMPLES: Final = 60


@dataclass(frozen=True)
class Row:
    """Una riga: i valori uno dopo l'altro, il limite (0 se non c'è), dove è scattato e come si dice."""

    title: str
    hue: str
    values: tuple[float, ...]
    limit: float
    shown: str
    marks: tuple[int, ...]
    word: str


def rows(history: Sequence[Stats], limits: Limits) -> list[Row]:
    """Le tre righe dal conto e dai limiti di adesso."""
    last = history[-1] if history else Stats("", 0.0)
    percents = [0.0, *(now.cpu_percent(before) for before, now in itertools.pairwise(history))][: len(history)]
    memory = show_bytes(last.memory or 0)
    cpu = f"{number(percents[-1], 2) if percents else 0}{THIN}%"
    pids = str(last.pids or 0)
    return [
        Row("memoria", "hue1", tuple(float(s.memory or 0) for s in history), float(limits.memory),
            f"{memory} su {show_bytes(limits.memory)}" if limits.memory else memory,
            _grown(history, lambda s: s.oom_kills or 0), "ucciso"),
        Row("CPU", "hue3", tuple(percents), 100 * limits.cpus,
            f"{cpu} su {number(100 * limits.cpus)}{THIN}%" if limits.cpus else cpu,
            _grown(history, lambda s: s.throttled_periods or 0), "fermato"),
        Row("processi", "hue4", tuple(float(s.pids or 0) for s in history), float(limits.pids_limit),
            f"{pids} su {limits.pids_limit}" if limits.pids_limit else pids,
            _grown(history, lambda s: s.pids_refused or 0), "negato"),
    ]  # fmt: skip


def _grown(history: Sequence[Stats], what: Callable[[Stats], int]) -> tuple[int, ...]:
    """In quali conti un numero che può solo crescere è cresciuto."""
    pairs = itertools.pairwise(history)
    return tuple(place for place, (before, now) in enumerate(pairs, 1) if what(now) > what(before))


def text(name: str, limits: Limits) -> str:
    """Il cruscotto in parole: che cosa mostra e i limiti di adesso, non i valori, che cambiano sempre."""
    return (
        f"Cruscotto di «{clean(name)}»: memoria, CPU e processi.\n"
        f"  memoria   {show_bytes(limits.memory) if limits.memory else 'senza limite'}\n"
        f"  CPU       {number(limits.cpus) if limits.cpus else 'senza limite'}\n"
        f"  processi  {limits.pids_limit or 'senza limite'}"
    )


def say(history: Sequence[Stats], limits: Limits) -> str:
    """L'ultima notizia: un limite che è appena scattato, con le sue parole; se no niente.

    >>> say([Stats("c", 1.0, oom_kills=0), Stats("c", 2.0, oom_kills=1)], Limits(memory=16 << 20))
    'La memoria è finita: 1 processo ucciso.'
    """
    if len(history) < 2:
        return ""
    before, now = history[-2:]
    killed = (now.oom_kills or 0) - (before.oom_kills or 0)
    if killed > 0:
        return f"La memoria è finita: {count(killed, 'processo ucciso', 'processi uccisi')}."
    if (now.pids_refused or 0) > (before.pids_refused or 0):
        return f"Troppi processi: al numero {limits.pids_limit + 1} il kernel ha detto di no."
    return ""


def to_svg(name: str, history: Sequence[Stats], limits: Limits, state: str = "") -> str:
    """Il disegno degli ultimi :data:`SAMPLES` conti; ``state`` è la parola accanto al nome (in pausa, finito…)."""
    lines = rows(history[-SAMPLES:], limits)
    heading = f"{clean(name)} · {state}" if state else clean(name)
    described = "; ".join(f"{line.title} {line.shown}" for line in lines)
    return svg.render(
        svg.document(
            _WIDTH,
            _TOP + _ROW * len(lines) + 4,
            f"Cruscotto di {clean(name)}",
            described,
            svg.text(_LEFT, 24, fit(heading, 400, 15), 15, font_weight=600),
            svg.text(_WIDTH - _RIGHT, 24, "ultimi 30 secondi →", 11, fill="soft", text_anchor="end"),
            *(part for place, line in enumerate(lines) for part in _row(line, _TOP + place * _ROW)),
        )
    )


def _row(row: Row, y: float) -> list[Node]:
    top = max([row.limit, *row.values, 1.0]) * 1.08
    wide, floor = _WIDTH - _RIGHT - _PLOT, y + _HIGH + 10
    current = row.values[-1] if row.values else 0.0
    full = min(1.0, current / (row.limit or top))
    parts = [
        svg.text(_LEFT, y + 18, row.title, 13, font_weight=600),
        svg.text(_LEFT, y + 38, row.shown, 13),
        svg.rect(_LEFT, y + 48, 180, 12, rx=3, fill="panel"),
        svg.rect(_LEFT, y + 48, max(2.0, 180 * full), 12, rx=3, fill=row.hue),
        svg.rect(_PLOT, y + 10, wide, _HIGH, fill="none", stroke="line", stroke_width=1),
    ]
    if row.limit:
        line = floor - row.limit / top * _HIGH
        parts.append(svg.line(_PLOT, line, _PLOT + wide, line, stroke="ink", stroke_width=1, stroke_dasharray="4 3"))
        parts.append(svg.text(_PLOT + 4, line + 12, "limite", 10, fill="soft"))
    points = [(_x(place, wide), floor - value / top * _HIGH) for place, value in enumerate(row.values)]
    joined = [(*one, *two) for one, two in itertools.pairwise(points)]
    if joined:
        parts.append(svg.strokes(joined, stroke=row.hue, stroke_width=2))
    for mark in row.marks:
        x = _x(mark, wide)
        parts.append(svg.rect(x - 2, floor - 6, 4, 10, fill="bad"))
    if row.marks:
        words = f"▮ {row.word} {count(len(row.marks), 'volta', 'volte')}"
        parts.append(svg.text(_PLOT + wide, floor + 15, words, 11, fill="bad", text_anchor="end"))
    return parts


def _x(place: int, wide: float) -> float:
    return _PLOT + place / (SAMPLES - 1) * wide

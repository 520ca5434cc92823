"""La gara di partenza: una corsia per concorrente, lunga quanto il tempo che ha impiegato a dire la prima riga.

La scala è di decine: ogni tratto vale dieci volte il precedente, perché fra il primo e l'ultimo ci sono tre zeri.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import THIN, clean, fit, listing, number

#: Il primo e l'ultimo istante della pista, in secondi.
START, END = 0.001, 100.0

_WIDTH, _LANE, _TOP, _LEFT, _RIGHT = 680, 64, 52, 14, 20
_TICKS: Final = ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s"), (100.0, "100 s"))
_HUES: Final = ("hue3", "hue1", "hue2", "hue4")


@dataclass(frozen=True)
class Lane:
    """Un concorrente: ``seconds`` passati finora, e a che punto è; ``words`` è quello che si sa di lui."""

    name: str
    state: Literal["waiting", "running", "done", "absent"] = "waiting"
    seconds: float = 0.0
    words: str = ""


def duration(seconds: float) -> str:
    """Un tempo come si legge.

    >>> duration(0.0042), duration(2.5)
    ('4,2\\u202fms', '2,5\\u202fs')
    """
    return f"{number(seconds * 1000, 2)}{THIN}ms" if seconds < 1 else f"{number(seconds, 2)}{THIN}s"


def order(lanes: Sequence[Lane]) -> list[str]:
    """I nomi di chi è arrivato, dal primo.

    >>> order([Lane("b", "done", 2), Lane("a", "done", 1), Lane("c")])
    ['a', 'b']
    """
    return [lane.name for lane in sorted(lanes, key=lambda lane: lane.seconds) if lane.state == "done"]


def text(lanes: Sequence[Lane]) -> str:
    """La gara in parole: chi c'è e l'ordine di arrivo, non i tempi, che cambiano ogni volta."""
    arrived = order(lanes)
    absent = [lane.name for lane in lanes if lane.state == "absent"]
    lines = [f"Gara di partenza: {listing([clean(lane.name) for lane in lanes])}."]
    if arrived:
        lines.append(f"Ordine di arrivo: {', '.join(clean(name) for name in arrived)}.")
    if absent:
        lines.append(f"Qui non può correre: {listing([clean(name) for name in absent])}.")
    return "\n".join(lines)


def say(lanes: Sequence[Lane]) -> str:
    """L'ultima notizia, con i tempi di chi è arrivato.

    >>> say([Lane("processo", "done", 0.002), Lane("container")])
    'processo 2\\u202fms.'
    """
    done = [lane for lane in sorted(lanes, key=lambda lane: lane.seconds) if lane.state == "done"]
    return f"{listing([f'{clean(lane.name)} {duration(lane.seconds)}' for lane in done])}." if done else ""


def to_svg(lanes: Sequence[Lane]) -> str:
    """La pista."""
    height = _TOP + _LANE * len(lanes) + 34
    return svg.render(
        svg.document(
            _WIDTH,
            height,
            "La gara di partenza",
            f"{text(lanes)} {say(lanes)}",
            svg.text(12, 24, "Dallo sparo alla prima riga", 15, font_weight=600),
            *_grid(height - 34),
            *(part for place, lane in enumerate(lanes) for part in _lane(lane, place)),
        )
    )


def _x(seconds: float) -> float:
    share = math.log10(min(max(seconds, START), END) / START) / math.log10(END / START)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _grid(bottom: float) -> list[Node]:
    parts = []
    for seconds, words in _TICKS:
        x = _x(seconds)
        anchor = "start" if seconds == START else "end" if seconds == END else "middle"
        parts.append(svg.line(x, _TOP - 8, x, bottom, stroke="line", stroke_width=1))
        parts.append(svg.text(x, bottom + 18, words, 11, fill="soft", text_anchor=anchor))
    return parts


def _lane(lane: Lane, place: int) -> list[Node]:
    y = _TOP + place * _LANE
    hue = _HUES[place % len(_HUES)]
    notes = {"waiting": "ai posti", "running": "parte…", "absent": "qui non può correre"}
    label = f"{clean(lane.name)}: {notes.get(lane.state, duration(lane.seconds))}"
    parts = [svg.text(_LEFT, y + 12, label, 13, font_weight=600)]
    if lane.state in ("running", "done"):
        length = max(2.0, _x(lane.seconds) - _LEFT)
        parts.append(
            svg.rect(_LEFT, y + 20, length, 14, rx=3, fill=hue, fill_opacity=1 if lane.state == "done" else 0.45)
        )
    if lane.words:
        parts.append(svg.text(_LEFT, y + 48, fit(clean(lane.words), _WIDTH - _LEFT - _RIGHT, 11), 11, fill="soft"))
    return parts

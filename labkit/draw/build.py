"""Una costruzione passo per passo: quali passi c'erano già, quanto è durato ognuno, quanto pesa ciò che ha aggiunto.

Tutto è calcolato da una fila di :class:`Row`: la stessa fila dà lo stesso disegno e le stesse parole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from labkit.draw import svg
from labkit.draw.race import duration
from labkit.draw.svg import Node
from labkit.draw.words import clean, count, fit
from labkit.limits import show_bytes

_WIDTH, _ROW, _TOP, _LEFT, _TEXT, _BAR, _RIGHT = 720, 30, 46, 14, 50, 440, 14
#: The longest bar, in pixels, and the shortest that can still be seen.
_LONG, _SHORT = 120.0, 4.0

State = Literal["waiting", "running", "done", "cached", "failed"]
WORDS: Final[dict[State, str]] = {
    "waiting": "aspetta", "running": "si fa…", "done": "fatto", "cached": "dalla cache", "failed": "fallito",
}  # fmt: skip
_HUES: Final[dict[State, str]] = {
    "waiting": "hue0", "running": "hue1", "done": "hue1", "cached": "hue3", "failed": "bad",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Un passo: numero, istruzione, a che punto è, i secondi, i byte del suo strato (``None`` se non ne ha)."""

    number: int
    text: str
    state: State
    seconds: float = 0.0
    size: int | None = None
    stage: str = ""


def summary(rows: Sequence[Row]) -> str:
    """Com'è andata, in una riga.

    >>> summary([Row(1, "FROM a", "done"), Row(2, "RUN b", "cached")])
    '2 passi: 1 fatto, 1 dalla cache.'
    """
    ended = {state: sum(row.state == state for row in rows) for state in ("done", "cached", "failed")}
    words = {"done": ("fatto", "fatti"), "cached": ("dalla cache",) * 2, "failed": ("fallito", "falliti")}
    parts = [count(many, *words[state]) for state, many in ended.items() if many]
    return f"{count(len(rows), 'passo', 'passi')}: {', '.join(parts) or 'si comincia'}."


def text(rows: Sequence[Row]) -> str:
    """La costruzione in parole: i passi e quali c'erano già, non i tempi, che cambiano ogni volta."""
    lines = [f"  {row.number}. {clean(' '.join(row.text.split()))} — {WORDS[row.state]}{_weight(row)}" for row in rows]
    return "\n".join([f"Costruzione. {summary(rows)}", *lines])


def _weight(row: Row) -> str:
    return f", strato di {show_bytes(row.size)}" if row.size is not None else ""


def to_svg(rows: Sequence[Row]) -> str:
    """Il disegno: una riga per passo; la barra è il tempo, il numero in fondo il peso dello strato aggiunto."""
    most = max([row.seconds for row in rows if row.state in ("done", "failed")], default=0.0)
    bottom = _TOP + _ROW * len(rows)
    described = "; ".join(f"{row.number} {clean(row.text)}: {_said(row)}" for row in rows)
    return svg.render(
        svg.document(
            _WIDTH,
            bottom + 32,
            "La costruzione, passo per passo",
            described or "ancora niente",
            svg.text(_LEFT, 26, "Passo", 12, fill="soft"),
            svg.text(_BAR, 26, "tempo, e peso dello strato", 12, fill="soft"),
            svg.line(_LEFT, 35, _WIDTH - _RIGHT, 35, stroke="line", stroke_width=1),
            *(part for place, row in enumerate(rows) for part in _row(row, most, _TOP + place * _ROW)),
            svg.text(_LEFT, bottom + 18, summary(rows), 12, fill="soft"),
        )
    )


def _said(row: Row) -> str:
    words = [WORDS[row.state]]
    if row.state in ("done", "failed"):
        words = [*([] if row.state == "done" else words), duration(row.seconds)]
    if row.size is not None:
        words.append(f"+{show_bytes(row.size)}")
    return " · ".join(words)


def _row(row: Row, most: float, y: float) -> list[Node]:
    hue = _HUES[row.state]
    shown = fit(clean(" ".join(row.text.split())), _BAR - _TEXT - 12, 12, mono=True)
    parts = [
        svg.text(_LEFT, y + 17, str(row.number), 12, fill="soft"),
        svg.group(svg.title(clean(row.text)), svg.text(_TEXT, y + 17, shown, 12, mono=True)),
    ]
    long = max(_SHORT, _LONG * row.seconds / most) if most and row.state in ("done", "failed") else _LONG / 4
    if row.state == "cached":  # nothing was done: an outline with stripes, not a full bar
        parts.append(svg.rect(_BAR, y + 5, long, 16, rx=3, fill="none", stroke=hue, stroke_width=1.5))
        parts.append(svg.strokes(svg.hatch(1, _BAR, y + 5, _BAR + long, y + 21), stroke=hue, stroke_width=1))
    elif row.state != "waiting":
        opacity = 0.45 if row.state == "running" else 1
        parts.append(svg.rect(_BAR, y + 5, long, 16, rx=3, fill=hue, fill_opacity=opacity))
    parts.append(svg.text(_BAR + long + 8, y + 17, _said(row), 12))
    return parts

"""Due ambienti a confronto: che cosa è uguale, che cosa no, e chi ha dato ogni valore.

Ogni riga dice il suo stato in tre modi insieme: il segno (≠ ◀ ▶ =), la parola e il colore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import clean, columns, count, fit, listing, pad
from labkit.environment import Variable

State = Literal["different", "left", "right", "same"]

#: stato → (segno, colore); l'ordine è quello delle righe.
STATES: Final[dict[State, tuple[str, str]]] = {
    "different": ("≠", "hue2"),
    "left": ("◀", "hue1"),
    "right": ("▶", "hue4"),
    "same": ("=", "soft"),
}
ORIGINS: Final = {
    "lab": "dal laboratorio",
    "image": "dall'immagine",
    "file": "da un file (--env-file)",
    "option": "da -e",
}

_WIDTH, _HEAD, _ROW = 680, 44, 40
_LEFT, _RIGHT, _COLUMN = 196, 440, 228


@dataclass(frozen=True)
class Row:
    """Una variabile nei due ambienti; ``None`` dove non c'è."""

    name: str
    left: Variable | None
    right: Variable | None

    @property
    def state(self) -> State:
        if self.left is None or self.right is None:
            return "right" if self.left is None else "left"
        return "same" if self.left.value == self.right.value else "different"


def rows(left: Sequence[Variable], right: Sequence[Variable]) -> list[Row]:
    """Le variabili dei due ambienti: prima quelle diverse, poi quelle di uno solo, infine le uguali.

    >>> one, two = [Variable("A", "1", "image")], [Variable("A", "1", "image"), Variable("B", "2", "option")]
    >>> [(row.name, row.state) for row in rows(one, two)]
    [('B', 'right'), ('A', 'same')]
    """
    one, two = {v.name: v for v in left}, {v.name: v for v in right}
    found = [Row(name, one.get(name), two.get(name)) for name in {**one, **two}]
    return sorted(found, key=lambda row: (list(STATES).index(row.state), row.name))


def word(state: State, names: tuple[str, str]) -> str:
    """Lo stato in parole.

    >>> word("left", ("rosso", "blu"))
    'solo in rosso'
    """
    return {
        "different": "diversa",
        "left": f"solo in {clean(names[0])}",
        "right": f"solo in {clean(names[1])}",
        "same": "uguale",
    }[state]


def summary(found: Sequence[Row], names: tuple[str, str]) -> str:
    """Quante righe per ogni stato, in una frase.

    >>> summary(rows([Variable("A", "1", "file")], []), ("rosso", "blu"))
    '1 variabile: 1 solo in rosso.'
    """
    parts = []
    for state in STATES:
        amount = sum(row.state == state for row in found)
        plural = {"different": "diverse", "same": "uguali"}.get(state)
        if amount:
            parts.append(f"{amount} {plural if plural and amount > 1 else word(state, names)}")
    return f"{count(len(found), 'variabile', 'variabili')}: {listing(parts) or 'niente da confrontare'}."


def say(row: Row, names: tuple[str, str]) -> str:
    """Una riga in una frase, per chi ascolta."""
    sides = [f"in {clean(name)} {_told(v)}" for name, v in zip(names, (row.left, row.right), strict=True)]
    return f"{clean(row.name)}, {word(row.state, names)}: {'; '.join(sides)}."


def _told(variable: Variable | None) -> str:
    return "non c'è" if variable is None else f"vale «{clean(variable.value)}», {ORIGINS[variable.origin]}"


def text(found: Sequence[Row], names: tuple[str, str]) -> str:
    """Il confronto come tabella di parole, e una frase che lo riassume."""
    table = [["", "variabile", *map(clean, names)]]
    table += [[STATES[row.state][0], clean(row.name), *(_cell(v) for v in (row.left, row.right))] for row in found]
    widths = [max(columns(line[i]) for line in table) for i in range(4)]
    lines = ["  ".join(pad(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([*lines, "", summary(found, names)])


def _cell(variable: Variable | None) -> str:
    if variable is None:
        return "–"
    value = clean(variable.value) or "(vuota)"
    return f"{value if len(value) <= 24 else value[:23] + '…'} ({ORIGINS[variable.origin]})"


def drawing(found: Sequence[Row], names: tuple[str, str], *, live: bool = False) -> Node:
    """Il disegno come nodo; con ``live=True`` ogni riga prende il fuoco e ha una frase da leggere."""
    heads = [
        svg.text(12, 28, "variabile", 12, fill="soft"),
        svg.text(_LEFT, 28, fit(clean(names[0]), _COLUMN, 14), 14, font_weight=700),
        svg.text(_RIGHT, 28, fit(clean(names[1]), _COLUMN, 14), 14, font_weight=700),
    ]
    return svg.document(
        _WIDTH,
        _HEAD + _ROW * max(len(found), 1) + 4,
        f"Gli ambienti di {clean(names[0])} e {clean(names[1])}",
        " ".join(say(row, names) for row in found) or summary(found, names),
        *heads,
        *(_row(row, names, _HEAD + _ROW * place, live) for place, row in enumerate(found)),
        *([] if found else [svg.text(12, _HEAD + 24, "Nessuna differenza.", 13, fill="soft")]),
        role="list" if live else "img",
    )


def to_svg(found: Sequence[Row], names: tuple[str, str], *, live: bool = False) -> str:
    """Il disegno scritto in SVG."""
    return svg.render(drawing(found, names, live=live))


def _row(row: Row, names: tuple[str, str], top: float, live: bool) -> Node:
    mark, colour = STATES[row.state]
    ink = "soft" if row.state == "same" else "ink"
    nodes = [
        svg.line(0, top, _WIDTH, top, stroke="line", stroke_width=1),
        svg.rect(0, top + 1, 4, _ROW - 1, fill=colour),
        svg.text(20, top + 24, mark, 15, fill=colour, font_weight=700, text_anchor="middle"),
        svg.text(36, top + 17, fit(clean(row.name), _LEFT - 44, 13, mono=True), 13, mono=True, fill=ink),
        svg.text(36, top + 33, fit(word(row.state, names), _LEFT - 44, 11.5), 11.5, fill=ink),
    ]
    for x, variable in ((_LEFT, row.left), (_RIGHT, row.right)):
        value = "–" if variable is None else fit(clean(variable.value), _COLUMN, 13, mono=True) or "(vuota)"
        origin = "non c'è" if variable is None else ORIGINS[variable.origin]
        nodes.append(svg.text(x, top + 17, value, 13, mono=True, fill="soft" if variable is None else ink))
        nodes.append(svg.text(x, top + 33, origin, 11.5, fill="soft"))
    words = say(row, names)
    extra: dict[str, str | float] = {}
    if live:
        extra = {"role": "listitem", "tabindex": 0, "aria_label": words, "data_state": row.state}
    return svg.group(svg.title(words), *nodes, **extra)

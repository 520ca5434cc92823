"""Quanti accessi ai registri costa una richiesta, al crescere della richiesta: una linea per ogni disco.

Le scale raddoppiano e decuplicano: una linea piatta vuol dire «non importa quanti byte chiedi». Ogni linea ha
il suo segno, il suo nome e il suo colore.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Final

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import THIN, clean, columns, listing, number, pad

#: dimensione di una richiesta in byte → disco → accessi
History = Mapping[int, Mapping[str, float]]

_WIDTH, _HEIGHT = 680, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 190, 46, 46
_HUES: Final = ("hue2", "hue1", "hue3", "hue4")
_DECADES: Final = ("una", "decine", "centinaia", "migliaia", "decine di migliaia")


def size_words(size: int) -> str:
    """I byte come si leggono.

    >>> size_words(512), size_words(65536)
    ('512\\u202fB', '64\\u202fKiB')
    """
    return f"{size}{THIN}B" if size < 1024 else f"{size // 1024}{THIN}KiB"


def magnitude(accesses: float) -> str:
    """L'ordine di grandezza, in parole: quello che non cambia da un kernel all'altro.

    >>> magnitude(1), magnitude(26), magnitude(1043)
    ('meno di dieci', 'decine', 'migliaia')
    """
    if accesses < 10:
        return "meno di dieci"
    return _DECADES[min(int(math.log10(accesses)), len(_DECADES) - 1)]


def text(history: History) -> str:
    """Le misure in parole, una riga per dimensione: gli ordini di grandezza, non i numeri."""
    if not history:
        return "Accessi ai registri per una richiesta: ancora nessuna misura."
    width = max(columns(size_words(size)) for size in history)
    lines = [
        f"{pad(size_words(size), width)}  " + ", ".join(f"{clean(name)} {magnitude(n)}" for name, n in row.items())
        for size, row in sorted(history.items())
    ]
    return "\n".join(["Accessi ai registri per una richiesta:", *lines])


def say(size: int, row: Mapping[str, float]) -> str:
    """L'ultima misura, con i numeri.

    >>> say(4096, {"ide-pio": 1043, "virtio-blk": 1})
    'Per 4\\u202fKiB: ide-pio 1\\u202f043 e virtio-blk 1.'
    """
    return f"Per {size_words(size)}: {listing([f'{clean(name)} {number(n, 9)}' for name, n in row.items()])}."


def to_svg(history: History, sizes: tuple[int, ...], current: int) -> str:
    """Il disegno: ``sizes`` sono tutte le dimensioni possibili, ``current`` quella scelta adesso."""
    names = list(dict.fromkeys(name for row in history.values() for name in row))
    described = "; ".join(say(size, row) for size, row in sorted(history.items())) or "Ancora nessuna misura."
    lines = [part for place, name in enumerate(names) for part in _line(history, sizes, name, place)]
    marked = _x(sizes, current)
    return svg.render(
        svg.document(
            _WIDTH,
            _HEIGHT,
            "Accessi ai registri per una richiesta",
            described,
            svg.text(12, 22, "Accessi ai registri per una richiesta", 15, font_weight=600),
            *_grid(sizes),
            svg.rect(marked - 13, _TOP, 26, _HEIGHT - _TOP - _BOTTOM, fill="panel", rx=4),
            *lines,
            *_labels(history, sizes, names, current),
        )
    )


def _x(sizes: tuple[int, ...], size: int) -> float:
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])
    return _LEFT + 18 + (math.log2(size) - first) / (last - first or 1) * (_WIDTH - _LEFT - _RIGHT - 36)


def _y(accesses: float) -> float:
    room = _HEIGHT - _TOP - _BOTTOM - 20
    return _HEIGHT - _BOTTOM - 12 - math.log10(max(accesses, 1)) / (len(_DECADES) - 0.5) * room


def _grid(sizes: tuple[int, ...]) -> list[Node]:
    parts = []
    for power in range(len(_DECADES)):
        y = _y(10**power)
        parts.append(svg.line(_LEFT, y, _WIDTH - _RIGHT, y, stroke="line", stroke_width=1))
        parts.append(svg.text(_LEFT - 8, y + 4, number(10**power, 9), 11, fill="soft", text_anchor="end"))
    parts += [
        svg.text(_x(sizes, size), _HEIGHT - _BOTTOM + 16, size_words(size), 11, fill="soft", text_anchor="middle")
        for size in sizes
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        svg.text(
            middle, _HEIGHT - 10, "byte di una richiesta (ogni passo il doppio)", 11, fill="soft", text_anchor="middle"
        )
    )
    return parts


def _line(history: History, sizes: tuple[int, ...], name: str, place: int) -> list[Node]:
    hue = _HUES[place % len(_HUES)]
    points = [(_x(sizes, size), _y(row[name])) for size, row in sorted(history.items()) if name in row]
    joined = [(*one, *two) for one, two in itertools.pairwise(points)]
    parts = [svg.strokes(joined, stroke=hue, stroke_width=2)] if joined else []
    # Round, square, flat: the mark says which disk it is also without its colour.
    wide, high, radius = ((9, 9, 4.5), (8, 8, 0), (12, 5, 0), (5, 12, 0))[place % 4]
    return parts + [svg.rect(x - wide / 2, y - high / 2, wide, high, rx=radius, fill=hue) for x, y in points]


def _labels(history: History, sizes: tuple[int, ...], names: list[str], current: int) -> list[Node]:
    """Beside the last column, one under the other: the name of each disk and its count for the chosen size."""
    row = history.get(current, {})
    parts = []
    floor = 0.0
    for name in sorted(names, key=lambda n: -row.get(n, 0)):
        hue = _HUES[names.index(name) % len(_HUES)]
        y = max(_y(row.get(name, 1)) + 4, floor + 34)
        floor = y
        words = f"{number(row[name], 9)} accessi" if name in row and row[name] != 1 else "1 accesso" if row else "–"
        parts.append(svg.text(_WIDTH - _RIGHT + 14, y, clean(name), 13, fill=hue, font_weight=600))
        parts.append(svg.text(_WIDTH - _RIGHT + 14, y + 15, words, 12))
    return parts

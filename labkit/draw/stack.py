"""Immagini una accanto all'altra come pile di strati: uno strato che hanno in comune è disegnato una volta sola.

Le pile poggiano sulla stessa base, come sul disco. L'altezza è il peso; gli strati leggeri hanno un'altezza minima,
perché si possa leggerne il nome, e il disegno lo dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import clean, count, fit, listing, width_px
from labkit.limits import show_bytes

_WIDTH, _HEAD, _FOOT, _GAP = 860, 44, 62, 6
#: The tallest layer, and the lowest that holds a line of text.
_TALL, _LOW = 120.0, 22.0
_MOST = 5


@dataclass(frozen=True)
class Slice:
    """Uno strato: la sua impronta, chi lo ha fatto, quanti byte pesa."""

    digest: str
    title: str
    size: int


@dataclass(frozen=True)
class Pile:
    """Un'immagine: il nome e i suoi strati, dal più basso."""

    name: str
    slices: tuple[Slice, ...]

    @property
    def size(self) -> int:
        """I byte dei suoi strati, anche quelli che ha in comune con altre."""
        return sum(one.size for one in self.slices)


@dataclass(frozen=True)
class Band:
    """Uno strato come si disegna: su quali immagini (per numero, tutte vicine), a che altezza."""

    slice: Slice
    owners: tuple[int, ...]
    bottom: float
    height: float


def stored(piles: Sequence[Pile]) -> int:
    """I byte che le immagini occupano insieme: ogni strato conta una volta."""
    return sum({one.digest: one.size for pile in piles for one in pile.slices}.values())


def summary(piles: Sequence[Pile]) -> str:
    """Quanto peserebbero una per una, quanto pesano insieme, quanto si risparmia.

    >>> base = Slice("a", "base", 100)
    >>> summary([Pile("uno", (base,)), Pile("due", (base, Slice("b", "app", 20)))])
    'Una per una: 220 B. Insieme: 120 B. Gli strati in comune fanno risparmiare 100 B.'
    """
    alone, together = sum(pile.size for pile in piles), stored(piles)
    saved = (
        f"Gli strati in comune fanno risparmiare {show_bytes(alone - together)}."
        if alone > together
        else "Non hanno strati in comune."
    )
    return f"Una per una: {show_bytes(alone)}. Insieme: {show_bytes(together)}. {saved}"


def order(piles: Sequence[Pile]) -> list[Pile]:
    """Le pile con le parenti vicine: chi ha in comune gli strati più bassi sta accanto; se no, com'erano."""
    first: dict[tuple[str, ...], int] = {}
    for place, pile in enumerate(piles):
        digests = tuple(one.digest for one in pile.slices)
        for depth in range(len(digests) + 1):
            first.setdefault(digests[:depth], place)

    def key(place: int) -> list[int]:
        digests = tuple(one.digest for one in piles[place].slices)
        return [*(first[digests[:depth]] for depth in range(len(digests) + 1)), place]

    return [piles[place] for place in sorted(range(len(piles)), key=key)]


def bands(piles: Sequence[Pile]) -> list[Band]:
    """Gli strati da disegnare, ognuno una volta per ogni posto in cui sta; ``piles`` in ordine (:func:`order`)."""
    tallest = max((one.size for pile in piles for one in pile.slices), default=0) or 1
    found: list[Band] = []

    def grow(owners: tuple[int, ...], depth: int, bottom: float) -> None:
        groups: dict[str, list[int]] = {}
        for owner in owners:
            if depth < len(piles[owner].slices):
                groups.setdefault(piles[owner].slices[depth].digest, []).append(owner)
        for members in groups.values():
            one = piles[members[0]].slices[depth]
            height = max(_LOW, _TALL * one.size / tallest)
            found.append(Band(one, tuple(members), bottom, height))
            grow(tuple(members), depth + 1, bottom + height)

    grow(tuple(range(len(piles))), 0, 0.0)
    return found


def say(band: Band, piles: Sequence[Pile]) -> str:
    """Uno strato in una frase, per chi ascolta."""
    names = listing([clean(piles[owner].name) for owner in band.owners])
    shared = f"in comune a {names}" if len(band.owners) > 1 else f"solo di {names}"
    return f"{clean(band.slice.title)}, {show_bytes(band.slice.size)}, {shared}."


def text(piles: Sequence[Pile]) -> str:
    """Le pile in parole, dall'alto: uno strato per riga, e il conto alla fine."""
    ordered = order(piles)
    lines = [f"{count(len(piles), 'immagine', 'immagini')}, dallo strato più alto:"]
    lines += [f"  {say(band, ordered)}" for band in sorted(bands(ordered), key=lambda band: -band.bottom)]
    return "\n".join([*lines, summary(piles)])


def to_svg(piles: Sequence[Pile], *, live: bool = False) -> str:
    """Il disegno scritto in SVG; con ``live`` ogni strato prende il fuoco e ha una frase da leggere."""
    shown = order(piles)[:_MOST]
    drawn = bands(shown)
    tall = max((band.bottom + band.height for band in drawn), default=_LOW)
    floor = _HEAD + tall
    column = (_WIDTH - 24) / max(len(shown), 1)
    hidden = f" Qui se ne vedono {_MOST} su {len(piles)}." if len(piles) > _MOST else ""
    low = any(band.height == _LOW for band in drawn)
    nodes = [
        *(_band(band, shown, column, floor, live) for band in drawn),
        *(_name(pile, 12 + column * place, column) for place, pile in enumerate(shown)),
        svg.line(12, floor + 1, _WIDTH - 12, floor + 1, stroke="soft", stroke_width=2),
        svg.text(12, floor + 24, summary(piles) + hidden, 13.5, font_weight=600),
    ]
    if low:
        note = "L'altezza è il peso; gli strati più leggeri sono disegnati più alti del vero."
        nodes.append(svg.text(12, floor + 46, note, 12, fill="soft"))
    return svg.render(
        svg.document(
            _WIDTH,
            floor + _FOOT,
            "Le immagini e i loro strati",
            text(piles),
            *nodes,
            role="list" if live else "img",
        )
    )


def _name(pile: Pile, x: float, column: float) -> Node:
    return svg.group(
        svg.text(x + column / 2, 18, fit(clean(pile.name), column - 12, 14), 14, font_weight=700, text_anchor="middle"),
        svg.text(x + column / 2, 35, show_bytes(pile.size), 12, fill="soft", text_anchor="middle"),
    )


def _band(band: Band, piles: Sequence[Pile], column: float, floor: float, live: bool) -> Node:
    shared = len(band.owners) > 1
    x, y = 12 + column * band.owners[0] + _GAP / 2, floor - band.bottom - band.height
    wide = column * len(band.owners) - _GAP
    hue = "hue3" if shared else "hue1"
    weight = show_bytes(band.slice.size)
    if shared:
        weight = f"{weight} · in comune a {len(band.owners)}"
    title, middle = clean(band.slice.title), y + band.height / 2 + 4
    room = wide - 20
    # The weight beside the name, or below it where the name needs the whole line.
    below = band.height >= 2 * _LOW and width_px(title, 12.5) > room - width_px(weight, 11.5) - 10
    if not below:
        room -= width_px(weight, 11.5) + 10
    name = fit(title, room, 12.5)
    nodes = [
        svg.rect(x, y + 1, wide, band.height - 2, rx=3, fill=hue, fill_opacity=0.18, stroke=hue, stroke_width=1.4),
        svg.rect(x, y + 1, 5, band.height - 2, rx=2, fill=hue),
        svg.text(x + 12, middle - 8 * below, name, 12.5, font_weight=600 if shared else 400),
        svg.text(x + wide - 8, middle + 9 * below, weight, 11.5, fill="soft", text_anchor="end"),
    ]
    words = say(band, piles)
    extra: dict[str, str | float] = {}
    if live:
        extra = {"role": "listitem", "tabindex": 0, "aria_label": words}
    return svg.group(svg.title(words), *nodes, **extra)

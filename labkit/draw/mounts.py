"""Chi monta che cosa: a sinistra i container, a destra volumi, cartelle della macchina e memoria.

Ogni riga di un container è un posto (``/var/lib/mysql``) e il modo (``rw`` o ``ro``); una linea, tratteggiata se è in
sola lettura, la unisce a ciò che ci sta. Un volume che nessuno monta c'è lo stesso, senza linee.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import clean, count, fit, width_px
from labkit.limits import show_bytes

Kind = Literal["volume", "bind", "tmpfs"]

#: kind → (la parola, la tinta, dove sono i dati).
LOOKS: Final[dict[Kind, tuple[str, str, str]]] = {
    "volume": ("volume", "hue1", "sul disco, del laboratorio"),
    "bind": ("cartella", "hue2", "sul disco, della macchina"),
    "tmpfs": ("memoria", "hue3", "mai sul disco"),
}

_WIDTH, _TOP, _ROW, _HEAD, _GAP, _BOX = 860, 44, 26, 28, 16, 50
_LEFT, _LEFT_WIDE, _RIGHT, _RIGHT_WIDE = 12, 340, 560, 288


@dataclass(frozen=True)
class Source:
    """Ciò che si monta: di che tipo, come si chiama (di un tmpfs, di chi è), quanti byte (-1: non si sa)."""

    kind: Kind
    name: str
    size: int = -1


@dataclass(frozen=True)
class Use:
    """Un posto di un container: ``target``, ciò che ci sta, se è in sola lettura."""

    target: str
    source: Source
    read_only: bool = False

    @property
    def mode(self) -> str:
        return "ro" if self.read_only else "rw"


@dataclass(frozen=True)
class Row:
    """Un container e tutto ciò che monta."""

    container: str
    uses: tuple[Use, ...] = ()


def sources(rows: Sequence[Row], volumes: Sequence[Source] = ()) -> list[Source]:
    """Le cose montate, ognuna una volta, nell'ordine in cui servono; poi i volumi che nessuno monta.

    >>> data = Source("volume", "dati", 5)
    >>> sources([Row("uno", (Use("/a", data),)), Row("due", (Use("/b", data),))], [data, Source("volume", "solo")])
    [Source(kind='volume', name='dati', size=5), Source(kind='volume', name='solo', size=-1)]
    """
    return list(dict.fromkeys([*(use.source for row in rows for use in row.uses), *volumes]))


def title(source: Source) -> str:
    """Il nome di una cosa montata; uno lungo e senza senso, come quello di un volume anonimo, si accorcia;
    di una cartella basta l'ultimo."""
    name = clean(source.name)
    if source.kind == "volume" and len(name) == 64:
        return f"{name[:12]}… (anonimo)"
    if source.kind == "bind":
        return name.rstrip("/").rpartition("/")[2] or name
    return f"memoria di {name}" if source.kind == "tmpfs" else name


def say(row: Row, use: Use) -> str:
    """Un posto in una frase."""
    mode = "in sola lettura" if use.read_only else "in lettura e scrittura"
    word = "" if use.source.kind == "tmpfs" else f"{LOOKS[use.source.kind][0]} "
    return f"{clean(row.container)}, in {clean(use.target)}: {word}{title(use.source)}, {mode}."


def summary(rows: Sequence[Row], volumes: Sequence[Source] = ()) -> str:
    """Quanti container, quante cose, quanti volumi liberi.

    >>> summary([Row("uno")], [Source("volume", "solo")])
    '1 container, 1 cosa da montare, 1 volume che qui nessuno monta.'
    """
    found = sources(rows, volumes)
    free = len(found) - len(sources(rows))
    things = count(len(found), "cosa da montare", "cose da montare")
    spare = f", {count(free, 'volume', 'volumi')} che qui nessuno monta" if free else ""
    return f"{len(rows)} container, {things}{spare}."


def text(rows: Sequence[Row], volumes: Sequence[Source] = ()) -> str:
    """Il disegno in parole: una riga per posto, poi i volumi liberi."""
    lines = [summary(rows, volumes)]
    for row in rows:
        lines += [f"  {say(row, use)}" for use in row.uses] or [f"  {clean(row.container)}: non monta niente."]
    used = sources(rows)
    lines += [f"  volume {title(one)}: qui non lo monta nessuno." for one in volumes if one not in used]
    return "\n".join(lines)


def to_svg(rows: Sequence[Row], volumes: Sequence[Source] = (), *, live: bool = False) -> str:
    """Il disegno scritto in SVG; con ``live`` i posti si percorrono con le frecce."""
    found = sources(rows, volumes)
    heights = [_HEAD + _ROW * max(1, len(row.uses)) for row in rows]
    left = sum(heights) + _GAP * max(0, len(rows) - 1)
    right = len(found) * (_BOX + _GAP) - _GAP
    tall = max(left, right, 40)
    middle = {one: _TOP + (tall - right) / 2 + place * (_BOX + _GAP) + _BOX / 2 for place, one in enumerate(found)}
    nodes, ties, y, first = [], [], _TOP + (tall - left) / 2, 0
    for row, height in zip(rows, heights, strict=True):
        nodes.append(_container(row, y, height, first, live))
        for place, use in enumerate(row.uses):
            ties.append(_tie(use, y + _HEAD + _ROW * place + _ROW / 2 - 3, middle[use.source]))
        y, first = y + height + _GAP, first + len(row.uses)
    if not rows:
        nodes.append(svg.text(_LEFT, _TOP + 24, "Ancora nessun container: qui compariranno.", fill="soft"))
    return svg.render(
        svg.document(
            _WIDTH,
            _TOP + tall + 44,
            "Chi monta che cosa",
            text(rows, volumes),
            svg.text(_LEFT, 26, "I container", 14, font_weight=700),
            svg.text(_RIGHT, 26, "Dove sono i dati", 14, font_weight=700),
            *ties,
            *(_source(one, middle[one], any(use.source == one for row in rows for use in row.uses)) for one in found),
            svg.group(*nodes, **({"role": "grid", "aria_label": "I posti dei container"} if live else {})),
            svg.text(_LEFT, _TOP + tall + 28, "Linea intera: rw, si legge e si scrive. Tratteggiata: ro, si legge.", 12,
                     fill="soft"),
            role="group" if live else "img",
        )
    )  # fmt: skip


def _tie(use: Use, start: float, end: float) -> Node:
    dash = {"stroke_dasharray": "7 5"} if use.read_only else {}
    x, to, half = _LEFT + _LEFT_WIDE, _RIGHT, (_LEFT + _LEFT_WIDE + _RIGHT) / 2
    path = f"M{x} {start:.1f}C{half:.0f} {start:.1f} {half:.0f} {end:.1f} {to} {end:.1f}"
    hue = LOOKS[use.source.kind][1]
    return svg.node("path", d=path, fill="none", stroke=hue, stroke_width=2, **dash)


def _container(row: Row, y: float, height: float, first: int, live: bool) -> Node:
    name = fit(clean(row.container), _LEFT_WIDE - 24, 14)
    box = svg.rect(_LEFT, y, _LEFT_WIDE, height, rx=6, fill="paper", stroke="line", stroke_width=1.5)
    head = svg.text(_LEFT + 12, y + 19, name, 14, font_weight=700)
    cells = [_use(row, use, y + _HEAD + _ROW * place, first + place, live) for place, use in enumerate(row.uses)]
    if not cells:
        cells = [svg.text(_LEFT + 12, y + _HEAD + 15, "non monta niente", 12.5, fill="soft")]
    return svg.group(box, head, *cells)


def _use(row: Row, use: Use, y: float, place: int, live: bool) -> Node:
    words, hue = say(row, use), LOOKS[use.source.kind][1]
    face = [
        svg.rect(_LEFT + 2, y + 1, _LEFT_WIDE - 4, _ROW - 6, rx=3, fill=hue, fill_opacity=0.14),
        svg.text(_LEFT + 12, y + 15, fit(clean(use.target), _LEFT_WIDE - 60, 12.5, mono=True), 12.5, mono=True),
        svg.text(_LEFT + _LEFT_WIDE - 12, y + 15, use.mode, 12.5, font_weight=700, text_anchor="end"),
    ]
    if not live:
        return svg.group(svg.title(words), *face)
    ring = svg.rect(_LEFT + 1, y, _LEFT_WIDE - 2, _ROW - 4, rx=4, fill="paper", fill_opacity=0, class_="lk-ring")
    return svg.group(
        svg.group(
            svg.title(words), ring, *face, class_="lk-cell", role="gridcell", tabindex=0 if place == 0 else -1,
            data_row=place, data_col=0, data_group="", data_say=words, aria_label=words,
        ),
        role="row",
    )  # fmt: skip


def _source(one: Source, middle: float, used: bool) -> Node:
    word, hue, where = LOOKS[one.kind]
    y = middle - _BOX / 2
    dash: dict[str, str | float] = {} if used else {"stroke_dasharray": "3 4"}
    weight = f"{'≤ ' if one.kind == 'tmpfs' else ''}{show_bytes(one.size)}" if one.size >= 0 else ""
    room = _RIGHT_WIDE - 30 - (width_px(weight, 12) + 8 if weight else 0)
    note = f"{word}, {where}" if used else f"{word}, qui non lo monta nessuno"
    return svg.group(
        svg.title(f"{word}: {clean(one.name)}"),
        svg.rect(_RIGHT, y, _RIGHT_WIDE, _BOX, rx=6, fill="paper"),
        svg.rect(_RIGHT, y, _RIGHT_WIDE, _BOX, rx=6, fill=hue, fill_opacity=0.12, stroke=hue, stroke_width=1.5, **dash),
        svg.text(_RIGHT + 14, y + 21, fit(title(one), room, 15), 13.5, font_weight=600),
        svg.text(_RIGHT + 14, y + 39, note, 12, fill="soft"),
        svg.text(_RIGHT + _RIGHT_WIDE - 12, y + 21, weight, 12, fill="soft", text_anchor="end"),
    )

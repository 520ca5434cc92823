"""L'esploratore degli strati: sopra la pila, sotto l'albero, e di ogni nome lo strato che lo decide.

Uno strato si riconosce dal numero, oltre che dal colore; una cancellazione dal segno e dalla riga sul nome. Di una
cartella chiusa da altri si dice quanti nomi ci sono, e da quali strati: l'elenco resta corto.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import clean, count, fit, listing, width_px
from labkit.layers import Entry, Folder, LayerView
from labkit.limits import show_bytes

_HUES: Final = ("hue2", "hue1", "hue3", "hue4", "hue5", "hue0")
_WIDTH, _BAND, _ROW, _TOP = 860, 26, 24, 44
_CHIP, _WORDS, _SIZE = 372, 404, 848
#: Bands of the stack and rows of the tree that are drawn, and rows of one folder that nobody opened.
_BANDS, _ROWS, _FEW = 6, 120, 8


@dataclass(frozen=True)
class Row:
    """Una riga dell'albero: un nome (``entry``) o, con ``rest``, quelli che non si mostrano.

    ``state`` è ``open`` o ``closed`` se è una cartella, ``more`` se sono nomi che si possono ancora mostrare.
    """

    path: str
    depth: int
    entry: Entry | None = None
    rest: tuple[tuple[int, int], ...] = ()
    state: str = ""
    complete: bool = True


def rows(view: LayerView, opened: Collection[str] = (), closed: Collection[str] = ()) -> list[Row]:
    """Le righe da mostrare: aperte la radice, le cartelle cambiate e ``opened``, tranne ``closed``."""
    found: list[Row] = []
    _fill(view, view["/"], 0, opened, closed, found)
    if len(found) > _ROWS:
        found = [*found[:_ROWS], Row("", 0, rest=((-1, len(found) - _ROWS),))]
    return found


def _fill(
    view: LayerView, folder: Folder, depth: int, opened: Collection[str], closed: Collection[str], found: list[Row]
) -> None:
    brief = folder.path not in opened and folder.path != "/"
    more = dict(folder.rest)
    for place, entry in enumerate(folder.entries):
        path = folder.at(entry.name)
        if brief and place >= _FEW and path not in view.changed:
            more[entry.layer] = more.get(entry.layer, 0) + 1
            continue
        inside = path in view and path not in closed and (path in view.changed or path in opened)
        can = entry.kind == "folder" and not entry.gone
        found.append(Row(path, depth, entry, state="open" if can and inside else "closed" if can else ""))
        if can and inside:
            _fill(view, view[path], depth + 1, opened, closed, found)
    if more:
        rest = tuple(sorted(more.items()))
        found.append(Row(folder.path, depth, rest=rest, state="more" if brief else "", complete=folder.complete))


def number(view: LayerView, layer: int) -> int:
    """Il numero di uno strato, dal basso: il più alto è quello scrivibile."""
    return len(view.layers) - layer


def meaning(entry: Entry, view: LayerView) -> str:
    """Che cosa vuol dire quella riga, in parole; vuoto se è un nome come gli altri.

    >>> meaning(Entry("a", "file", 0, (1,)), LayerView(("strato scrivibile", "immagine busybox"), ()))
    'cambiato: nasconde quello dello strato 1'
    """
    under = listing([*(str(number(view, layer)) for layer in entry.below[:3]), *(["altri"] if entry.below[3:] else [])])
    where = f"{'dello strato' if len(entry.below) == 1 else 'degli strati'} {under}"
    if entry.gone:
        return f"cancellato (whiteout): nasconde quello {where}" if entry.below else "cancellato (whiteout)"
    if entry.opaque and entry.below:
        return f"cartella opaca: nasconde quella {where}"
    if entry.kind == "folder" and entry.below:
        return f"unita a quella {where}"
    if entry.below:
        return f"{'cambiato' if entry.layer == 0 else 'preso da qui'}: nasconde quello {where}"
    new = "nuova" if entry.kind == "folder" else "nuovo"
    return f"{new}: c'è solo qui" if entry.layer == 0 else ""


def _name(entry: Entry) -> str:
    return f"{clean(entry.name)}{'/' if entry.kind == 'folder' else ''}"


def text(view: LayerView, name: str) -> str:
    """Gli strati e ciò che il container ha cambiato, in parole: un nome per riga."""
    lines = [f"Gli strati di «{clean(name)}», dall'alto:"]
    lines += [f"  {number(view, place)}  {clean(title)}" for place, title in enumerate(view.layers)]
    changes = [
        f"  {folder.at(_name(entry)):32} {meaning(entry, view)}"
        for folder in view.folders
        for entry in folder.entries
        if entry.layer == 0
    ]
    return "\n".join([*lines, "Ha scritto:" if changes else "Non ha scritto niente.", *changes])


def news(before: LayerView, after: LayerView) -> str:
    """Che cosa è cambiato nello strato scrivibile fra due sguardi, in una frase; vuoto se niente."""
    old = _writes(before)
    told = [
        f"{path}: {meaning(entry, after)}"
        for path, entry in _writes(after).items()
        if entry != old.get(path) and entry.kind != "folder"
    ]
    more = f"; e altri {len(told) - 2}" if len(told) > 2 else ""
    return f"{'; '.join(told[:2])}{more}." if told else ""


def _writes(view: LayerView) -> dict[str, Entry]:
    return {
        folder.at(clean(entry.name)): entry for folder in view.folders for entry in folder.entries if entry.layer == 0
    }


def say(row: Row, view: LayerView) -> str:
    """Una riga in una frase, per chi ascolta."""
    if row.entry is None:
        return f"{_rest(row, view)}{'; Invio li mostra' if row.state else ''}."
    words = [f"{_name(row.entry)}, strato {number(view, row.entry.layer)}", meaning(row.entry, view)]
    if row.entry.kind == "file":
        words.append(show_bytes(row.entry.size))
    if row.state:
        words.append("aperta" if row.state == "open" else "chiusa: Invio la apre")
    return f"{'; '.join(filter(None, words))}."


def _rest(row: Row, view: LayerView) -> str:
    if row.rest and row.rest[0][0] < 0:
        return f"… e altre {count(row.rest[0][1], 'riga', 'righe')}: chiudi qualche cartella"
    parts = [f"{amount} dello strato {number(view, layer)}" for layer, amount in row.rest]
    return f"… altri nomi: {listing(parts)}{'' if row.complete else ', e non sono tutti'}"


def to_svg(
    view: LayerView,
    name: str,
    opened: Collection[str] = (),
    closed: Collection[str] = (),
    *,
    live: bool = False,
) -> str:
    """Il disegno; con ``live`` le righe si percorrono con le frecce, e le cartelle si aprono."""
    lines = rows(view, opened, closed)
    bands = _stack(view)
    top = _TOP + _BAND * len(bands) + 34
    tree = [_row(row, place, top + _ROW * place, view, live) for place, row in enumerate(lines)]
    attributes = {"role": "tree", "aria_label": f"Le cartelle di {clean(name)}"} if live else {}
    return svg.render(
        svg.document(
            _WIDTH,
            top + _ROW * len(lines) + 10,
            f"Gli strati di {clean(name)}",
            text(view, name),
            svg.text(12, 26, fit(f"Gli strati di {clean(name)}", 560, 15), 15, font_weight=600),
            svg.text(_SIZE, 26, "si guarda da sopra ↓", 12, fill="soft", text_anchor="end"),
            *(node for place, band in enumerate(bands) for node in _band(band, _TOP + _BAND * place, view)),
            svg.text(12, top - 12, "nome", 12, fill="soft"),
            svg.text(_CHIP, top - 12, "strato", 12, fill="soft", text_anchor="middle"),
            svg.text(_SIZE, top - 12, "grandezza", 12, fill="soft", text_anchor="end"),
            svg.group(*tree, **attributes),
            role="group" if live else "img",
        )
    )


def _stack(view: LayerView) -> list[int]:
    """Gli strati da disegnare; -1 sta per quelli in mezzo, se sono troppi."""
    whole = list(range(len(view.layers)))
    return whole if len(whole) <= _BANDS else [*whole[: _BANDS - 2], -1, whole[-1]]


def _band(layer: int, y: float, view: LayerView) -> list[Node]:
    if layer < 0:
        hidden = len(view.layers) - _BANDS + 1
        return [svg.text(48, y + 17, f"… altri {hidden} strati, in sola lettura …", 12, fill="soft")]
    hue = _HUES[layer % len(_HUES)]
    words = "in sola lettura"
    if layer == 0:
        words = f"{'occupa' if view.complete else 'occupa più di'} {show_bytes(view.written)}"
    return [
        svg.rect(12, y, _SIZE - 12, _BAND - 4, rx=3, fill=hue, fill_opacity=0.16, stroke=hue, stroke_width=1.25),
        _chip(layer, 28, y + 11, view),
        svg.text(48, y + 15.5, fit(clean(view.layers[layer]), 420, 13), 13, font_weight=600 if layer == 0 else 400),
        svg.text(_SIZE - 8, y + 15.5, words, 12, fill="soft", text_anchor="end"),
    ]


def _chip(layer: int, x: float, y: float, view: LayerView) -> Node:
    """Il numero di uno strato sul suo colore."""
    words = str(number(view, layer))
    wide = max(20.0, width_px(words, 11.5) + 8)
    return svg.group(
        svg.rect(x - wide / 2, y - 8.5, wide, 17, rx=8.5, fill=_HUES[layer % len(_HUES)]),
        svg.text(x, y + 4, words, 11.5, fill="paper", font_weight=700, text_anchor="middle"),
    )


def _row(row: Row, place: int, y: float, view: LayerView, live: bool) -> Node:
    x = 30.0 + 18 * row.depth
    nodes: list[Node] = []
    entry = row.entry
    if entry is None:
        nodes.append(svg.text(x, y + 16, fit(_rest(row, view), _SIZE - x, 12), 12, fill="soft"))
        nodes += [svg.text(x - 16, y + 16, "▸", 12, fill="soft")] if row.state else []
    else:
        nodes += _entry(entry, row, x, y, view)
    words = say(row, view)
    if not live:
        return svg.group(svg.title(words), *nodes)
    ring = svg.rect(4, y, _WIDTH - 8, _ROW - 1, rx=4, fill="paper", fill_opacity=0, class_="lk-ring")
    state = {"aria_expanded": "true" if row.state == "open" else "false"} if row.state else {}
    act = f"{row.state}:{row.path}" if row.state else ""
    return svg.group(
        svg.title(words), ring, *nodes, class_="lk-cell", role="treeitem", aria_level=row.depth + 1,
        tabindex=0 if place == 0 else -1, data_row=place, data_col=0, data_group="", data_say=words,
        data_act=act, aria_label=words, **state,
    )  # fmt: skip


def _entry(entry: Entry, row: Row, x: float, y: float, view: LayerView) -> list[Node]:
    room = _CHIP - 22 - x
    name = fit(_name(entry), room, 13, mono=True)
    weight, ink = (600, "ink") if entry.layer == 0 else (400, "soft")
    words = fit(meaning(entry, view), _SIZE - _WORDS - 76, 12)
    nodes = [
        svg.text(x, y + 16, name, 13, mono=True, fill="soft" if entry.gone else "ink", font_weight=weight),
        _chip(entry.layer, _CHIP, y + 11.5, view),
        svg.text(_WORDS, y + 16, words, 12, fill=ink),
    ]
    if row.state:
        nodes.append(svg.text(x - 16, y + 16, "▾" if row.state == "open" else "▸", 12, fill="soft"))
    if entry.gone:
        nodes.append(svg.line(x, y + 12, x + width_px(name, 12.6, mono=True), y + 12, stroke="bad", stroke_width=1.5))
        nodes.append(svg.text(x - 16, y + 16, "✘", 12, fill="bad"))
    if entry.kind == "file" and not entry.gone:
        nodes.append(svg.text(_SIZE, y + 16, show_bytes(entry.size), 12, fill="soft", text_anchor="end"))
    return nodes

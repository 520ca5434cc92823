"""La mappa dei namespace: chi condivide che cosa.

Righe = processi, colonne = gli otto tipi. Lettera uguale nella stessa colonna vuol dire stesso namespace;
il disegno lo dice anche con la fascia che unisce le righe, il tratteggio e il colore.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from labkit.draw import png, svg
from labkit.draw.sharing import LABELS, UNREADABLE, Cell, cells, full_name, index, labels, sentences, text
from labkit.draw.svg import Node
from labkit.draw.words import fit
from labkit.model import NAMESPACES, Snapshot

__all__ = ["drawing", "mimebundle", "text", "to_svg"]

_LABEL_WIDTH, _COLUMN, _ROW, _HEAD, _FOOT = 152, 66, 40, 48, 30
_BAND_WIDTH, _BAND_INSET = 44, 5


def drawing(snapshot: Snapshot, *, live: bool = False) -> Node:
    """Il disegno come nodo. ``live=True`` aggiunge quello che serve al widget: celle con fuoco, inode e pid."""
    rows = cells(snapshot)
    width = _LABEL_WIDTH + _COLUMN * len(NAMESPACES)
    height = _HEAD + _ROW * len(rows) + _FOOT
    return svg.document(
        width,
        height,
        "Mappa dei namespace",
        " ".join(sentences(snapshot)),
        *_heads(),
        *_rules(len(rows), width),
        *(band for column in range(len(NAMESPACES)) for band in _bands([row[column] for row in rows])),
        *(_row(snapshot, name, row, live) for name, row in zip(labels(snapshot), rows, strict=True)),
        svg.text(
            width - 8,
            height - 10,
            "stessa lettera e stessa fascia nella colonna = stesso namespace",
            11,
            fill="soft",
            text_anchor="end",
        ),
        role="grid" if live else "img",
    )


def to_svg(snapshot: Snapshot, *, live: bool = False) -> str:
    """Il disegno scritto in SVG; senza ``live`` dipende solo da chi condivide che cosa."""
    return svg.render(drawing(snapshot, live=live))


def mimebundle(snapshot: Snapshot) -> dict[str, Any]:
    """La mappa ferma per Jupyter: testo completo, SVG e PNG."""
    picture = drawing(snapshot)
    return {"text/plain": text(snapshot), "image/svg+xml": svg.render(picture), "image/png": png.render(picture)}


def _center(column: int) -> float:
    return _LABEL_WIDTH + _COLUMN * (column + 0.5)


def _heads() -> list[Node]:
    nodes = []
    for column, kind in enumerate(NAMESPACES):
        x = _center(column)
        twice = LABELS[kind] == kind
        nodes.append(svg.text(x, 20, LABELS[kind], 12, mono=twice, font_weight=600, text_anchor="middle"))
        if not twice:
            nodes.append(svg.text(x, 36, kind, 11, mono=True, fill="soft", text_anchor="middle"))
    return nodes


def _rules(rows: int, width: float) -> list[Node]:
    return [svg.line(0, _HEAD + _ROW * i, width, _HEAD + _ROW * i, stroke="line") for i in range(rows + 1)]


def _bands(column: Sequence[Cell]) -> list[Node]:
    """Le fasce di una colonna: una per tratto di righe vicine, unite da una linea se fra loro c'è altro."""
    nodes: list[Node] = []
    lane = 0
    for name in dict.fromkeys(c.letter for c in column if c.inode is not None):
        rows = [c.row for c in column if c.letter == name]
        runs = _runs(rows)
        hue = _hue(name)
        links = [
            link
            for above, below in itertools.pairwise(runs)
            for link in _connector(column[0].column, above[1], below[0], lane)
        ]
        lane += len(runs) > 1
        nodes.append(
            svg.group(
                *(part for first, last in runs for part in _band(column[0].column, first, last, name)),
                *([svg.strokes(links, stroke=hue, stroke_width=2.5, class_="lk-link")] if links else []),
                class_="lk-band",
                data_group=f"{NAMESPACES[column[0].column]}-{name}",
            )
        )
    return nodes


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and runs[-1][1] == row - 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    return runs


def _band(column: int, first: int, last: int, name: str) -> list[Node]:
    x, y = _center(column) - _BAND_WIDTH / 2, _HEAD + _ROW * first + _BAND_INSET
    width, height = _BAND_WIDTH, _ROW * (last - first + 1) - 2 * _BAND_INSET
    hue = _hue(name)
    base = svg.rect(x, y, width, height, rx=9, fill="paper")
    box = svg.rect(x, y, width, height, rx=9, fill=hue, fill_opacity=0.16, stroke=hue, stroke_width=1.5)
    lines = svg.hatch(index(name) % 6, x + 4, y + 4, x + width - 4, y + height - 4)
    return [base, box, *([svg.strokes(lines, stroke=hue, stroke_opacity=0.55, stroke_width=1.25)] if lines else [])]


def _connector(column: int, above: int, below: int, lane: int) -> list[tuple[float, float, float, float]]:
    """La linea che lega due fasce lontane passando di fianco alle altre: a destra, a sinistra, più in fuori."""
    side = 1 if lane % 2 == 0 else -1
    edge = _center(column) + side * _BAND_WIDTH / 2
    out = edge + side * (5 + 3 * (lane // 2 % 2))
    top, bottom = _HEAD + _ROW * (above + 0.5) + 4, _HEAD + _ROW * (below + 0.5) - 4
    return [(edge, top, out, top), (out, top, out, bottom), (out, bottom, edge, bottom)]


def _row(snapshot: Snapshot, name: str, row: Sequence[Cell], live: bool) -> Node:
    number = row[0].row
    middle = _HEAD + _ROW * (number + 0.5)
    process = snapshot.processes[number]
    pid = f", pid {process.pid}" if live else ""
    label = svg.group(
        svg.title(f"{name}{pid}"),
        svg.text(8, middle + 4.5, fit(name, _LABEL_WIDTH - 22, 13), font_weight=600),
        **({"role": "rowheader"} if live else {}),
    )
    return svg.group(label, *(_cell(c, middle, live) for c in row), **({"role": "row"} if live else {}))


def _cell(cell: Cell, middle: float, live: bool) -> Node:
    x = _center(cell.column)
    if cell.inode is None:
        face = [svg.text(x, middle + 4.5, UNREADABLE, fill="soft", text_anchor="middle")]
    else:
        face = [
            svg.rect(x - 11, middle - 10, 22, 20, rx=10, fill="paper", fill_opacity=0.92, class_="lk-chip"),
            svg.text(x, middle + 4.5, cell.letter, 13, font_weight=700, text_anchor="middle"),
        ]
    if not live:
        return svg.group(svg.title(cell.say), *face)
    kind = NAMESPACES[cell.column]
    tip = cell.say if cell.inode is None else f"{cell.say} {kind}:[{cell.inode}]"
    left, top = x - _COLUMN / 2 + 2, middle - _ROW / 2 + 2
    ring = svg.rect(left, top, _COLUMN - 4, _ROW - 4, rx=8, fill="paper", fill_opacity=0, class_="lk-ring")
    return svg.group(
        svg.title(tip),
        ring,
        *face,
        class_="lk-cell",
        role="gridcell",
        tabindex=0 if cell.row == cell.column == 0 else -1,
        data_row=cell.row,
        data_col=cell.column,
        data_group=cell.group if cell.inode is not None else "",
        data_say=cell.say,
        aria_label=f"{full_name(kind)}, {cell.letter}: {cell.say}",
    )


def _hue(name: str) -> str:
    return f"hue{index(name) % 6}"

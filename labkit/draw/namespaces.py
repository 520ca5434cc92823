"""La mappa dei namespace: chi condivide che cosa.

Righe = processi, colonne = gli otto tipi. In ogni colonna il primo namespace incontrato è A, il secondo
B, e così via: gli inode cambiano a ogni esecuzione, le lettere no. Lettera uguale nella stessa colonna vuol
dire stesso namespace; il disegno lo dice anche con la fascia che unisce le righe, il tratteggio e il colore.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from labkit.draw import png, svg
from labkit.draw.svg import Node
from labkit.draw.words import clean, columns, fit, listing, pad
from labkit.model import NAMESPACES, Snapshot

#: Il nome breve di ogni tipo, in testa alle colonne.
LABELS: Final = {
    "uts": "nome host",
    "mount": "file",
    "pid": "processi",
    "ipc": "ipc",
    "net": "rete",
    "user": "utenti",
    "cgroup": "cgroup",
    "time": "orologio",
}
_THE: Final = {
    "uts": "il nome host (uts)",
    "mount": "i file (mount)",
    "pid": "i processi (pid)",
    "ipc": "l'ipc",
    "net": "la rete (net)",
    "user": "gli utenti (user)",
    "cgroup": "il cgroup",
    "time": "l'orologio (time)",
}
UNREADABLE: Final = "–"

_LABEL_WIDTH, _COLUMN, _ROW, _HEAD, _FOOT = 152, 66, 40, 48, 30
_BAND_WIDTH, _BAND_INSET = 44, 5


@dataclass(frozen=True)
class Cell:
    """Il namespace di un tipo in cui vive un processo: ``letter`` lo dice nella sua colonna."""

    row: int
    column: int
    letter: str
    inode: int | None
    say: str

    @property
    def group(self) -> str:
        """Lo stesso testo per tutte e sole le celle dello stesso namespace."""
        return f"{NAMESPACES[self.column]}-{self.letter}"


def letter(index: int) -> str:
    """0 → A, 25 → Z, 26 → AA.

    >>> letter(0), letter(25), letter(26), letter(27)
    ('A', 'Z', 'AA', 'AB')
    """
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def cells(snapshot: Snapshot) -> list[list[Cell]]:
    """Le celle della mappa, riga per riga; un namespace che non si può leggere ha la lettera «–»."""
    names = labels(snapshot)
    columns_ = []
    for column, kind in enumerate(NAMESPACES):
        inodes = [process.namespaces.get(kind) for process in snapshot.processes]
        order = list(dict.fromkeys(i for i in inodes if i is not None))
        columns_.append(
            [
                Cell(
                    row,
                    column,
                    UNREADABLE if inode is None else letter(order.index(inode)),
                    inode,
                    _say(names[row], kind, inode, [n for n, i in zip(names, inodes, strict=True) if i == inode]),
                )
                for row, inode in enumerate(inodes)
            ]
        )
    return [list(row) for row in zip(*columns_, strict=True)]


def labels(snapshot: Snapshot) -> list[str]:
    """I nomi dei processi come si mostrano; due nomi uguali si distinguono con un numero.

    >>> from labkit.model import ProcessInfo
    >>> labels(Snapshot((ProcessInfo(1, "web"), ProcessInfo(2, "web"))))
    ['web', 'web (2)']
    """
    seen: dict[str, int] = {}
    names = []
    for process in snapshot.processes:
        name = clean(process.label).strip() or "senza nome"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def sentences(snapshot: Snapshot) -> list[str]:
    """Una frase per tipo di namespace, con tutto quello che la mappa dice.

    >>> from labkit.model import ProcessInfo
    >>> host, web = ProcessInfo(1, "notebook", {"uts": 7, "net": 9}), ProcessInfo(2, "web", {"uts": 8, "net": 9})
    >>> print(sentences(Snapshot((host, web)))[0])
    nome host (uts): notebook da solo; web da solo.
    >>> print(sentences(Snapshot((host, web)))[4])
    rete (net): notebook e web insieme.
    """
    names = labels(snapshot)
    lines = []
    for kind in NAMESPACES:
        members: dict[int | None, list[str]] = {}
        for name, process in zip(names, snapshot.processes, strict=True):
            members.setdefault(process.namespaces.get(kind), []).append(name)
        hidden = members.pop(None, [])
        parts = [f"{listing(g)} {'insieme' if len(g) > 1 else 'da solo'}" for g in members.values()]
        if hidden:
            parts.append(f"di {listing(hidden)} non si può leggere")
        lines.append(f"{_name(kind)}: {'; '.join(parts) or 'nessun processo'}.")
    return lines


def text(snapshot: Snapshot) -> str:
    """La mappa come tabella di lettere e, sotto, una frase per tipo: non cambia da un'esecuzione all'altra."""
    head = ["", *(LABELS[kind] for kind in NAMESPACES)]
    under = ["", *(kind if kind != LABELS[kind] else "" for kind in NAMESPACES)]
    rows = [[name, *(cell.letter for cell in row)] for name, row in zip(labels(snapshot), cells(snapshot), strict=True)]
    widths = [max(columns(line[i]) for line in [head, under, *rows]) for i in range(len(head))]
    table = ["  ".join(pad(word, w) for word, w in zip(line, widths, strict=True)) for line in [head, under, *rows]]
    note = "Lettera uguale nella stessa colonna: stesso namespace."
    return "\n".join(line.rstrip() for line in [*table, "", note, *(f"- {s}" for s in sentences(snapshot))])


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


def _name(kind: str) -> str:
    return kind if LABELS[kind] == kind else f"{LABELS[kind]} ({kind})"


def _say(name: str, kind: str, inode: int | None, members: Sequence[str]) -> str:
    others = [m for m in members if m != name]
    if inode is None:
        return f"{name}: non si può leggere {_THE[kind]}."
    if not others:
        return f"{name} non condivide {_THE[kind]} con nessuno di questi processi."
    return f"{listing([name, *others])} condividono {_THE[kind]}."


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
    lines = _hatch(_index(name) % 6, x + 4, y + 4, x + width - 4, y + height - 4)
    return [base, box, *([svg.strokes(lines, stroke=hue, stroke_opacity=0.55, stroke_width=1.25)] if lines else [])]


def _hatch(style: int, x1: float, y1: float, x2: float, y2: float) -> list[tuple[float, float, float, float]]:
    """Il tratteggio dentro un rettangolo: niente, ⟋, ⟍, orizzontale, verticale, a griglia."""
    step = 7.0
    if style in (1, 2):
        lines = []
        start = x1 - (y2 - y1) + step / 2
        while start < x2:
            low, high = max(start, x1), min(start + (y2 - y1), x2)
            if low < high:
                a, b = low - start, high - start  # how far down the diagonal enters and leaves the box
                lines.append((low, y2 - a, high, y2 - b) if style == 1 else (low, y1 + a, high, y1 + b))
            start += step
        return lines
    lines = []
    if style in (3, 5):
        rows = int((y2 - y1) // step)
        lines += [(x1, y, x2, y) for y in (y1 + step * (i + 0.5) for i in range(rows + 1)) if y <= y2]
    if style in (4, 5):
        lines += [(x, y1, x, y2) for x in (x1 + step * (i + 0.5) for i in range(int((x2 - x1) // step) + 1)) if x <= x2]
    return lines


def _connector(column: int, above: int, below: int, lane: int) -> list[tuple[float, float, float, float]]:
    """La linea che lega due fasce lontane passando di fianco alle altre: a destra, a sinistra, più in fuori."""
    side = 1 if lane % 2 == 0 else -1
    edge = _center(column) + side * _BAND_WIDTH / 2
    out = edge + side * (5 + 3 * (lane // 2 % 2))
    top, bottom = _HEAD + _ROW * (above + 0.5) + 4, _HEAD + _ROW * (below + 0.5) - 4
    return [(edge, top, out, top), (out, top, out, bottom), (out, bottom, edge, bottom)]


def _row(snapshot: Snapshot, name: str, row: Sequence[Cell], live: bool) -> Node:
    index = row[0].row if row else 0
    middle = _HEAD + _ROW * (index + 0.5)
    process = snapshot.processes[index]
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
        aria_label=f"{_name(kind)}, {cell.letter}: {cell.say}",
    )


def _index(name: str) -> int:
    total = 0
    for char in name:
        total = total * 26 + ord(char) - ord("A") + 1
    return total - 1


def _hue(name: str) -> str:
    return f"hue{_index(name) % 6}"

"""Chi condivide quale namespace, in lettere e in parole.

In ogni colonna (un tipo di namespace) il primo namespace incontrato è A, il secondo B, e così via: gli inode
cambiano a ogni esecuzione, le lettere no. Qui non si disegna niente: è quello che il disegno dirà.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from labkit.draw.words import clean, columns, listing, pad
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


def index(name: str) -> int:
    """Il contrario di :func:`letter`.

    >>> index("A"), index("AB")
    (0, 27)
    """
    total = 0
    for char in name:
        total = total * 26 + ord(char) - ord("A") + 1
    return total - 1


def cells(snapshot: Snapshot) -> list[list[Cell]]:
    """Le celle della mappa, riga per riga; un namespace che non si può leggere ha la lettera «–»."""
    names = labels(snapshot)
    by_column = []
    for column, kind in enumerate(NAMESPACES):
        inodes = [process.namespaces.get(kind) for process in snapshot.processes]
        order = list(dict.fromkeys(i for i in inodes if i is not None))
        by_column.append(
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
    return [list(row) for row in zip(*by_column, strict=True)]


def labels(snapshot: Snapshot) -> list[str]:
    """I nomi dei processi come si mostrano; due nomi uguali si distinguono con un numero.

    >>> from labkit.model import ProcessInfo
    >>> labels(Snapshot((ProcessInfo(1, "web"), ProcessInfo(2, "web"))))
    ['web', 'web (2)']
    """
    names: list[str] = []
    for process in snapshot.processes:
        base = name = clean(process.label).strip() or "senza nome"
        times = 1
        while name in names:
            times += 1
            name = f"{base} ({times})"
        names.append(name)
    return names


def sentences(snapshot: Snapshot) -> list[str]:
    """Una frase per tipo di namespace, con tutto quello che la mappa dice.

    >>> from labkit.model import ProcessInfo
    >>> host, web = ProcessInfo(1, "notebook", {"uts": 7, "net": 9}), ProcessInfo(2, "web", {"uts": 8, "net": 9})
    >>> print(sentences(Snapshot((host, web)))[0])
    nome host (uts): notebook e web ognuno per conto suo.
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
        parts = [f"{listing(group)} insieme" for group in members.values() if len(group) > 1]
        if alone := [group[0] for group in members.values() if len(group) == 1]:
            parts.append(f"{listing(alone)} {'da solo' if len(alone) == 1 else 'ognuno per conto suo'}")
        if hidden:
            parts.append(f"di {listing(hidden)} non si può leggere")
        lines.append(f"{full_name(kind)}: {'; '.join(parts) or 'nessun processo'}.")
    return lines


def changes(before: Snapshot, after: Snapshot) -> str:
    """Che cosa è cambiato fra due mappe, in una frase; vuota se non è cambiato niente.

    >>> from labkit.model import ProcessInfo
    >>> a, b = ProcessInfo(5, "uno", {"uts": 1}), ProcessInfo(5, "uno", {"uts": 2})
    >>> changes(Snapshot((a,)), Snapshot((b, ProcessInfo(6, "web"))))
    'Arrivato: web. uno ha cambiato: nome host (uts).'
    """
    old, new = (dict(zip(labels(s), s.processes, strict=True)) for s in (before, after))
    parts = []
    if arrived := [name for name in new if name not in old]:
        parts.append(f"{'Arrivato' if len(arrived) == 1 else 'Arrivati'}: {listing(arrived)}.")
    if gone := [name for name in old if name not in new]:
        parts.append(f"{'Finito' if len(gone) == 1 else 'Finiti'}: {listing(gone)}.")
    for name in (n for n in new if n in old):
        one, two = old[name].namespaces, new[name].namespaces
        if moved := [full_name(kind) for kind in NAMESPACES if one.get(kind) != two.get(kind)]:
            parts.append(f"{name} ha cambiato: {listing(moved)}.")
    return " ".join(parts)


def text(snapshot: Snapshot) -> str:
    """La mappa come tabella di lettere e, sotto, una frase per tipo: non cambia da un'esecuzione all'altra."""
    head = ["", *(LABELS[kind] for kind in NAMESPACES)]
    under = ["", *(kind if kind != LABELS[kind] else "" for kind in NAMESPACES)]
    rows = [[name, *(cell.letter for cell in row)] for name, row in zip(labels(snapshot), cells(snapshot), strict=True)]
    widths = [max(columns(line[i]) for line in [head, under, *rows]) for i in range(len(head))]
    table = ["  ".join(pad(word, w) for word, w in zip(line, widths, strict=True)) for line in [head, under, *rows]]
    note = "Lettera uguale nella stessa colonna: stesso namespace."
    return "\n".join(line.rstrip() for line in [*table, "", note, *(f"- {s}" for s in sentences(snapshot))])


def full_name(kind: str) -> str:
    """Il nome di una colonna, in italiano e come lo chiama il kernel: «rete (net)»."""
    return kind if LABELS[kind] == kind else f"{LABELS[kind]} ({kind})"


def _say(name: str, kind: str, inode: int | None, members: Sequence[str]) -> str:
    others = [m for m in members if m != name]
    if inode is None:
        return f"{name}: non si può leggere {_THE[kind]}."
    if not others:
        return f"{name} non condivide {_THE[kind]} con nessuno di questi processi."
    return f"{listing([name, *others])} condividono {_THE[kind]}."

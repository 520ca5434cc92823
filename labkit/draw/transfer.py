"""Un'immagine che viaggia, pezzo per pezzo: quanto pesa ognuno, quanto ne è passato, quali c'erano già.

Tutto è calcolato da una fila di :class:`Piece`: la stessa fila dà lo stesso disegno e le stesse parole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import clean, count, fit
from labkit.limits import show_bytes

_WIDTH, _ROW, _TOP, _LEFT, _BAR, _RIGHT = 680, 30, 44, 14, 208, 16
#: The longest bar, in pixels, and the shortest that can still be seen.
_LONG, _SHORT = 262.0, 6.0

#: Come si dice a che punto è un pezzo: scaricando, mandando.
WORDS: Final[dict[str, tuple[str, str]]] = {
    "waiting": ("in attesa", "in attesa"),
    "exists": ("c'era già", "c'era già"),
    "moving": ("arriva", "parte"),
    "mounted": ("preso da un altro deposito", "preso da un altro deposito"),
    "done": ("scaricato", "mandato"),
}
_HUES: Final = {"waiting": "hue0", "exists": "hue3", "moving": "hue1", "mounted": "hue4", "done": "hue1"}


@dataclass(frozen=True)
class Piece:
    """Un pezzo: come si chiama, che cos'è, a che punto è (una chiave di :data:`WORDS`), byte passati e totali."""

    name: str
    kind: str
    state: str
    done: int
    total: int

    @property
    def ended(self) -> bool:
        return self.state in ("exists", "mounted", "done")

    @property
    def travelled(self) -> int:
        """I byte di questo pezzo che hanno davvero viaggiato."""
        return self.done if self.state in ("moving", "done") else 0


def word(piece: Piece, sending: bool) -> str:
    """A che punto è un pezzo.

    >>> word(Piece("a1", "strato", "done", 5, 5), sending=True)
    'mandato'
    """
    return WORDS[piece.state][sending]


def travelled(pieces: Sequence[Piece]) -> int:
    """I byte che hanno viaggiato."""
    return sum(piece.travelled for piece in pieces)


def summary(pieces: Sequence[Piece]) -> str:
    """Com'è andata, in una riga.

    >>> summary([Piece("a1", "strato", "done", 2048, 2048), Piece("b2", "strato", "exists", 10, 10)])
    '2 pezzi: 2 KiB hanno viaggiato, 1 pezzo c’era già.'
    """
    total = count(len(pieces), "pezzo", "pezzi")
    there = sum(piece.state == "exists" for piece in pieces)
    taken = sum(piece.state == "mounted" for piece in pieces)
    moved = travelled(pieces)
    parts = [f"{show_bytes(moved)} hanno viaggiato" if moved else "non ha viaggiato niente"]
    if there:
        parts.append(f"{count(there, 'pezzo c’era già', 'pezzi c’erano già')}")
    if taken:
        parts.append(f"{count(taken, 'preso', 'presi')} da un altro deposito")
    return f"{total}: {', '.join(parts)}."


def line(piece: Piece, sending: bool, width: int = 24) -> str:
    """Un pezzo su una riga di terminale, con la sua barra mentre viaggia."""
    size = show_bytes(piece.total)
    if piece.state == "moving":
        full = min(width, piece.done * width // max(piece.total, 1))
        return f"{piece.name}  {'█' * full}{'░' * (width - full)}  {show_bytes(piece.done)} di {size}"
    return f"{piece.name}  {word(piece, sending)}  {size}"


def text(title: str, pieces: Sequence[Piece], sending: bool) -> str:
    """Tutto il viaggio in parole, uguale a ogni esecuzione: le impronte e l'indirizzo non ci sono."""
    what = f"{'Invio' if sending else 'Scaricamento'} di «{clean(title)}»."
    lines = [f"{what} {summary(pieces)}" if pieces else what]
    lines += [f"  {piece.kind:<14} {word(piece, sending):<10} {show_bytes(piece.total)}" for piece in pieces]
    return "\n".join(lines)


def to_svg(title: str, pieces: Sequence[Piece], sending: bool) -> str:
    """Il disegno: una barra per pezzo, lunga quanto pesa; piena la parte che è passata."""
    heading = f"{'Mando' if sending else 'Prendo'} «{clean(title)}»"
    most = max([piece.total for piece in pieces], default=1) or 1
    described = "; ".join(
        f"{piece.kind} {piece.name}: {word(piece, sending)}, {show_bytes(piece.total)}" for piece in pieces
    )
    return svg.render(
        svg.document(
            _WIDTH,
            _TOP + _ROW * len(pieces) + 34,
            heading,
            described or "ancora niente",
            svg.text(_LEFT, 26, fit(heading, _WIDTH - 2 * _LEFT, 15), 15, font_weight=600),
            *(part for place, one in enumerate(pieces) for part in _row(one, sending, most, _TOP + place * _ROW)),
            svg.text(_LEFT, _TOP + _ROW * len(pieces) + 18, summary(pieces) if pieces else "…", 12, fill="soft"),
        )
    )


def _row(piece: Piece, sending: bool, most: int, y: float) -> list[Node]:
    long = max(_SHORT, _LONG * piece.total / most)
    hue = _HUES[piece.state]
    share = piece.done / piece.total if piece.total else float(piece.ended)
    parts = [
        svg.text(_LEFT, y + 17, piece.kind, 13),
        svg.text(_LEFT + 104, y + 17, piece.name[:12], 11, mono=True, fill="soft"),
        svg.rect(_BAR, y + 4, long, 18, rx=3, fill="panel"),
    ]
    if piece.state in ("exists", "mounted"):  # nothing moved: an outline with stripes, not a full bar
        parts.append(svg.rect(_BAR, y + 4, long, 18, rx=3, fill="none", stroke=hue, stroke_width=1.5))
        stripes = svg.hatch(1 if piece.state == "exists" else 2, _BAR, y + 4, _BAR + long, y + 22)
        parts.append(svg.strokes(stripes, stroke=hue, stroke_width=1))
    elif share:
        parts.append(svg.rect(_BAR, y + 4, max(2.0, long * min(share, 1.0)), 18, rx=3, fill=hue))
    said = f"{word(piece, sending)} · {show_bytes(piece.total)}"
    parts.append(svg.text(_BAR + long + 8, y + 17, fit(said, _WIDTH - _RIGHT - _BAR - long - 8, 12), 12))
    return parts

"""La tabella dei pacchetti: una riga ciascuno, gli ultimi in fondo; il protocollo si legge, oltre al colore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import clean, count, fit
from labkit.packets import Packet

#: Quanti pacchetti si mostrano, gli ultimi.
SHOWN: Final = 40

_HUES: Final = {
    "ARP": "hue5", "ICMP": "hue3", "ICMPv6": "hue3", "TCP": "hue1", "HTTP": "hue4", "UDP": "hue2", "DNS": "hue2",
}  # fmt: skip
_WIDTH, _TOP, _ROW = 860, 66, 22
#: Where each column begins: number, seconds, from, to, protocol, what it says; the last one ends with the bytes.
_COLUMNS: Final = (12.0, 64.0, 132.0, 280.0, 428.0, 496.0)
_HEADS: Final = ("n°", "secondi", "da", "a", "che cos'è", "che cosa dice")
_END: Final = 848.0


def state(running: bool, lost: int = 0, why: str = "") -> str:
    """Com'è la cattura, in parole.

    >>> state(False, lost=3)
    'ferma, 3 pacchetti persi'
    """
    words = "ascolta" if running else f"ferma: {why}" if why else "ferma"
    return f"{words}, {count(lost, 'pacchetto perso', 'pacchetti persi')}" if lost else words


def say(packet: Packet) -> str:
    """Un pacchetto in una frase, per chi ascolta."""
    told = clean(packet.info)
    return f"{packet.protocol} da {packet.source} a {packet.target}: {told}, {packet.size} byte."


def text(interface: str) -> str:
    """La cattura in parole, uguali a ogni esecuzione: i pacchetti li dà ``packets``."""
    return f"Cattura dei pacchetti su «{clean(interface)}»."


def table(packets: Sequence[Packet]) -> str:
    """I pacchetti come tabella di testo, senza i tempi."""
    rows = [("da", "a", "che cos'è", "che cosa dice")]
    rows += [(p.source, p.target, p.protocol, clean(p.info)) for p in packets]
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(row, wide, strict=False)), row[3]]) for row in rows)


def to_svg(interface: str, packets: Sequence[Packet], words: str, *, live: bool = False) -> str:
    """Il disegno degli ultimi pacchetti; ``words`` è com'è la cattura (:func:`state`)."""
    shown = packets[-SHOWN:]
    first = len(packets) - len(shown)
    start = packets[0].time if packets else 0.0
    rows = [_row(p, first + place, place, start, live) for place, p in enumerate(shown)]
    title = f"Pacchetti su {clean(interface)} · {words}"
    return svg.render(
        svg.document(
            _WIDTH,
            _TOP + _ROW * max(1, len(rows)) + 10,
            f"Pacchetti su {clean(interface)}",
            " ".join(map(say, shown)) or "Finora non è passato niente.",
            svg.text(12, 26, fit(title, 640, 15), 15, font_weight=600),
            svg.text(_END, 26, count(len(packets), "pacchetto", "pacchetti"), 12, fill="soft", text_anchor="end"),
            *(svg.text(x, _TOP - 12, words, 12, fill="soft") for x, words in zip(_COLUMNS, _HEADS, strict=True)),
            svg.text(_END, _TOP - 12, "byte", 12, fill="soft", text_anchor="end"),
            *(rows or [svg.text(12, _TOP + 14, "Finora non è passato niente.", 13, fill="soft")]),
            role="group" if live else "img",
        )
    )


def _row(packet: Packet, index: int, place: int, start: float, live: bool) -> Node:
    y = _TOP + _ROW * place
    hue = _HUES.get(packet.protocol, "hue0")
    ends = [fit(packet.source, 142, 12, mono=True), fit(packet.target, 142, 12, mono=True)]
    face = [
        svg.rect(4, y, _WIDTH - 8, _ROW - 1, rx=3, fill=hue, fill_opacity=0.1),
        svg.rect(4, y, 3, _ROW - 1, fill=hue),
        svg.text(_COLUMNS[0], y + 15, str(index + 1), 12, fill="soft"),
        svg.text(_COLUMNS[1], y + 15, f"{packet.time - start:.4f}".replace(".", ","), 12, fill="soft"),
        svg.text(_COLUMNS[2], y + 15, ends[0], 12, mono=True),
        svg.text(_COLUMNS[3], y + 15, ends[1], 12, mono=True),
        svg.text(_COLUMNS[4], y + 15, fit(packet.protocol, 64, 12), 12, font_weight=600),
        svg.text(_COLUMNS[5], y + 15, fit(clean(packet.info), _END - 50 - _COLUMNS[5], 12), 12),
        svg.text(_END, y + 15, str(packet.size), 12, fill="soft", text_anchor="end"),
    ]
    words = f"{index + 1}: {say(packet)}"
    if not live:
        return svg.group(svg.title(words), *face)
    ring = svg.rect(4, y, _WIDTH - 8, _ROW - 1, rx=3, fill="paper", fill_opacity=0, class_="lk-ring")
    return svg.group(
        svg.title(words), *face, ring, class_="lk-cell", role="listitem", tabindex=0 if place == 0 else -1,
        data_row=place, data_col=0, data_group="", data_say=words, aria_label=words,
    )  # fmt: skip

"""I file sparsi in un tar: quali pezzi ci sono davvero, fra un buco e l'altro (manuale di GNU tar, «Sparse Formats»).

Quattro modi di scriverli: quello vecchio di GNU, e i pax 0.0, 0.1 e 1.0. Tutti danno la stessa cosa: pezzi
in ordine, che non si toccano, dentro la lunghezza del file, lunghi insieme quanto i dati dell'archivio.
"""

from __future__ import annotations

from collections.abc import Callable

from labkit.errors import InvalidError
from labkit.images.tar_header import BLOCK, Entry, Piece, number

#: How many pieces a file may have: a real one has hundreds.
MOST_PIECES = 1 << 16
_PREFIX = b"GNU.sparse."


def old(block: bytes, read: Callable[[int], bytes]) -> tuple[list[Piece], int]:
    """Il formato vecchio: quattro pezzi nell'intestazione, gli altri nei blocchi che la seguono."""
    pieces = _packed(block[386:482])
    length = number(block[483:495])
    more = block[482]
    while more:
        block = read(BLOCK)
        pieces += _packed(block[:504])
        more = block[504]
        _not_too_many(len(pieces))
    return pieces, length


def _packed(table: bytes) -> list[Piece]:
    rows = (table[start : start + 24] for start in range(0, len(table), 24))
    return [Piece(number(row[:12]), number(row[12:])) for row in rows if row.strip(b"\0")]


def extended(entry: Entry, pax: list[tuple[bytes, bytes]], read: Callable[[int], bytes]) -> None:
    """I tre formati pax; ``read`` legge l'inizio dei dati, dove la versione 1.0 tiene la tabella."""
    fields = {key.removeprefix(_PREFIX): value for key, value in pax if key.startswith(_PREFIX)}
    if not fields:
        return
    entry.name = fields.get(b"name", entry.name)
    if fields.get(b"major") == b"1":
        pieces, used = _from_data(entry.size, read)
        entry.size -= used
    elif b"map" in fields:
        pieces = _pairs(fields[b"map"].split(b","))
    else:
        pieces = _pairs([value for key, value in pax if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")])
    entry.pieces, entry.length = pieces, _integer(fields.get(b"realsize", fields.get(b"size", b"")))


def _from_data(size: int, read: Callable[[int], bytes]) -> tuple[list[Piece], int]:
    """La tabella 1.0: un numero per riga, prima quanti pezzi, riempita fino a un blocco intero."""
    text, used, wanted = b"", 0, 1
    while text.count(b"\n") < wanted:
        if used + BLOCK > size:
            raise _wrong("la tabella è più lunga dei dati")
        text += read(BLOCK)
        used += BLOCK
        if wanted == 1 and b"\n" in text:
            count = _integer(text.partition(b"\n")[0])
            _not_too_many(count)
            wanted = 2 * count + 1
        elif wanted == 1:
            raise _wrong("la tabella non comincia con un numero")
    return _pairs(text.split(b"\n")[1:wanted]), used


def _pairs(values: list[bytes]) -> list[Piece]:
    _not_too_many(len(values) // 2)
    if values in ([b""], []):
        return []
    if len(values) % 2:
        raise _wrong("un pezzo ha l'inizio e non la misura")
    numbers = [_integer(value) for value in values]
    return [Piece(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


def check(entry: Entry) -> None:
    """Rifiuta pezzi fuori ordine, sovrapposti, oltre la fine, o che non corrispondono ai dati."""
    end = 0
    for piece in entry.pieces or ():
        if piece.offset < end or piece.offset + piece.size > entry.length:
            raise _wrong(f"in «{entry.shown}» i pezzi si accavallano o escono dal file")
        end = piece.offset + piece.size
    if sum(piece.size for piece in entry.pieces or ()) != entry.size:
        raise _wrong(f"in «{entry.shown}» i pezzi non sono lunghi quanto i dati")


def _integer(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise _wrong("un numero non si può leggere")
    return int(value)


def _not_too_many(count: int) -> None:
    if count > MOST_PIECES:
        raise _wrong(f"ha più di {MOST_PIECES} pezzi")


def _wrong(why: str) -> InvalidError:
    return InvalidError(f"Il tar ha un file sparso scritto male: {why}.")

"""Il filo fra client e laboratorio: cornici (frame) con tipo, canale e lunghezza.

::

    ┌──────┬─────────┬───────────┬────────────────┐
    │ tipo │ canale  │ lunghezza │ corpo …        │
    │ 1 B  │ 4 B     │ 4 B       │ lunghezza B    │
    └──────┴─────────┴───────────┴────────────────┘

Il client apre un canale con CALL (JSON: verbo e argomenti); il laboratorio risponde sullo stesso
canale con zero o più STDIO ed EVENT e, per ultimo, con un RET o un ERR. Un STDIO porta un byte con
il numero del flusso (0 stdin, 1 stdout, 2 stderr) e i dati; senza dati vuol dire «finito». Chi riceve
STDIO risponde ogni tanto con un CREDIT: quanto ha consumato. Chi manda non va oltre :data:`WINDOW`, canale per
canale: così un canale che nessuno legge ferma il suo programma, e non le risposte degli altri. Nessun
descrittore viaggia sul filo: passa uguale anche dentro una macchina virtuale.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from labkit.errors import ProtocolError

HEADER = struct.Struct("!BII")

#: La versione del filo: i due capi devono avere la stessa.
VERSION = 2

#: Una cornice più lunga è un errore o un attacco: si chiude.
MAX_BODY = 8 << 20

STDIN, STDOUT, STDERR = 0, 1, 2

#: Quanto può essere in viaggio, o non ancora letto, su un canale e in un verso. Ogni cornice conta qualcosa in più.
WINDOW = 1 << 20
_FRAME_COST = 64


class Kind(IntEnum):
    """Il tipo di una cornice."""

    CALL = 1
    RET = 2
    ERR = 3
    EVENT = 4
    STDIO = 5
    PING = 6
    CREDIT = 7


class Frame(NamedTuple):
    """Una cornice arrivata: ``body`` sono i byte, :meth:`json` i dati, :meth:`stdio` il flusso."""

    kind: Kind
    channel: int
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise ProtocolError("Il corpo di un messaggio del laboratorio non è JSON valido.") from None

    def stdio(self) -> tuple[int, bytes]:
        if not self.body:
            raise ProtocolError("Una cornice STDIO senza il numero del flusso.")
        return self.body[0], self.body[1:]


def pack(kind: Kind, channel: int, body: bytes = b"") -> bytes:
    """Una cornice come byte.

    >>> list(Decoder().feed(pack(Kind.PING, 7)))
    [Frame(kind=<Kind.PING: 6>, channel=7, body=b'')]
    """
    if len(body) > MAX_BODY:
        raise ProtocolError(f"Un messaggio di {len(body)} byte è troppo grande per il filo (massimo {MAX_BODY}).")
    return HEADER.pack(kind, channel, len(body)) + body


def pack_json(kind: Kind, channel: int, value: Any) -> bytes:
    """Una cornice con un valore JSON."""
    return pack(kind, channel, json.dumps(value, separators=(",", ":")).encode())


def pack_stdio(channel: int, stream: int, data: bytes) -> bytes:
    """Una cornice con un pezzo di un flusso; ``data`` vuoto vuol dire che il flusso è finito."""
    return pack(Kind.STDIO, channel, bytes((stream,)) + data)


def cost(data: bytes) -> int:
    """Quanto pesa un pezzo di un flusso nella finestra di un canale."""
    return len(data) + _FRAME_COST


def pack_credit(channel: int, amount: int) -> bytes:
    """Una cornice che rende ``amount`` della finestra di un canale."""
    return pack_json(Kind.CREDIT, channel, amount)


class Decoder:
    """Rimette insieme le cornici da pezzi di qualunque misura."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Aggiunge byte e dà le cornici complete; un'intestazione impossibile è un ProtocolError."""
        self._buffer += data
        offset = 0
        try:
            while len(self._buffer) - offset >= HEADER.size:
                kind, channel, length = HEADER.unpack_from(self._buffer, offset)
                if length > MAX_BODY or kind not in Kind.__members__.values():
                    raise ProtocolError("Sul filo è arrivato qualcosa che non è un messaggio del laboratorio.")
                end = offset + HEADER.size + length
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[offset + HEADER.size : end])
                offset = end
                yield Frame(Kind(kind), channel, body)
        finally:
            del self._buffer[:offset]

"""I messaggi del servizio di nomi: una domanda letta dai byte, una risposta scritta (RFC 1035, sezione 4).

Niente prese, niente stato. Quello che non è una domanda ben fatta alza ``ValueError``.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

A, PTR, AAAA, ANY = 1, 12, 28, 255
_IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = 0, 1, 2, 3, 4

_HEADER = struct.Struct("!6H")
_RESPONSE, _OPCODE, _AUTHORITATIVE, _TRUNCATED, _DESIRED, _AVAILABLE = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080

#: Secondi per cui chi chiede può ricordare la risposta: nessuno, un container può cambiare indirizzo.
_TTL = 0

#: RFC 1035, 2.3.4: byte di un messaggio UDP, e di un nome.
UDP_LONGEST = 512
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Question:
    """Che cosa si chiede: ``name`` minuscolo, senza il punto finale; ``wire`` sono i byte della domanda."""

    id: int
    flags: int
    name: str
    kind: int
    wire: bytes

    @property
    def opcode(self) -> int:
        return (self.flags & _OPCODE) >> 11


def read(data: bytes) -> Question:
    """La domanda dentro un messaggio; ``ValueError`` se non ce n'è una, o ce n'è più d'una."""
    if len(data) < _HEADER.size:
        raise ValueError("troppo corto")
    number, flags, count, _, _, _ = _HEADER.unpack_from(data)
    if flags & _RESPONSE or count != 1:
        raise ValueError("non è una domanda")
    name, offset = _name(data, _HEADER.size)
    if len(data) < offset + 4:
        raise ValueError("troppo corto")
    kind, family = struct.unpack_from("!2H", data, offset)
    if family not in (_IN, ANY):
        raise ValueError("non è di Internet")
    return Question(number, flags, name, kind, data[_HEADER.size : offset + 4])


def _name(data: bytes, offset: int) -> tuple[str, int]:
    """Un nome scritto per esteso: in una domanda nessuno lo comprime."""
    labels: list[str] = []
    start = offset
    while True:
        if offset >= len(data) or offset - start > _LONGEST_NAME:
            raise ValueError("il nome non finisce")
        size = data[offset]
        offset += 1
        if size == 0:
            return ".".join(labels), offset
        if size > 63 or offset + size > len(data):
            raise ValueError("il nome non è scritto per esteso")
        labels.append(data[offset : offset + size].decode("ascii", "replace").lower())
        offset += size


def encode(name: str) -> bytes:
    """Un nome in byte.

    >>> encode("web.interna")
    b'\\x03web\\x07interna\\x00'
    """
    parts = [label.encode("ascii", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in parts) + b"\0"


def address_of(name: str) -> str:
    """L'indirizzo di cui si chiede il nome (``2.0.89.10.in-addr.arpa``); vuoto se non è una domanda così.

    >>> address_of("2.0.89.10.in-addr.arpa")
    '10.89.0.2'
    """
    if name.endswith(".in-addr.arpa"):
        return ".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))
    if name.endswith(".ip6.arpa"):
        digits = name.removesuffix(".ip6.arpa").split(".")
        if len(digits) == 32 and all(len(digit) == 1 and digit in "0123456789abcdef" for digit in digits):
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("".join(reversed(digits))))
    return ""


def answer(question: Question, values: list[str]) -> bytes:
    """La risposta con quegli indirizzi (o nomi, a una domanda PTR); quelli di un altro tipo non c'entrano."""
    records = []
    for value in values:
        if question.kind == PTR:
            kind, raw = PTR, encode(value)
        else:
            kind = AAAA if ":" in value else A
            if question.kind not in (kind, ANY):
                continue
            raw = socket.inet_pton(socket.AF_INET6 if kind == AAAA else socket.AF_INET, value)
        # 0xC00C: the name is the one of the question, twelve bytes after the beginning.
        records.append(struct.pack("!HHHIH", 0xC00C, kind, _IN, _TTL, len(raw)) + raw)
    return _message(question, NOERROR, records)


def refuse(question: Question, code: int) -> bytes:
    """La risposta di chi non sa, o non vuole."""
    return _message(question, code, [])


def _message(question: Question, code: int, records: list[bytes]) -> bytes:
    flags = _RESPONSE | _AUTHORITATIVE | _AVAILABLE | (question.flags & (_OPCODE | _DESIRED)) | code
    return _HEADER.pack(question.id, flags, 1, len(records), 0, 0) + question.wire + b"".join(records)


def shorten(message: bytes, longest: int = UDP_LONGEST) -> bytes:
    """Un messaggio che in UDP non entra: solo la domanda, e il segno che il resto si chiede in TCP."""
    if len(message) <= longest:
        return message
    number, flags, count, _, _, _ = _HEADER.unpack_from(message)
    end = _name(message, _HEADER.size)[1] + 4
    return _HEADER.pack(number, flags | _TRUNCATED, count, 0, 0, 0) + message[_HEADER.size : end]

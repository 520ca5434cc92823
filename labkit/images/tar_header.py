"""Una voce di un tar: l'intestazione di 512 byte e le sue estensioni pax (tar(5), POSIX.1-2001 «pax»).

Ogni campo è controllato prima di essere usato: una somma sbagliata, un numero negativo o un nome con un
byte zero sono errori, perché programmi diversi li leggerebbero in modi diversi. I nomi restano byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from labkit.errors import InvalidError

BLOCK = 512
#: linux/limits.h, PATH_MAX: no longer name could be used.
PATH_MAX = 4096

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
#: GNU's own: a long name, a long link, the old sparse file. POSIX: an extended header, for one entry or for all.
LONG_NAME, LONG_LINK, SPARSE, PAX, PAX_GLOBAL = b"L", b"K", b"S", b"x", b"g"
EXTENSIONS = (LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL)
_KINDS = {kind: kind for kind in (REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO, *EXTENSIONS)}
_KINDS |= {b"\0": REGULAR, b"7": REGULAR, SPARSE: REGULAR}
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32x32x8s8s155s12x")
_SIGNED, _UNSIGNED = struct.Struct("148b8x356b"), struct.Struct("148B8x356B")
_XATTR = b"SCHILY.xattr."


class Piece(NamedTuple):
    """Un pezzo di un file sparso: dove comincia e quanti byte ha; fra un pezzo e l'altro ci sono zeri."""

    offset: int
    size: int


@dataclass
class Entry:
    """Una voce: come si chiama, che cos'è, di chi è; ``size`` sono i byte che seguono nell'archivio."""

    name: bytes
    kind: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    #: The pieces of a sparse file and the length that it has when it is read; None and ``size`` for any other.
    pieces: list[Piece] | None = None
    length: int = 0

    @property
    def shown(self) -> str:
        """Il nome, sicuro da mostrare."""
        return show(self.name)


def show(name: bytes) -> str:
    """Un nome di file in un messaggio: senza caratteri di controllo, tagliato se è lunghissimo."""
    text = name[:200].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut() -> InvalidError:
    return InvalidError("Il tar finisce a metà: ne manca un pezzo.", "scarica o crea di nuovo l'archivio")


def parse(block: bytes) -> tuple[Entry, bytes]:
    """L'intestazione di una voce, e il suo tipo com'era scritto."""
    (name, mode, uid, gid, size, mtime, checksum, raw, link, magic, _, _, prefix) = _FIELDS.unpack(block)
    # Cheap sums first: the signed one is only for the archives of some very old systems.
    if number(checksum) not in (sum(_UNSIGNED.unpack(block)) + 256, sum(_SIGNED.unpack(block)) + 256):
        raise InvalidError(
            "Il tar è rovinato: la somma di controllo di un'intestazione non torna.", "scaricalo di nuovo"
        )
    kind = _KINDS.get(raw)
    if kind is None:
        raise InvalidError(f"Nel tar «{show(_text(name))}» è di un tipo sconosciuto ({show(raw)}).")
    name = _text(name)
    if magic == b"ustar\x0000" and prefix[0]:  # GNU's «ustar  » keeps other things there
        name = _text(prefix) + b"/" + name
    entry = Entry(name, kind, number(mode) & 0o7777, number(uid), number(gid), number(size), 0, _text(link))
    entry.mtime_ns = _instant(number(mtime, signed=True), mtime) * 10**9
    return entry, raw


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def number(data: bytes, signed: bool = False) -> int:
    """Un numero: cifre ottali, oppure base 256 se il primo bit è acceso (estensione di GNU)."""
    if data[0] & 0x80:
        value = (
            int.from_bytes(data, "big", signed=True)
            if data[0] == 0xFF
            else int.from_bytes(data, "big") ^ (0x80 << 8 * (len(data) - 1))
        )
    else:
        digits = data.strip(b" \0")
        if digits.strip(b"01234567"):
            raise InvalidError(f"Il tar è rovinato: «{show(digits)}» non è un numero ottale.")
        value = int(digits or b"0", 8)
    if (value < 0 and not signed) or abs(value) >= 1 << 63:
        raise InvalidError(f"Il tar ha un numero impossibile: {value}.")
    return value


def records(text: bytes) -> list[tuple[bytes, bytes]]:
    """Le righe ``lunghezza chiave=valore`` di un'intestazione pax."""
    found = []
    start = 0
    while start < len(text):
        space = text.find(b" ", start, start + 12)
        digits = text[start:space] if space > 0 else b""
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = text[space + 1 : end - 1].partition(b"=")
        if not (space < end <= len(text)) or text[end - 1 : end] != b"\n" or not equals or not key:
            raise InvalidError("Il tar è rovinato: un'intestazione pax non si può leggere.")
        found.append((key, value))
        start = end
    return found


def apply(entry: Entry, pax: list[tuple[bytes, bytes]]) -> None:
    """Applica alla voce le estensioni pax che descrivono un file; le altre sono commenti, o di :mod:`tar_sparse`."""
    for key, value in pax:
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key in (b"size", b"uid", b"gid"):
            if not value.isdigit() or len(value) > 18:
                raise InvalidError(f"Nel tar il campo pax «{show(key)}» non è un numero: «{show(value)}».")
            setattr(entry, key.decode(), int(value))
        elif key == b"mtime":
            entry.mtime_ns = _nanoseconds(value)
        elif key.startswith(_XATTR):
            name = key.removeprefix(_XATTR)
            if not 0 < len(name) < 256 or b"\0" in name:
                raise InvalidError(f"Nel tar «{entry.shown}» ha un attributo dal nome impossibile: «{show(name)}».")
            entry.xattrs[name.decode("utf-8", "surrogateescape")] = value


def _nanoseconds(value: bytes) -> int:
    """``1700000000.25`` in nanosecondi, senza passare da un numero in virgola mobile."""
    whole, _, part = value.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole[negative:]
    if not digits.isdigit() or len(digits) > 18 or (part and not part.isdigit()):
        raise _no_instant(value)
    nanoseconds = _instant(int(digits), value) * 10**9 + int(part[:9].ljust(9, b"0"))
    return -nanoseconds if negative else nanoseconds


def _instant(seconds: int, value: bytes) -> int:
    if abs(seconds) >= 1 << 50:  # thirty million years: beyond what utimensat(2) can be told
        raise _no_instant(value)
    return seconds


def _no_instant(value: bytes) -> InvalidError:
    return InvalidError(f"Nel tar c'è un istante impossibile: «{show(value)}».")

"""Un tar con nessuna ora oltre una data: due esecuzioni dello stesso RUN danno gli stessi byte.

È ciò che chiede ``SOURCE_DATE_EPOCH`` (reproducible-builds.org): l'ora di un file nuovo è quella in cui è nato, e
cambia a ogni costruzione. Nomi, permessi e contenuti passano come sono.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labkit.images import tar_header as header
from labkit.images.tar_header import BLOCK

#: The times that a pax header may hold (POSIX.1-2001, «pax Extended Header»).
_TIMES = (b"mtime", b"atime", b"ctime")


def clamped(tar: Iterable[bytes], epoch: int) -> Iterator[bytes]:
    """Gli stessi pezzi, con ogni ora più tarda di ``epoch`` (secondi dal 1970) portata lì."""
    source = _Bytes(tar)
    late = b""  # the extended header of the entry that follows, without the times that were too late
    size: int | None = None
    forced = False
    while True:
        block = source.take(BLOCK)
        if block and len(block) < BLOCK:
            raise header.cut()
        if not block.strip(b"\0"):
            yield block
            yield from source.rest()
            return
        entry, raw = header.parse(block)
        length = entry.size if raw not in (header.DIRECTORY, header.LINK, header.SYMLINK) else 0
        if raw == header.PAX:
            text = source.take(length)
            source.take(-length % BLOCK)
            records = header.records(text)
            size = next((int(value) for key, value in records if key == b"size"), None)
            kept = [(key, value) for key, value in records if key not in _TIMES or not _after(value, epoch)]
            forced = any(key == b"mtime" for key, _ in records) and not any(key == b"mtime" for key, _ in kept)
            late = _pax(block, kept)
            continue
        yield late
        yield _with_time(block, epoch) if forced or entry.mtime_ns > epoch * 10**9 else block
        left = size if size is not None and raw not in header.EXTENSIONS else length
        yield from source.pass_on(left + -left % BLOCK)
        if raw not in header.EXTENSIONS:  # a long name is still of the same entry
            late, size, forced = b"", None, False
        else:
            late = b""


def _after(value: bytes, epoch: int) -> bool:
    whole, _, part = value.partition(b".")
    return int(whole) > epoch or (int(whole) == epoch and bool(part.strip(b"0")))


def _pax(block: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    """Un'intestazione estesa con queste righe; niente se non ne resta nessuna."""
    if not records:
        return b""
    text = b"".join(map(_record, records))
    return _with_field(block, 124, b"%011o\0" % len(text)) + text + bytes(-len(text) % BLOCK)


def _record(one: tuple[bytes, bytes]) -> bytes:
    body = b" %s=%s\n" % one
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def _with_time(block: bytes, epoch: int) -> bytes:
    return _with_field(block, 136, b"%011o\0" % epoch)


def _with_field(block: bytes, at: int, value: bytes) -> bytes:
    """L'intestazione con un campo cambiato, e la somma di controllo rifatta (tar(5), «ustar»)."""
    made = bytearray(block)
    made[at : at + len(value)] = value
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


class _Bytes:
    """Un flusso da cui si prende quanto serve."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._kept = b""

    def take(self, size: int) -> bytes:
        while len(self._kept) < size and (piece := next(self._pieces, None)) is not None:
            self._kept += piece
        found, self._kept = self._kept[:size], self._kept[size:]
        return found

    def pass_on(self, size: int) -> Iterator[bytes]:
        while size:
            found = self.take(1) if not self._kept else b""
            self._kept = found + self._kept
            if not self._kept:
                raise header.cut()
            piece, self._kept = self._kept[:size], self._kept[size:]
            size -= len(piece)
            yield piece

    def rest(self) -> Iterator[bytes]:
        yield self._kept
        yield from self._pieces

"""Comprimere e decomprimere uno strato: gzip (anche in più pezzi), zstd, o niente.

Il formato si riconosce dai primi byte, come fa Docker, e non dal nome. Si decomprime a pezzi di misura
limitata: una bomba non occupa mai più memoria di uno strato onesto. Un flusso tagliato o con il controllo
sbagliato è un errore, mai la fine dell'archivio.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from labkit.errors import InvalidError, LabError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from backports import zstd

#: Bytes given at a time. Large enough that the interpreter's share is small, small enough to stay in the cache.
PIECE = 1 << 18
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
#: RFC 8878 §3.1.2: frames that hold no data, sixteen magic numbers.
_ZSTD_SKIPPABLE = tuple(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16))
#: 128 MiB: what `zstd` itself accepts without --long (zstd(1), --ultra -22 needs exactly this).
_ZSTD_WINDOW = 27
_GZIP_LEVEL = 6


def _zstd_module() -> Any:
    """La libreria di zstd: in Python da 3.14, prima in un pacchetto; cercata solo quando serve."""
    try:
        return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        raise LabError(
            "Questo strato è compresso con zstd, e qui manca la libreria che lo apre.", "make setup"
        ) from None


def ready() -> None:
    """Carica adesso ciò che serve a decomprimere: chi cambia radice non lo troverebbe più."""
    with suppress(LabError):
        _zstd_module()


def detect(head: bytes) -> str:
    """``gzip``, ``zstd`` o ``""`` (niente), dai primi quattro byte."""
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head.startswith((_ZSTD, *_ZSTD_SKIPPABLE)) else ""


def decompressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """I byte decompressi, a pezzi di al massimo :data:`PIECE`."""
    source = iter(pieces)
    head = b""
    for piece in source:
        head += piece
        if len(head) >= 4:
            break
    kind = detect(head)
    whole = _chain(head, source)
    if kind == "gzip":
        yield from _gunzip(whole)
    elif kind == "zstd":
        yield from _unzstd(whole)
    else:
        for piece in whole:
            yield from (piece[start : start + PIECE] for start in range(0, len(piece), PIECE))


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _gunzip(source: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 1952: uno o più membri di fila; zlib controlla CRC e misura di ciascuno."""
    member = zlib.decompressobj(wbits=31)
    started = False
    for piece in source:
        data = piece
        while data:
            if member.eof:
                if not data.strip(b"\0"):  # padding of tapes and blocks
                    break
                member, started = zlib.decompressobj(wbits=31), False
            started = True
            try:
                out = member.decompress(data, PIECE)
            except zlib.error as problem:
                raise _damaged("gzip", str(problem)) from None
            data = member.unused_data if member.eof else member.unconsumed_tail
            if out:
                yield out
            # zlib keeps a filled buffer's remainder inside: no input left, but perhaps more output.
            while not data and not member.eof and len(out) == PIECE:
                out = member.decompress(b"", PIECE)
                if out:
                    yield out
    if started and not member.eof:
        raise _damaged("gzip", "finisce a metà")


def _unzstd(source: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 8878: uno o più frame di fila, con una finestra limitata."""
    zstd = _zstd_module()
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
    frame = zstd.ZstdDecompressor(options=options)
    for piece in source:
        data = piece
        while data or not (frame.needs_input or frame.eof):
            if frame.eof:
                frame = zstd.ZstdDecompressor(options=options)
            try:
                out = frame.decompress(data, PIECE)
            except zstd.ZstdError as problem:
                raise _damaged("zstd", str(problem)) from None
            data = frame.unused_data if frame.eof else b""
            if out:
                yield out
    if not frame.eof:
        raise _damaged("zstd", "finisce a metà")


def _damaged(kind: str, why: str) -> InvalidError:
    return InvalidError(f"Lo strato compresso con {kind} è rovinato ({why}).", "scaricalo di nuovo: labkit pull NOME")


def compress(pieces: Iterable[ReadableBuffer], kind: str) -> Iterator[bytes]:
    """Comprime con ``gzip``, ``zstd`` o niente (``""``); stessi byte in entrata, stessi byte in uscita."""
    if kind == "":
        yield from (bytes(piece) for piece in pieces)
        return
    packer: zstd.ZstdCompressor | zlib._Compress
    if kind == "gzip":
        # zlib writes no time and no name in the header: the same layer always has the same digest.
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    elif kind == "zstd":
        packer = _zstd_module().ZstdCompressor()
    else:
        raise InvalidError(f"Non so comprimere con «{kind}».", "si può con gzip, zstd, o niente")
    for piece in pieces:
        out = packer.compress(piece)
        if out:
            yield out
    yield packer.flush()


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Un file aperto, a pezzi."""
    while data := file.read(PIECE):
        yield data

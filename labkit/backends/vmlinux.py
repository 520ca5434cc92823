"""Il kernel vero dentro un ``bzImage``: un file ELF compresso dietro un piccolo caricatore.

Una macchina emulata che parte dall'ELF non deve sciogliere il kernel da sé, e nel corso vuol dire due
secondi e mezzo di meno. Il formato è in Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tempfile
import zlib
from pathlib import Path

from labkit.backends.deb import unzstd
from labkit.backends.packages import Progress, cache, silent
from labkit.errors import BackendError

ELF_MAGIC = b"\x7fELF"
BOOT_MAGIC = b"HdrS"


def release(image: Path) -> str:
    """La versione scritta nell'immagine, come la direbbe ``uname -r``."""
    data = _read(image)
    if data[0x202:0x206] == BOOT_MAGIC:
        offset = int.from_bytes(data[0x20E:0x210], "little") + 0x200
    else:
        mark = b"Linux version "
        offset = data.find(mark) + len(mark)
    return data[offset : offset + 128].split()[0].decode("ascii", "replace")


def elf(image: Path, say: Progress = silent) -> Path:
    """L'ELF estratto da ``image``, tenuto nella cache con l'impronta dell'immagine nel nome."""
    data = _read(image)
    if data[:4] == ELF_MAGIC:
        return image
    target = cache() / f"vmlinux-{hashlib.sha256(data).hexdigest()[:12]}"
    if not target.exists():
        say("estraggo il kernel dalla sua immagine compressa…")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".vmlinux-", dir=target.parent, delete=False) as file:
            file.write(extract(data))
        os.rename(file.name, target)
    return target


def extract(image: bytes) -> bytes:
    """L'ELF dentro un bzImage (xz, gzip, zstd o lz4)."""
    if image[0x202:0x206] != BOOT_MAGIC:
        raise BackendError("L'immagine non è un kernel Linux per x86.", "export LABKIT_KERNEL=/percorso/vmlinuz")
    sectors = image[0x1F1] or 4
    start = (sectors + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    payload = image[start : start + int.from_bytes(image[0x24C:0x250], "little")]
    kernel = _uncompressed(payload)
    if kernel[:4] != ELF_MAGIC:
        raise BackendError("L'immagine del kernel non contiene un ELF.", "export LABKIT_KERNEL=/percorso/vmlinuz")
    return kernel


def _uncompressed(payload: bytes) -> bytes:
    # The last four bytes of every payload are its uncompressed size: each decoder must stop at its own end.
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return unzstd(payload)
    if payload.startswith(b"\x02\x21\x4c\x18"):
        return lz4(payload)
    raise BackendError(f"Non so sciogliere questo kernel (comincia con {payload[:4].hex()}).",
                       "export LABKIT_KERNEL=/percorso/vmlinuz compresso con xz, gzip, zstd o lz4")  # fmt: skip


def lz4(payload: bytes) -> bytes:
    """Scioglie il formato lz4 «legacy» dei kernel: blocchi indipendenti, ognuno preceduto dalla sua lunghezza."""
    output = bytearray()
    stream = io.BytesIO(payload[4:])
    while (size := int.from_bytes(stream.read(4), "little")) and len(block := stream.read(size)) == size:
        _lz4_block(block, output)
    return bytes(output)


def _lz4_block(block: bytes, output: bytearray) -> None:
    position = 0

    def length(nibble: int) -> int:
        nonlocal position
        total = nibble
        while nibble == 15:  # 15 means: more in the next byte, as long as it is 255
            total += block[position]
            position += 1
            if block[position - 1] != 255:
                break
        return total

    while position < len(block):
        token = block[position]
        position += 1
        literals = length(token >> 4)
        output += block[position : position + literals]
        position += literals
        if position >= len(block):
            return  # the last sequence has no match
        distance = int.from_bytes(block[position : position + 2], "little")
        position += 2
        size = length(token & 15) + 4
        start = len(output) - distance
        if distance >= size:
            output += output[start : start + size]
        else:  # the match reads what it is writing: the last bytes, over and over
            output += (output[start:] * (size // distance + 1))[:size]


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as problem:
        raise BackendError(f"L'immagine del kernel «{image}» non si legge: {problem.strerror}.",
                           "export LABKIT_KERNEL=/percorso/vmlinuz") from None  # fmt: skip

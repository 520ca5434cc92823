"""Archivi fatti a mano, anche quelli che nessun programma onesto scriverebbe."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from labkit.images.digest import DiffID, Digest
from labkit.images.unpack import Options, Unpacked, unpack

END = bytes(1024)


def info(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type, one.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    one.uid, one.gid = os.getuid(), os.getgid()
    for key, value in fields.items():
        setattr(one, key, value)
    return one


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    """Una voce: intestazione (pax se serve), dati, riempimento."""
    one = info(name, kind, size=len(data), **fields)
    return one.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


def folder(name: str, **fields: object) -> bytes:
    return entry(name, kind=tarfile.DIRTYPE, **fields)


def link(name: str, target: str, **fields: object) -> bytes:
    return entry(name, kind=tarfile.SYMTYPE, linkname=target, **fields)


def hard(name: str, target: str, **fields: object) -> bytes:
    return entry(name, kind=tarfile.LNKTYPE, linkname=target, **fields)


def header(name: bytes = b"x", size: bytes = b"00000000000", kind: bytes = b"0", sum_by: int = 0) -> bytes:
    """Un'intestazione campo per campo; ``sum_by`` sbaglia la somma di controllo."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124 : 124 + len(size)], block[136:148], block[156:157] = size, b"00000000000\0", kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) + sum_by)
    return bytes(block)


def tar(*entries: bytes) -> bytes:
    return b"".join(entries) + END


@dataclass
class Result:
    """Quello che è uscito: l'albero, percorso per percorso, e il rapporto."""

    root: Path
    report: Unpacked = field(default_factory=Unpacked)

    @property
    def names(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def __getitem__(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.root / name).lstat().st_mode)

    def whiteout(self, name: str) -> bool:
        found = (self.root / name).lstat()
        return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0

    def opaque(self, name: str) -> bool:
        try:
            return os.getxattr(self.root / name, "user.overlay.opaque") == b"y"
        except OSError:
            return False


def opened(root: Path, data: bytes, options: Options | None = None) -> Result:
    """Spacchetta ``data`` (compresso o no) in ``root``."""
    from labkit.images.compression import decompressed

    root.mkdir(exist_ok=True)
    plain = b"".join(decompressed([data]))
    return Result(root, unpack(io.BytesIO(data), str(root), Digest.of(data), DiffID.of(plain), options))

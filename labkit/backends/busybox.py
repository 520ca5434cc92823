"""Un busybox statico per accendere una macchina: quello installato, o quello del pacchetto, senza essere root."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from labkit.backends.packages import Progress, cached, describe, obtain, silent

_PT_INTERP = 3  # elf(5): the segment that names the dynamic loader


def busybox(say: Progress = silent) -> Path:
    """Il percorso di un busybox che non ha bisogno di librerie; se qui non c'è, scarica il pacchetto (1 MB)."""
    for name in ("busybox", "busybox-static", "busybox.static"):
        found = shutil.which(name)
        if found and is_static(Path(found)):
            return Path(found)
    folder = cached("busybox") or obtain("busybox", [describe("busybox-static")], _program, lambda folder: None, say)
    return next(path for path in folder.rglob("busybox") if path.is_file())


def is_static(path: Path) -> bool:
    """Se quel programma ELF a 64 bit parte da solo, senza un caricatore di librerie."""
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:5] != b"\x7fELF\x02":
            return False
        offset, size, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
        file.seek(offset)
        table = file.read(size * count)
    return all(struct.unpack_from("<I", table, entry * size)[0] != _PT_INTERP for entry in range(count))


def _program(path: str) -> bool:
    return path in ("bin/busybox", "usr/bin/busybox")

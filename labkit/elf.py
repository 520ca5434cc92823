"""I programmi ELF (elf(5)): se uno parte da solo, anche in una radice vuota."""

from __future__ import annotations

import struct

_PT_INTERP = 3  # elf.h: the segment that names the dynamic loader


def is_static(path: str) -> bool:
    """Vero se ``path`` è un programma ELF a 64 bit che non chiede un caricatore; falso anche se non si può leggere."""
    try:
        with open(path, "rb") as file:
            header = file.read(64)
            if header[:5] != b"\x7fELF\x02":
                return False
            offset, size, count = *struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54)
            file.seek(offset)
            table = file.read(size * count)
        return all(struct.unpack_from("<I", table, entry * size)[0] != _PT_INTERP for entry in range(count))
    except (OSError, struct.error):
        return False

"""Un busybox statico per accendere una macchina: quello installato, o quello del pacchetto, senza essere root."""

from __future__ import annotations

import shutil
from pathlib import Path

from labkit.backends.packages import Progress, cached, describe, obtain, silent
from labkit.elf import is_static


def busybox(say: Progress = silent) -> Path:
    """Il percorso di un busybox che non ha bisogno di librerie; se qui non c'è, scarica il pacchetto (1 MB)."""
    for name in ("busybox", "busybox-static", "busybox.static"):
        found = shutil.which(name)
        if found and is_static(found):
            return Path(found)
    folder = cached("busybox") or obtain("busybox", [describe("busybox-static")], _program, lambda folder: None, say)
    return next(path for path in folder.rglob("busybox") if path.is_file())


def _program(path: str) -> bool:
    return path in ("bin/busybox", "usr/bin/busybox")

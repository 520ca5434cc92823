"""I moduli del kernel di una macchina virtuale, caricati senza modprobe (finit_module(2))."""

from __future__ import annotations

import os

from labkit.errors import KernelError
from labkit.kernel import libc


def dependencies(base: str) -> dict[str, tuple[str, ...]]:
    """Da ``modules.dep``: il nome di un modulo → i file da caricare, le dipendenze per prime (modprobe(8))."""
    table = {}
    with open(f"{base}/modules.dep", encoding="utf-8") as lines:
        for line in lines:
            path, _, needed = line.partition(":")
            name = os.path.basename(path).split(".")[0].replace("-", "_")
            table[name] = (*reversed(needed.split()), path)
    return table


def load(names: tuple[str, ...], base: str) -> list[str]:
    """Carica i moduli ``names`` da ``base``; torna quelli che non si possono avere (molti sono già nel kernel)."""
    table = dependencies(base)
    missing = []
    for name in names:
        if name not in table:
            missing.append(name)
            continue
        for path in table[name]:
            fd = os.open(f"{base}/{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc.syscall("finit_module", fd, b"", 0, path=path)
            except KernelError as problem:
                if problem.name != "EEXIST":
                    raise
            finally:
                os.close(fd)
    return missing

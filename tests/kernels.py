"""I kernel delle macchine virtuali, una volta sola per tutti gli utenti delle prove.

Ogni utente temporaneo ha una casa nuova, e quindi una cache vuota: senza questo ognuno scaricherebbe i suoi.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.backends import kernels, qemu
from labkit.errors import BackendError

#: Le variabili con cui labkit accetta un kernel dato a mano.
NAMES = ("LABKIT_UML", "LABKIT_KERNEL", "LABKIT_MODULES")


@contextmanager
def shared() -> Iterator[None]:
    """Mette i kernel in una cartella che tutti possono leggere e lo dice nell'ambiente; alla fine la toglie."""
    folder = Path(tempfile.mkdtemp(prefix="lk-kernels-"))
    folder.chmod(0o755)
    before = {name: os.environ.get(name) for name in NAMES}
    try:
        uml, linux = kernels.uml(_say), kernels.linux(_say)
        given = {
            "LABKIT_UML": str(shutil.copy(uml.binary, folder)),
            "LABKIT_KERNEL": str(shutil.copy(linux.image, folder)),
            "LABKIT_MODULES": str(folder),
        }
        for kernel in (uml, linux):
            shutil.copytree(kernel.modules, folder / kernel.version)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.name == Path(uml.binary).name else 0o644)
        os.environ.update(given)
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def missing(backend: str) -> str:
    """Perché qui non si può accendere una macchina ``uml`` o ``qemu``; vuoto se si può."""
    try:
        if backend == "uml":
            kernels.uml(_say)
        else:
            qemu.program()
            kernels.linux(_say)
    except BackendError as problem:
        return str(problem)
    return ""


def _say(sentence: str) -> None:
    print(sentence, flush=True)

"""Quale backend: quello chiesto, quello di ``LABKIT_BACKEND``, oppure il primo che va bene qui.

``auto`` li prova nell'ordine in cui convengono a uno studente: direttamente sul kernel della macchina;
se lo vieta, in una macchina QEMU con KVM che parte davvero; se KVM non c'è, in User Mode Linux; e
per ultima in QEMU che traduce ogni istruzione (TCG), che va dappertutto ma piano.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence

from labkit.backends import accel
from labkit.backends.base import Backend
from labkit.backends.direct import DirectBackend
from labkit.backends.fake import FakeBackend
from labkit.backends.microvm import QemuBackend
from labkit.backends.uml import UmlBackend
from labkit.errors import InvalidError, LabError

Say = Callable[[str], None]

_BACKENDS: dict[str, Callable[[Say], Backend]] = {
    "direct": lambda say: DirectBackend(),
    "fake": lambda say: FakeBackend(),
    "qemu": QemuBackend,
    "uml": UmlBackend,
}


def candidates(name: str = "auto", say: Say | None = None) -> Iterator[Backend]:
    """I backend da provare, in ordine; uno solo se è chiesto per nome o da ``LABKIT_BACKEND``.

    >>> [backend.name for backend in candidates("direct")]
    ['direct']
    """
    speak = say or tell
    if name == "auto":
        name = os.environ.get("LABKIT_BACKEND") or "auto"
    if name != "auto":
        if name not in _BACKENDS:
            raise InvalidError(f"Il backend «{name}» non c'è: si può scegliere auto, {', '.join(_BACKENDS)}.", "Lab()")
        yield _BACKENDS[name](speak)
        return
    yield DirectBackend()
    if accel.openable():
        yield QemuBackend(speak, only_kvm=True)
    yield UmlBackend(speak)
    yield QemuBackend(speak)


def tell(sentence: str) -> None:
    """Una riga su stderr: i pacchetti da scaricare e le prove da fare si dicono, non si nascondono."""
    print(sentence, file=sys.stderr, flush=True)


def why(name: str, refused: Sequence[LabError]) -> str:
    """La riga che dice dove vive il laboratorio, quando non è la prima scelta."""
    if not refused:
        return ""
    where = {"uml": "un kernel suo, User Mode Linux", "qemu": "una macchina virtuale QEMU"}.get(name, name)
    return f"Il laboratorio vive in {where}. {refused[0].message}"

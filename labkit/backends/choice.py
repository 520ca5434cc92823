"""Quale backend: quello chiesto, quello di ``LABKIT_BACKEND``, oppure il primo che va bene qui."""

from __future__ import annotations

import os

from labkit.backends.base import Backend
from labkit.backends.direct import DirectBackend
from labkit.backends.fake import FakeBackend
from labkit.backends.uml import UmlBackend
from labkit.errors import InvalidError

_BACKENDS: dict[str, type[Backend]] = {"direct": DirectBackend, "fake": FakeBackend, "uml": UmlBackend}

#: L'ordine in cui ``auto`` li prova.
AUTO = ("direct",)


def choose(name: str = "auto") -> Backend:
    """Il backend con quel nome; ``auto`` guarda prima ``LABKIT_BACKEND``.

    >>> choose("direct").name
    'direct'
    """
    if name == "auto":
        name = os.environ.get("LABKIT_BACKEND") or "auto"
    if name == "auto":
        name = AUTO[0]
    if name not in _BACKENDS:
        raise InvalidError(f"Il backend «{name}» non c'è: si può scegliere auto, {', '.join(_BACKENDS)}.", "Lab()")
    return _BACKENDS[name]()

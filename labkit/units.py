"""I numeri con l'unità di misura, come li scrive docker: ``64m`` di byte, ``1m30s`` di tempo."""

from __future__ import annotations

import math
import re

from labkit.errors import InvalidError

_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bkmg]?)b?", re.ASCII)
_TIMES = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)(us|µs|ms|s|m|h)", re.ASCII)


def size(value: str | int, what: str = "La misura") -> int:
    """Byte da un numero o da un testo come ``512k``, ``64m``, ``1.5g`` (ogni unità vale 1024 volte la precedente).

    >>> size("64m"), size(4096)
    (67108864, 4096)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise InvalidError(f"{what} «{value}» non è un numero di byte: un numero, e se vuoi b, k, m o g.", "'64m'")
    return int(float(found[1]) * _SIZES[found[2]])


def duration(value: str | float, what: str = "La durata") -> float:
    """Secondi da un numero o da un testo come ``500ms``, ``30s``, ``1m30s``.

    >>> duration("1m30s"), duration("500ms"), duration(2)
    (90.0, 0.5, 2.0)
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    text = value.strip().lower() if isinstance(value, str) else ""
    if _isdecimal(text):
        return float(text)
    if not text or _TIME.sub("", text):
        raise InvalidError(f"{what} «{value}» non è un tempo: un numero con la sua unità (ms, s, m, h).", "'30s'")
    return math.fsum(float(number) * _TIMES[unit] for number, unit in _TIME.findall(text))


def _isdecimal(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdecimal()

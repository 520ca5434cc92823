"""La frequenza del contatore del processore, da dire al kernel di una macchina emulata.

Senza, il kernel la misura da sé contro un temporizzatore emulato, e su una macchina carica un avvio su tre
si ferma lì per sempre («could not calculate TSC khz»).
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

_PROBE = Path(__file__).with_name("probe.py")


@functools.cache
def khz() -> int | None:
    """Il TSC in kHz, ``None`` dove non si può misurare. Costa un decimo di secondo, una volta sola."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", _PROBE, "tsc"], stdin=subprocess.DEVNULL, capture_output=True, timeout=5
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return int(answer["khz"]) if answer.get("ok") else None

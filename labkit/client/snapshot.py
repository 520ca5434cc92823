"""Chi vive in quali namespace, visto da chi usa il laboratorio: una fotografia che in un notebook si disegna."""

from __future__ import annotations

import os
from typing import Any

from labkit.model import NAMESPACES, Snapshot


class NamespaceMap(Snapshot):
    """Una :class:`~labkit.model.Snapshot` che in un notebook si disegna."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.draw.namespaces import mimebundle

        return mimebundle(self)


def own_namespaces() -> dict[str, int]:
    """I namespace di questo processo, per tipo."""
    found = {}
    for kind in NAMESPACES:
        name = "mnt" if kind == "mount" else kind
        try:
            found[kind] = os.stat(f"/proc/self/ns/{name}").st_ino
        except FileNotFoundError:  # an older kernel has no time namespace
            continue
    return found

"""La mappa viva dei namespace: si aggiorna da sola finché qualcuno la guarda e il laboratorio esiste."""

from __future__ import annotations

from typing import Protocol

from labkit.draw import namespaces, sharing
from labkit.model import Snapshot
from labkit.widgets.following import Cells, Following


class HasNamespaces(Protocol):
    """Quello che la mappa chiede a un laboratorio."""

    @property
    def closed(self) -> bool: ...

    def namespaces(self) -> Snapshot: ...


class NamespaceWidget(Following):
    """La mappa con i suoi comandi; vedi :func:`namespace_widget`."""

    def __init__(self, lab: HasNamespaces, interval: float = 1.0) -> None:
        self._lab = lab
        self._snapshot = lab.namespaces()
        self.map = Cells(svg=namespaces.to_svg(self._snapshot, live=True))
        super().__init__(lab, self.map, "Chiede adesso al kernel chi sta in quale namespace", interval)

    def words(self) -> str:
        return namespaces.text(self._snapshot)

    def look(self) -> None:
        snapshot = self._lab.namespaces()
        if snapshot != self._snapshot:
            news = sharing.changes(self._snapshot, snapshot)
            self._snapshot = snapshot
            self.map.svg = namespaces.to_svg(snapshot, live=True)
            self.map.news = news or self.map.news  # a new pid alone is no news for who listens


def namespace_widget(lab: HasNamespaces) -> NamespaceWidget:
    """La mappa di chi condivide quale namespace, nel laboratorio ``lab``, aggiornata ogni secondo.

    Le celle con la stessa lettera nella stessa colonna sono lo stesso namespace (namespaces(7)): passaci
    sopra, o spostati con le frecce, e si accendono insieme.
    """
    return NamespaceWidget(lab)

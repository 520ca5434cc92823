"""La linea viva della vita dei container: cresce mentre i container vivono, dagli eventi veri del laboratorio."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from labkit.draw import lifeline
from labkit.model import Event
from labkit.widgets.following import Cells, Following


class HasEvents(Protocol):
    """Quello che la linea chiede a un laboratorio."""

    @property
    def closed(self) -> bool: ...

    def events(self, *, filters: Mapping[str, Any] | None = None) -> list[Event]: ...


class LifeLine(Following):
    """La linea con i suoi comandi; vedi ``Lab.lifeline``. Senza nomi ci sono tutti i container."""

    def __init__(self, lab: HasEvents, names: Sequence[str] = (), interval: float = 0.5) -> None:
        self._lab = lab
        self._filters = {"container": list(names)} if names else {}
        self._lanes = self._read()
        self.line = Cells(svg=lifeline.to_svg(self._lanes, live=True))
        super().__init__(lab, self.line, "Chiede adesso al laboratorio che cosa è successo", interval)

    def words(self) -> str:
        return lifeline.text(self._lanes)

    def look(self) -> None:
        lanes = self._read()
        if lanes != self._lanes:
            self.line.news = lifeline.news(self._lanes, lanes) or self.line.news
            self._lanes = lanes
            self.line.svg = lifeline.to_svg(lanes, live=True)

    def _read(self) -> tuple[lifeline.Lane, ...]:
        return lifeline.lanes(self._lab.events(filters=self._filters), time.time())

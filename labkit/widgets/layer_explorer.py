"""L'esploratore degli strati di un container, vivo mentre il container scrive; vedi ``Lab.explore``."""

from __future__ import annotations

from typing import Any, Protocol

from labkit.draw import layers
from labkit.errors import NotFoundError
from labkit.layers import LayerView
from labkit.widgets.following import Cells, Following, HasEnd

#: Quante cartelle si tengono aperte: la più vecchia si chiude da sola.
_MOST_OPEN = 32
#: Quanti nomi si mostrano di una cartella.
_NAMES = 60


class HasLayers(Protocol):
    """Quello che l'esploratore chiede a un container."""

    name: str

    def browse(self, *folders: str, limit: int = ...) -> LayerView: ...


class LayerExplorer(Following):
    """La pila, l'albero e i comandi. Una cartella cambiata è aperta; le altre le apre e le chiude chi guarda."""

    def __init__(self, lab: HasEnd, container: HasLayers, interval: float = 0.5) -> None:
        self._container = container
        self.opened: list[str] = []
        self.closed: set[str] = set()
        self._view = container.browse(limit=_NAMES)
        self.tree = Cells(svg=self._draw())
        super().__init__(lab, self.tree, "Rilegge adesso gli strati del container", interval)

    def words(self) -> str:
        return layers.text(self._view, self._container.name)

    def look(self) -> None:
        try:
            view = self._container.browse(*self.opened, limit=_NAMES)
        except NotFoundError:
            self.automatic.value = False  # a container that has been removed does not come back
            raise
        if view != self._view:
            self.tree.news = layers.news(self._view, view) or self.tree.news
            self._view = view
        self.tree.svg = self._draw()

    def toggle(self, path: str) -> None:
        """Apre una cartella chiusa, chiude una cartella aperta."""
        if path in self.opened or (path in self._view.changed and path not in self.closed):
            self.opened = [other for other in self.opened if other != path]
            self.closed.add(path)
            self.refresh()
        else:
            self.closed.discard(path)
            self.show(path)

    def show(self, path: str) -> None:
        """Mostra una cartella intera, anche i nomi che il container non ha cambiato."""
        self.opened = [*(other for other in self.opened if other != path), path][-_MOST_OPEN:]
        self.refresh()

    def _draw(self) -> str:
        return layers.to_svg(self._view, self._container.name, self.opened, self.closed, live=True)

    def _on_message(self, widget: Any, content: Any, buffers: Any) -> None:
        asked = content.get("act") if isinstance(content, dict) else None
        state, _, path = asked.partition(":") if isinstance(asked, str) else ("", "", "")
        if not path.startswith("/"):
            super()._on_message(widget, content, buffers)
            return
        with self._lock:
            (self.show if state == "more" else self.toggle)(path)

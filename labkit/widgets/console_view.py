"""La console viva di una macchina virtuale: le righe compaiono mentre il suo kernel le scrive.

Il filo che legge nasce con il widget e finisce con la macchina, o quando il widget si chiude.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import anywidget
import traitlets

from labkit.draw import console as drawing
from labkit.widgets.shell import STYLE, Shell


class HasText(Protocol):
    """Quello che la vista chiede a una console."""

    def text(self) -> str: ...


class ConsoleScreen(anywidget.AnyWidget):
    """Lo schermo: le righe, e l'ultimo momento per chi ascolta."""

    _esm = Path(__file__).with_suffix(".js")
    _css = STYLE
    html = traitlets.Unicode().tag(sync=True)
    news = traitlets.Unicode().tag(sync=True)


class ConsoleView(Shell):
    """Lo schermo di una macchina; ``alive`` dice se può ancora scrivere."""

    def __init__(self, console: HasText, alive: Callable[[], bool], interval: float = 0.2) -> None:
        self._console = console
        self._alive = alive
        self._text = ""
        self._stop = threading.Event()
        self.screen = ConsoleScreen()
        super().__init__([self.screen])
        self.refresh()
        self._reader = threading.Thread(target=self._follow, args=(interval,), name="console", daemon=True)
        self._reader.start()

    @property
    def following(self) -> bool:
        """Vero se un filo sta leggendo la console."""
        return self._reader.is_alive()

    def words(self) -> str:
        return drawing.words(self._text)

    def refresh(self) -> None:
        """Mostra quello che c'è adesso."""
        text = self._console.text()
        if text != self._text:
            self._text = text
            self.screen.html = drawing.to_html(text)
            self.screen.news = (drawing.moments(text) or [""])[-1]

    def close(self) -> None:
        """Toglie il widget dalla pagina e ferma il suo filo."""
        self._stop.set()
        super().close()

    def _follow(self, interval: float) -> None:
        alive = True
        while alive and not self._stop.wait(interval):
            alive = self._alive()  # before the last look: what a machine says while it dies is worth reading
            self.refresh()

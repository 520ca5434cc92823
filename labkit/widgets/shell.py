"""Quello che hanno in comune i widget con un disegno: il foglio di stile, e un testo che dice tutto.

Un widget è un guscio: i comandi sono di ipywidgets, il disegno lo calcola :mod:`labkit.draw`, il file
JavaScript accanto al modulo lo mostra. Dove un widget non può vivere resta il testo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

STYLE = Path(__file__).with_name("board.css")


class Drawing(anywidget.AnyWidget):
    """Un disegno dentro il browser: quello che si vede, l'ultima notizia, l'ultimo errore in italiano."""

    _esm: str | Path = Path(__file__).with_name("drawing.js")
    _css: str | Path = STYLE
    svg = traitlets.Unicode().tag(sync=True)
    news = traitlets.Unicode().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)


class Shell(ipywidgets.VBox):  # type: ignore[misc]
    """Comandi sopra, disegno sotto; ``repr`` è il testo completo, uguale a ogni esecuzione."""

    def words(self) -> str:
        """Tutto quello che il widget mostra, in parole; ogni widget dice le sue."""
        return type(self).__name__

    def __repr__(self) -> str:
        return self.words()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return mimebundle(self, self.words())


def mimebundle(widget: ipywidgets.Widget, words: str) -> dict[str, Any]:
    """Il contenuto di una cella: ``widget`` dove può vivere, ``words`` dove resta solo il testo."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"text/plain": words, "application/vnd.jupyter.widget-view+json": view}


def button(label: str, tooltip: str) -> Any:
    """Un pulsante largo quanto la sua scritta."""
    return ipywidgets.Button(description=label, tooltip=tooltip, layout=ipywidgets.Layout(width="auto"))


def toggle(label: str, value: bool) -> Any:
    """Una casella con la sua scritta accanto."""
    layout = ipywidgets.Layout(width="auto")
    return ipywidgets.Checkbox(description=label, value=value, indent=False, layout=layout)

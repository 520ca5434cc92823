"""I pulsanti di una domanda: opzioni, «Rispondi», e la correzione letta anche da chi non vede.

Qui c'è solo la parte grafica: che cosa è giusto lo sa chi passa ``on_answer``.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ipywidgets


class HasHtml(Protocol):
    """Un oggetto che sa mostrarsi come HTML."""

    def _repr_html_(self) -> str: ...


def quiz_widget(question: str, answers: Sequence[str], on_answer: Callable[[int], HasHtml]) -> dict[str, Any]:
    """Il contenuto (mimebundle) di una cella con la domanda e i suoi pulsanti, usabili da tastiera.

    ``on_answer`` riceve il numero della risposta scelta (da 0) e dà la correzione da mostrare.
    """
    title = ipywidgets.HTML(f"<b>{html.escape(question)}</b>")
    choices = radio_buttons(answers, "Risposte")
    button = ipywidgets.Button(description="Rispondi", tooltip="Correggi la risposta scelta", disabled=True)
    reply = ipywidgets.HTML()

    def chosen(_: Any) -> None:
        button.disabled = choices.index is None

    def answered(_: Any) -> None:
        if choices.index is not None:
            reply.value = on_answer(choices.index)._repr_html_()

    choices.observe(chosen, names="index")
    button.on_click(answered)
    box = ipywidgets.VBox([title, choices, button, reply])
    return dict(box._repr_mimebundle_())


def radio_buttons(options: Sequence[str], label: str, index: int | None = None) -> Any:
    """Pulsanti di opzione che mostrano per intero anche una risposta lunga; nessuna scelta all'inizio."""
    buttons = ipywidgets.RadioButtons(options=list(options), index=index, description=label)
    buttons.layout.width = "auto"
    buttons.style.description_width = "initial"
    return buttons

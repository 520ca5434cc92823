"""I pulsanti di una domanda: opzioni, «Rispondi», e la correzione letta anche da chi non vede.

Qui c'è solo la parte grafica: che cosa è giusto lo sa chi passa ``on_answer``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from labkit.widgets.choices import Choices


class HasHtml(Protocol):
    """Un oggetto che sa mostrarsi come HTML."""

    def _repr_html_(self) -> str: ...


def quiz_widget(question: str, answers: Sequence[str], on_answer: Callable[[int], HasHtml]) -> Choices:
    """La domanda con le sue risposte e il pulsante per farsi correggere, usabili da tastiera.

    ``on_answer`` riceve il numero della risposta scelta (da 0) e dà la correzione da mostrare.
    """
    board = Choices(question, answers, action="Rispondi")

    def answered(choice: int) -> None:
        board.reply = on_answer(choice)._repr_html_()

    board.on_answer(answered)
    return board

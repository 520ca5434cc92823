"""I pulsanti di una previsione: si sceglie, e la scelta si può cambiare finché non si scopre che cosa succede."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from labkit.widgets.choices import Choices

NOTED = "Previsione annotata. Ora esegui la prossima cella."


def predict_widget(
    question: str, options: Sequence[str], choice: str | None, on_choice: Callable[[str], None]
) -> Choices:
    """La domanda di una previsione con i suoi pulsanti; ``on_choice`` riceve l'opzione scelta.

    Quando la risposta è nota, ``locked = True`` la lascia in vista e non la fa più cambiare.
    """
    index = None if choice is None else list(options).index(choice)
    board = Choices(f"La tua previsione. {question}", options, index)

    def chosen(change: Any) -> None:
        if change["new"] is not None:
            on_choice(options[change["new"]])
            board.reply = NOTED

    def locked(_: Any) -> None:
        board.reply = "Ora si sa com'è andata: la scelta non si cambia più." if board.locked else ""

    board.observe(chosen, names="index")
    board.observe(locked, names="locked")
    return board

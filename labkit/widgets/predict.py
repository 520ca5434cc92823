"""I pulsanti di una previsione: si sceglie, e la scelta resta segnata finché non la si cambia."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from labkit.widgets.quiz import radio_buttons


def predict_widget(
    question: str, options: Sequence[str], choice: str | None, on_choice: Callable[[str], None]
) -> dict[str, Any]:
    """Il contenuto (mimebundle) di una cella che chiede una previsione; ``on_choice`` riceve l'opzione scelta."""
    title = ipywidgets.HTML(f"<b>La tua previsione.</b> {html.escape(question)}")
    buttons = radio_buttons(options, "Opzioni", None if choice is None else list(options).index(choice))
    note = ipywidgets.HTML()

    def chosen(change: Any) -> None:
        if change["new"] is not None:
            on_choice(options[change["new"]])
            note.value = '<div role="status">Previsione annotata. Ora esegui la prossima cella.</div>'

    buttons.observe(chosen, names="index")
    return dict(ipywidgets.VBox([title, buttons, note])._repr_mimebundle_())

"""Le previsioni: prima di un esperimento lo studente dice che cosa succederà.

Una previsione sbagliata non è un errore: si conserva nei progressi e si confronta con quello che
il kernel ha fatto davvero. Come va a finire non si legge nella cella: sta nei dati della lezione.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.course import catalog, progress
from labkit.errors import ConflictError, InvalidError

if TYPE_CHECKING:
    from labkit.widgets.choices import Choices


class Prediction:
    """Una previsione chiesta in una cella; ``choice`` è la risposta data, o ``None``."""

    def __init__(self, key: str, question: str, options: tuple[str, ...]) -> None:
        self.key, self.question, self.options = key, question, options
        self.revealed = False
        self._board: Choices | None = None

    @property
    def choice(self) -> str | None:
        """La risposta data dallo studente, se è ancora fra le opzioni."""
        found = progress.entry("previsioni", self.key).get("risposta")
        return found if found in self.options else None

    def choose(self, choice: str) -> None:
        """Annota la previsione; ``choice`` è una delle opzioni. Dopo ``reveal`` non si cambia più."""
        if self.revealed:
            raise ConflictError(
                "Hai già visto che cosa succede: questa previsione resta com'è.",
                "riesegui la cella con predict(…) per farne un'altra",
            )
        if choice not in self.options:
            raise InvalidError(f"«{choice}» non è fra le opzioni.", f"scegli fra: {', '.join(self.options)}")
        progress.record("previsioni", self.key, risposta=choice)

    def reveal(self, found: str | None = None) -> Comparison:
        """Confronta la previsione con quello che è successo davvero; da qui in poi non si cambia più.

        Per le previsioni del corso non serve altro. Di una previsione tua dì tu che cosa è successo:
        ``previsione.reveal("sì")``.
        """
        happened = catalog.find_outcome(self.key) if found is None else found
        self.revealed = True
        if self._board is not None:
            self._board.locked = True
        return Comparison(self.choice, happened)

    def __repr__(self) -> str:
        return f"Previsione {self.key}: {self.question}\n" + "\n".join(f"  ○ {o}" for o in self.options)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        # Only where there are buttons to show: they are slow to import.
        from labkit.widgets.predict import predict_widget
        from labkit.widgets.shell import mimebundle

        if self._board is None:
            self._board = predict_widget(self.question, self.options, self.choice, self.choose)
            self._board.locked = self.revealed
        return mimebundle(self._board, repr(self))


class Comparison:
    """Quello che si prevedeva accanto a quello che è successo."""

    def __init__(self, predicted: str | None, found: str) -> None:
        self.predicted, self.found = predicted, found

    def __repr__(self) -> str:
        if self.predicted is None:
            return f"È successo questo: {self.found}. Non avevi scelto: la prossima volta prova prima."
        if self.predicted == self.found:
            return f"Previsto: {self.predicted}. È successo proprio questo."
        return f"Previsto: {self.predicted}. È successo invece: {self.found}."

    def _repr_html_(self) -> str:
        return f'<div role="status"><b>{html.escape(repr(self))}</b></div>'


def predict(key: str, question: str, options: Sequence[str], choice: str | None = None) -> Prediction:
    """Chiede una previsione: ``predict("p-03-1", "Quanti processi vedrà ps?", ["uno", "tutti"])``.

    Con ``choice`` la si dà subito, senza pulsanti. La previsione resta nei progressi dello studente.
    """
    texts = (options,) if isinstance(options, str) else tuple(map(str, options))
    if len(set(texts)) < 2 or len(set(texts)) != len(texts):
        raise InvalidError("Una previsione ha bisogno di almeno due opzioni diverse.", 'predict(…, ["sì", "no"])')
    prediction = Prediction(key, question, texts)
    if choice is not None:
        prediction.choose(choice)
    return prediction

"""Gli ambienti di due container, uno accanto all'altro: che cosa è uguale, che cosa no, chi l'ha deciso."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets

from labkit.draw import environment
from labkit.errors import LabError
from labkit.widgets.shell import Drawing, Shell, button, toggle


class HasEnvironment(Protocol):
    """Quello che il confronto chiede a un container."""

    name: str

    def inspect(self) -> Any: ...


class EnvironmentDiff(Shell):
    """Il confronto con i suoi comandi; vedi ``Lab.compare``."""

    def __init__(self, one: HasEnvironment, two: HasEnvironment) -> None:
        self._pair = (one, two)
        self._names = (one.name, two.name)
        self._rows = self._read()
        self.only = toggle("solo le differenze", False)
        self.again = button("Rileggi", "Chiede adesso al laboratorio gli ambienti dei due container")
        self.drawing = Drawing()
        self.only.observe(lambda _: self._draw(), names="value")
        self.again.on_click(lambda _: self.refresh())
        super().__init__([ipywidgets.HBox([self.again, self.only]), self.drawing])
        self._draw()

    def words(self) -> str:
        return environment.text(self._rows, self._names)

    def refresh(self) -> None:
        """Rilegge i due ambienti; se il laboratorio dice di no, la frase compare sotto il disegno."""
        try:
            self._rows = self._read()
        except LabError as error:
            self.drawing.problem = str(error)
        else:
            self.drawing.problem = ""
            self._draw()

    def _read(self) -> list[environment.Row]:
        left, right = (container.inspect().env for container in self._pair)
        return environment.rows(left, right)

    def _draw(self) -> None:
        shown = [row for row in self._rows if row.state != "same" or not self.only.value]
        self.drawing.svg = environment.to_svg(shown, self._names, live=True)
        self.drawing.news = environment.summary(self._rows, self._names)

"""La figura viva della lezione 02: si sposta la dimensione della richiesta, e la macchina la fa davvero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import ipywidgets

from labkit.draw import accesses
from labkit.errors import InvalidError, LabError
from labkit.widgets.shell import Drawing, Shell, button

#: Le dimensioni fra cui si sceglie: tutte stanno in una richiesta sola.
SIZES = tuple(4096 << step for step in range(6))


class HasCounts(Protocol):
    """Quello che la figura chiede a una macchina."""

    def count(self, device: str, size: int, requests: int) -> Any: ...


class AccessMeter(Shell):
    """Un cursore per la dimensione, e una linea per ogni disco; vedi ``EmulatedMachine.meter``."""

    def __init__(self, machine: HasCounts, devices: Sequence[str], sizes: Sequence[int] = SIZES) -> None:
        if len(set(sizes)) < 2:
            raise InvalidError("Per vedere una linea servono almeno due dimensioni.", "macchina.meter()")
        self._machine = machine
        self._devices = tuple(devices)
        self._sizes = tuple(sorted(set(sizes)))
        self.history: dict[int, dict[str, float]] = {}
        self.slider = ipywidgets.SelectionSlider(
            options=[(accesses.size_words(size), size) for size in self._sizes],
            value=self._sizes[0],
            description="Byte di una richiesta",
            continuous_update=False,
            style={"description_width": "initial"},
            layout=ipywidgets.Layout(width="430px"),
        )
        self.every = button("Misurale tutte", "Fa una richiesta di ogni dimensione a ogni disco")
        self.drawing = Drawing()
        self.slider.observe(lambda _: self.measure(), names="value")
        self.every.on_click(lambda _: self.measure_all())
        super().__init__([ipywidgets.HBox([self.slider, self.every]), self.drawing])
        self.measure()

    def words(self) -> str:
        return accesses.text(self.history)

    def measure(self) -> None:
        """Fa davvero una richiesta della dimensione scelta a ogni disco, e ridisegna."""
        self._try(self.slider.value)
        self._draw()

    def measure_all(self) -> None:
        """Lo stesso, per tutte le dimensioni; dopo un errore non insiste."""
        for size in self._sizes:
            if not self._try(size):
                break
        self._draw()

    def _try(self, size: int) -> bool:
        """Conta se non l'ha già fatto; se la macchina dice di no, la frase va sotto il disegno."""
        try:
            if size not in self.history:
                self.history[size] = {d: self._machine.count(d, size, 1).per_request for d in self._devices}
            self.drawing.problem = ""
        except LabError as error:
            self.drawing.problem = str(error)
        return not self.drawing.problem

    def _draw(self) -> None:
        size = self.slider.value
        self.drawing.svg = accesses.to_svg(self.history, self._sizes, size)
        self.drawing.news = accesses.say(size, self.history[size]) if size in self.history else ""

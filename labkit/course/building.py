"""Una costruzione disegnata in una cella, passo per passo, mentre si fa."""

from __future__ import annotations

import sys

from IPython.display import display

from labkit.build.steps import Step
from labkit.draw.build import Row
from labkit.widgets.build_board import BuildBoard


class Drawn:
    """Racconta una costruzione con un :class:`~labkit.widgets.build_board.BuildBoard`."""

    def __init__(self) -> None:
        self._board = BuildBoard()
        display(self._board)  # type: ignore[no-untyped-call]

    def step(self, step: Step) -> None:
        size = step.size if step.layer else None
        self._board.show(Row(step.number, step.text, step.state, step.seconds, size, step.stage))

    def output(self, text: str) -> None:
        """Nel disegno non c'è posto; se il programma fallisce è nell'errore."""

    def warn(self, text: str) -> None:
        print(text, file=sys.stderr)

    def end(self, name: str) -> None:
        """Il disegno dice già com'è andata."""

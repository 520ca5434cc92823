"""Una costruzione raccontata a parole, passo per passo, mentre si fa."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TextIO

from labkit.build.steps import Step

#: Longest instruction shown on a line.
WIDEST = 90


@dataclass
class Printer:
    """Scrive «Passo 3/7: RUN make» e ciò che il programma dice; di un passo già fatto, «dalla cache»."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    _open: bool = False
    _line_open: bool = False
    steps: int = 0
    cached: int = 0

    def step(self, step: Step) -> None:
        if step.state == "running":
            self.out.write(f"Passo {step.number}/{step.total}: {shown(step.text)}")
            self._open = True
        else:
            self.steps += 1
            self.cached += step.state == "cached"
            if self._open or self._line_open:
                self.out.write(" — dalla cache\n" if step.state == "cached" else "\n")
            self._open = self._line_open = False
        self.out.flush()

    def output(self, text: str) -> None:
        if self._open:
            self.out.write("\n")
        self._open = False
        if text:
            self.out.write(text)
            self._line_open = not text.endswith("\n")
            self.out.flush()

    def warn(self, text: str) -> None:
        print(text, file=sys.stderr)

    def end(self, name: str) -> None:
        """L'ultima riga: com'è andata."""
        many = f"{self.steps} passi" if self.steps != 1 else "1 passo"
        self.out.write(f"{name or 'Un’immagine senza nome'}: {many}, {self.cached} dalla cache.\n")
        self.out.flush()


def shown(text: str) -> str:
    """Un'istruzione su una riga, non più lunga di :data:`WIDEST`.

    >>> shown("RUN a   &&  b")
    'RUN a && b'
    """
    line = " ".join(text.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"

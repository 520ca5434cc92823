"""Un passo di una costruzione: che cosa si racconta di lui, chi lo esegue, come si dice che è fallito."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from labkit.build.instructions import Instruction
from labkit.build.lines import ContainerfileError
from labkit.errors import LabError
from labkit.images.image import Image, Layer

State = Literal["running", "done", "cached", "failed"]


@dataclass(frozen=True)
class Step:
    """Un passo, com'è andato fin qui. ``size`` sono i byte dello strato come viaggia; ``seconds`` quanto è durato."""

    number: int
    total: int
    text: str
    stage: str = ""
    state: State = "running"
    seconds: float = 0.0
    size: int = 0
    layer: bool = False


class Watcher(Protocol):
    """Chi guarda la costruzione: la racconta a parole, o la disegna."""

    def step(self, step: Step) -> None:
        """Un passo comincia, o finisce."""

    def output(self, text: str) -> None:
        """Il programma di un RUN ha scritto qualcosa."""


class Failed(Exception):  # noqa: N818  (it is a fact that a workshop tells, not yet an error)
    """Il programma di un RUN è finito male."""

    def __init__(self, exit_code: int, output: str) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
        self.output = output


@dataclass(frozen=True)
class Run:
    """Che cosa deve eseguire un :class:`Workshop`: ``epoch`` è l'ultima ora permessa nello strato."""

    image: Image
    command: tuple[str, ...]
    env: Mapping[str, str]
    network: str
    stdin: bytes | None = None
    epoch: int | None = None


class Workshop(Protocol):
    """Chi sa eseguire un programma sopra un'immagine, e darne le modifiche come strato."""

    def run(self, wanted: Run, say: Callable[[str], None]) -> Layer:
        """Esegue e torna lo strato, già fra le immagini; :class:`Failed` se il programma finisce male."""


class BuildError(LabError):
    """Un passo è fallito: ``exit_code`` e ``output`` sono del suo programma, ``step`` è il passo."""

    code = "build"

    def __init__(self, message: str, remedy: str, step: Step, exit_code: int = 1, output: str = "") -> None:
        super().__init__(message, remedy, exit_code=exit_code)
        self.step = step
        self.output = output

    def __str__(self) -> str:
        return f"{self.message}\nRimedio: {self.remedy}" if self.remedy else self.message


class Telling:
    """Un passo mentre si fa: chi guarda sente l'inizio e la fine, e un errore dice di quale passo è."""

    def __init__(self, watcher: Watcher, step: Step, one: Instruction) -> None:
        self._watcher, self._step, self._one = watcher, step, one
        self._start = time.monotonic()
        self._end: tuple[State, int, bool] = ("done", 0, False)

    def __enter__(self) -> Callable[[bool, int, bool], None]:
        self._watcher.step(self._step)
        return self._finish

    def _finish(self, cached: bool, size: int, layer: bool) -> None:
        self._end = ("cached" if cached else "done", size, layer)

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, tb: object) -> None:
        state, size, layer = self._end
        if problem:
            state = "failed"
        step = replace(self._step, state=state, size=size, layer=layer, seconds=time.monotonic() - self._start)
        self._watcher.step(step)
        where = f"Passo {step.number}/{step.total} ({self._one.line.source.name}, riga {self._one.line.number})"
        if isinstance(problem, Failed):
            last = "".join(f"\n  │ {line}" for line in problem.output.strip().splitlines()[-10:])
            raise BuildError(
                f"{where}: «{step.text}» è finito con il codice {problem.exit_code}.{last}",
                "correggi il comando e ricostruisci: i passi di prima sono già fatti", step, problem.exit_code,
                problem.output,
            ) from None  # fmt: skip
        if isinstance(problem, LabError) and not isinstance(problem, (ContainerfileError, BuildError)):
            raise BuildError(f"{where}: {problem.message}", problem.remedy, step) from problem

"""L'operazione: una sola cosa che cambia la macchina, che sa dirsi, farsi e annullarsi.

Ogni cambiamento del kernel in labkit è un'``Operation``. Un :class:`Plan` è una fila di operazioni
fatta da una descrizione pura: lo stesso oggetto si confronta nei test, si esegue, si percorre passo
per passo, si annulla al contrario quando un passo fallisce, e si disegna.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from labkit.errors import LabError, PlanError
from labkit.kernel.explain import from_os_error
from labkit.model import Step, StepState


@dataclass
class Context:
    """Quello che le operazioni si passano mentre lavorano, nello stesso processo: mai nel piano.

    ``root`` è il descrittore della radice del container, ``mountpoint`` la cartella dove nasce,
    ``netlink`` la presa aperta nel namespace di rete del laboratorio, ``terminal`` apre il terminale del
    container, ``release`` lascia il filo con il supervisore, ``announce`` gli dice il PID del
    processo vero e finisce, ``secrets`` è il memfd dei segreti, ``network`` il namespace di rete di un altro
    container, ``mounts`` ciò che il laboratorio ha aperto da montare, per posto, ``undo`` tiene i valori da rimettere.
    """

    mountpoint: str = ""
    root: int = -1
    netlink: Any = None
    bridge: int = 0
    pid: int = -1
    pidfd: int = -1
    userxattr: bool = True
    dev_template: str = ""
    terminal: Callable[[tuple[int, ...]], None] | None = None
    release: Callable[[], None] = lambda: None
    announce: Callable[[int], None] = lambda pid: None
    secrets: int = -1
    mounts: dict[str, Any] = field(default_factory=dict)
    network: int = -1
    undo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """Una cosa sola. Le sottoclassi dicono ``syscall``, ``man`` e come si fa, si racconta, si annulla.

    ``lasting`` è di ciò che dura quanto il container e non quanto il suo programma: ripartendo lo si ritrova.
    """

    syscall: ClassVar[str] = ""
    man: ClassVar[str] = ""
    where: ClassVar[Literal["lab", "container"]] = "container"
    reversible: ClassVar[bool] = True
    lasting: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return type(self).__name__

    def describe(self) -> str:
        """Una riga in italiano: che cosa farà."""
        raise PlanError(f"L'operazione {self.name} non sa raccontarsi.")

    def execute(self, context: Context) -> None:
        """Lo fa davvero."""
        raise PlanError(f"L'operazione {self.name} non sa farsi.")

    def undo(self, context: Context) -> None:
        """Rimette com'era prima di :meth:`execute`."""
        raise PlanError(
            f"Il passo «{self.describe()}» non si può annullare da solo: il kernel non lo permette.",
            "plan.rollback() annulla tutto",
        )


class Plan:
    """Operazioni in fila, con a che punto siamo e quanto è costata ciascuna.

    Invariante: le operazioni prima di ``position`` sono fatte, le altre no. Se un passo fallisce il
    piano resta al passo di prima e l'errore dice quale.
    """

    def __init__(self, operations: tuple[Operation, ...], first_index: int = 1) -> None:
        self.operations = operations
        self.position = 0
        self.first_index = first_index
        self._states: list[StepState] = ["todo"] * len(operations)
        self._microseconds: list[float | None] = [None] * len(operations)
        self._errors = [""] * len(operations)
        self._ahead = [False] * len(operations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.operations == other.operations

    __hash__ = None  # type: ignore[assignment]

    def append(self, operation: Operation) -> None:
        """Aggiunge un'operazione in fondo a un piano già tutto fatto."""
        self.operations = (*self.operations[: self.position], operation)
        rest = slice(self.position, None)
        self._states[rest], self._microseconds[rest], self._errors[rest] = ["todo"], [None], [""]
        self._ahead[rest] = [False]

    def step(self, context: Context) -> Step:
        """Fa la prossima operazione e torna com'è andata."""
        self.advance(context)
        return self.describe(self.position - 1)

    def advance(self, context: Context) -> None:
        """Fa la prossima operazione senza raccontarla: chi ha fretta non paga la frase."""
        if self.position == len(self.operations):
            raise PlanError("Il piano è finito: non ci sono altri passi.")
        index = self.position
        started = time.perf_counter_ns()
        try:
            self.operations[index].execute(context)
        except OSError as problem:
            syscall = self.operations[index].syscall
            error = from_os_error(problem, syscall if syscall.isidentifier() else "")
            self._fail(index, error)
            raise error from None
        except LabError as error:
            self._fail(index, error)
            raise
        self._microseconds[index] = (time.perf_counter_ns() - started) / 1000
        self._ahead[index] = False
        self._states[index] = "done"
        self._errors[index] = ""
        self.position += 1

    def inherit(self, other: Plan) -> None:
        """Fa suo quello che ``other`` ha fatto prima del tempo: le stesse prime operazioni, con il loro costo."""
        done = other.position
        if self.operations[:done] != other.operations[:done]:
            raise PlanError("Quello che è già stato fatto non è l'inizio di questo piano.")
        self.position = done
        self._states[:done] = other._states[:done]
        self._microseconds[:done] = other._microseconds[:done]
        self._ahead[:done] = [True] * done

    def proceed(self, operations: tuple[Operation, ...]) -> None:
        """Quello che è stato fatto, tutto, lo era prima del tempo: il piano va avanti con altre ``operations``."""
        count = len(operations)
        self._ahead = [True] * self.position + [False] * count
        self.operations += operations
        self._states += ["todo"] * count
        self._microseconds += [None] * count
        self._errors += [""] * count

    def lasting(self) -> Plan:
        """L'inizio del piano, già fatto, che resta anche quando il programma è finito."""
        done = list(itertools.takewhile(lambda operation: operation.lasting, self.operations[: self.position]))
        kept = Plan(tuple(done), self.first_index)
        kept.position = len(done)
        kept._states = self._states[: len(done)]
        kept._microseconds = self._microseconds[: len(done)]
        return kept

    def charge(self, microseconds: float) -> None:
        """L'ultima operazione era stata fatta prima del tempo: segna quello che era costata davvero."""
        self._microseconds[self.position - 1] = microseconds
        self._ahead[self.position - 1] = True

    @property
    def ahead(self) -> int:
        """Quante operazioni, dall'inizio, erano già fatte prima che qualcuno le chiedesse."""
        return sum(self._ahead)

    def _fail(self, index: int, error: LabError) -> None:
        self._states[index] = "failed"
        self._errors[index] = error.message

    def undo(self, context: Context) -> Step:
        """Annulla l'ultima operazione fatta."""
        if self.position == 0:
            raise PlanError("Nessun passo è stato fatto: non c'è niente da annullare.", "plan.step()")
        index = self.position - 1
        self.operations[index].undo(context)
        self.position = index
        self._states[index] = "undone"
        return self.describe(index)

    def run(self, context: Context) -> None:
        """Fa tutte le operazioni che restano; se una fallisce annulla quelle già fatte, al contrario."""
        try:
            while self.position < len(self.operations):
                self.advance(context)
        except LabError:
            self.rollback(context)
            raise

    def rollback(self, context: Context) -> None:
        """Annulla al contrario tutto quello che si può annullare."""
        while self.position:
            self.position -= 1
            operation = self.operations[self.position]
            if operation.reversible:
                operation.undo(context)
                self._states[self.position] = "undone"

    def describe(self, index: int) -> Step:
        """Il passo ``index`` come dato da mostrare."""
        operation = self.operations[index]
        return Step(
            index=self.first_index + index,
            name=operation.name,
            description=operation.describe(),
            syscall=operation.syscall,
            man=operation.man,
            where=operation.where,
            reversible=operation.reversible,
            state=self._states[index],
            microseconds=self._microseconds[index],
            error=self._errors[index],
            ahead=self._ahead[index],
        )

    def times(self) -> list[float | None]:
        """Quanto è costata ogni operazione, in microsecondi; ``None`` se non è fatta."""
        return list(self._microseconds)

    def steps(self) -> tuple[Step, ...]:
        """Tutti i passi, fatti e da fare."""
        return tuple(self.describe(index) for index in range(len(self.operations)))

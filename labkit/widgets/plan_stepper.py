"""Il piano di un container da percorrere con i pulsanti: avanti, indietro, tutto, annulla tutto.

I pulsanti chiamano il piano vero: ogni passo fatto qui è fatto sul kernel. Un errore diventa una frase
sotto il disegno, mai un traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import ipywidgets

from labkit.draw import plan as drawing
from labkit.errors import LabError
from labkit.model import Step
from labkit.widgets.shell import Drawing, Shell, button


class HasSteps(Protocol):
    """Quello che il widget chiede a un piano."""

    @property
    def steps(self) -> tuple[Step, ...]: ...

    def step(self) -> Step: ...

    def undo(self) -> Step: ...

    def run(self) -> Any: ...

    def rollback(self) -> object: ...


class PlanStepper(Drawing):
    """Il disegno: mette in vista il passo appena cambiato."""

    _esm = Path(__file__).with_suffix(".js")


class PlanWidget(Shell):
    """Il piano con i suoi pulsanti; vedi :func:`plan_widget`."""

    def __init__(self, plan: HasSteps) -> None:
        self._plan = plan
        self._ended = False
        self._steps = plan.steps
        self.drawing = PlanStepper()
        self.step_button = button("Passo ▶", "Fa davvero il prossimo passo")
        self.undo_button = button("Indietro ◀", "Annulla davvero l'ultimo passo fatto")
        self.run_button = button("Tutto ▶▶", "Fa tutti i passi che restano")
        self.rollback_button = button("Annulla tutto", "Annulla tutti i passi, dall'ultimo al primo")
        actions = {
            self.step_button: self._step,
            self.undo_button: self._undo,
            self.run_button: self._run,
            self.rollback_button: self._rollback,
        }
        for control, action in actions.items():
            control.on_click(lambda pressed, action=action: self._act(pressed, action))
        super().__init__([ipywidgets.HBox(list(actions)), self.drawing])
        self.refresh()

    def words(self) -> str:
        self._try(self.refresh)
        return drawing.text(self._steps)

    def refresh(self) -> None:
        """Ridisegna il piano com'è adesso, anche se qualcuno l'ha mosso da una cella."""
        self._steps = steps = self._plan.steps
        self.drawing.svg = drawing.to_svg(steps, name=self._name("Piano"), live=True)
        done = sum(step.state == "done" for step in steps)
        self.step_button.disabled = self.run_button.disabled = self._ended or done == len(steps)
        self.undo_button.disabled = self.rollback_button.disabled = self._ended or done == 0

    def _act(self, pressed: Any, action: Callable[[], str]) -> None:
        if pressed.disabled:  # a second click that was already on its way
            return
        self.drawing.problem = self.drawing.news = ""
        self.drawing.news = self._try(action) or ""
        self._try(self.refresh)

    def _try(self, action: Callable[[], str | None]) -> str | None:
        """Fa ``action``; se il laboratorio dice di no, la sua frase va sotto il disegno."""
        try:
            return action()
        except LabError as error:
            self.drawing.problem = str(error)
            return None

    def _step(self) -> str:
        return drawing.say(self._plan.step())

    def _undo(self) -> str:
        return drawing.say(self._plan.undo())

    def _run(self) -> str:
        self._plan.run()
        return f"{self._name('Il container')} è nato: {drawing.summary(self._plan.steps)}."

    def _rollback(self) -> str:
        self._plan.rollback()
        self._ended = True
        return "Annullato tutto: di questo piano non resta niente. Per ricominciare serve un altro lab.plan(...)."

    def _name(self, what: str) -> str:
        name = getattr(self._plan, "name", "")
        return f"{what} «{name}»" if name else what


def plan_widget(plan: HasSteps) -> PlanWidget:
    """I pulsanti per fare e annullare, uno per volta, i passi di ``plan`` (quello di ``lab.plan(...)``)."""
    return PlanWidget(plan)

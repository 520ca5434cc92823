"""Un container fatto passo per passo: ogni passo è vero, e quasi tutti si possono annullare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.client.container import Container
from labkit.errors import NotFoundError
from labkit.model import Step

if TYPE_CHECKING:
    from labkit.client.lab import Lab


class Plan:
    """Il piano di un container: :attr:`steps` lo racconta, :meth:`step` fa il prossimo passo davvero."""

    def __init__(self, lab: Lab, name: str, steps: Sequence[dict[str, Any]]) -> None:
        self.lab = lab
        self.name = name
        self._steps = tuple(Step.from_json(step) for step in steps)

    @property
    def steps(self) -> tuple[Step, ...]:
        """I passi, con lo stato e i microsecondi di quelli fatti."""
        if not self.lab.closed:
            try:
                self._steps = tuple(Step.from_json(s) for s in self.lab.wire.call("plan_steps", name=self.name))
            except NotFoundError:
                pass  # rolled back or removed: what was last seen is what there is to tell
        return self._steps

    @property
    def done(self) -> bool:
        """Se tutti i passi sono fatti: il container gira."""
        return all(step.state == "done" for step in self.steps)

    def step(self) -> Step:
        """Fa il prossimo passo e lo racconta; alza :class:`~labkit.errors.PlanError` se sono finiti."""
        return Step.from_json(self.lab.wire.call("plan_step", name=self.name))

    def undo(self) -> Step:
        """Annulla l'ultimo passo, se il kernel lo permette."""
        return Step.from_json(self.lab.wire.call("plan_undo", name=self.name))

    def run(self) -> Container:
        """Fa tutti i passi che restano e torna il container."""
        info = self.lab.wire.call("plan_run", name=self.name)
        return Container(self.lab, info["name"], info["id"])

    def rollback(self) -> None:
        """Annulla tutto: il processo finisce, lo strato sparisce, il nome torna libero."""
        steps = self.steps
        try:
            self.lab.wire.call("rm", name=self.name, force=True)
        except NotFoundError:
            pass  # already undone: doing it twice does no harm
        self._steps = tuple(_undone(step) for step in steps)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from labkit.draw.plan import mimebundle

        return mimebundle(self.steps, name=f"Piano di «{self.name}»")

    def __repr__(self) -> str:
        steps = self.steps
        return f"Plan({self.name!r}, {sum(step.state == 'done' for step in steps)} passi su {len(steps)})"


def _undone(step: Step) -> Step:
    return replace(step, state="undone") if step.state == "done" else step

"""Una promessa si misura più volte e vale la migliore: la macchina può essere occupata da altri.

Quanto si arriva vicini lo dice la tabella, e su una macchina che non fa altro ``make bench``. Qui una prova si ferma
solo se una promessa è mancata di oltre metà: su due processori in prestito un decimo in più non è un guasto.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from bench.samples import Goal
from bench.tables import goals_table

#: By how much a shared machine may miss a promise before it is a fault of ours.
SLACK = 1.5


def best_of(attempts: int, measure: Callable[[], list[Goal]]) -> list[Goal]:
    """Di ogni obiettivo la misura migliore; si smette appena sono raggiunti tutti."""
    best: dict[str, Goal] = {}
    for _ in range(attempts):
        for goal in measure():
            if goal.measured is not None and (goal.title not in best or goal.measured < best[goal.title].measured):
                best[goal.title] = goal
        if all(goal.ok for goal in best.values()):
            break
    return list(best.values())


def stretched(goals: list[Goal]) -> list[Goal]:
    """Gli stessi obiettivi, allungati se si è in coda: in otto su due processori, ognuno ne ha un quarto."""
    queue = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return [replace(goal, limit=goal.limit * queue) if goal.unit == "ms" else goal for goal in goals]


def expect(goals: list[Goal]) -> None:
    print(goals_table(goals))
    missed = [goal for goal in goals if goal.measured is None or goal.measured > goal.limit * SLACK]
    assert not missed, "obiettivi mancati:\n" + goals_table(missed)

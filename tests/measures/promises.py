"""Una promessa si misura più volte e vale la migliore: la macchina può essere occupata da altri."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from bench.samples import Goal
from bench.tables import goals_table


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
    missed = [goal for goal in goals if not goal.ok]
    assert not missed, "obiettivi mancati:\n" + goals_table(missed)

"""What was measured, and what it says: samples, their summary, and the goals they must meet.

The two invariants: times are milliseconds everywhere, and a goal compares only numbers of one run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

#: Seconds between two starts: enough for a laboratory to have its next containers ready. So rests the rested C limit.
PREPARATION = 0.03


class Sample(NamedTuple):
    """One start: milliseconds from the request to the first instruction, and to the end being seen."""

    first: float
    seen: float


def percentile(values: Iterable[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of the values do not exceed, by the nearest-rank rule.

    >>> percentile([1, 2, 3, 4], 0.5), percentile([1, 2, 3, 4], 0.95)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


@dataclass(frozen=True)
class Summary:
    """The distribution of the starts of one competitor."""

    count: int
    minimum: float
    median: float
    p95: float
    seen_median: float
    seen_p95: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Summary:
        first, seen = [s.first for s in samples], [s.seen for s in samples]
        return cls(
            count=len(samples),
            minimum=min(first),
            median=median(first),
            p95=percentile(first, 0.95),
            seen_median=median(seen),
            seen_p95=percentile(seen, 0.95),
        )


@dataclass(frozen=True)
class Goal:
    """A promise: ``measured`` must not exceed ``limit``, which is infinite for what is only shown.

    ``measured`` is None when a side is missing here.
    """

    title: str
    limit: float
    measured: float | None
    unit: str = "×"

    @property
    def ok(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.limit


#: Promised ratios of the first instruction: ours, theirs, the largest ratio allowed. Warm unless the name says cold.
RATIOS = (
    ("labkit-cold-none", "crun", 1.0),
    ("labkit-bridge", "crun", 1.0),
    ("labkit-cold-bridge", "runc", 0.33),
    ("labkit-cold-bridge", "docker", 1 / 20),
    ("labkit-none", "docker", 1 / 100),
    ("labkit-bridge", "docker", 1 / 100),
    ("labkit-none", "limit-none", 2.5),
    ("labkit-bridge", "limit-bridge", 2.5),
)

#: Where we want to be and are not yet: the bench shows them, no test asks for them.
AIMS = (
    ("labkit-cold-bridge", "crun", 1.0),
    ("labkit-none", "limit-none", 0.6),
    ("labkit-bridge", "limit-bridge", 0.6),
    ("labkit-bridge", "limit-rested", 0.6),
)


def ratio_goals(summaries: Mapping[str, Summary], ratios: tuple[tuple[str, str, float], ...] = RATIOS) -> list[Goal]:
    """The goals on ratios of one run, those that cannot be measured here included."""
    goals = []
    for ours, theirs, limit in ratios:
        both = ours in summaries and theirs in summaries
        measured = summaries[ours].median / summaries[theirs].median if both else None
        goals.append(Goal(f"{ours} / {theirs}", limit, measured))
    return goals


def steady_goals(summaries: Mapping[str, Summary]) -> list[Goal]:
    """How far the slowest warm starts are from the usual ones: only a quiet machine can tell."""
    goals = []
    for name in ("labkit-none", "labkit-bridge"):
        steady = summaries[name].p95 / summaries[name].median if name in summaries else None
        goals.append(Goal(f"{name}: p95 / mediana", 3, steady))
    return goals

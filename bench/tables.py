"""What the reader of a bench sees: the table of the times, the list of the goals, in Italian."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.samples import Goal, Summary

_MARKS = {True: "✔", False: "✘", None: "–"}


def number(value: float, digits: int = 2) -> str:
    """A number with the Italian decimal comma.

    >>> number(3.14159)
    '3,14'
    """
    return f"{value:.{digits}f}".replace(".", ",")


def times_table(summaries: Mapping[str, Summary], titles: Mapping[str, str], reference: str) -> str:
    """One row for each competitor, fastest first; the last column is the ratio to ``reference``."""
    head = ("", "prove", "minimo", "mediana", "p95", "fine: mediana", "p95", "× labkit")
    rows: list[tuple[str, ...]] = [head]
    base = summaries[reference].median if reference in summaries else None
    for name, s in sorted(summaries.items(), key=lambda item: item[1].median):
        times = [number(v) for v in (s.minimum, s.median, s.p95, s.seen_median, s.seen_p95)]
        rows.append((titles[name], str(s.count), *times, number(s.median / base) if base else ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def goals_table(goals: Sequence[Goal]) -> str:
    """One line for each goal, with its mark; a goal that cannot be measured here is «–»."""
    width = max(len(goal.title) for goal in goals)
    return "\n".join(f"{_MARKS[g.ok]} {g.title.ljust(width)}  {_measured(g)}" for g in goals)


def _measured(goal: Goal) -> str:
    if goal.limit == math.inf and goal.measured is not None:  # shown, not promised
        return f"{number(goal.measured)} {goal.unit}"
    digits = 3 if goal.limit < 0.1 else 2
    limit = f"al più {number(goal.limit, digits)} {goal.unit}"
    return f"{limit}, qui non misurato" if goal.measured is None else f"{number(goal.measured, digits)}  ({limit})"

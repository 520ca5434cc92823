"""One interleaved run: in every round each competitor takes its turn, in an order drawn by lot.

A busy machine slows everybody alike, so what is compared is always of the same minute. A competitor
that fails leaves the run with its reason; the others go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Protocol

from bench.peers import NotHereError
from bench.samples import Sample, Summary


class Competitor(Protocol):
    """Something that can start the same container many times."""

    name: str
    title: str
    slow: bool

    def sample(self, count: int) -> list[Sample]: ...

    def close(self) -> None: ...


def run_rounds(
    competitors: Iterable[Competitor], rounds: int, batch: int, seed: int, report: Callable[[int, str], None]
) -> tuple[dict[str, Summary], dict[str, str]]:
    """Measure; return the summaries by name, and why a competitor is missing from them."""
    lots = random.Random(seed)
    running = list(competitors)
    samples: dict[str, list[Sample]] = {c.name: [] for c in running}
    missing: dict[str, str] = {}
    for number in range(rounds + 1):
        lots.shuffle(running)
        for competitor in list(running):
            report(number, competitor.title)
            try:
                taken = competitor.sample(1 if competitor.slow else batch)
            except NotHereError as reason:
                missing[competitor.name] = str(reason)
                running.remove(competitor)
                continue
            if number > 0:  # round 0 warms the caches of everybody
                samples[competitor.name] += taken
    return {name: Summary.of(taken) for name, taken in samples.items() if taken and name not in missing}, missing

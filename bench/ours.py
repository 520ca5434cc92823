"""labkit as a competitor, and what only labkit promises: a laboratory ready soon, and a crowd in it.

The clock starts at the client's call: the frame to the supervisor and the answer back are inside,
as the command line is inside for the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.samples import Goal, Sample
from bench.workshop import Workshop
from labkit import Lab

#: Seconds that are enough for a laboratory to have its next containers ready.
_PREPARATION = 0.05

TITLES = {"none": "labkit, senza rete", "bridge": "labkit, con veth"}


class Ours:
    """Containers of one open laboratory, with or without a network."""

    def __init__(self, workshop: Workshop, network: str, lab: Lab) -> None:
        self.name = f"labkit-{network}"
        self.title = TITLES[network]
        self.slow = False
        self._lab, self._network, self._rootfs = lab, network, str(workshop.rootfs)

    def sample(self, count: int) -> list[Sample]:
        samples = [self._one() for _ in range(count)]
        # The laboratory prepares its next containers now, and not while the next competitor is measured.
        time.sleep(_PREPARATION)
        return samples

    def _one(self) -> Sample:
        asked = time.monotonic_ns()
        result = self._lab.run(self._rootfs, ["/bin/first"], network=self._network, quiet=True)
        seen = time.monotonic_ns()
        return Sample((int(result.output) - asked) / 1e6, (seen - asked) / 1e6)

    def close(self) -> None:
        """The laboratory belongs to who opened it."""


def ready_goal(times: int) -> Goal:
    """How long a client waits for a laboratory: from the call to the first moment it can be used."""
    waits = []
    for _ in range(times):
        asked = time.monotonic()
        lab = Lab()
        waits.append((time.monotonic() - asked) * 1000)
        lab.close()
    return Goal("laboratorio pronto (mediana)", 150, median(waits), "ms")


def crowd_goals(rootfs: Path, count: int, group: int = 20) -> list[Goal]:
    """Start ``count`` containers that stay alive, then end the laboratory."""
    lab = Lab()
    waits = []
    begin = time.monotonic()
    for _ in range(count):
        asked = time.monotonic()
        lab.run(str(rootfs), ["/bin/stay"], detach=True)
        waits.append((time.monotonic() - asked) * 1000)
    each = (time.monotonic() - begin) * 1000 / count
    alive = sum(c.status == "running" for c in lab.ps())
    if alive != count:
        raise RuntimeError(f"dei {count} container ne vivono {alive}")
    teardown = _milliseconds(lab.close)
    growth = median(waits[-group:]) / median(waits[:group])
    return [
        Goal(f"{count} container vivi: tempo per ognuno", 10, each, "ms"),
        Goal(f"gli ultimi {group} avvii / i primi {group}", 2, growth),
        Goal(f"fine del laboratorio con {count} container", 500, teardown, "ms"),
    ]


def _milliseconds(action: Callable[[], object]) -> float:
    begin = time.monotonic()
    action()
    return (time.monotonic() - begin) * 1000

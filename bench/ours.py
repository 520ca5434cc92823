"""labkit as a competitor, and what only labkit promises: a laboratory ready soon, and a crowd in it.

The clock starts at the client's call: the frame to the supervisor and the answer back are inside,
as the command line is inside for the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.peers import NotHereError
from bench.samples import PREPARATION, Goal, Sample
from bench.workshop import Workshop
from labkit import Lab

#: How many starts may be tried for one that is warm, or cold, as it is to be.
_ATTEMPTS = 20

TITLES = {
    "labkit-none": "labkit a caldo, senza rete",
    "labkit-bridge": "labkit a caldo, con veth",
    "labkit-cold-none": "labkit a freddo, senza rete",
    "labkit-cold-bridge": "labkit a freddo, con veth",
}


class Ours:
    """Containers of one open laboratory, with or without a network, each ready before it is asked for or not at all."""

    def __init__(self, workshop: Workshop, name: str) -> None:
        self.name, self.title, self.slow = name, TITLES[name], False
        self._network, self._rootfs = name.rpartition("-")[2], str(workshop.rootfs)
        self._warm = "cold" not in name
        with _environment("LABKIT_WARM", "" if self._warm else "0"):
            self._lab = Lab()

    def sample(self, count: int) -> list[Sample]:
        self._one()  # the first after the others' turn finds the processor's caches cold: skipped, as the C limit's is
        samples: list[Sample] = []
        for _ in range(_ATTEMPTS * count):
            sample, warm = self._one()
            if warm == self._warm:  # on a busy machine the next one may not be ready yet
                samples.append(sample)
            if len(samples) == count:
                return samples
        raise NotHereError(f"{self.title}: non parte mai così")

    def _one(self) -> tuple[Sample, bool]:
        asked = time.monotonic_ns()
        channel = self._lab.open_run(self._rootfs, ["/bin/first"], network=self._network, remove=True)
        output = b"".join(data for _, data in channel)
        seen = time.monotonic_ns()
        # The laboratory prepares its next containers now, and not while it or another competitor is measured.
        time.sleep(PREPARATION)
        return Sample((int(output) - asked) / 1e6, (seen - asked) / 1e6), channel.result["info"]["warm"]

    def close(self) -> None:
        self._lab.close()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


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

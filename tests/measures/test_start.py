"""I rapporti che devono valere sempre: labkit accanto al limite fisico e agli altri, in un giro solo.

È la versione breve di ``bench/start.py``. La macchina può essere occupata: contano solo i rapporti fra
le mediane di uno stesso giro alternato, e ciascuno deve tornare in almeno uno di tre giri. Le promesse in
millisecondi valgono per una macchina che non fa altro: se è occupata si allungano quanto la sua coda.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.ours import crowd_goals, ready_goal
from bench.rounds import run_rounds
from bench.samples import Goal, ratio_goals
from bench.start import arena
from bench.workshop import Workshop
from tests.measures.promises import best_of, expect, stretched

pytestmark = [
    pytest.mark.bench,
    pytest.mark.serial,
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="serve un compilatore C: make bench"),
]

ATTEMPTS = 3


def test_a_container_starts_close_to_the_physical_limit_and_before_the_others() -> None:
    peers = [name for name in ("bwrap", "crun", "runc") if shutil.which(name)]
    with arena(peers) as (_, competitors, missing):

        def measure() -> list[Goal]:
            summaries, failed = run_rounds(competitors, 20, 1, 1, lambda number, title: None)
            assert not failed, failed
            return ratio_goals(summaries)

        goals = best_of(ATTEMPTS, measure)
    assert {"labkit-none / limit-none", "labkit-bridge / limit-bridge"} <= {goal.title for goal in goals}
    if os.geteuid() == 0:
        assert not set(missing) & set(peers), missing
    expect(goals)


def test_a_lab_is_ready_soon() -> None:
    expect(best_of(ATTEMPTS, lambda: stretched([ready_goal(7)])))


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    place = Workshop()
    yield place
    place.close()


def test_two_hundred_containers_live_together_and_end_together(workshop: Workshop) -> None:
    expect(best_of(ATTEMPTS, lambda: stretched(crowd_goals(workshop.rootfs, 200))))

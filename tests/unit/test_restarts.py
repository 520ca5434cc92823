"""La regola di riavvio: chi riparte, dopo quanto, fino a quando."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.policy import RestartPolicy
from labkit.supervisor.restarts import FIRST, GOOD_RUN, LONGEST, Restarts


def test_the_wait_doubles_up_to_a_minute() -> None:
    restarts = Restarts(RestartPolicy("always"))
    waits = [restarts.wait(0, 0.1) for _ in range(12)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-2:] == [LONGEST, LONGEST]
    assert restarts.count == 12


def test_a_good_run_makes_the_wait_short_again() -> None:
    restarts = Restarts(RestartPolicy("unless-stopped"))
    for _ in range(5):
        restarts.wait(1, 1)
    assert restarts.wait(1, GOOD_RUN) == FIRST
    assert restarts.wait(1, 1) == 2 * FIRST


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, True), (137, True)])
def test_on_failure_looks_at_the_exit_code(code: int, again: bool) -> None:
    assert (Restarts(RestartPolicy("on-failure")).wait(code, 1) is not None) == again


@given(st.integers(1, 20), st.lists(st.floats(0, 20), min_size=30, max_size=30))
def test_no_one_tries_more_than_it_was_told(most: int, runs: list[float]) -> None:
    restarts = Restarts(RestartPolicy("on-failure", most))
    waits = [restarts.wait(1, seconds) for seconds in runs]
    assert sum(wait is not None for wait in waits) == restarts.count == most
    restarts.reset()
    assert restarts.wait(1, 1) == FIRST


def test_no_is_no() -> None:
    assert Restarts(RestartPolicy()).wait(1, 1) is None

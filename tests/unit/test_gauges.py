"""Il cruscotto: i segni dicono quando un limite è scattato, i cursori cambiano limiti veri, il filo si ferma."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import gauges
from labkit.draw.words import THIN
from labkit.errors import KernelError, LabClosedError
from labkit.limits import Limits, Stats
from labkit.model import ContainerInfo
from labkit.widgets.gauges import Gauges

MIB = 1 << 20
LIMITS = Limits(memory=32 * MIB, cpus=0.5, pids_limit=10)


def stats(second: float, **values: Any) -> Stats:
    return Stats("cavia", second, **{"memory": 8 * MIB, "cpu_seconds": second / 4, "pids": 2, **values})


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_every_row_says_what_is_used_and_of_how_much() -> None:
    words = words_of(gauges.to_svg("cavia", [stats(1.0), stats(2.0)], LIMITS))
    assert {"memoria", "8 MiB su 32 MiB", f"25{THIN}% su 50{THIN}%", "processi", "2 su 10"} <= set(words)


def test_without_limits_nothing_is_said_about_them() -> None:
    words = words_of(gauges.to_svg("cavia", [stats(1.0), stats(2.0)], Limits()))
    assert {"8 MiB", f"25{THIN}%", "2"} <= set(words)
    assert "limite" not in words


def test_a_limit_that_bites_leaves_a_mark_in_words_too() -> None:
    history = [
        stats(1.0, oom_kills=0, throttled_periods=0, pids_refused=0),
        stats(2.0, oom_kills=1, throttled_periods=5, pids_refused=0),
        stats(3.0, oom_kills=1, throttled_periods=9, pids_refused=3),
    ]
    words = words_of(gauges.to_svg("cavia", history, LIMITS))
    assert {"▮ ucciso 1 volta", "▮ fermato 2 volte", "▮ negato 1 volta"} <= set(words)
    assert gauges.say(history[:2], LIMITS) == "La memoria è finita: 1 processo ucciso."
    assert gauges.say(history, LIMITS) == "Troppi processi: al numero 11 il kernel ha detto di no."
    assert gauges.say(history[:1], LIMITS) == ""


def test_in_words_there_are_limits_and_no_number_that_changes() -> None:
    assert gauges.text("cavia", LIMITS).splitlines()[1:] == [
        "  memoria   32 MiB",
        "  CPU       0,5",
        "  processi  10",
    ]
    assert gauges.text("cavia", Limits()).count("senza limite") == 3


NUMBERS = st.none() | st.integers(0, 1 << 40)


@given(
    st.text(max_size=10),
    st.lists(st.builds(Stats, st.just("x"), st.floats(0, 1e6), NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=70),
    st.sampled_from([LIMITS, Limits(), Limits(memory=6 * MIB)]),
)
def test_any_account_gives_well_formed_xml(name: str, history: list[Stats], limits: Limits) -> None:
    ElementTree.fromstring(gauges.to_svg(name, history, limits, "finito (137)"))


class HandMadeContainer:
    """Un container di soli dati; ``error`` è quello che risponde a chi cambia un limite."""

    name = "cavia"

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.state = "running"
        self.error: Exception | None = None
        self.closed = False
        self.asked = 0

    def inspect(self) -> ContainerInfo:
        if self.closed:
            raise LabClosedError("Il laboratorio è finito.", "lab = Lab()")
        code = 137 if self.state == "exited" else None
        return ContainerInfo("1", "cavia", "busybox", ("x",), self.state, exit_code=code, limits=self.limits)  # type: ignore[arg-type]

    def stats(self) -> Stats:
        self.asked += 1
        return stats(float(self.asked))

    def update(self, **limits: Any) -> Limits:
        if self.error:
            raise self.error
        self.limits = self.limits.changed(limits)
        return self.limits


def eventually(check: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def container() -> HandMadeContainer:
    return HandMadeContainer()


def test_the_sliders_start_from_the_limits_and_change_them(container: HandMadeContainer) -> None:
    board = Gauges(container)
    assert (board.memory.value, board.cpus.value, board.pids.value) == (32 * MIB, 0.5, 10)
    board.memory.value, board.cpus.value, board.pids.value = 16 * MIB, 0.1, 0
    assert container.limits == Limits(memory=16 * MIB, cpus=0.1, pids_limit=0)
    assert "16 MiB" in repr(board)
    board.close()


@pytest.mark.parametrize(("swap", "kept"), [(48 * MIB, 0), (64 * MIB, 16 * MIB), (0, None), (-1, None)])
def test_the_memory_slider_leaves_the_swap_as_it_was(swap: int, kept: int | None) -> None:
    container = HandMadeContainer(Limits(memory=48 * MIB, memory_swap=swap))
    board = Gauges(container)
    for memory in (64 * MIB, 16 * MIB, 0, 12 * MIB, 512 * MIB):
        board.memory.value = memory
        assert (container.limits.memory, board.drawing.problem) == (memory, "")
        chosen = swap if kept is None else memory + kept
        assert container.limits.memory_swap == (chosen if memory else 0)
    board.close()


def test_a_change_that_the_kernel_refuses_is_told_below(container: HandMadeContainer) -> None:
    board = Gauges(container)
    container.error = KernelError("Il gruppo usa già più memoria di così.", "un limite più alto")
    board.memory.value = 8 * MIB
    assert board.drawing.problem == "Il gruppo usa già più memoria di così. Rimedio: un limite più alto"
    container.error = None
    board.memory.value = 64 * MIB
    assert board.drawing.problem == ""
    board.close()


def test_it_looks_by_itself_until_the_container_ends(container: HandMadeContainer) -> None:
    board = Gauges(container, period=0.01)
    eventually(lambda: container.asked > 5)
    container.state = "exited"
    eventually(lambda: not board.watching)
    assert "finito (137)" in board.drawing.svg


def test_it_stops_with_the_lab_and_when_it_is_closed(container: HandMadeContainer) -> None:
    board = Gauges(container, period=0.01)
    container.closed = True
    eventually(lambda: not board.watching)
    again = Gauges(HandMadeContainer(), period=0.01)
    again.close()
    eventually(lambda: not again.watching)


def test_a_limit_that_no_slider_has_starts_from_the_next_one() -> None:
    container = HandMadeContainer()
    container.limits = Limits(memory=30 * MIB, cpus=3.0)
    board = Gauges(container)
    assert (board.memory.value, board.cpus.value) == (32 * MIB, 0)
    assert container.limits == Limits(memory=30 * MIB, cpus=3.0), "starting changes nothing"
    board.close()

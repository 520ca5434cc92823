"""Il piano disegnato: ogni stato si legge senza colori, i tempi solo se si chiedono."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from labkit.draw import plan
from labkit.draw.words import THIN
from labkit.model import Step, StepState

STEPS = (
    Step(1, "uts", "separa il nome host", "unshare", "unshare(2)", state="done", microseconds=12.4),
    Step(
        2, "masks", "copre /proc", "mount, mount_setattr", "proc(5), mount(2)", state="failed", error="Vietato <qui>."
    ),
    Step(3, "veth", "tende un cavo", "sendmsg", "veth(4)", where="lab", state="undone", microseconds=1530.0),
    Step(4, "exec", "esegue sh", "execve", "execve(2)"),
)


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


@pytest.mark.parametrize(
    ("state", "mark", "word"),
    [("todo", "○", "da fare"), ("done", "●", "fatto"), ("undone", "↺", "annullato"), ("failed", "✘", "fallito")],
)
def test_every_state_has_a_mark_and_a_word(state: StepState, mark: str, word: str) -> None:
    steps = (replace(STEPS[3], state=state),)
    assert f"{mark} {word}" in plan.text(steps)
    drawn = words_of(plan.to_svg(steps))
    assert mark in drawn
    assert f"nel container · {word}" in drawn


def test_without_times_nothing_measured_is_written() -> None:
    slower = tuple(replace(s, microseconds=s.microseconds and s.microseconds * 7) for s in STEPS)
    assert plan.text(STEPS) == plan.text(slower)
    assert plan.mimebundle(STEPS) == plan.mimebundle(slower)
    assert "µs" not in plan.to_svg(STEPS, times=False)


def test_with_times_numbers_are_aligned_to_the_right() -> None:
    lines = plan.text(STEPS, times=True).splitlines()
    ends = [line.index("µs") for line in (lines[0], lines[5])]
    assert f"  12{THIN}µs  Separa il nome host" in lines[0]
    assert f"1{THIN}530{THIN}µs  Tende un cavo" in lines[5]
    assert ends[0] == ends[1]


def test_no_line_of_the_text_is_wider_than_a_cell() -> None:
    long = replace(STEPS[1], description="monta " + "x" * 80, microseconds=123456.0)
    assert max(len(line) for line in plan.text((long,), times=True).splitlines()) <= 115


def test_the_bar_of_the_slowest_step_is_the_longest() -> None:
    tree = ElementTree.fromstring(plan.to_svg(STEPS))
    bars = [float(str(n.get("width"))) for n in tree.iter() if "lk-f-hue1" in n.get("class", "")]
    assert len(bars) == 2
    assert bars[0] < bars[1] == 608


def test_syscall_and_man_page_are_written_once_when_they_agree() -> None:
    written = plan.text(STEPS)
    assert "unshare(2)" in written
    assert "unshare · " not in written
    assert "mount, mount_setattr · proc(5), mount(2)" in written


def test_a_step_done_before_it_was_asked_for_says_so_and_is_counted_apart() -> None:
    done = replace(STEPS[0], state="done", microseconds=40.0, error="")
    steps = (replace(done, ahead=True, microseconds=900.0), replace(done, index=2))
    assert plan.summary(steps) == f"2 passi fatti su 2, in 40{THIN}µs, più 900{THIN}µs già spesi prima"
    assert f"prima, 900{THIN}µs" in plan.text(steps, times=True)
    assert f"prima, 900{THIN}µs" in "".join(words_of(plan.to_svg(steps)))
    assert "prima" not in plan.text(steps)


def test_the_reason_of_a_failure_is_shown_and_escaped() -> None:
    assert "Vietato <qui>." in [line.strip() for line in plan.text(STEPS).splitlines()]
    assert "Vietato &lt;qui&gt;." in plan.to_svg(STEPS)
    assert plan.summary(STEPS) == f"1 passo fatto su 4, 1 fallito, in 12{THIN}µs"


def test_long_sentences_are_wrapped_not_cut() -> None:
    long = replace(STEPS[0], description="monta " + "una cartella dopo l'altra " * 12)
    assert "".join(words_of(plan.to_svg((long,)))).count("cartella") == 12


def test_the_live_drawing_is_a_list_of_sentences() -> None:
    tree = ElementTree.fromstring(plan.to_svg(STEPS, live=True))
    items = [n.get("aria-label") for n in tree.iter() if n.get("role") == "listitem"]
    assert items == [plan.say(step) for step in STEPS]
    assert items[1] == "Passo 2, fallito: Copre /proc. Vietato <qui>."


def test_an_empty_plan_is_a_drawing_too() -> None:
    assert plan.text(()) == "0 passi fatti su 0."
    ElementTree.fromstring(plan.to_svg(()))

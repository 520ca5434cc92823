"""La linea della vita dice il vero: gli stati che gli eventi raccontano, leggibili senza colori e senza tempi."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import lifeline
from labkit.draw.lifeline import Lane, Mark, Scale, Span, lanes
from labkit.model import Event


def told(*story: tuple[float, str, dict[str, Any]], name: str = "web", key: str = "a") -> list[Event]:
    return [Event(moment, action, name, details, key) for moment, action, details in story]


STUBBORN = told(
    (0.0, "create", {}),
    (0.1, "start", {}),
    (0.5, "die", {"exit_code": 3, "restart_after": 0.1}),
    (0.6, "start", {}),
    (0.7, "health_status", {"status": "unhealthy"}),
    (0.8, "kill", {"signal": 15}),
    (0.9, "die", {"exit_code": 143}),
    (1.5, "destroy", {}),
)


def test_every_state_is_a_span() -> None:
    [lane] = lanes(STUBBORN, 9)
    assert [(span.state, span.start, span.end) for span in lane.spans] == [
        ("created", 0.0, 0.1),
        ("running", 0.1, 0.5),
        ("restarting", 0.5, 0.6),
        ("running", 0.6, 0.9),
        ("exited", 0.9, 1.5),
    ]
    assert lane.gone


def test_the_words_tell_the_story_in_order_and_without_times() -> None:
    assert lifeline.text(lanes(STUBBORN, 9)) == (
        "web: creato → gira → riparte (3) → gira → [✘ malato] → [SIGTERM] → finito (143) → tolto"
    )
    assert lifeline.text(()) == "Linea della vita: nessun container, finora."


def test_what_lives_grows_and_what_has_ended_does_not() -> None:
    alive = STUBBORN[:2]
    assert lanes(alive, 5)[0].spans[-1].end == 5
    dead = STUBBORN[:-1]
    assert lanes(dead, 50) == lanes(dead, 5000)


def test_a_pause_is_a_span_and_a_rename_changes_the_label() -> None:
    events = told((0, "create", {}), (1, "start", {}), (2, "pause", {}), (3, "unpause", {}))
    events += told((4, "rename", {"old_name": "web"}), name="sito")
    [lane] = lanes(events, 5)
    assert lane.name == "sito"
    assert [span.state for span in lane.spans] == ["created", "running", "paused", "running"]


def test_news_is_what_happened_and_not_that_time_passes() -> None:
    before, after = lanes(STUBBORN[:4], 0.65), lanes(STUBBORN[:5], 0.7)
    assert lifeline.news(before, lanes(STUBBORN[:4], 0.7)) == ""
    assert lifeline.news(before, after) == "web: [✘ malato]."


def test_a_long_wait_is_made_short_and_says_how_long_it_was() -> None:
    events = told((0, "create", {}), (0.1, "start", {}), (100, "die", {"exit_code": 0}))
    scale = Scale(lanes(events, 100))
    assert scale.gaps() == [(0.1, 100)]
    assert scale.x(0.05) - scale.x(0) > 10
    assert ">100\u202fs</text>" in lifeline.to_svg(lanes(events, 100))


ACTIONS = st.sampled_from(
    ["create", "start", "pause", "unpause", "die", "kill", "health_status", "oom", "destroy", "x"]
)
DETAILS = st.fixed_dictionaries(
    {}, optional={"exit_code": st.integers(0, 255), "signal": st.integers(0, 99), "status": st.just("healthy")}
)
EVENTS = st.lists(
    st.builds(Event, st.floats(0, 1e4), ACTIONS, st.text(max_size=9), DETAILS, st.sampled_from("abc")), max_size=20
).map(lambda events: sorted(events, key=lambda event: event.time))


@given(EVENTS, st.booleans())
def test_any_story_is_a_drawing_within_its_frame(events: list[Event], live: bool) -> None:
    found = lanes(events, 1e4)
    drawing = ET.fromstring(lifeline.to_svg(found, live=live))
    width = float(drawing.get("width", "0"))
    for rect in drawing.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(rect.get("x", "0")) >= -1.5
        assert float(rect.get("x", "0")) + float(rect.get("width", "0")) <= width + 1
    assert all(span.end >= span.start for lane in found for span in lane.spans)


def test_a_state_is_told_by_word_shape_and_hatching() -> None:
    assert len({word for word, _, _ in lifeline.LOOKS.values()}) == len(lifeline.LOOKS)
    drawing = lifeline.to_svg(lanes(STUBBORN, 9))
    for word, _, _ in lifeline.LOOKS.values():
        assert word in drawing
    assert "stroke-dasharray" in drawing


@pytest.mark.parametrize("live", [True, False])
def test_the_cells_can_be_walked_only_where_it_is_alive(live: bool) -> None:
    drawing = lifeline.to_svg(lanes(STUBBORN, 9), live=live)
    assert len(re.findall('class="lk-cell"', drawing)) == (5 if live else 0)
    assert drawing.count('tabindex="0"') == (1 if live else 0)
    assert "web: riparte (3), 0,1\u202fs." in drawing


def test_marks_that_would_lie_on_each_other_are_silent_but_there() -> None:
    marks = tuple(Mark(0.5 + i / 1000, "SIGTERM") for i in range(5))
    drawing = lifeline.to_svg([Lane("web", (Span("running", 0, 1),), marks)])
    assert drawing.count(">SIGTERM</text>") == 1

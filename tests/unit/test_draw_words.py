"""Parole e numeri: italiani, e senza niente che possa ingannare chi legge."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.draw.words import THIN, clean, columns, fit, listing, number, pad, width_px, wrap


@given(st.text())
def test_clean_text_has_no_control_or_direction_characters(text: str) -> None:
    assert not {unicodedata.category(c) for c in clean(text)} & {"Cc", "Cf", "Cs"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (3.14159, "3,14"),
        (0.00012345, "0,000123"),
        (9.996, "10"),
        (1234.5, f"1{THIN}234"),
        (-2.5, "−2,5"),
        (1e7, f"10{THIN}000{THIN}000"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
    ],
)
def test_numbers_are_written_as_in_italian(value: float, expected: str) -> None:
    assert number(value) == expected


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_a_number_keeps_three_significant_digits(value: float) -> None:
    read_back = float(number(value).replace(THIN, "").replace(",", "."))
    assert abs(read_back - value) <= 0.0051 * value


def test_a_list_ends_with_e() -> None:
    assert (listing([]), listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])) == (
        "",
        "a",
        "a e b",
        "a, b e c",
    )


@given(st.text(min_size=1), st.floats(min_value=40, max_value=400))
def test_wrapped_lines_stay_in_their_room_and_lose_nothing(text: str, room: float) -> None:
    lines = wrap(text, room, 13)
    assert all(width_px(line, 13) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == "".join(text.split()).replace(" ", "")


def test_a_long_name_is_shortened_with_an_ellipsis() -> None:
    short = fit("un-nome-lunghissimo-di-container", 100, 13)
    assert short.endswith("…")
    assert width_px(short, 13) <= 100
    assert fit("web", 100, 13) == "web"


def test_ideograms_take_two_columns() -> None:
    assert columns("web") == 3
    assert columns("容器") == 4
    assert pad("容器", 6) == "容器  "

"""I numeri con l'unità, come li scrive docker: letti bene, o rifiutati con un esempio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import units
from labkit.errors import InvalidError


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("10", 10), ("10b", 10), ("512k", 524288), ("64M", 64 << 20), ("64mb", 64 << 20), ("1.5g", 3 << 29)],
)
def test_a_size_is_read_as_docker_reads_it(text: str, value: int) -> None:
    assert units.size(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("2", 2), ("1.5", 1.5), ("500ms", 0.5), ("1m30s", 90), ("1h", 3600), (".5", 0.5)]
)
def test_a_duration_is_read_as_docker_reads_it(text: str, value: float) -> None:
    assert units.duration(text) == value


@given(st.integers(0, 1 << 40), st.floats(0, 1e9))
def test_a_number_is_already_a_value(count: int, seconds: float) -> None:
    assert units.size(count) == count
    assert units.duration(seconds) == seconds


@pytest.mark.parametrize("wrong", ["", "m", "10x", "-1", "1 000", "1e3", "½", -1, True, None, 1.5])
def test_what_is_no_size_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidError) as caught:
        units.size(wrong)  # type: ignore[arg-type]
    assert caught.value.remedy


@pytest.mark.parametrize("wrong", ["", "s", ".", "10x", "-1s", "30 s", "1s30", -1, True, None, "1.2.3"])
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidError) as caught:
        units.duration(wrong)  # type: ignore[arg-type]
    assert caught.value.remedy

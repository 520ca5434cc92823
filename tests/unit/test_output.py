"""Le uscite di un programma: decodificate, ripulite, mostrate fino a un punto, tenute fino a un altro."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.client.output import KEPT, SHOWN, Interrupted, Result, _Screen, clean

ESCAPE = [
    "\x1b[31m",
    "\x1b[0m",
    "\x1b]0;titolo\x07",
    "\x1b]8;;http://x\x1b\\",
    "\x1b[?25l",
    "\x1b(B",
    "\x1b7",
    "\x1b[2J",
]


def shown(data: bytes, cuts: Sequence[int] = ()) -> tuple[str, str]:
    target = io.StringIO()
    screen = _Screen(target)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        screen.feed(data[start:end])
    screen.feed(b"", final=True)
    assert target.getvalue() == screen.text
    return target.getvalue(), screen.text


@pytest.mark.parametrize("sequence", ESCAPE)
def test_an_escape_sequence_is_taken_away(sequence: str) -> None:
    assert clean(f"prima{sequence}dopo") == "primadopo"


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([*ESCAPE, "ciao", "è", "\n", "\t"]), max_size=12), st.lists(st.integers(0), max_size=12)
)
def test_an_escape_cut_in_two_is_taken_away_too(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    assert shown(text.encode(), cuts)[0] == clean(text)


@settings(max_examples=300)
@given(st.text(), st.lists(st.integers(0), max_size=12))
def test_text_comes_out_whole_wherever_it_is_cut(text: str, cuts: list[int]) -> None:
    harmless = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text).encode("utf-8", "ignore")
    assert shown(harmless, cuts)[0] == harmless.decode()


@settings(max_examples=300)
@given(st.binary(max_size=400), st.lists(st.integers(0), max_size=6))
def test_nothing_that_a_terminal_would_obey_gets_through(data: bytes, cuts: list[int]) -> None:
    text = shown(data, cuts)[0]
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]", text)


def test_what_is_shown_has_an_end_and_says_so() -> None:
    target = io.StringIO()
    screen = _Screen(target)
    for _ in range(5):
        screen.feed(b"x" * (SHOWN // 2))
    text = target.getvalue()
    assert text.startswith("x" * SHOWN)
    assert text.count("… il resto non si mostra: è troppo.") == 1
    assert len(text) < SHOWN + 100
    assert len(screen.text) == 5 * (SHOWN // 2)


def test_what_is_kept_has_an_end_too() -> None:
    screen = _Screen(None)
    for _ in range(20):
        screen.feed(b"y" * (1 << 20))
    assert KEPT <= len(screen.text) <= KEPT + (1 << 20)
    assert screen.size == 20 << 20


def test_a_result_says_little_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert Result(0).ok
    assert not Result(1).ok
    assert repr(Result(3, "tanto testo")) == "Result(exit_code=3)"
    Result(0, "già mostrato")._ipython_display_()
    assert capsys.readouterr().out == ""
    Result(127)._ipython_display_()
    assert capsys.readouterr().out == "[codice di uscita 127]\n"


def test_an_interrupt_is_told_in_one_sentence() -> None:
    assert isinstance(Interrupted(), KeyboardInterrupt)
    assert Interrupted()._render_traceback_() == [
        "Interrotto: il comando è stato fermato, il laboratorio è ancora aperto."
    ]

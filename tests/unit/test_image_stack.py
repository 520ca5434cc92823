"""Le pile di strati: ciò che due immagini hanno in comune si disegna, e si conta, una volta sola."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import stack
from labkit.draw.stack import Pile, Slice
from labkit.widgets.image_stack import ImageStack

LIBC, SHELL = Slice("l", "libc", 3000), Slice("s", "shell", 7000)
SERVER, APP = Slice("m", "server", 9000), Slice("a", "app", 10)
DB, SITE, OTHER = Pile("db", (LIBC, SHELL, SERVER)), Pile("sito", (LIBC, SHELL, APP)), Pile("altra", (APP,))
PILES = st.lists(
    st.builds(Pile, st.text(max_size=30), st.lists(st.sampled_from((LIBC, SHELL, SERVER, APP)), max_size=5).map(tuple)),
    max_size=7,
)


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_a_shared_layer_is_drawn_once_and_counted_once() -> None:
    found = stack.bands([DB, SITE])
    assert [(band.slice.title, band.owners) for band in found] == [
        ("libc", (0, 1)), ("shell", (0, 1)), ("server", (0,)), ("app", (1,)),
    ]  # fmt: skip
    assert stack.stored([DB, SITE]) == 19_010
    assert stack.summary([DB, SITE]).endswith("fanno risparmiare 9,8 KiB.")
    assert stack.summary([DB]).endswith("Non hanno strati in comune.")


def test_relatives_stand_side_by_side() -> None:
    assert [pile.name for pile in stack.order([DB, OTHER, SITE])] == ["db", "sito", "altra"]
    assert [pile.name for pile in stack.order([OTHER, DB, SITE])] == ["altra", "db", "sito"]


def test_heights_follow_the_weights_and_each_band_stands_on_the_one_below() -> None:
    libc, shell, server, app = stack.bands([DB, SITE])
    assert abs(server.height / shell.height - 9 / 7) < 0.01
    assert shell.bottom == libc.bottom + libc.height
    assert server.bottom == app.bottom == shell.bottom + shell.height
    assert "disegnati più alti del vero" in " ".join(words_of(stack.to_svg([DB, SITE])))


def test_the_words_say_whose_each_layer_is() -> None:
    lines = stack.text([DB, SITE]).splitlines()
    assert lines[0] == "2 immagini, dallo strato più alto:"
    assert "  libc, 2,9 KiB, in comune a db e sito." in lines
    assert "  server, 8,8 KiB, solo di db." in lines


@given(PILES)
def test_any_images_give_a_whole_drawing_with_every_byte_accounted(piles: list[Pile]) -> None:
    ElementTree.fromstring(stack.to_svg(piles, live=True))
    assert stack.stored(piles) <= sum(pile.size for pile in piles)
    drawn = stack.bands(stack.order(piles))
    assert sum(len(band.owners) for band in drawn) == sum(len(pile.slices) for pile in piles)
    assert all(band.owners == tuple(range(band.owners[0], band.owners[-1] + 1)) for band in drawn)


@dataclass
class _Layer:
    digest: str
    size: int
    created_by: str


@dataclass
class _Image:
    name: str
    layers: list[_Layer]


def test_taking_an_image_away_shows_what_is_left() -> None:
    base = _Layer("a", 100, "corso: la base")
    widget = ImageStack([_Image("uno:latest", [base]), _Image("due:2", [base, _Layer("b", 20, "RUN /bin/sh -c x")])])
    assert widget.drawing.news.startswith("Una per una: 220 B. Insieme: 120 B.")
    assert {"uno", "due:2", "la base", "RUN x"} <= set(words_of(widget.drawing.svg))
    widget.boxes[0].value = False
    assert [pile.name for pile in widget.chosen] == ["due:2"]
    assert "in comune" not in widget.drawing.svg.replace("strati in comune", "")
    assert "uno" in repr(widget)

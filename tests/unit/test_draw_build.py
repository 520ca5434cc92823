"""La costruzione disegnata e detta a parole: stessa fila di passi, stesso disegno."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from labkit.draw.build import Row, summary, text, to_svg
from labkit.widgets.build_board import BuildBoard

ROWS = (
    Row(1, "FROM corso/minima:1", "done", 0.001),
    Row(2, "RUN  apk add\tcurl", "cached", 0.002, 2048),
    Row(3, "COPY . /srv <script>", "done", 0.5, 10),
    Row(4, "ENV A=1", "running"),
    Row(5, "RUN false", "failed", 0.1),
)


def test_words_say_every_step_and_no_time():
    assert text(ROWS[:3]).splitlines() == [
        "Costruzione. 3 passi: 2 fatti, 1 dalla cache.",
        "  1. FROM corso/minima:1 — fatto",
        "  2. RUN apk add curl — dalla cache, strato di 2 KiB",
        "  3. COPY . /srv <script> — fatto, strato di 10 B",
    ]
    assert summary(()) == "0 passi: si comincia."
    assert summary(ROWS) == "5 passi: 2 fatti, 1 dalla cache, 1 fallito."


def test_the_drawing_is_whole_and_tells_states_without_colour():
    found = to_svg(ROWS)
    assert found == to_svg(ROWS)
    words = "".join(ET.fromstring(found).itertext())
    for expected in ("dalla cache · +2 KiB", "si fa…", "fallito", "+10 B", "COPY . /srv <script>"):
        assert expected in words
    assert "<script>" not in found
    ET.fromstring(to_svg(()))


def test_the_longest_step_has_the_longest_bar():
    bars = [
        float(bar.get("width"))
        for bar in ET.fromstring(to_svg(ROWS)).iter()
        if bar.get("height") == "16" and bar.tag.endswith("rect")
    ]
    assert max(bars) == bars[2]


def test_a_board_changes_the_row_of_a_step_that_ends():
    board = BuildBoard()
    assert repr(board) == "Costruzione. 0 passi: si comincia."
    board.show(Row(1, "FROM a", "running"))
    assert board.drawing.news == ""
    board.show(Row(1, "FROM a", "done", 0.1))
    assert repr(board) == "Costruzione. 1 passo: 1 fatto.\n  1. FROM a — fatto"
    assert "1 fatto" in board.drawing.news
    assert "FROM a" in board.drawing.svg

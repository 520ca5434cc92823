"""Un'immagine che viaggia: le parole, il disegno, il widget, le barre del terminale."""

from __future__ import annotations

import io
from xml.etree import ElementTree

from labkit.client import progress
from labkit.client.progress import Transfer
from labkit.course.laboratory import Lab
from labkit.draw import transfer
from labkit.draw.transfer import Piece
from labkit.images.descriptor import CONFIG, LAYER_GZIP, Descriptor
from labkit.images.digest import Digest
from labkit.images.registry_transfer import Progress, State
from labkit.widgets.transfer import TransferView

PIECES = (
    Piece("aaa", "configurazione", "done", 300, 300),
    Piece("bbb", "strato", "exists", 4096, 4096),
    Piece("ccc", "strato", "mounted", 1024, 1024),
    Piece("ddd", "strato", "moving", 512, 2048),
    Piece("eee", "strato", "waiting", 0, 10),
)


def blob(size: int, kind: str = LAYER_GZIP) -> Descriptor:
    return Descriptor(kind, Digest.of(bytes(size)), size)


def tell(shown: Transfer, one: Descriptor, *states: State) -> None:
    for state in states:
        shown(Progress(one, state, one.size // 2 if state == "moving" else one.size))


def test_only_what_really_moved_is_counted() -> None:
    assert transfer.travelled(PIECES) == 300 + 512
    assert transfer.summary(PIECES) == (
        "5 pezzi: 812 B hanno viaggiato, 1 pezzo c’era già, 1 preso da un altro deposito."
    )
    assert transfer.summary(PIECES[1:2]) == "1 pezzo: non ha viaggiato niente, 1 pezzo c’era già."


def test_the_words_hold_no_digest_and_no_address() -> None:
    words = transfer.text("corso/prova:1", PIECES, sending=True)
    assert words.splitlines()[0].startswith("Invio di «corso/prova:1». 5 pezzi")
    assert "mandato" in words and "scaricato" not in words  # noqa: PT018
    assert "scaricato" in transfer.text("corso/prova:1", PIECES, sending=False)
    assert not any(piece.name in words for piece in PIECES)


def test_the_drawing_says_every_piece_and_a_name_cannot_break_it() -> None:
    drawn = transfer.to_svg("<script>", PIECES, sending=False)
    words = [node.text or "" for node in ElementTree.fromstring(drawn).iter() if node.tag.endswith("text")]
    assert "Prendo «<script>»" in words
    assert {"configurazione", "strato"} <= set(words)
    assert any(text.startswith("c'era già · 4 KiB") for text in words)
    assert ElementTree.fromstring(transfer.to_svg("vuota", (), sending=True)).tag.endswith("svg")


def test_a_blob_twice_in_an_image_is_one_piece_and_keeps_its_end() -> None:
    shown = Transfer("x:1", False, progress.quiet)
    one = blob(100)
    tell(shown, one, "waiting", "moving", "done", "exists")
    assert [(piece.state, piece.done) for piece in shown.pieces] == [("done", 100)]
    tell(shown, blob(7, CONFIG), "exists")
    assert [piece.kind for piece in shown.pieces] == ["strato", "configurazione"]
    assert shown.travelled == 100


def test_without_a_terminal_there_is_a_line_for_each_piece_that_arrived() -> None:
    out = io.StringIO()
    shown = Transfer("x:1", True, progress.lines(out))
    tell(shown, blob(100), "waiting", "moving", "done")
    tell(shown, blob(10), "waiting", "exists")
    assert [line.split("  ")[1:] for line in out.getvalue().splitlines()] == [
        ["mandato", "100 B"],
        ["c'era già", "10 B"],
    ]


def test_in_a_terminal_the_bars_are_drawn_over_themselves() -> None:
    out = io.StringIO()
    shown = Transfer("x:1", False, progress.bars(out))
    tell(shown, blob(1000), "waiting")
    tell(shown, blob(10), "waiting")
    tell(shown, blob(1000), "moving")
    first, second, third = out.getvalue().split("\033[1A\033[2K")[0], *out.getvalue().split("A\033[2K")[1:]
    assert first.count("\n") == 1
    assert second.count("\n") == third.count("\n") == 2
    assert "████████████░░░░░░░░░░░░  500 B di 1000 B" in third


def test_the_widget_follows_the_transfer_and_says_it_in_words() -> None:
    view = TransferView("corso/prova:1", sending=False)
    assert repr(view) == "Scaricamento di «corso/prova:1»."
    shown = Transfer("corso/prova:1", False, view.show)
    tell(shown, blob(100), "waiting")
    tell(shown, blob(100), "moving")
    assert view.drawing.news == ""
    tell(shown, blob(100), "done")
    assert view.drawing.news == "1 pezzo: 100 B hanno viaggiato."
    assert "scaricato" in view.drawing.svg
    assert repr(view) == repr(shown)
    view.close()


def test_in_a_notebook_a_transfer_is_a_drawing() -> None:
    lab = Lab.__new__(Lab)
    assert lab._view("corso/prova:1", sending=True).__self__.__class__ is TransferView

"""L'esploratore degli strati: ogni riga dice da dove viene, le cartelle si aprono, il filo si ferma."""

from __future__ import annotations

import time
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import layers
from labkit.errors import NotFoundError
from labkit.layers import Entry, Folder, LayerView
from labkit.widgets.layer_explorer import LayerExplorer

STACK = ("strato scrivibile", "immagine, strato 2", "immagine, strato 1")
ETC = Folder("/etc", (Entry("nuovo", "file", 0, size=5), Entry("passwd", "file", 0, (1, 2), gone=True)), ((2, 40),))
ROOT = Folder("/", (Entry("bin", "folder", 2), Entry("etc", "folder", 0, (1, 2)), Entry("x", "link", 1)))
VIEW = LayerView(STACK, (ROOT, ETC), ("/", "/etc"), 4096)


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_changed_folders_are_open_and_the_rest_of_them_is_counted() -> None:
    found = layers.rows(VIEW)
    assert [(row.path, row.depth, row.state) for row in found] == [
        ("/bin", 0, "closed"),
        ("/etc", 0, "open"),
        ("/etc/nuovo", 1, ""),
        ("/etc/passwd", 1, ""),
        ("/etc", 1, "more"),
        ("/x", 0, ""),
    ]
    assert [row.path for row in layers.rows(VIEW, closed=["/etc"])] == ["/bin", "/etc", "/x"]


def test_a_crowded_folder_shows_a_few_names_and_the_way_to_the_changes() -> None:
    many = tuple(Entry(f"{n:02}", "file", 0) for n in range(20))
    crowded = Folder("/etc", (*many, Entry("zona", "folder", 0)))
    view = LayerView(STACK, (ROOT, crowded, Folder("/etc/zona", ())), ("/etc", "/etc/zona"))
    paths = [row.path for row in layers.rows(view)]
    assert "/etc/zona" in paths
    assert len(paths) < 16
    assert len(layers.rows(view, opened=["/etc"])) == 3 + 21


def test_a_tree_too_long_says_how_much_is_missing() -> None:
    root = Folder("/", tuple(Entry(f"{n:03}", "file", 1) for n in range(150)))
    found = layers.rows(LayerView(STACK, (root,)))
    assert len(found) == 121
    assert layers.say(found[-1], VIEW) == "… e altre 30 righe: chiudi qualche cartella."


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry("a", "file", 0, (1, 2)), "cambiato: nasconde quello degli strati 2 e 1"),
        (Entry("a", "folder", 0, (1, 2, 2, 2)), "unita a quella degli strati 2, 1, 1 e altri"),
        (Entry("a", "file", 0), "nuovo: c'è solo qui"),
        (Entry("a", "folder", 0), "nuova: c'è solo qui"),
        (Entry("a", "file", 1, (2,)), "preso da qui: nasconde quello dello strato 1"),
        (Entry("a", "other", 0, (2,), gone=True), "cancellato (whiteout): nasconde quello dello strato 1"),
        (Entry("a", "folder", 0, (2,), opaque=True), "cartella opaca: nasconde quella dello strato 1"),
        (Entry("a", "folder", 0, opaque=True), "nuova: c'è solo qui"),
        (Entry("a", "folder", 1, (2,)), "unita a quella dello strato 1"),
        (Entry("a", "file", 2), ""),
    ],
)
def test_every_way_of_hiding_has_its_words(entry: Entry, words: str) -> None:
    assert layers.meaning(entry, VIEW) == words


def test_the_drawing_says_layer_meaning_and_size() -> None:
    words = words_of(layers.to_svg(VIEW, "web", live=True))
    assert {"Gli strati di web", "etc/", "nuovo", "5 B", "… altri nomi: 40 dello strato 1", "occupa 4 KiB"} <= set(
        words
    )
    assert "cancellato (whiteout): nasconde quello degli strati 2 e 1" in words


def test_in_words_there_are_layers_and_changes_and_no_size() -> None:
    assert layers.text(VIEW, "web").splitlines() == [
        "Gli strati di «web», dall'alto:",
        "  3  strato scrivibile",
        "  2  immagine, strato 2",
        "  1  immagine, strato 1",
        "Ha scritto:",
        "  /etc/                            unita a quella degli strati 2 e 1",
        "  /etc/nuovo                       nuovo: c'è solo qui",
        "  /etc/passwd                      cancellato (whiteout): nasconde quello degli strati 2 e 1",
    ]
    assert layers.text(LayerView(STACK, (Folder("/", ()),)), "web").endswith("Non ha scritto niente.")


def test_the_news_is_what_was_just_written() -> None:
    before = LayerView(STACK, (ROOT,))
    assert layers.news(before, VIEW) == (
        "/etc/nuovo: nuovo: c'è solo qui; /etc/passwd: cancellato (whiteout): nasconde quello degli strati 2 e 1."
    )
    assert layers.news(VIEW, VIEW) == ""


def test_two_hundred_layers_fit_in_the_drawing() -> None:
    view = LayerView(tuple(f"strato {n}" for n in range(200)), (Folder("/", (Entry("a", "file", 150),)),))
    words = words_of(layers.to_svg(view, "alta"))
    assert "… altri 195 strati, in sola lettura …" in words
    assert "50" in words


ENTRIES = st.builds(
    Entry, st.text(max_size=8), st.sampled_from(["folder", "file", "link", "other"]), st.integers(0, 2),
    st.lists(st.integers(0, 2), max_size=4).map(tuple), st.booleans(), st.booleans(), st.integers(0, 1 << 50),
)  # fmt: skip


@given(st.text(max_size=10), st.lists(ENTRIES, max_size=10), st.booleans())
def test_any_view_gives_well_formed_xml(name: str, entries: list[Entry], live: bool) -> None:
    view = LayerView(STACK, (Folder("/", tuple(entries), ((1, 3),)),))
    ElementTree.fromstring(layers.to_svg(view, name, live=live))


class HandMade:
    """Un laboratorio e un container di soli dati."""

    name = "web"
    closed = False

    def __init__(self) -> None:
        self.view = VIEW
        self.asked: list[tuple[str, ...]] = []
        self.gone = False

    def browse(self, *folders: str, limit: int = 100) -> LayerView:
        if self.gone:
            raise NotFoundError("Il container «web» non c'è.", "lab.ps(all=True)")
        self.asked.append(folders)
        return self.view


def eventually(check: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_folders_open_and_close_with_a_click() -> None:
    made = HandMade()
    explorer = LayerExplorer(made, made)
    assert "nuovo" in words_of(explorer.tree.svg)
    explorer._on_message(None, {"act": "open:/etc"}, None)
    assert "nuovo" not in words_of(explorer.tree.svg)
    explorer._on_message(None, {"act": "closed:/etc"}, None)
    assert "nuovo" in words_of(explorer.tree.svg)
    assert made.asked[-1] == ("/etc",)
    explorer._on_message(None, {"act": "closed:/bin"}, None)
    explorer._on_message(None, {"act": "more:/etc"}, None)
    assert made.asked[-1] == ("/bin", "/etc")
    explorer._on_message(None, {"act": 7}, None)
    explorer.close()


def test_it_follows_the_container_while_somebody_looks() -> None:
    made = HandMade()
    explorer = LayerExplorer(made, made, interval=0.01)
    explorer._on_message(None, {"views": 1}, None)
    made.view = LayerView(STACK, (ROOT, Folder("/etc", (Entry("altro", "file", 0),))), ("/etc",))
    eventually(lambda: "altro" in words_of(explorer.tree.svg))
    assert explorer.tree.news == "/etc/altro: nuovo: c'è solo qui."
    made.gone = True
    eventually(lambda: not explorer.polling)
    assert "non c'è" in explorer.tree.problem
    explorer.close()

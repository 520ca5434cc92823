"""COPY e ADD: che cosa arriva, dove, di chi; e ciò che dalla cartella o dall'immagine non deve uscire."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile

import pytest

from labkit.build.matching import Ignore, pattern
from labkit.build.steps import BuildError
from labkit.build.view import View
from labkit.errors import InvalidError, LabError
from labkit.images.config import History
from labkit.images.image import Image, Layer
from tests.unit.build.conftest import BASE, Bench
from tests.unit.images.tars import entry, folder, hard, link, tar

pytestmark = pytest.mark.usefixtures("base")


@pytest.fixture
def tree(bench: Bench) -> Bench:
    """Una cartella da cui copiare."""
    here = bench.context
    (here / "sito/css").mkdir(parents=True)
    (here / "sito/index.html").write_text("pagina")
    (here / "sito/css/a.css").write_text("stile")
    (here / "sito/link").symlink_to("index.html")
    (here / "uno.txt").write_text("1")
    (here / "due.txt").write_text("2")
    (here / "avvia").write_text("#!/bin/sh")
    (here / "avvia").chmod(0o755)
    for path in (here / "sito", here / "sito/css"):
        path.chmod(0o755)
    return bench


def added(bench: Bench, text: str) -> dict[str, str]:
    """Ciò che un Containerfile aggiunge alla base."""
    before = bench.files(Image.empty().append(Layer.from_tar(BASE), History()))
    after = bench.files(bench.build(f"FROM base\n{text}\n"))
    return {path: value for path, value in after.items() if before.get(path) != value}


SITE = {"css": "d755", "css/a.css": "stile", "index.html": "pagina", "link": "->index.html"}


def under(place: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{place}/{path}": value for path, value in files.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COPY uno.txt /x", {"x": "1"}),
        ("COPY uno.txt /x/", {"x": "d755", "x/uno.txt": "1"}),
        ("COPY uno.txt /tmp", {"tmp/uno.txt": "1"}),
        ("COPY uno.txt /tmp/y", {"tmp/y": "1"}),
        ("COPY uno.txt relativo", {"relativo": "1"}),
        ("WORKDIR /app\nCOPY uno.txt .", {"app": "d755", "app/uno.txt": "1"}),
        ("WORKDIR /app\nCOPY uno.txt due.txt ./", {"app": "d755", "app/uno.txt": "1", "app/due.txt": "2"}),
        ("COPY *.txt /x/", {"x": "d755", "x/uno.txt": "1", "x/due.txt": "2"}),
        ("COPY ./sito/../uno.txt /x", {"x": "1"}),
        ("COPY sito /srv", {"srv": "d755", **under("srv", SITE)}),
        ("COPY sito/ /srv/", {"srv": "d755", **under("srv", SITE)}),
        ("COPY sit? /srv/", {"srv": "d755", **under("srv", SITE)}),
        ("COPY sito uno.txt /srv/", {"srv": "d755", **under("srv", SITE), "srv/uno.txt": "1"}),
        ("COPY sito /lib", {"lib": "->usr/lib", **under("usr/lib", SITE)}),
        ("COPY uno.txt /lib/", {"usr/lib/uno.txt": "1"}),
        ("COPY uno.txt /fuori/x", {"etc/x": "1"}),
        ("COPY --chmod=750 uno.txt /x", {"x": "1"}),
        ('COPY ["uno.txt", "/con spazio"]', {"con spazio": "1"}),
        ("ENV D=/x\nCOPY uno.txt $D", {"x": "1"}),
        ("COPY <<A <<'B' /x/\nuno $HOME ${N:-vuoto} \"x\"\nA\ndue $N\nB",
         {"x": "d755", "x/A": 'uno  vuoto "x"\n', "x/B": "due $N\n"}),
        ("COPY <<-A /x\n\tuno\n\tA", {"x": "uno\n"}),
        ("ADD uno.txt /x", {"x": "1"}),
        ("COPY --from=base /etc/group /g", {"g": "dati:x:44:\n"}),
        ("COPY --from=base /fuori/grou? /g", {}),
        ("COPY --from=base /etc/gr* /g", {"g": "dati:x:44:\n"}),
        ("COPY --from=base /etc /e", {"e": "d755", "e/group": "dati:x:44:\n",
         "e/passwd": "root:x:0:0::/:/bin/sh\nwww:x:33:34::/:/bin/sh\n"}),
    ],
)  # fmt: skip
def test_what_is_copied_arrives_where_docker_puts_it(tree: Bench, text, expected):
    if not expected:
        with pytest.raises(LabError, match="non c'è nell'immagine"):
            added(tree, text)
    else:
        found = added(tree, text)
        assert {path: value for path, value in found.items() if path != "lib"} == {
            path: value for path, value in expected.items() if path != "lib"
        }


@pytest.mark.parametrize(
    ("text", "path", "mode", "owner"),
    [
        ("COPY avvia /x", "x", 0o755, (0, 0)),
        ("COPY --chown=www avvia /x", "x", 0o755, (33, 33)),
        ("COPY --chown=www:dati avvia /n/x", "n/x", 0o755, (33, 44)),
        ("COPY --chown=www:dati avvia /n/x", "n", 0o755, (33, 44)),
        ("COPY --chown=5:6 --chmod=640 avvia /x", "x", 0o640, (5, 6)),
        ("COPY --chmod=600 <<X /x\nX", "x", 0o600, (0, 0)),
        ("COPY uno.txt /tmp/x", "tmp", 0o1777, (os.getuid(), os.getgid())),
    ],
)
def test_owner_and_mode_are_what_is_asked_for(tree: Bench, text, path, mode, owner):
    node = View.of(tree.build(f"FROM base\n{text}\n")).nodes[path]
    assert (node.mode, (node.uid, node.gid)) == (mode, owner)


def test_the_folders_above_are_in_the_layer_as_they_were(tree: Bench):
    # Whoever opens layer by layer would make /tmp 0755 otherwise.
    image = tree.build("FROM base\nCOPY uno.txt /tmp/x\n")
    with image.layers[-1].open() as file, tarfile.open(fileobj=io.BytesIO(gzip.decompress(file.read()))) as opened:
        assert [(one.name, one.mode) for one in opened] == [("tmp", 0o1777), ("tmp/x", 0o644)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY uno.txt /etc/passwd/x", "è un file, e qui ci vuole una cartella"),
        ("COPY sito /etc/passwd", "è un file, e qui ci vuole una cartella"),
        ("COPY --chown=boh uno.txt /x", "utente «boh»"),
        ("COPY --chown=0:boh uno.txt /x", "gruppo «boh»"),
        ("COPY --chown=99999999999 uno.txt /x", "troppo grande"),
        ("COPY uno.txt /.wh.x", "cancellato"),
    ],
)
def test_what_cannot_be_copied_is_told(tree: Bench, text, message):
    with pytest.raises(BuildError, match=message):
        added(tree, text)


def test_a_file_does_not_take_the_place_of_a_folder(tree: Bench):
    (tree.context / "sito/lib").mkdir()
    tree.build("FROM base\nCOPY sito /s\n", "con-cartella")
    (tree.context / "altro").mkdir()
    (tree.context / "altro/lib").write_text("x")
    with pytest.raises(BuildError, match="«/s/lib» nell'immagine è una cartella"):
        tree.build("FROM con-cartella\nCOPY altro /s\n")


def test_a_link_never_leads_out_of_the_folder(tree: Bench, tmp_path):
    (tmp_path / "segreto").write_text("segreto")
    (tree.context / "esce").symlink_to("../segreto")
    (tree.context / "resta").symlink_to("uno.txt")
    with pytest.raises(InvalidError, match="porta fuori"):
        added(tree, "COPY esce /x")
    assert added(tree, "COPY resta /x") == {"x": "1"}
    (tree.context / "sito/esce").symlink_to("../../segreto")
    assert added(tree, "COPY sito /s")["s/esce"] == "->../../segreto", "dentro una cartella un link resta un link"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_add_opens_an_archive_and_copy_does_not(tree: Bench, pack):
    data = tar(folder("d", mode=0o700), entry("d/f", b"dentro", mode=0o600, uid=5, gid=6), link("l", "d/f"),
               hard("h", "d/f"), entry("lib/q", b"q"))  # fmt: skip
    (tree.context / "a.tar").write_bytes(pack(data))
    found = added(tree, "ADD a.tar /")
    assert found == {"d": "d700", "d/f": "dentro", "l": "->d/f", "h": "dentro", "usr/lib/q": "q"}
    assert View.of(tree.build("FROM base\nADD a.tar /x\n")).nodes["x/d/f"].uid == 5
    assert View.of(tree.build("FROM base\nADD --chown=7 a.tar /x\n")).nodes["x/d/f"].uid == 7
    assert list(View.of(tree.build("FROM scratch\nCOPY a.tar /x/\n")).nodes) == ["", "x", "x/a.tar"]


def test_an_archive_cannot_write_outside_nor_delete(tree: Bench):
    (tree.context / "a.tar").write_bytes(tar(entry("../../su", b"x")))
    assert added(tree, "ADD a.tar /d/") == {"d": "d755", "d/su": "x"}
    for bad in (entry("d/.wh.x"), entry("f", kind=tarfile.FIFOTYPE), hard("h", "nessuno")):
        (tree.context / "a.tar").write_bytes(tar(bad))
        with pytest.raises(BuildError):
            added(tree, "ADD a.tar /d/")


def test_a_pipe_in_the_folder_is_told_and_not_waited_for(tree: Bench):
    os.mkfifo(tree.context / "sito/coda")
    with pytest.raises(LabError, match="non è un file"):
        added(tree, "COPY sito /s")


def test_what_dockerignore_hides_is_not_copied_nor_counted(tree: Bench):
    (tree.context / ".dockerignore").write_text("# commento\n**/*.css\nuno.txt\n.dockerignore\nContainerfile\n")
    assert added(tree, "COPY . /s").keys() == {"s", "s/avvia", "s/due.txt", "s/sito", "s/sito/css",
                                               "s/sito/index.html", "s/sito/link"}  # fmt: skip
    with pytest.raises(LabError, match="lo nasconde .dockerignore"):
        added(tree, "COPY uno.txt /x")
    tree.build("FROM base\nCOPY . /s\n")
    (tree.context / "uno.txt").write_text("cambiato")
    tree.build("FROM base\nCOPY . /s\n")
    assert tree.seen.states[-1] == "cached"


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("rules", "path", "hidden"),
    [
        ("*.log", "a.log", True), ("*.log", "d/a.log", False), ("**/*.log", "d/e/a.log", True),
        ("**/*.log", "a.log", True), ("d", "d/e/f", True), ("d/**", "d", False), ("d/**", "d/x", True),
        ("/d", "d", True), ("./d/", "d/x", True), ("*\n!README*.md\nREADME-segreto.md", "README.md", False),
        ("*\n!README*.md\nREADME-segreto.md", "README-segreto.md", True), ("d\n!d/tieni", "d/tieni", False),
        ("d\n!d/tieni", "d/x", True), ("a?c", "abc", True), ("a?c", "a/c", False), ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False), ("\\*x", "*x", True), ("a.b", "axb", False), ("# a\n\n", "# a", False),
    ],
)  # fmt: skip
def test_dockerignore_hides_what_docker_hides(rules, path, hidden):
    assert Ignore.parse(rules).hides(path) is hidden


@pytest.mark.parametrize("text", ["[", "[]", "[a", "[a-", "[z-a]", "a\\"])
def test_a_broken_pattern_is_told(text):
    with pytest.raises(InvalidError):
        pattern(text)
    with pytest.raises(InvalidError, match="riga 2"):
        Ignore.parse(f"\n{text}")


# ---------------------------------------------------------------- the files of an image


def view(*layers: bytes) -> View:
    found = View()
    for data in layers:
        found = found.above(Layer.from_tar(data))
    return found


def test_layers_cover_each_other_as_the_specification_says():
    one = tar(folder("d"), entry("d/a", b"1"), entry("d/b", b"1"), entry("x", b"1"), folder("o"), entry("o/v", b"1"))
    two = tar(entry("d/.wh.a"), entry(".wh.x"), entry("o/.wh..wh..opq"), entry("o/n", b"2"), entry("d/b", b"2"))
    found = view(one, two)
    assert set(found.nodes) == {"", "d", "d/b", "o", "o/n"}
    assert {path: b"".join(data) for path, _, data in found.contents(["d/b", "o/n"])} == {"d/b": b"2", "o/n": b"2"}
    assert "x" in view(one).nodes, "la vista di prima resta com'era"


def test_a_folder_replaced_by_a_file_takes_its_contents_away():
    found = view(tar(folder("d"), entry("d/a")), tar(entry("d", b"x")))
    assert set(found.nodes) == {"", "d"}
    assert not found.is_folder("d")


def test_hard_links_are_one_content_with_two_names():
    found = view(tar(entry("a", b"uno"), hard("b", "a")))
    assert {path: b"".join(data) for path, _, data in found.contents(["a", "b"])} == {"a": b"uno", "b": b"uno"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("lib/x", "usr/lib/x"), ("/lib/../y", "usr/y"), ("fuori/passwd", "etc/passwd"), ("../../x", "x"), ("n/../m", "m")],
)
def test_links_are_followed_inside_the_root(path, expected):
    assert view(BASE).resolve(path) == expected


def test_links_in_a_circle_are_told():
    with pytest.raises(InvalidError, match="in tondo"):
        view(tar(link("a", "b"), link("b", "a"))).resolve("a/x")


def test_a_tree_too_deep_is_refused_and_does_not_break_python():
    with pytest.raises(InvalidError, match="cartelle"):
        view(tar(entry("a/" * 500 + "f")))

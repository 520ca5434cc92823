"""Le cartelle lette strato per strato: chi decide un nome, che cosa nasconde, e quanto si legge al massimo."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from labkit.engine.rootfs import ImageRoot, Tree
from labkit.errors import InvalidError, NotFoundError
from labkit.layers import Entry, LayerView
from labkit.model import to_json
from labkit.supervisor import browsing


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("root.upper", "alto", "basso"):
        (tmp_path / name).mkdir()
    return tmp_path


def image(place: Path) -> ImageRoot:
    return ImageRoot("prova", (Tree("", (f"{place}/alto", f"{place}/basso")),))


def look(place: Path, *asked: str, limit: int = 100) -> LayerView:
    return browsing.look(image(place), str(place), asked, limit)


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, 0)


def opaque(path: Path) -> None:
    try:
        os.setxattr(path, "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("qui i file di passaggio non hanno attributi")


def test_a_name_belongs_to_the_highest_layer_that_has_it(place: Path) -> None:
    (place / "basso" / "solo").write_text("b")
    (place / "basso" / "due").write_text("b")
    (place / "alto" / "due").write_text("aa")
    (place / "root.upper" / "tre").write_text("ccc")
    root = look(place)["/"]
    assert look(place).layers == ("strato scrivibile", "immagine, strato 2", "immagine, strato 1")
    assert root["solo"] == Entry("solo", "file", 2, size=1)
    assert root["due"] == Entry("due", "file", 1, (2,), size=2)
    assert root["tre"] == Entry("tre", "file", 0, size=3)
    assert root["due"].hides
    assert not root["solo"].hides


def test_a_whiteout_hides_and_stops_whoever_looks_below(place: Path) -> None:
    (place / "basso" / "via").mkdir()
    (place / "basso" / "via" / "dentro").write_text("")
    whiteout(place / "alto" / "via")
    entry = look(place)["/"]["via"]
    assert (entry.gone, entry.layer, entry.below, entry.hides) == (True, 1, (2,), True)
    assert "/via" not in look(place, "/via")
    (place / "root.upper" / "via").mkdir()
    assert look(place)["/via"].entries == (), "the whiteout of the middle layer still covers the lowest"
    assert look(place)["/"]["via"] == Entry("via", "folder", 0), "what was already hidden is not hidden again"


def test_folders_are_joined_until_one_is_opaque(place: Path) -> None:
    for layer, name in (("basso", "uno"), ("alto", "due"), ("root.upper", "tre")):
        (place / layer / "x").mkdir()
        (place / layer / "x" / name).write_text("")
    assert [e.name for e in look(place, "/x")["/x"].entries] == ["due", "tre", "uno"]
    assert look(place)["/"]["x"] == Entry("x", "folder", 0, (1, 2))
    opaque(place / "root.upper" / "x")
    assert [e.name for e in look(place, "/x")["/x"].entries] == ["tre"]
    assert look(place)["/"]["x"].opaque


def test_an_opaque_folder_covers_what_is_deeper_too(place: Path) -> None:
    (place / "basso" / "a" / "b").mkdir(parents=True)
    (place / "root.upper" / "a").mkdir()
    assert "/a/b" in look(place, "/a/b")
    opaque(place / "root.upper" / "a")
    assert "/a/b" not in look(place, "/a/b")


def test_a_file_over_a_folder_hides_it_all(place: Path) -> None:
    (place / "basso" / "x" / "y").mkdir(parents=True)
    (place / "alto" / "x").write_text("")
    view = look(place, "/x", "/x/y")
    assert view["/"]["x"] == Entry("x", "file", 1, (2,))
    assert "/x" not in view
    assert "/x/y" not in view


def test_a_link_is_never_followed(place: Path) -> None:
    (place / "basso" / "vero").mkdir()
    (place / "root.upper" / "porta").symlink_to("/etc")
    (place / "root.upper" / "vicino").symlink_to("vero")
    view = look(place, "/porta", "/vicino", "/porta/ssl")
    assert view["/"]["porta"].kind == "link"
    assert [folder.path for folder in view.folders] == ["/"]


def test_what_was_written_is_shown_before_what_was_not(place: Path) -> None:
    for number in range(20):
        (place / "basso" / f"a{number:02}").write_text("")
    (place / "root.upper" / "z").write_text("x" * 5000)
    view = look(place, limit=3)
    assert [entry.name for entry in view["/"].entries] == ["a00", "a01", "z"]
    assert view["/"].rest == ((2, 18),)
    assert view.changed == ("/",)
    assert view.written >= 5000
    assert view.complete


def test_of_a_changed_folder_nobody_asked_for_only_the_changes_are_shown(place: Path) -> None:
    for layer in ("basso", "root.upper"):
        (place / layer / "x").mkdir()
        (place / layer / "x" / layer).write_text("")
    assert [entry.name for entry in look(place)["/x"].entries] == ["root.upper"]
    assert look(place)["/x"].rest == ((2, 1),)
    assert len(look(place, "/x")["/x"].entries) == 2


def test_how_much_is_read_has_a_bound(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = place / "root.upper"
    for _ in range(browsing.MOST_DEEP + 10):
        deep = deep / "giù"
        deep.mkdir()
    view = look(place)
    assert not view.complete
    assert len(view.changed) == browsing.MOST_DEEP + 1
    monkeypatch.setattr(browsing, "MOST_READ", 5)
    for number in range(10):
        (place / "basso" / str(number)).write_text("")
    assert not look(place)["/"].complete
    monkeypatch.setattr(browsing, "MOST_WRITTEN", 3)
    for number in range(10):
        (place / "root.upper" / str(number)).write_text("")
    assert not look(place).complete


def test_a_container_that_never_started_has_only_its_image(tmp_path: Path) -> None:
    (tmp_path / "basso" / "bin").mkdir(parents=True)
    view = browsing.look(ImageRoot("prova", (Tree("", (f"{tmp_path}/basso",)),)), f"{tmp_path}/niente", (), 100)
    assert (view.layers, view.changed, view.written) == (("strato scrivibile", "immagine prova"), (), 0)
    assert view["/"]["bin"].layer == 1


def test_a_root_made_of_pieces_says_from_which_piece(tmp_path: Path) -> None:
    for name in ("scheletro/usr", "scheletro/srv", "usr/bin", "maschera", "root.upper", "usr.upper/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "usr.upper" / "bin" / "nuovo").write_text("")
    pieces = (Tree("", (f"{tmp_path}/scheletro",)), Tree("usr", (f"{tmp_path}/maschera", f"{tmp_path}/usr")))
    view = browsing.look(ImageRoot("host", pieces), str(tmp_path), (), 100)
    assert view.layers == ("strato scrivibile", "host, preparata dal laboratorio", "/usr di questa macchina")
    assert (view["/"]["srv"].layer, view["/"]["usr"].layer) == (1, 2)
    assert view["/usr"]["bin"] == Entry("bin", "folder", 0, (2,))
    assert view["/usr/bin"]["nuovo"].layer == 0
    assert view.changed == ("/usr", "/usr/bin")


@pytest.mark.parametrize("path", ["etc", "/etc/../root", "", "/a\0b"])
def test_a_path_to_interpret_is_refused(path: str) -> None:
    with pytest.raises(InvalidError):
        browsing._clean(path)


def test_a_view_is_the_same_at_the_other_end_of_the_wire(place: Path) -> None:
    (place / "basso" / "x").mkdir()
    (place / "root.upper" / "x").mkdir()
    whiteout(place / "root.upper" / "y")
    view = look(place, "/x")
    data: Any = to_json(view)
    assert LayerView.from_json(data) == view
    with pytest.raises(NotFoundError):
        view["/non-c'è"]
    with pytest.raises(NotFoundError):
        view["/"]["non c'è"]

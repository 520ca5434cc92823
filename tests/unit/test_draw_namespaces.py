"""La mappa dei namespace dice chi condivide che cosa, e lo dice uguale a ogni esecuzione."""

from __future__ import annotations

import base64
import itertools
import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import namespaces, sharing
from labkit.model import NAMESPACES, ProcessInfo, Snapshot

HOST = {kind: 4026531800 + i for i, kind in enumerate(NAMESPACES)}


def snapshot(*changes: dict[str, int], names: tuple[str, ...] = ("notebook", "web", "uno", "due")) -> Snapshot:
    return Snapshot(
        tuple(ProcessInfo(100 + i, names[i], {**HOST, **change}) for i, change in enumerate(({}, *changes)))
    )


def letters(shot: Snapshot, kind: str) -> str:
    return "".join(row[NAMESPACES.index(kind)].letter for row in sharing.cells(shot))


shots = st.lists(
    st.tuples(st.text(max_size=12), st.dictionaries(st.sampled_from(NAMESPACES), st.integers(1, 5))), max_size=7
).map(lambda rows: Snapshot(tuple(ProcessInfo(i + 1, label, spaces) for i, (label, spaces) in enumerate(rows))))


@given(shots)
def test_letters_are_equal_exactly_where_namespaces_are(shot: Snapshot) -> None:
    for column, kind in enumerate(NAMESPACES):
        cells = [row[column] for row in sharing.cells(shot)]
        for one, two in itertools.combinations(cells, 2):
            a, b = (shot.processes[c.row].namespaces.get(kind) for c in (one, two))
            if a is None or b is None:
                assert sharing.UNREADABLE in (one.letter, two.letter)
            else:
                assert (one.letter == two.letter) == (a == b)
                assert (one.group == two.group) == (a == b)


@given(shots, st.integers(10, 10**9))
def test_text_and_drawing_do_not_depend_on_inodes_and_pids(shot: Snapshot, shift: int) -> None:
    moved = Snapshot(
        tuple(
            ProcessInfo(p.pid + shift, p.label, {k: v + shift for k, v in p.namespaces.items()}) for p in shot.processes
        )
    )
    assert namespaces.text(shot) == namespaces.text(moved)
    assert namespaces.to_svg(shot) == namespaces.to_svg(moved)


@given(shots)
def test_every_drawing_is_well_formed(shot: Snapshot) -> None:
    ElementTree.fromstring(namespaces.to_svg(shot))
    ElementTree.fromstring(namespaces.to_svg(shot, live=True))


def test_a_shared_namespace_of_neighbours_is_one_continuous_band() -> None:
    together = namespaces.to_svg(snapshot({"net": 7}, {"net": 7}))
    tree = ElementTree.fromstring(together)
    band = next(g for g in tree.iter() if g.get("data-group") == "net-B")
    boxes = [r for r in band if r.tag.endswith("rect")]
    assert len({r.get("height") for r in boxes}) == 1
    assert float(str(boxes[0].get("height"))) > 40  # taller than one row
    assert "lk-link" not in together


def test_the_same_namespace_in_distant_rows_is_linked_by_a_line() -> None:
    apart = ElementTree.fromstring(namespaces.to_svg(snapshot({"net": 7}, {}, {"net": 7})))
    band = next(g for g in apart.iter() if g.get("data-group") == "net-B")
    assert any("lk-link" in node.get("class", "") for node in band)


def test_different_namespaces_differ_in_letter_pattern_and_colour() -> None:
    tree = ElementTree.fromstring(namespaces.to_svg(snapshot({"uts": 1}, {"uts": 2}, {"uts": 3})))
    bands = [g for g in tree.iter() if str(g.get("data-group")).startswith("uts-")]
    looks = {re.sub(r"[\d.]+ [\d.]+", "", ElementTree.tostring(b, encoding="unicode")) for b in bands}
    assert len(bands) == len(looks) == 4
    assert letters(snapshot({"uts": 1}, {"uts": 2}, {"uts": 3}), "uts") == "ABCD"


def test_the_text_carries_everything_in_words() -> None:
    words = namespaces.text(snapshot({"uts": 1, "net": 7}, {"net": 7}))
    assert "nome host (uts): notebook e uno insieme; web da solo." in words
    assert "rete (net): web e uno insieme; notebook da solo." in words
    assert "orologio (time): notebook, web e uno insieme." in words
    header, kernel_names, notebook, web, *_ = words.splitlines()
    assert header.split() == ["nome", "host", "file", "processi", "ipc", "rete", "utenti", "cgroup", "orologio"]
    assert kernel_names.split() == ["uts", "mount", "pid", "net", "user", "time"]
    assert notebook.split() == ["notebook", *"AAAAAAAA"]
    assert web.split() == ["web", *"BAAABAAA"]


def test_a_cell_says_who_shares_it() -> None:
    cells = sharing.cells(snapshot({"uts": 1}))
    assert cells[1][NAMESPACES.index("net")].say == "web e notebook condividono la rete (net)."
    assert cells[1][0].say == "web non condivide il nome host (uts) con nessuno di questi processi."


def test_a_namespace_that_cannot_be_read_is_said_not_invented() -> None:
    shot = Snapshot((ProcessInfo(1, "notebook", HOST), ProcessInfo(2, "altro", {"uts": 5})))
    assert letters(shot, "net") == "A–"
    assert "rete (net): notebook da solo; di altro non si può leggere." in namespaces.text(shot)


def test_the_live_drawing_has_inodes_in_tooltips_and_one_cell_in_the_tab_order() -> None:
    shot = snapshot({"net": 4026539999})
    live = namespaces.to_svg(shot, live=True)
    assert "net:[4026539999]" in live
    assert "4026539999" not in namespaces.to_svg(shot)
    assert live.count('tabindex="0"') == 1
    tree = ElementTree.fromstring(live)
    assert [len([n for n in tree.iter() if n.get("role") == r]) for r in ("grid", "row", "gridcell")] == [1, 2, 16]


def test_equal_labels_are_told_apart() -> None:
    names = sharing.labels(snapshot({}, {}, {}, names=("web", "web (2)", "web", "web")))
    assert names == ["web", "web (2)", "web (3)", "web (4)"]


def test_the_mimebundle_has_text_svg_and_a_small_png() -> None:
    bundle = namespaces.mimebundle(snapshot({"uts": 1}, {"net": 7}, {"net": 7}))
    png = base64.b64decode(bundle["image/png"])
    assert png.startswith(b"\x89PNG")
    assert len(png) < 50_000
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle == namespaces.mimebundle(snapshot({"uts": 9}, {"net": 5}, {"net": 5}))


def test_changes_are_told_in_a_sentence() -> None:
    before = snapshot({"uts": 1})
    assert sharing.changes(before, before) == ""
    assert sharing.changes(before, snapshot()) == "Finito: web."
    assert sharing.changes(before, snapshot({"uts": 2, "net": 3}, {})) == (
        "Arrivato: uno. web ha cambiato: nome host (uts) e rete (net)."
    )


def test_letters_go_on_after_z() -> None:
    assert [sharing.index(sharing.letter(i)) for i in range(800)] == list(range(800))
    assert sharing.letter(701) == "ZZ"


def test_two_hundred_processes_are_drawn_quickly_and_completely() -> None:
    shot = snapshot(*({"uts": i, "net": i % 3} for i in range(200)), names=tuple(f"c{i}" for i in range(201)))
    tree = ElementTree.fromstring(namespaces.to_svg(shot))
    assert sum(g.get("data-group", "").startswith("uts-") for g in tree.iter()) == 201

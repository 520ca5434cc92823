"""Chi monta che cosa: ogni cosa montata si disegna una volta, e un volume libero si vede lo stesso."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import mounts
from labkit.draw.mounts import Row, Source, Use
from labkit.errors import NotFoundError
from labkit.volumes import read
from labkit.widgets.mount_map import MountMap

DATA, FREE, SITE = Source("volume", "dati", 2048), Source("volume", "libero", 0), Source("bind", "/srv/sito")
ROWS = [
    Row("db", (Use("/var/lib/mysql", DATA),)),
    Row("web", (Use("/srv", SITE, read_only=True), Use("/dati", DATA, read_only=True))),
    Row("solo"),
]
USES = st.builds(
    Use, st.text(max_size=80), st.builds(Source, st.sampled_from(("volume", "bind", "tmpfs")), st.text()), st.booleans()
)


def drawn(svg: str, tag: str) -> list[ElementTree.Element]:
    return [node for node in ElementTree.fromstring(svg).iter() if node.tag.endswith(tag)]


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in drawn(svg, "text")]


def test_a_line_for_each_place_and_a_box_for_each_thing() -> None:
    svg = mounts.to_svg(ROWS, [DATA, FREE])
    lines = drawn(svg, "path")
    assert len(lines) == 3
    assert sum("stroke-dasharray" in line.attrib for line in lines) == 2, "those that only read"
    words = words_of(svg)
    assert [words.count(name) for name in ("dati", "libero", "sito", "2 KiB", "non monta niente")] == [1] * 5


def test_the_words_say_who_mounts_what_and_how() -> None:
    assert mounts.text(ROWS, [DATA, FREE]).splitlines() == [
        "3 container, 3 cose da montare, 1 volume che qui nessuno monta.",
        "  db, in /var/lib/mysql: volume dati, in lettura e scrittura.",
        "  web, in /srv: cartella sito, in sola lettura.",
        "  web, in /dati: volume dati, in sola lettura.",
        "  solo: non monta niente.",
        "  volume libero: qui non lo monta nessuno.",
    ]


@given(st.lists(st.builds(Row, st.text(max_size=30), st.lists(USES, max_size=4).map(tuple)), max_size=4))
def test_any_laboratory_gives_a_whole_drawing(rows: list[Row]) -> None:
    for live in (False, True):
        assert len(drawn(mounts.to_svg(rows, live=live), "path")) == sum(len(row.uses) for row in rows)


class _Lab:
    closed = False

    def __init__(self) -> None:
        self.containers: dict[str, Any] = {"uno": read(volumes=["dati:/a:ro", "/srv/sito:/b"], tmpfs="/m:size=1m")}
        self.volume = SimpleNamespace(ls=lambda: [SimpleNamespace(name="dati", size=10)])

    def ps(self, all: bool = False) -> list[Any]:
        return [SimpleNamespace(name=name, inspect=lambda name=name: self.inspect(name)) for name in self.containers]

    def inspect(self, name: str) -> Any:
        if self.containers[name] is None:
            raise NotFoundError("via")
        return SimpleNamespace(mounts=self.containers[name])


def test_the_map_follows_containers_that_come_and_go() -> None:
    lab = _Lab()
    widget = MountMap(lab)
    assert "uno, in /m: memoria di uno, /m, in lettura e scrittura." in widget.words()
    assert "uno, in /a: volume dati, in sola lettura." in repr(widget)
    lab.containers = {"uno": None, "due": read("dati:/x")}
    widget.refresh()
    assert widget.words().splitlines()[1:] == ["  due, in /x: volume dati, in lettura e scrittura."]
    assert widget.map.news == "1 container, 1 cosa da montare."
    assert MountMap(lab, ["nessuno"]).words() == "0 container, 0 cose da montare."
    widget.close()

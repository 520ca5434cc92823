"""Il costruttore di SVG: esatto, protetto, leggibile su chiaro e su scuro."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import svg

NASTY = "<script>alert('x')</script>&\"\x00\x1b[31m\u202e"


@given(st.text())
def test_any_text_gives_well_formed_xml_and_reads_back_clean(words: str) -> None:
    tree = ElementTree.fromstring(svg.render(svg.group(svg.title(words), svg.text(0, 0, words, data_name=words))))
    title, label = tree
    # XML itself turns a bare carriage return or tab of an attribute into a space; clean() has done it before.
    assert title.text in (svg.clean(words), None)
    assert (label.text or "") == svg.clean(words)
    assert label.attrib["data-name"] == svg.clean(words)


def test_hostile_names_stay_text() -> None:
    written = svg.render(svg.document(10, 10, NASTY, NASTY, svg.text(0, 0, NASTY)))
    assert "<script" not in written
    assert "\x1b" not in written
    assert "\u202e" not in written
    ElementTree.fromstring(written)


def test_a_document_says_its_role_name_and_description() -> None:
    root = ElementTree.fromstring(svg.render(svg.document(30, 20, "Mappa", "Due processi.")))
    space = "{http://www.w3.org/2000/svg}"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Mappa"
    assert [root[0].tag, root[0].text] == [f"{space}title", "Mappa"]
    assert [root[1].tag, root[1].text] == [f"{space}desc", "Due processi."]


def test_two_drawings_in_one_page_share_no_id() -> None:
    assert " id=" not in svg.render(svg.document(30, 20, "a", "b", svg.rect(0, 0, 1, 1, fill="hue1")))


def test_colours_follow_the_theme_and_have_a_fallback() -> None:
    assert svg.render(svg.rect(0, 0, 1, 1, fill="ink")).count('fill="#212121" class="lk-f-ink"') == 1
    assert "--lk-ink:var(--jp-content-font-color1,#212121)" in svg.STYLE
    assert "@media (prefers-color-scheme:dark)" in svg.STYLE


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, two: str) -> float:
    high, low = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_words_and_shapes_have_enough_contrast_in_both_themes() -> None:
    for shade in (1, 2):
        paper = svg.PALETTE["paper"][shade]
        for name, entry in svg.PALETTE.items():
            if name in ("ink", "soft", "bad"):
                assert _contrast(str(entry[shade]), paper) >= 4.5, (name, shade)
            elif name.startswith("hue") or name in ("good", "focus"):
                assert _contrast(str(entry[shade]), paper) >= 3, (name, shade)


def test_every_class_used_by_colours_is_in_the_stylesheet() -> None:
    drawn = svg.render(svg.group(*(svg.rect(0, 0, 1, 1, fill=n, stroke=n) for n in svg.PALETTE)))
    for name in set(re.findall(r"lk-[fs]-\w+", drawn)):
        assert f".{name}{{" in svg.STYLE

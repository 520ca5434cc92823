"""Due ambienti a confronto: ogni differenza ha il suo segno, la sua parola e chi l'ha decisa."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import environment
from labkit.environment import Variable
from labkit.errors import LabError
from labkit.widgets.environment_diff import EnvironmentDiff

NAMES = ("rosso", "blu")
LEFT = [Variable("PATH", "/bin", "image"), Variable("COLORE", "tomato", "option"), Variable("SOLO", "", "file")]
RIGHT = [Variable("PATH", "/bin", "image"), Variable("COLORE", "skyblue", "file"), Variable("TERM", "xterm", "lab")]
SIDE = st.lists(
    st.builds(
        Variable, st.text(min_size=1, max_size=8), st.text(max_size=60), st.sampled_from(list(environment.ORIGINS))
    ),
    max_size=5,
    unique_by=lambda v: v.name,
)


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_differences_come_first_and_every_variable_has_one_row() -> None:
    found = environment.rows(LEFT, RIGHT)
    assert [(row.name, row.state) for row in found] == [
        ("COLORE", "different"), ("SOLO", "left"), ("TERM", "right"), ("PATH", "same"),
    ]  # fmt: skip


def test_the_same_value_from_two_places_is_the_same() -> None:
    found = environment.rows([Variable("A", "1", "image")], [Variable("A", "1", "option")])
    assert [row.state for row in found] == ["same"]
    assert "dall'immagine" in environment.text(found, NAMES)
    assert "da -e" in environment.text(found, NAMES)


def test_the_words_say_all_that_the_drawing_says() -> None:
    assert environment.text(environment.rows(LEFT, RIGHT), NAMES).splitlines() == [
        "   variabile  rosso                              blu",
        "≠  COLORE     tomato (da -e)                     skyblue (da un file (--env-file))",
        "◀  SOLO       (vuota) (da un file (--env-file))  –",
        "▶  TERM       –                                  xterm (dal laboratorio)",
        "=  PATH       /bin (dall'immagine)               /bin (dall'immagine)",
        "",
        "4 variabili: 1 diversa, 1 solo in rosso, 1 solo in blu e 1 uguale.",
    ]


def test_a_state_is_told_by_a_mark_and_a_word_beside_the_colour() -> None:
    words = words_of(environment.to_svg(environment.rows(LEFT, RIGHT), NAMES))
    assert {"≠", "◀", "▶", "=", "diversa", "solo in rosso", "solo in blu", "uguale", "(vuota)", "non c'è"} <= set(words)


def test_who_moves_with_the_keys_hears_every_row() -> None:
    svg = ElementTree.fromstring(environment.to_svg(environment.rows(LEFT, RIGHT), NAMES, live=True))
    rows = [node for node in svg.iter() if node.get("role") == "listitem"]
    assert [node.get("tabindex") for node in rows] == ["0"] * 4
    assert rows[0].get("aria-label") == (
        "COLORE, diversa: in rosso vale «tomato», da -e; in blu vale «skyblue», da un file (--env-file)."
    )


@given(SIDE, SIDE)
def test_any_two_environments_give_well_formed_xml_and_every_name(left: list[Variable], right: list[Variable]) -> None:
    found = environment.rows(left, right)
    assert {row.name for row in found} == {v.name for v in (*left, *right)}
    for row in found:
        assert (row.state == "same") == (
            row.left is not None and row.right is not None and row.left.value == row.right.value
        )
    ElementTree.fromstring(environment.to_svg(found, NAMES, live=True))


@dataclass
class Inspected:
    env: tuple[Variable, ...]


@dataclass
class HandMadeContainer:
    """Un container che risponde quello che gli si dice; con ``error`` solleva quello."""

    name: str
    env: tuple[Variable, ...]
    error: LabError | None = None
    asked: int = field(default=0)

    def inspect(self) -> Inspected:
        self.asked += 1
        if self.error:
            raise self.error
        return Inspected(self.env)


def test_the_box_hides_what_is_the_same_and_the_button_reads_again() -> None:
    one, two = HandMadeContainer("rosso", tuple(LEFT)), HandMadeContainer("blu", tuple(RIGHT))
    widget = EnvironmentDiff(one, two)
    assert widget.words() == environment.text(environment.rows(LEFT, RIGHT), NAMES)
    assert "PATH" in widget.drawing.svg
    widget.only.value = True
    assert "PATH" not in widget.drawing.svg
    assert widget.drawing.news == "4 variabili: 1 diversa, 1 solo in rosso, 1 solo in blu e 1 uguale."
    two.env = tuple(LEFT)
    widget.again.click()
    assert (one.asked, two.asked) == (2, 2)
    assert "Nessuna differenza." in widget.drawing.svg
    widget.only.value = False
    assert "PATH" in widget.drawing.svg


def test_what_the_laboratory_answers_no_to_is_told_under_the_drawing() -> None:
    one, two = HandMadeContainer("rosso", tuple(LEFT)), HandMadeContainer("blu", tuple(RIGHT))
    widget = EnvironmentDiff(one, two)
    before = widget.drawing.svg
    two.error = LabError("Il container «blu» non c'è.", "lab.ps(all=True)")
    widget.refresh()
    assert widget.drawing.problem == "Il container «blu» non c'è. Rimedio: lab.ps(all=True)"
    assert widget.drawing.svg == before
    two.error = None
    widget.refresh()
    assert widget.drawing.problem == ""

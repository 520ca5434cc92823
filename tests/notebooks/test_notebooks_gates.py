"""I notebook conservati rispettano le regole del corso, e le regole mordono quando qualcosa non va."""

from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.course import notebook
from labkit.course.catalog import exercises, numbers, parse_questions
from tests.notebooks import gates
from tests.notebooks.gates import NOTEBOOKS, ROOT, lesson_number
from tests.notebooks.italian import MIN_GULPEASE, WORDS, gulpease, prose, prose_of, unknown_words

lessons = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)

RULES = (gates.executed, gates.errors, gates.stable, gates.tidy, gates.structure, gates.balance, gates.imports)


def test_the_lessons_are_there() -> None:
    assert {"00", "03"} <= {lesson_number(p) for p in NOTEBOOKS}


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
@lessons
def test_a_lesson_keeps_the_rule(path: Path, rule: Any) -> None:
    assert list(rule(notebook.read(path))) == []


@pytest.mark.parametrize("rule", [gates.material, gates.exercises, gates.predictions], ids=lambda r: r.__name__)
@lessons
def test_a_lesson_has_what_its_data_promise(path: Path, rule: Any) -> None:
    assert list(rule(notebook.read(path), lesson_number(path))) == []


@lessons
def test_few_outputs_escape_the_comparison(path: Path, record_testsuite_property: Any) -> None:
    ignored, total = gates.ignored_share(notebook.read(path))
    print(f"{path.name}: {ignored} celle non confrontate su {total} ({ignored / total:.0%})")
    record_testsuite_property(f"{path.stem}-non-confrontate", f"{ignored}/{total}")
    assert ignored <= gates.MAX_IGNORED * total


@lessons
def test_a_lesson_is_easy_to_read(path: Path) -> None:
    index = gulpease(prose_of(notebook.read(path)))
    print(f"{path.name}: Gulpease {index:.0f}")
    assert index >= MIN_GULPEASE


@lessons
def test_a_lesson_is_spelled_in_italian(path: Path) -> None:
    assert unknown_words(prose_of(notebook.read(path))) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "labkit" / "course" / "lessons").glob("quiz_*.toml")), ids=lambda p: p.stem
)
def test_a_quiz_is_spelled_in_italian(path: Path) -> None:
    questions = parse_questions(path.read_text()).values()
    words = "\n\n".join(x for q in questions for x in [q.text, *(f"{a.text}: {a.why}" for a in q.answers)])
    assert unknown_words(prose(words)) == []


@pytest.mark.parametrize("number", numbers())
def test_exercises_are_spelled_in_italian(number: str) -> None:
    words = "\n\n".join(x for e in exercises(number).values() for x in (e.title, e.goal))
    assert unknown_words(prose(words)) == []


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "slides").glob("[0-9]*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_a_page_is_spelled_in_italian(path: Path) -> None:
    italian, *english = path.read_text().split("\n## In English")
    assert len(english) <= 1
    assert unknown_words(prose(italian)) == []


def test_the_list_of_words_is_in_order_and_holds_no_doubles() -> None:
    words = [w for w in WORDS.read_text().splitlines() if w and not w.startswith("#")]
    assert words == sorted(set(words), key=lambda w: (w.lower(), w))


# The rules themselves: each one must say no to a notebook that breaks it.


def code(source: str, *outputs: dict[str, Any], count: int | None = 1, tags: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": f"c{count}",
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source.splitlines(keepends=True),
        "outputs": list(outputs),
        "execution_count": count,
    }


def result(words: str, mime: str = "text/plain") -> dict[str, Any]:
    return {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {mime: [words]}}


def text_cell(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "m", "metadata": {}, "source": [source]}


def make(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


ERROR = {"output_type": "error", "ename": "LabError", "evalue": "no", "traceback": []}


@pytest.mark.parametrize(
    ("rule", "nb"),
    [
        (gates.executed, make(code("x = 1", count=None))),
        (gates.executed, make(code("x = 1", count=1), code("y = 1", count=3))),
        (gates.errors, make(code("x", ERROR))),
        (gates.errors, make(code("x", tags=("raises-exception",)))),
        (gates.stable, make(code("x", result("<labkit.Lab object at 0x7f2b3c4d5e6f>")))),
        (gates.stable, make(code("x", result("uts:[4026532198]")))),
        (gates.stable, make(code("x", {"output_type": "stream", "name": "stdout", "text": ["alle 10:02:59\n"]}))),
        (gates.tidy, {**make(code("x")), "metadata": {"widgets": {}}}),
        (gates.tidy, gates.notebook.normalised(make(code("x", result("A" * 70_000, "image/png"))))),
        (gates.structure, make(text_cell("## Quiz"), text_cell("# Titolo"))),
        (gates.balance, make(code("x"), code("y"))),
        (gates.balance, make(text_cell("a"), code("x = 1\n" * 16))),
        (gates.imports, make(code("from labkit import kernel"))),
        (gates.imports, make(code("from labkit.kernel import libc"))),
        (gates.imports, make(code("import labkit.kernel"))),
        (gates.imports, make(code("from labkit import _nascosto"))),
        (gates.imports, make(code("%%lab\nfrom labkit.kernel import libc"))),
    ],
)
def test_a_rule_says_no(rule: Any, nb: dict[str, Any]) -> None:
    assert list(rule(nb))


@pytest.mark.parametrize(
    "nb",
    [
        make(code("%%lab\nfrom labkit import kernel\nkernel.unshare('uts')")),
        make(code("from labkit import Lab, check")),
        make(code("import labkit")),
    ],
)
def test_the_rule_of_imports_says_yes_to_what_is_public(nb: dict[str, Any]) -> None:
    assert list(gates.imports(nb)) == []
    assert {"Lab", "check"} <= set(labkit.__all__)


SOLVED = "x = None\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION"


def three_exercises(**changes: Any) -> dict[str, Any]:
    cells = []
    for number in (1, 2, 3, 4):
        key = f"es-00-{number}"
        cells.append(code(changes.get("source", SOLVED), tags=(changes.get("key", key),)))
        words = changes.get("words", f"✔ {key} «Titolo»: riuscito.")
        check = code(changes.get("check", f'check("{key}", lab)'), result(words), tags=changes.get("tags", ()))
        cells.append(check)
    return make(*cells)


def test_the_rule_of_exercises_says_yes() -> None:
    assert list(gates.exercises(three_exercises(), "00")) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "x = None"},
        {"key": "altro"},
        {"key": "es-00-1"},
        {"check": "x"},
        {"words": "✘ es-00-1: mi aspettavo…"},
        {"tags": ("nbval-ignore-output",)},
    ],
)
def test_the_rule_of_exercises_says_no(changes: dict[str, Any]) -> None:
    assert list(gates.exercises(three_exercises(**changes), "00"))


PREDICT = 'p = predict("p-98-1", "Quanti?", ["uno", "tutti"])'


@pytest.mark.parametrize(
    ("outcomes", "reveal", "words"),
    [
        ({"p-98-1": "uno"}, "p.reveal()", ""),
        ({}, 'p.reveal("uno")', ""),
        ({}, "p.reveal()", "manca in quiz_98.toml"),
        ({"p-98-1": "due"}, "p.reveal()", "non è fra le opzioni"),
        ({"p-98-1": "uno", "p-98-2": "uno"}, "p.reveal()", "p-98-2"),
    ],
)
def test_the_rule_of_predictions(
    monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str], reveal: str, words: str
) -> None:
    monkeypatch.setattr(gates.catalog, "outcomes", lambda number: outcomes)
    said = "\n".join(gates.predictions(make(code(PREDICT), code(reveal)), "98"))
    assert words in said
    assert bool(words) == bool(said)


def test_an_ignored_cell_is_counted_however_it_is_marked() -> None:
    nb = make(code("# NBVAL_IGNORE_OUTPUT\nx"), code("x", tags=("nbval-skip",)), code("x"), text_cell("x"))
    assert gates.ignored_share(nb) == (2, 3)


def test_prose_is_what_a_reader_reads() -> None:
    markdown = "## Titolo\n\nUna `riga` e **due**.\n\n```\ncodice\n```\n\n- primo\n- secondo\n\n| a | b |\n|---|---|\n"
    assert prose(markdown) == "Titolo. Una codice e due. primo. secondo."


def test_gulpease_prefers_short_words_and_short_sentences() -> None:
    easy = "Un processo vive nel kernel. Il kernel gli dà un nome. Il nome vale solo lì."
    hard = "L'implementazione dell'isolamento attraverso meccanismi di virtualizzazione, caratterizzati da complessità"
    assert gulpease(easy) > 80
    assert gulpease(hard) < MIN_GULPEASE


def test_a_misspelled_word_is_found_and_a_known_one_is_not() -> None:
    assert unknown_words("Perché l'hostname del container è qesto? Dov'è dell’host /proc/1/ns e eth0?") == ["qesto"]

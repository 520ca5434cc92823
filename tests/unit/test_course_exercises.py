"""Verifiche, indizi, parametri e progressi: quello che uno studente incontra quando fa un esercizio."""

import json
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit.course import catalog, progress
from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, check, expect, first_failure, hint, parameter
from labkit.course.student import student_folder, student_id, write_atomic
from labkit.errors import InvalidError, LabClosedError, NotFoundError
from labkit.model import Feature, Outcome

HINTS = ("primo", "secondo", "scrivi {parametro} e {altro}")


def broken(lab: Any) -> Outcome:
    raise ZeroDivisionError("divisione per zero")


def closed(lab: Any) -> Outcome:
    raise LabClosedError("Il laboratorio è finito.", "lab = Lab()")


EXERCISES = (
    Exercise(
        "es-99-1",
        "Il nome",
        "Chiamalo {parametro}",
        HINTS,
        lambda lab, name: expect(name == parameter("es-99-1"), "il nome giusto", str(name)),
        animal,
    ),
    Exercise("es-99-2", "Rotto", "…", HINTS, broken),
    Exercise("es-99-3", "Chiuso", "…", HINTS, closed),
    Exercise("es-99-4", "Distratto", "…", HINTS, lambda lab: True),  # type: ignore[arg-type, return-value]
    Exercise("es-99-5", "Esigente", "…", HINTS, lambda lab: expect(True, "…", "tutto"), needs="time"),
)


@pytest.fixture(autouse=True)
def lesson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Una lezione 99 che vive solo qui, uno studente noto, nessuna cartella dello studente."""
    module = types.ModuleType("labkit.course.lessons.lesson_99")
    module.EXERCISES = EXERCISES  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(progress, "_memory", {})
    monkeypatch.setenv("LABKIT_STUDENT", "esempio")
    monkeypatch.delenv("LABKIT_FOLDER", raising=False)
    monkeypatch.chdir(tmp_path)
    catalog.exercises.cache_clear()
    yield
    catalog.exercises.cache_clear()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """La cartella di uno studente."""
    (tmp_path / ".labkit").mkdir()
    return tmp_path


def saved(copy: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((copy / ".labkit" / "progressi.json").read_text())
    return data


def test_a_right_answer_passes_and_says_what_was_found() -> None:
    verdict = check("es-99-1", None, parameter("es-99-1"))
    assert verdict
    assert repr(verdict) == f"✔ es-99-1 «Il nome»: riuscito. Ho trovato {parameter('es-99-1')}."


def test_a_wrong_answer_says_expected_found_and_the_first_hint() -> None:
    verdict = check("es-99-1", None, "pippo")
    assert not verdict
    assert repr(verdict) == "✘ es-99-1 «Il nome»: mi aspettavo il nome giusto, ho trovato pippo; indizio: primo"
    assert "mi aspettavo" in verdict._repr_html_()


def test_what_the_student_wrote_is_text_in_the_page_and_not_html() -> None:
    assert "<script>" not in check("es-99-1", None, "<script>")._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("es-99-2", None), "un errore di Python (ZeroDivisionError: divisione per zero); indizio: primo"),
        (("es-99-3", None), "Il laboratorio è finito; indizio: lab = Lab()"),
        (("es-99-4", None), "una verifica che ha dato bool"),
        (("es-99-1",), 'una verifica chiamata con 0 argomenti; indizio: check("es-99-1", lab, name)'),
        (("es-99-8", None), "L'esercizio «es-99-8» non c'è"),
        (("../../x", None), "non c'è"),
        ((None,), "non c'è"),
    ],
)
def test_a_check_never_raises(arguments: tuple[Any, ...], words: str) -> None:
    verdict = check(*arguments)
    assert not verdict
    assert words in repr(verdict)


@dataclass
class FakeLab:
    features: dict[str, Feature]


def test_an_exercise_that_this_laboratory_cannot_do_says_why_and_does_not_count() -> None:
    without = FakeLab({"time": Feature("time", "tempo", False, "manca il namespace time", "Lab(backend='qemu')")})
    verdict = check("es-99-5", without)
    assert not verdict
    assert repr(verdict) == (
        "– es-99-5 «Esigente»: qui non si può fare, e non conta. Manca il namespace time. Rimedio: Lab(backend='qemu')"
    )
    assert "non si può fare" in verdict._repr_html_()
    assert "Manca il namespace time" in verdict._repr_html_()
    assert progress.entry("esercizi", "es-99-5") == {}
    assert check("es-99-5", FakeLab({"time": Feature("time", "tempo", True)}))


def test_hints_go_from_first_to_last_and_stay_there() -> None:
    name = parameter("es-99-1")
    texts = [repr(hint("es-99-1")) for _ in range(4)]
    assert texts[:2] == ["Indizio 1 di 3: primo", "Indizio 2 di 3: secondo"]
    assert texts[2:] == [f"Indizio 3 di 3: scrivi {name} e {{altro}}"] * 2


def test_a_hint_for_an_unknown_exercise_proposes_a_known_one() -> None:
    with pytest.raises(NotFoundError) as info:
        hint("es-00-11")
    assert "es-00-1" in info.value.remedy


def test_a_parameter_depends_on_the_student_and_on_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = parameter("es-99-1")
    assert parameter("es-99-1") == mine
    others = set()
    for number in range(20):
        monkeypatch.setenv("LABKIT_STUDENT", f"studente-{number}")
        others.add(parameter("es-99-1"))
    assert len(others) > 10
    monkeypatch.setenv("LABKIT_STUDENT", "esempio")
    assert parameter("es-99-1") == mine


def test_an_exercise_without_parameter_says_so() -> None:
    with pytest.raises(InvalidError, match="uguale per tutti"):
        parameter("es-99-2")


def test_the_student_is_who_the_copy_says(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_STUDENT")
    (copy / ".labkit" / "studente.json").write_text('{"id": "anna-1"}')
    assert student_id() == "anna-1"
    (copy / ".labkit" / "studente.json").write_text("guasto")
    assert student_id() not in ("anna-1", "")


def test_the_students_folder_is_found_from_inside_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "figure").mkdir()
    monkeypatch.chdir(copy / "figure")
    assert student_folder() == copy


def test_outside_a_copy_nothing_is_written(tmp_path: Path) -> None:
    check("es-99-1", None, "pippo")
    hint("es-99-1")
    assert list(tmp_path.iterdir()) == []
    assert progress.entry("esercizi", "es-99-1")["prove"] == 1


def test_progress_is_kept_and_a_success_is_never_lost(copy: Path) -> None:
    check("es-99-1", None, parameter("es-99-1"))
    hint("es-99-1")
    check("es-99-1", None, "pippo")
    assert saved(copy) == {"esercizi": {"es-99-1": {"riuscito": True, "prove": 2, "indizi": 1}}}


@pytest.mark.parametrize("text", ["{guasto", "[]", '{"esercizi": 3}', '{"esercizi": {"es-99-1": []}}'])
def test_a_damaged_progress_file_does_not_stop_the_student(copy: Path, text: str) -> None:
    (copy / ".labkit" / "progressi.json").write_text(text)
    assert check("es-99-1", None, parameter("es-99-1"))
    assert saved(copy)["esercizi"]["es-99-1"]["riuscito"] is True


def test_a_damaged_progress_file_is_put_aside(copy: Path) -> None:
    (copy / ".labkit" / "progressi.json").write_text("{guasto")
    hint("es-99-1")
    assert (copy / ".labkit" / "progressi.guasto.json").read_text() == "{guasto"


def test_a_folder_that_cannot_be_written_does_not_stop_a_check(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_FOLDER", "/proc/self/non-c-è")
    assert check("es-99-1", None, parameter("es-99-1"))
    assert "non si sono potuti salvare" in capsys.readouterr().err


def test_notebooks_open_together_lose_no_progress(copy: Path) -> None:
    code = (
        "import sys; from labkit.course import progress\n"
        "for n in range(25): progress.record('quiz', f'q-{sys.argv[1]}-{n}', giusta=True)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(n)], cwd=copy, env=_env()) for n in range(4)]
    assert [p.wait() for p in running] == [0] * 4
    assert len(saved(copy)["quiz"]) == 100


def _env() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(progress.__file__).parents[2]), "PATH": "/usr/bin:/bin"}


def test_the_summary_counts_what_is_done() -> None:
    before = {p.lesson: p for p in progress.summary()}["00"]
    assert before.exercises == (0, len(catalog.exercises("00")))
    progress.record("esercizi", "es-00-1", riuscito=True)
    after = {p.lesson: p for p in progress.summary()}["00"]
    assert after.exercises[0] == 1
    assert f"Lezione 00: esercizi riusciti 1 su {after.exercises[1]}" in repr(progress.summary())
    assert "<td>00</td>" in progress.summary()._repr_html_()


def test_an_atomic_write_keeps_the_mode_and_leaves_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"vecchio")
    path.chmod(0o600)
    write_atomic(path, b"nuovo")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"nuovo", 0o600)
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError):
        write_atomic(tmp_path / "d", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "d"]


def test_first_failure_stops_where_it_fails() -> None:
    seen = []

    def steps() -> Iterator[Outcome]:
        for ok in (True, False, True):
            seen.append(ok)
            yield expect(ok, "e", "f")

    assert not first_failure(steps())
    assert seen == [True, False]
    assert not first_failure([])


@pytest.mark.parametrize(
    "values",
    [
        {"key": "esercizio"},
        {"hints": ("uno", "due")},
        {"hints": ("uno", "due", "")},
        {"title": ""},
        {"goal": ""},
    ],
)
def test_an_incomplete_exercise_is_refused(values: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"key": "es-99-9", "title": "t", "goal": "g", "hints": HINTS, "check": broken}
    with pytest.raises(InvalidError):
        Exercise(**{**whole, **values})


@pytest.mark.parametrize("number", catalog.numbers())
def test_every_lesson_is_complete(number: str) -> None:
    exercises, questions = catalog.exercises(number), catalog.questions(number)
    assert len(exercises) >= 3
    assert len(questions) >= 3
    assert all(key.startswith(f"es-{number}-") for key in exercises)
    assert all(key.startswith(f"q-{number}-") for key in questions)
    assert any(e.parameter for e in exercises.values())
    assert all(repr(hint(key)).startswith("Indizio 1 di 3") for key in exercises)

"""Ogni notebook, eseguito davvero: da root e da utente normale dà gli output conservati, e gli esercizi tornano."""

import shutil
import sys
from pathlib import Path

import pytest

from labkit.course import notebook
from tests.notebooks import running
from tests.notebooks.gates import NOTEBOOKS
from tests.notebooks.running import RunAs, checks, comparable, environment, nbval, shared_folder

pytestmark = [pytest.mark.notebooks, pytest.mark.kernel, pytest.mark.slow]

lessons = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
#: The two ends of what a user may do; the one in between runs each lesson as another student.
modes = pytest.mark.parametrize("mode", ["root", "nosub"])


def code_count(path: Path) -> int:
    return sum(c["cell_type"] == "code" for c in notebook.read(path)["cells"])


@modes
@lessons
def test_a_lesson_gives_the_stored_outputs_and_each_is_really_compared(run_as: RunAs, path: Path, mode: str) -> None:
    verdict = nbval(run_as, mode, path)
    assert verdict.failed == (), verdict.log
    assert verdict.tried == tuple(range(code_count(path)))
    assert verdict.noticed == comparable(notebook.read(path))
    assert len(verdict.noticed) >= 5


@pytest.mark.parametrize("mode", ["user"])
@lessons
def test_the_solutions_work_for_another_student(run_as: RunAs, path: Path, mode: str) -> None:
    with shared_folder() as folder:
        copy = folder / path.name
        shutil.copy(path, copy)
        copy.chmod(0o666)
        result = running.execute(run_as, mode, [copy], student="un altro studente")
        assert result.returncode == 0, result.stderr
        found = checks(notebook.read(copy))
    assert len(found) >= 3
    assert {key: words[:1] for key, words in found.items()} == dict.fromkeys(found, "✔"), found


# The one who may least: as root the copy is run by tests/browser, and there too every stub must fail with a hint.
@pytest.mark.parametrize("mode", ["nosub"])
@lessons
def test_the_students_copy_runs_and_every_stub_fails_with_a_hint(run_as: RunAs, path: Path, mode: str) -> None:
    """Dalla copia appena consegnata: nessuna cella fallisce, ogni verifica aiuta, e i progressi lo sanno."""
    with shared_folder() as folder:
        target = folder / "copia"
        made = run_as(mode, [sys.executable, "-c", _COPY, str(target)], env=environment())
        assert made.returncode == 0, made.stderr
        assert sorted(p.name for p in target.glob("*.ipynb")) == [p.name for p in NOTEBOOKS]
        result = running.execute(run_as, mode, [target / path.name], student="studente senza soluzioni")
        assert result.returncode == 0, result.stderr
        nb = notebook.read(target / path.name)
        assert list(running.unhelpful(nb)) == []
        assert running.progress(target) == dict.fromkeys(checks(nb), False)


_COPY = "import sys; from labkit.course.copies import make_copy; print(make_copy(sys.argv[1]))"

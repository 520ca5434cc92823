"""Ogni notebook, eseguito davvero: da root e da utente normale dà gli output conservati, e gli esercizi tornano."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from labkit.course import notebook
from tests.notebooks import running
from tests.notebooks.gates import NOTEBOOKS, lesson_number, tags
from tests.notebooks.running import RunAs, checks, environment, mutate, nbval, shared_folder

pytestmark = [pytest.mark.notebooks, pytest.mark.kernel, pytest.mark.slow]

lessons = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
modes = pytest.mark.parametrize("mode", ["root", "user", "nosub"])


def code_count(path: Path) -> int:
    return sum(c["cell_type"] == "code" for c in notebook.read(path)["cells"])


@modes
@lessons
def test_a_lesson_gives_the_stored_outputs(run_as: RunAs, path: Path, mode: str) -> None:
    verdict = nbval(run_as, mode, path)
    assert verdict.failed == (), verdict.log
    assert verdict.tried == tuple(range(code_count(path)))


@lessons
def test_every_stored_output_is_really_compared(run_as: RunAs, path: Path, mode: str) -> None:
    nb = notebook.read(path)
    spoiled = mutate(nb)
    assert len(spoiled) >= 5
    with shared_folder() as folder:
        copy = folder / path.name
        copy.write_bytes(notebook.dump(nb))
        verdict = nbval(run_as, mode, copy)
    assert verdict.failed == spoiled, verdict.log


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


@pytest.mark.parametrize("mode", ["root", "nosub"])  # seven lessons each: the two ends of what one may do
def test_the_students_copy_runs_and_every_stub_fails_with_a_hint(run_as: RunAs, mode: str) -> None:
    """Tutte le lezioni, dalla copia appena consegnata: nessuna cella fallisce, ogni verifica aiuta."""
    with shared_folder() as folder:
        target = folder / "copia"
        made = run_as(mode, [sys.executable, "-c", _COPY, str(target)], env=environment())
        assert made.returncode == 0, made.stderr
        copies = sorted(target.glob("*.ipynb"))
        assert [p.name for p in copies] == [p.name for p in NOTEBOOKS]
        result = running.execute(run_as, mode, copies, student="studente senza soluzioni")
        assert result.returncode == 0, result.stderr
        for path in copies:
            nb = notebook.read(path)
            found = checks(nb)
            assert len(found) >= 3
            for key, words in found.items():
                assert words.startswith(f"✘ {key} "), words
                assert "indizio: " in words
                assert "Traceback" not in words
                assert "un errore di Python" not in words
            _no_surprises(path, nb)
        _progress_is_kept(target)


_COPY = "import sys; from labkit.course.copies import make_copy; print(make_copy(sys.argv[1]))"


def _no_surprises(path: Path, nb: dict[str, Any]) -> None:
    for cell in notebook.code_cells(nb):
        failed = [o["ename"] for o in cell["outputs"] if o["output_type"] == "error"]
        assert not failed or "raises-exception" in tags(cell), (path.name, failed)


def _progress_is_kept(target: Path) -> None:
    progress = json.loads((target / ".labkit" / "progressi.json").read_text())["esercizi"]
    lessons_seen = {key[3:5] for key in progress}
    assert lessons_seen == {lesson_number(p) for p in NOTEBOOKS}
    assert not any(entry["riuscito"] for entry in progress.values())

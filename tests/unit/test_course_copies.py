"""La copia dello studente: senza soluzioni, e il lavoro fatto non si tocca mai."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labkit.course import copies, notebook
from labkit.course.copies import make_copy
from labkit.course.notebook import keep_outputs, normalised, student_version, without_solution
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError

NAME = "03-namespace.ipynb"
SOLVED = "nome = None\n### BEGIN SOLUTION\nnome = 'volpe'\n### END SOLUTION\nprint(nome)"


def code(source: str, **metadata: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source)) % 10**6}",
        "source": source.splitlines(keepends=True),
        "metadata": metadata,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["volpe\n"]}],
        "execution_count": 1,
    }


def make(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {"widgets": {}}, "nbformat": 4, "nbformat_minor": 5}


def put(path: Path, *cells: dict[str, Any]) -> None:
    path.write_bytes(notebook.dump(make(*cells)))


def texts(path: Path) -> list[str]:
    return [notebook.text(c["source"]) for c in notebook.read(path)["cells"]]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """I notebook verificati, con un'immagine e un glossario accanto."""
    folder = tmp_path / "notebooks"
    (folder / "figure").mkdir(parents=True)
    (folder / "figure" / "strati.png").write_bytes(b"png")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "x.ipynb").write_text("{}")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "glossario.md").write_text("# Glossario\n")
    put(folder / NAME, code(SOLVED, tags=["es-03-1"], execution={"iopub.status.busy": "ora"}))
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "casa" / "copia"


def states(target: Path, origin: Path) -> dict[str, str]:
    return {f.name: f.state for f in make_copy(target, origin).files}


def work(path: Path, text: str = "il mio lavoro") -> bytes:
    """Lo studente scrive nella prima cella."""
    data = notebook.read(path)
    data["cells"][0]["source"] = [text]
    path.write_text(json.dumps(data))
    return path.read_bytes()


def test_the_copy_has_no_solutions_no_outputs_no_traces_of_the_author(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    (cell,) = notebook.read(target / NAME)["cells"]
    assert notebook.text(cell["source"]) == "nome = None\n# scrivi qui la tua soluzione\nprint(nome)"
    assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert cell["metadata"] == {"tags": ["es-03-1"]}
    assert "widgets" not in notebook.read(target / NAME)["metadata"]


def test_the_copy_has_what_the_lessons_need_and_nothing_hidden(origin: Path, target: Path) -> None:
    assert states(target, origin) == {NAME: "nuovo", "figure/strati.png": "nuovo", "glossario.md": "nuovo"}
    assert (target / "figure" / "strati.png").read_bytes() == b"png"
    assert sorted(os.listdir(target)) == [".labkit", NAME, "figure", "glossario.md"]


def test_a_second_copy_changes_nothing(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in target.rglob("*") if p.is_file()}
    assert set(states(target, origin).values()) == {"uguale"}
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in target.rglob("*") if p.is_file()} == before


def test_running_a_notebook_is_not_changing_it(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    data = notebook.read(target / NAME)
    data["cells"][0] |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "mio"}], "execution_count": 7}
    (target / NAME).write_text(json.dumps(data))
    assert states(target, origin)[NAME] == "uguale"
    put(origin / NAME, code(SOLVED, tags=["es-03-1"]), code("nuova = 1"))
    assert states(target, origin)[NAME] == "aggiornato"
    assert texts(target / NAME)[1] == "nuova = 1"
    assert notebook.read(target / NAME)["cells"][0]["execution_count"] == 7


def test_an_untouched_notebook_is_updated(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    put(origin / NAME, code("x = 2"))
    assert states(target, origin)[NAME] == "aggiornato"
    assert texts(target / NAME) == ["x = 2"]


def test_a_touched_notebook_is_kept_and_the_new_one_put_beside(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    mine = work(target / NAME)
    assert states(target, origin)[NAME] == "tuo"
    put(origin / NAME, code("x = 2"))
    report = make_copy(target, origin)
    assert (target / NAME).read_bytes() == mine
    assert texts(target / "03-namespace.nuova.ipynb") == ["x = 2"]
    assert f"{NAME}: lasciato com'è: l'hai modificato tu; la versione nuova è in 03-namespace.nuova.ipynb" in repr(
        report
    )
    assert states(target, origin)[NAME] == "accanto"
    assert sorted(p.name for p in target.glob("*.ipynb")) == [NAME, "03-namespace.nuova.ipynb"]


def test_a_version_put_beside_and_untouched_follows_the_next_one(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    work(target / NAME)
    for number in (2, 3):
        put(origin / NAME, code(f"x = {number}"))
        make_copy(target, origin)
    assert texts(target / "03-namespace.nuova.ipynb") == ["x = 3"]


def test_a_version_put_beside_and_touched_is_kept_too(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    work(target / NAME)
    put(origin / NAME, code("x = 2"))
    make_copy(target, origin)
    mine = work(target / "03-namespace.nuova.ipynb", "anche qui")
    put(origin / NAME, code("x = 3"))
    make_copy(target, origin)
    assert (target / "03-namespace.nuova.ipynb").read_bytes() == mine
    assert texts(target / "03-namespace.nuova-2.ipynb") == ["x = 3"]


def test_a_new_version_thrown_away_is_not_offered_again(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    work(target / NAME)
    put(origin / NAME, code("x = 2"))
    make_copy(target, origin)
    (target / "03-namespace.nuova.ipynb").unlink()
    assert states(target, origin)[NAME] == "tuo"
    assert not (target / "03-namespace.nuova.ipynb").exists()


def test_a_deleted_notebook_comes_back(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    (target / NAME).unlink()
    assert states(target, origin)[NAME] == "nuovo"


def test_a_file_of_the_students_with_the_same_name_is_theirs(origin: Path, target: Path) -> None:
    target.mkdir(parents=True)
    put(target / NAME, code("mio = 1"))
    assert states(target, origin)[NAME] == "accanto"
    assert texts(target / NAME) == ["mio = 1"]


@pytest.mark.parametrize("text", ["non è un notebook", "", "[]", '{"nbformat": 4, "cells": 3}', '{"nbformat": 3}'])
def test_a_notebook_broken_by_the_student_is_theirs_all_the_same(origin: Path, target: Path, text: str) -> None:
    make_copy(target, origin)
    (target / NAME).write_text(text)
    put(origin / NAME, code("x = 2"))
    assert states(target, origin)[NAME] == "accanto"
    assert (target / NAME).read_text() == text


def test_a_touched_glossary_is_kept_too(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    (target / "glossario.md").write_text("miei appunti")
    (origin.parent / "docs" / "glossario.md").write_text("# Glossario nuovo\n")
    assert states(target, origin)["glossario.md"] == "accanto"
    assert (target / "glossario.md").read_text() == "miei appunti"
    assert (target / "glossario.nuova.md").read_text() == "# Glossario nuovo\n"


@pytest.mark.parametrize("text", ["", "{guasto", "[1]", '{"03-namespace.ipynb": 3}'])
def test_a_lost_record_never_costs_the_students_work(origin: Path, target: Path, text: str) -> None:
    make_copy(target, origin)
    mine = work(target / NAME)
    (target / ".labkit" / "copia.json").write_text(text)
    put(origin / NAME, code("x = 2"))
    assert states(target, origin)[NAME] == "accanto"
    assert (target / NAME).read_bytes() == mine


def test_progress_and_identity_survive_an_update(origin: Path, target: Path) -> None:
    make_copy(target, origin)
    identity = (target / ".labkit" / "studente.json").read_bytes()
    (target / ".labkit" / "progressi.json").write_text('{"esercizi": {}}')
    put(origin / NAME, code("x = 2"))
    make_copy(target, origin)
    assert (target / ".labkit" / "studente.json").read_bytes() == identity
    assert (target / ".labkit" / "progressi.json").read_text() == '{"esercizi": {}}'


def test_two_copies_belong_to_two_students(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_STUDENT", raising=False)
    names = set()
    for folder in ("uno", "due"):
        make_copy(tmp_path / folder, origin)
        names.add(json.loads((tmp_path / folder / ".labkit" / "studente.json").read_text())["id"])
    assert len(names) == 2


def test_a_target_that_is_a_file_is_refused(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mio")
    for target in (tmp_path / "file", tmp_path / "file" / "dentro"):
        with pytest.raises(InvalidError, match="è un file"):
            make_copy(target, origin)
    assert (tmp_path / "file").read_text() == "mio"


@pytest.mark.parametrize("inside", ["", "figure", "nuova/copia"])
def test_a_target_inside_the_verified_notebooks_is_refused(origin: Path, inside: str) -> None:
    before = sorted(origin.rglob("*"))
    with pytest.raises(InvalidError, match="dentro i notebook verificati"):
        make_copy(origin / inside, origin)
    assert sorted(origin.rglob("*")) == before


def test_a_link_to_the_verified_notebooks_is_refused(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "furbo").symlink_to(origin)
    with pytest.raises(InvalidError, match="dentro i notebook verificati"):
        make_copy(tmp_path / "furbo", origin)


def test_a_target_that_cannot_be_written_is_refused_in_words(origin: Path) -> None:
    with pytest.raises(LabError, match="non si può scrivere") as info:
        make_copy("/proc/self/copia", origin)
    assert "labkit lab" in info.value.remedy


def test_a_folder_in_the_place_of_a_notebook_is_not_touched(origin: Path, target: Path) -> None:
    (target / NAME).mkdir(parents=True)
    with pytest.raises(ConflictError, match="è una cartella"):
        make_copy(target, origin)
    assert (target / NAME).is_dir()


def test_a_file_in_the_place_of_the_state_folder_is_refused(origin: Path, target: Path) -> None:
    target.mkdir(parents=True)
    (target / ".labkit").write_text("mio")
    with pytest.raises(InvalidError, match=r"file di nome \.labkit"):
        make_copy(target, origin)


def test_notebooks_that_are_not_there_are_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError):
        make_copy(tmp_path / "copia", tmp_path / "non-c-è")
    monkeypatch.setenv("LABKIT_NOTEBOOKS", str(tmp_path / "non-c-è"))
    with pytest.raises(NotFoundError, match="non ci sono"):
        copies.default_source()


def test_an_interrupted_copy_is_completed_and_loses_nothing(
    origin: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(copies, "write_json", _fail_on("copia.json", copies.write_json))
        with pytest.raises(LabError, match="non si può scrivere"):
            make_copy(target, origin)
    assert (target / NAME).exists()
    assert set(states(target, origin).values()) == {"nuovo", "uguale"}
    put(origin / NAME, code("x = 2"))
    assert states(target, origin)[NAME] == "aggiornato"


def _fail_on(name: str, write: Any) -> Any:
    def failing(path: Path, data: dict[str, Any]) -> None:
        if path.name == name:
            raise OSError(28, "Spazio esaurito sul dispositivo")
        write(path, data)

    return failing


@pytest.mark.parametrize(
    ("source", "stubbed"),
    [
        ("x = 1", "x = 1"),
        ("### BEGIN SOLUTION\nx = 1\ny = 2\n### END SOLUTION", "# scrivi qui la tua soluzione"),
        (
            "a = 0\n### BEGIN SOLUTION\na = 1\n### END SOLUTION\nb = 0\n### BEGIN SOLUTION\nb = 1\n### END SOLUTION",
            "a = 0\n# scrivi qui la tua soluzione\nb = 0\n# scrivi qui la tua soluzione",
        ),
        (
            "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\nf()",
            "def f():\n    # scrivi qui la tua soluzione\n    pass\nf()",
        ),
    ],
)
def test_a_solution_becomes_a_stub(source: str, stubbed: str) -> None:
    assert without_solution(source) == stubbed


@pytest.mark.parametrize(
    "source",
    ["### BEGIN SOLUTION\nx = 1", "x = 1\n### END SOLUTION", "### END SOLUTION\nx\n### BEGIN SOLUTION"],
)
def test_marks_that_do_not_pair_are_refused(source: str) -> None:
    with pytest.raises(InvalidError, match="non vanno a coppie"):
        without_solution(source)


def test_a_stub_that_is_not_python_is_refused() -> None:
    with pytest.raises(InvalidError, match="non è più Python valido"):
        student_version(make(code("x = (\n### BEGIN SOLUTION\n1)\n### END SOLUTION\n")))


def test_a_magic_cell_is_left_to_ipython() -> None:
    cell = code("%%lab\nkernel.unshare('uts')\n### BEGIN SOLUTION\nkernel.sethostname('x')\n### END SOLUTION")
    (new,) = student_version(make(cell))["cells"]
    assert notebook.text(new["source"]).endswith("# scrivi qui la tua soluzione")


def test_outputs_stay_only_with_the_cells_they_came_from() -> None:
    old = make(code("a = 1"), code("b = 1"))
    new = make(code("b = 1"), code("a = 2"))
    for cell in new["cells"]:
        cell |= {"outputs": [], "execution_count": None}
    kept = keep_outputs(new, old)["cells"]
    assert [bool(c["outputs"]) for c in kept] == [True, False]


def test_a_normalised_notebook_has_nothing_of_the_machine() -> None:
    raw = make(code("print(1)", tags=["x"], execution={"t": 1}), code("print(1)"))
    raw["cells"][0]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "uno\n"},
        {"output_type": "stream", "name": "stdout", "text": "due\n"},
        {"output_type": "stream", "name": "stderr", "text": "tre\n"},
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"text/plain": "VBox()", "application/vnd.jupyter.widget-view+json": {"model_id": "a1"}},
        },
    ]
    del raw["cells"][1]["id"]
    before = copy.deepcopy(raw)
    found = normalised(raw)
    assert raw == before
    first, second = found["cells"]
    assert first["metadata"] == {"tags": ["x"]}
    assert [o.get("text") for o in first["outputs"]] == [["uno\n", "due\n"], ["tre\n"], None]
    assert first["outputs"][2]["data"] == {"text/plain": ["VBox()"]}
    assert second["id"] == normalised(raw)["cells"][1]["id"] != ""
    assert found["metadata"]["language_info"]["name"] == "python"
    assert normalised(found) == found


def test_what_nobody_compares_is_not_stored() -> None:
    raw = make(code("doctor()", tags=["nbval-ignore-output"]), code("1", tags=["es-00-1"]))
    for cell in raw["cells"]:
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "kernel 6.1\n"}]
    found = normalised(raw)["cells"]
    assert [len(c["outputs"]) for c in found] == [0, 1]
    assert all(c["execution_count"] for c in found)


def test_two_cells_never_share_an_identifier() -> None:
    names = [c["id"] for c in normalised(make(code("x"), code("x"), code("x")))["cells"]]
    assert len(set(names)) == 3


@pytest.mark.slow
def test_executing_twice_gives_the_same_file_and_a_failure_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / NAME
    put(
        path, code("import os\nprint(os.environ['LABKIT_STUDENT'])"), code("from labkit.course.quiz import quiz\n1 + 1")
    )
    project = str(Path(notebook.__file__).parents[2])
    command = [sys.executable, "-m", "labkit.course.execute", str(path)]
    found = []
    for _ in range(2):
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": project}, capture_output=True)
        found.append(path.read_bytes())
    assert found[0] == found[1]
    first, second = notebook.read(path)["cells"]
    assert first["outputs"][0]["text"] == ["esempio\n"]
    assert second["outputs"][0]["data"]["text/plain"] == ["2"]
    assert [c["execution_count"] for c in (first, second)] == [1, 2]

    put(path, code("1 / 0"))
    before = path.read_bytes()
    failed = subprocess.run(command, env={**os.environ, "PYTHONPATH": project}, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "una cella è fallita" in failed.stderr
    assert path.read_bytes() == before

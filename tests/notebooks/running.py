"""Eseguire i notebook come li esegue chiunque: ``nbval`` senza sconti, da root o da utente normale."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.course import notebook
from labkit.course.execute import SAMPLE_STUDENT
from tests.notebooks.gates import ROOT, is_ignored, tags

RunAs = Callable[..., subprocess.CompletedProcess[str]]

#: Who runs the tests may give kernels that every user can read: else each new home downloads its own.
KERNELS = ("LABKIT_UML", "LABKIT_KERNEL", "LABKIT_MODULES")

CELL_TIMEOUT = 120
NOTEBOOK_TIMEOUT = 900
#: What nbval compares, among what our notebooks store.
_COMPARED = ("text/plain", "text/html", "text/latex", "image/svg+xml")


@dataclass(frozen=True)
class Verdict:
    """Il giudizio di nbval: le celle provate e quelle fallite, per numero (fra le sole celle di codice)."""

    tried: tuple[int, ...]
    failed: tuple[int, ...]
    log: str


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Una cartella in cui può scrivere anche un altro utente (quelle di pytest sono di uno solo)."""
    folder = Path(tempfile.mkdtemp(prefix="labkit-notebooks-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(student: str = SAMPLE_STUDENT) -> dict[str, str]:
    given = {name: os.environ[name] for name in KERNELS if name in os.environ}
    return {"LABKIT_STUDENT": student, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **given}


def nbval(run_as: RunAs, mode: str, path: Path) -> Verdict:
    """Prova un notebook, cella per cella, confrontando ogni output con quello conservato."""
    with shared_folder() as folder:
        report = folder / "nbval.xml"
        # An ini file of its own: nbval must not inherit the options of the project's own tests.
        (folder / "nbval.ini").write_text("[pytest]\n")
        os.chmod(folder / "nbval.ini", 0o644)
        result = run_as(
            mode,
            [
                *(sys.executable, "-m", "pytest", "-q", "-c", str(folder / "nbval.ini"), "--rootdir", str(path.parent)),
                *("-p", "no:cacheprovider", "-p", "no:xdist", "--nbval", "--nbval-cell-timeout", str(CELL_TIMEOUT)),
                *(f"--junitxml={report}", str(path)),
            ],
            env=environment(),
            timeout=NOTEBOOK_TIMEOUT,
        )
        log = f"{result.stdout}\n{result.stderr}"
        if not report.exists():
            raise AssertionError(f"nbval non è partito ({mode}):\n{log}")
        cases = ET.parse(report).getroot().iter("testcase")
        tried: list[int] = []
        failed: list[int] = []
        for case in cases:
            number = int(re.findall(r"\d+", case.get("name", ""))[-1])
            tried.append(number)
            if any(case.find(kind) is not None for kind in ("failure", "error", "skipped")):
                failed.append(number)
    return Verdict(tuple(tried), tuple(failed), log)


def mutate(nb: dict[str, Any]) -> tuple[int, ...]:
    """Guasta un output in ogni cella confrontata, sul posto; dice quali celle ora devono fallire."""
    changed = []
    cells = [c for c in nb["cells"] if c["cell_type"] == "code"]
    for number, cell in enumerate(cells):
        if not is_ignored(cell) and any(_spoil(output) for output in cell["outputs"]):
            changed.append(number)
    return tuple(changed)


def _spoil(output: dict[str, Any]) -> bool:
    if "text" in output:
        output["text"] = [*output["text"], "riga che il kernel non ha detto\n"]
        return True
    if output["output_type"] == "error":
        output["evalue"] += " (e qualcos'altro)"
        return True
    for mime in _COMPARED:
        if mime in output.get("data", {}):
            output["data"][mime] = [*output["data"][mime], "\nriga che il kernel non ha detto"]
            return True
    return False


def execute(run_as: RunAs, mode: str, paths: list[Path], student: str) -> subprocess.CompletedProcess[str]:
    """Esegue i notebook sul posto, come fa ``make notebooks``, per uno studente qualunque."""
    command = [sys.executable, "-m", "labkit.course.execute", "--student", student, *map(str, paths)]
    return run_as(mode, command, env=environment(student), timeout=NOTEBOOK_TIMEOUT)


def checks(nb: dict[str, Any]) -> dict[str, str]:
    """Per ogni esercizio, che cosa ha detto la sua verifica (il testo dell'output)."""
    found = {}
    cells = list(notebook.code_cells(nb))
    for cell, following in itertools.pairwise(cells):
        for key in tags(cell):
            if key.startswith("es-"):
                found[key] = "".join(
                    notebook.text(o.get("data", {}).get("text/plain", "")) for o in following["outputs"]
                )
    return found

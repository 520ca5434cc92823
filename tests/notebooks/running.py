"""Eseguire i notebook come li esegue chiunque: ``nbval`` senza sconti, da root o da utente normale."""

import itertools
import json
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
from tests.notebooks.spoiling import COMPARED

RunAs = Callable[..., subprocess.CompletedProcess[str]]

#: Who runs the tests may give kernels that every user can read: else each new home downloads its own.
KERNELS = ("LABKIT_UML", "LABKIT_KERNEL", "LABKIT_MODULES")

CELL_TIMEOUT = 120
NOTEBOOK_TIMEOUT = 900


@dataclass(frozen=True)
class Verdict:
    """Il giudizio di nbval: quali celle ha provato, quali sono fallite, di quali ha visto l'output guastato.

    Le celle sono numerate fra le sole celle di codice.
    """

    tried: tuple[int, ...]
    failed: tuple[int, ...]
    noticed: tuple[int, ...]
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
    """Prova un notebook, cella per cella, confrontando ogni output con quello conservato e con uno guastato."""
    with shared_folder() as folder:
        report = folder / "nbval.xml"
        # An ini file of its own: nbval must not inherit the options of the project's own tests.
        (folder / "nbval.ini").write_text("[pytest]\njunit_family = xunit1\n")
        os.chmod(folder / "nbval.ini", 0o644)
        result = run_as(
            mode,
            [
                *(sys.executable, "-m", "pytest", "-q", "-c", str(folder / "nbval.ini"), "--rootdir", str(path.parent)),
                *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.notebooks.spoiling"),
                *("--nbval", "--nbval-cell-timeout", str(CELL_TIMEOUT)),
                *(f"--junitxml={report}", str(path)),
            ],
            env=environment(),
            timeout=NOTEBOOK_TIMEOUT,
        )
        log = f"{result.stdout}\n{result.stderr}"
        if not report.exists():
            raise AssertionError(f"nbval non è partito ({mode}):\n{log}")
        cases = {int(re.findall(r"\d+", case.get("name", ""))[-1]): case for case in ET.parse(report).iter("testcase")}
    return Verdict(
        tried=tuple(cases),
        failed=tuple(
            number
            for number, case in cases.items()
            if any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        ),
        noticed=tuple(
            number for number, case in cases.items() if case.find(".//property[@name='noticed']") is not None
        ),
        log=log,
    )


def comparable(nb: dict[str, Any]) -> tuple[int, ...]:
    """Le celle di cui nbval confronta qualcosa, per numero (fra le sole celle di codice)."""
    cells = (cell for cell in nb["cells"] if cell["cell_type"] == "code")
    return tuple(
        number for number, cell in enumerate(cells) if not is_ignored(cell) and any(map(_has_words, cell["outputs"]))
    )


def _has_words(output: dict[str, Any]) -> bool:
    return output["output_type"] in ("stream", "error") or any(mime in output["data"] for mime in COMPARED)


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


def unhelpful(nb: dict[str, Any]) -> Iterator[str]:
    """Che cosa non va in una copia eseguita senza le soluzioni: celle fallite, verifiche riuscite o che non aiutano."""
    for cell in notebook.code_cells(nb):
        failed = [o["ename"] for o in cell["outputs"] if o["output_type"] == "error"]
        if failed and "raises-exception" not in tags(cell):
            yield f"{failed} in\n{notebook.text(cell['source'])}"
    found = checks(nb)
    if len(found) < 3:
        yield f"solo {len(found)} verifiche"
    for key, words in found.items():
        if not words.startswith(f"✘ {key} ") or "indizio: " not in words:
            yield f"{key}: {words}"
        if "Traceback" in words or "un errore di Python" in words:
            yield f"{key}: un errore di Python: {words}"


def progress(folder: Path) -> dict[str, bool]:
    """Gli esercizi tentati in una copia: riusciti o no."""
    kept = json.loads((folder / ".labkit" / "progressi.json").read_text())["esercizi"]
    return {key: entry["riuscito"] for key, entry in kept.items()}

"""Riesegue i notebook verificati sul posto: ``python -m labkit.course.execute notebooks/03-namespace.ipynb``.

Ogni notebook gira da capo in un kernel nuovo; se una cella fallisce il file resta com'era. Quello
che si scrive è rimesso in ordine da :func:`labkit.course.notebook.normalised`, quindi due
esecuzioni dello stesso notebook danno lo stesso file, tranne le figure e le celle non confrontate.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from labkit.course import notebook
from labkit.course.student import write_atomic
from labkit.errors import LabError

#: The student of the stored outputs: their parameters are the ones that the tests expect.
SAMPLE_STUDENT = "esempio"


def execute(path: Path, timeout: int = 120, student: str = SAMPLE_STUDENT) -> None:
    """Esegue il notebook ``path`` e lo riscrive con i suoi output; ``timeout`` in secondi per cella."""
    import nbclient  # only who writes lessons has it
    import nbformat

    clean = notebook.dump(notebook.normalised(_blank(notebook.read(path)))).decode()
    loaded = nbformat.reads(clean, as_version=4)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(
        loaded, timeout=timeout, resources={"metadata": {"path": str(path.parent)}}, coalesce_streams=True
    )
    try:
        client.execute(env={**os.environ, "LABKIT_STUDENT": student})
    except nbclient.exceptions.CellExecutionError as error:
        raise LabError(f"{path.name}: una cella è fallita, il file resta com'era.\n{error}") from error
    except nbclient.exceptions.CellTimeoutError as error:
        raise LabError(f"{path.name}: una cella ha superato {timeout} secondi, il file resta com'era.") from error
    write_atomic(path, notebook.dump(notebook.normalised(loaded)))


def main(arguments: list[str] | None = None) -> int:
    """Esegue i notebook elencati; 0 se sono riusciti tutti."""
    parser = argparse.ArgumentParser(
        prog="python -m labkit.course.execute", description="Riesegue i notebook sul posto."
    )
    parser.add_argument("notebooks", nargs="+", type=Path, help="i file .ipynb")
    parser.add_argument("--student", default=SAMPLE_STUDENT, help="lo studente dei parametri (%(default)s)")
    parser.add_argument("--timeout", type=int, default=120, help="secondi per cella (%(default)s)")
    options = parser.parse_args(arguments)
    failed = 0
    for path in options.notebooks:
        print(f"{path}… ", end="", flush=True)
        try:
            execute(path, options.timeout, options.student)
        except (LabError, OSError) as error:
            failed += 1
            print(f"no\n{error}", file=sys.stderr)
        else:
            print("fatto")
    return 1 if failed else 0


def _blank(found: notebook.Notebook) -> notebook.Notebook:
    """Without what an earlier run has left: an output of a cell that no longer gives one must go."""
    for cell in found["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return found


if __name__ == "__main__":
    sys.exit(main())

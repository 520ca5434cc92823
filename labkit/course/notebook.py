"""Un notebook come dati: leggerlo, confrontarlo, rimetterlo in ordine, farne la versione per lo studente.

Due notebook sono «lo stesso lavoro» quando hanno le stesse celle con lo stesso testo: output,
numeri di esecuzione e metadati non contano (:func:`fingerprint`).
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.errors import InvalidError

Notebook = dict[str, Any]
Cell = dict[str, Any]

#: The metadata worth storing; everything else changes from machine to machine.
CELL_METADATA = ("deletable", "editable", "nbgrader", "slideshow", "tags")
NOTEBOOK_METADATA = ("kernelspec", "rise", "title")

STUB = "# scrivi qui la tua soluzione"
STUB_TEXT = "*Scrivi qui la tua risposta.*"
_SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION[^\n]*\n.*?^[ \t]*### END SOLUTION[^\n]*$", re.DOTALL | re.MULTILINE
)
_MARK = re.compile(r"### (BEGIN|END) SOLUTION")
_WIDGET = "application/vnd.jupyter.widget-view+json"
#: What such a cell shows belongs to one machine or to one run: nobody compares it, nobody stores it.
_UNCOMPARED = "nbval-ignore-output"


def read(path: Path) -> Notebook:
    """Legge un notebook nel formato 4; un file che non lo è dà un :class:`InvalidError`."""
    return loads(path.read_bytes(), path.name)


def loads(data: bytes, name: str = "il file") -> Notebook:
    """Il notebook scritto in ``data``; ``name`` serve per dire quale file è sbagliato."""
    try:
        found = json.loads(data)
    except ValueError as error:
        raise InvalidError(f"{name}: non è un notebook ({error}).") from error
    cells = found.get("cells") if isinstance(found, dict) and found.get("nbformat") == 4 else None
    if not isinstance(cells, list) or not all(isinstance(c, dict) for c in cells):
        raise InvalidError(f"{name}: non è un notebook nel formato 4.")
    return dict(found)


def dump(notebook: Notebook) -> bytes:
    """Il notebook come lo scrive Jupyter: JSON con rientro 1, accenti leggibili, a capo finale."""
    return (json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def text(value: str | list[str]) -> str:
    """Un testo di notebook, che nel file può essere una riga o una lista di righe."""
    return value if isinstance(value, str) else "".join(value)


def code_cells(notebook: Notebook) -> Iterator[Cell]:
    """Le celle di codice che hanno davvero del codice, in ordine."""
    return (c for c in notebook["cells"] if c["cell_type"] == "code" and text(c["source"]).strip())


def fingerprint(notebook: Notebook) -> str:
    """L'impronta del lavoro: cambia se cambia il testo, il tipo o l'ordine delle celle.

    >>> a = {"cells": [{"cell_type": "code", "source": ["x = 1"], "outputs": []}]}
    >>> b = {"cells": [{"cell_type": "code", "source": "x = 1", "outputs": ["…"]}]}
    >>> fingerprint(a) == fingerprint(b)
    True
    """
    work = [[c.get("cell_type"), text(c.get("source", ""))] for c in notebook["cells"]]
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()


def without_solution(source: str, stub: str = STUB) -> str:
    """Il testo di una cella con le soluzioni sostituite da ``stub``, allo stesso rientro.

    >>> without_solution("n = None\\n### BEGIN SOLUTION\\nn = 3\\n### END SOLUTION")
    'n = None\\n# scrivi qui la tua soluzione'
    """

    def replace(match: re.Match[str]) -> str:
        indent = match["indent"]
        # A body made only of a comment is not Python: inside a block the stub needs a statement too.
        return f"{indent}{stub}" + (f"\n{indent}pass" if indent and stub is STUB else "")

    stubbed = _SOLUTION.sub(replace, source)
    if _MARK.search(stubbed):
        raise InvalidError(
            "Le marche ### BEGIN SOLUTION e ### END SOLUTION non vanno a coppie in questa cella:\n"
            + textwrap.indent(source, "    ")
        )
    return stubbed


def student_version(notebook: Notebook) -> Notebook:
    """La versione da consegnare: senza soluzioni, senza output, senza numeri di esecuzione."""
    cells = []
    for cell in notebook["cells"]:
        code = cell["cell_type"] == "code"
        source = without_solution(text(cell["source"]), STUB if code else STUB_TEXT)
        if code and not re.search(r"^\s*[%!]", source, re.MULTILINE):
            _must_parse(source)
        new = {
            **cell,
            "source": source.replace("](../docs/glossario.md", "](glossario.md").splitlines(keepends=True),
            "metadata": _allowed(cell.get("metadata", {}), CELL_METADATA),
        }
        if code:
            new |= {"outputs": [], "execution_count": None}
        cells.append(new)
    return {**notebook, "cells": cells, "metadata": _metadata(notebook)}


def keep_outputs(new: Notebook, old: Notebook) -> Notebook:
    """``new`` con gli output che ``old`` aveva già nelle celle rimaste uguali."""
    known = {c.get("id"): c for c in old["cells"] if c.get("cell_type") == "code" and c.get("id")}
    cells = []
    for cell in new["cells"]:
        before = known.get(cell.get("id"))
        if before and cell["cell_type"] == "code" and text(before["source"]) == text(cell["source"]):
            cell = {**cell, "outputs": before.get("outputs", []), "execution_count": before.get("execution_count")}
        cells.append(cell)
    return {**new, "cells": cells}


def normalised(notebook: Notebook) -> Notebook:
    """Il notebook eseguito, con dentro solo quello che non cambia da macchina a macchina.

    I metadati stanno in un elenco chiuso; le celle senza identificatore ne ricevono uno che nasce
    dal testo; i pezzi consecutivi di un flusso diventano uno; dei widget resta il testo; di una cella
    che nessuno confronta (etichetta ``nbval-ignore-output``) non resta niente.
    """
    seen: set[str] = set()
    cells = []
    for cell in notebook["cells"]:
        new = {
            "cell_type": cell["cell_type"],
            "id": _identifier(cell, seen),
            "metadata": _allowed(cell.get("metadata", {}), CELL_METADATA),
            "source": text(cell["source"]).splitlines(keepends=True),
        }
        if "attachments" in cell:
            new["attachments"] = cell["attachments"]
        if cell["cell_type"] == "code":
            compared = _UNCOMPARED not in cell.get("metadata", {}).get("tags", ())
            outputs = _outputs(cell["outputs"]) if compared else []
            new |= {"execution_count": cell["execution_count"], "outputs": outputs}
        cells.append(new)
    return {"cells": cells, "metadata": _metadata(notebook), "nbformat": 4, "nbformat_minor": 5}


def _identifier(cell: Cell, seen: set[str]) -> str:
    name = cell.get("id") or hashlib.sha256(text(cell["source"]).encode()).hexdigest()[:8]
    unique, number = name, 2
    while unique in seen:
        unique, number = f"{name}-{number}", number + 1
    seen.add(unique)
    return str(unique)


def _outputs(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for output in outputs:
        new = dict(output)
        if new["output_type"] == "stream":
            if result and result[-1]["output_type"] == "stream" and result[-1]["name"] == new["name"]:
                result[-1]["text"] = (text(result[-1]["text"]) + text(new["text"])).splitlines(keepends=True)
                continue
            new["text"] = text(new["text"]).splitlines(keepends=True)
        elif "data" in new:
            # The number of a widget's model is random and its state is not stored: only its words are.
            new["data"] = {
                mime: text(data).splitlines(keepends=True) if mime.startswith(("text/", "image/svg")) else data
                for mime, data in new["data"].items()
                if mime != _WIDGET
            }
        result.append(new)
    return result


def _metadata(notebook: Notebook) -> dict[str, Any]:
    return {
        **_allowed(notebook.get("metadata", {}), NOTEBOOK_METADATA),
        "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
    }


def _allowed(metadata: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: metadata[name] for name in names if name in metadata}


def _must_parse(source: str) -> None:
    try:
        ast.parse(source)
    except SyntaxError as error:
        raise InvalidError(
            f"Senza la soluzione la cella non è più Python valido ({error.msg}):\n" + textwrap.indent(source, "    ")
        ) from error

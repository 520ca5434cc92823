"""Il mazzo come notebook: per eseguirlo davvero, e per mostrarlo dal vivo in JupyterLab."""

from __future__ import annotations

import hashlib
import re
import subprocess
from typing import Any

from labkit.course.launch import KERNEL, need_kernel
from labkit.course.slides.deck import Block, Code, Deck, Pause, Slide, Text
from labkit.errors import LabError

Notebook = dict[str, Any]

#: Secondi per una cella: chi guarda non aspetta di più.
CELL_TIMEOUT = 120


def to_notebook(deck: Deck) -> Notebook:
    """Il notebook del mazzo, con i segni delle slide che capisce ``jupyterlab-rise``."""
    cells = [_markdown(_cover(deck), "slide")]
    for slide in deck.slides:
        cells.extend(_cells(slide))
    for index, cell in enumerate(cells):
        cell["id"] = hashlib.sha256(f"{deck.lesson} {index}".encode()).hexdigest()[:8]
    metadata = {
        "kernelspec": {"display_name": KERNEL, "language": "python", "name": KERNEL},
        "language_info": {"name": "python"},
        # The theme «white» has its fonts with it; the others ask the network for theirs.
        "rise": {
            "scroll": True,
            "slideNumber": "c/t",
            "start_slideshow_at": "beginning",
            "theme": "white",
            "transition": "none",
        },
        "title": deck.title,
    }
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def execute(deck: Deck) -> Notebook:
    """Esegue le celle del mazzo in un kernel nuovo, e restituisce il notebook con i risultati.

    Una cella che fallisce senza essere segnata ``errore`` ferma tutto con un
    :class:`~labkit.errors.LabError`: una presentazione con un errore non si costruisce.
    """
    import nbclient
    import nbformat

    notebook = to_notebook(deck)
    if not any(cell["cell_type"] == "code" for cell in notebook["cells"]):
        return notebook
    need_kernel()
    node = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(node, timeout=CELL_TIMEOUT, kernel_name=KERNEL, store_widget_state=True)
    try:
        client.execute(stderr=subprocess.DEVNULL)  # the kernel greets in English on the terminal
    except nbclient.exceptions.CellExecutionError as error:
        raise LabError(
            f"{deck.lesson}: una cella delle slide è fallita con {error.ename}: {error.evalue}\n\n{_failed(node)}"
        ) from error
    except nbclient.exceptions.CellTimeoutError as error:
        raise LabError(f"{deck.lesson}: una cella delle slide ha superato {CELL_TIMEOUT} secondi.") from error
    except nbclient.exceptions.DeadKernelError as error:
        raise LabError(f"{deck.lesson}: il kernel è morto mentre eseguiva le slide.", "labkit doctor") from error
    for cell in node.cells:
        _check_error(deck, cell)
    return dict(node)


def _failed(node: Any) -> str:
    """The source of the cell that stopped the deck: the last one that left an error."""
    sources = [c.source for c in node.cells if any(o.output_type == "error" for o in c.get("outputs", ()))]
    return str(sources[-1]) if sources else ""


def _check_error(deck: Deck, cell: Any) -> None:
    """A cell that must fail and does not teaches the contrary of what the slide says."""
    expected = "raises-exception" in cell.metadata.get("tags", ())
    failed = any(output.output_type == "error" for output in cell.get("outputs", ()))
    if expected and not failed:
        raise LabError(f"{deck.lesson}: questa cella doveva fallire, ed è riuscita:\n{cell.source}")


def _cover(deck: Deck) -> str:
    return f"# {deck.title}\n\n{deck.subtitle}".strip()


def _cells(slide: Slide) -> list[dict[str, Any]]:
    kind = "subslide" if slide.deeper else "slide"
    cells: list[dict[str, Any]] = []
    for block in slide.blocks:
        if isinstance(block, Pause):
            kind = "fragment"
            continue
        cells.append(_cell(block, kind))
        kind = "-"
    if slide.notes:
        cells.append(_markdown(slide.notes, "notes"))
    return cells


def _cell(block: Block, kind: str) -> dict[str, Any]:
    if isinstance(block, Code) and block.runs:
        metadata: dict[str, Any] = {"slideshow": {"slide_type": kind}}
        if block.mode == "errore":
            metadata["tags"] = ["raises-exception"]
        if block.mode == "nascosto":
            metadata["jupyter"] = {"source_hidden": True}
        return {
            "cell_type": "code",
            "execution_count": None,
            "metadata": metadata,
            "outputs": [],
            "source": block.source,
        }
    if isinstance(block, Code):
        return _markdown(f"```{block.language}\n{block.source}\n```", kind)
    return _markdown(block.source if isinstance(block, Text) else "", kind)


def _markdown(source: str, kind: str) -> dict[str, Any]:
    # In the student's folder the figures lie beside the notebook of the deck.
    return {
        "cell_type": "markdown",
        "metadata": {"slideshow": {"slide_type": kind}},
        "source": re.sub(r"\n{3,}", "\n\n", source),
    }

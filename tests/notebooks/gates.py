"""Le regole che un notebook del corso rispetta, ognuna una funzione che elenca le violazioni in parole.

Nessuna esegue niente: leggono il notebook come è conservato. Che gli output siano veri lo dice
``nbval`` (``test_notebooks_run.py``); qui si controlla che ``nbval`` abbia davvero qualcosa da dire.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import labkit
from labkit.course import catalog, notebook
from labkit.course.notebook import text

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

MAX_IGNORED = 0.10
MAX_LINES = 15
MAX_FIGURE = 60_000

#: The fixed order of a lesson: the words that each title of a section must hold.
SECTIONS = (
    ("prerequisiti", r"prerequisiti|prima di (cominciare|iniziare)"),
    ("che cosa nasce davvero", r"che cosa .*davvero|davvero su questa macchina"),
    ("preparazione", r"prepar|si comincia|accendiamo"),
    ("gli appunti dicono", r"gli appunti dicono"),
    ("quiz", r"quiz|domande"),
    ("esercizi", r"^esercizi"),
    ("che cosa abbiamo imparato", r"che cosa abbiamo imparato"),
    ("pulizia", r"pulizia"),
    ("per saperne di più", r"per saperne di più"),
)

_IGNORE_TAGS = {"nbval-ignore-output", "nbval-skip"}
_IGNORE_COMMENT = re.compile(
    r"^\s*#\s*(NBVAL_IGNORE_OUTPUT|NBVAL_SKIP|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE
)
_EXERCISE = re.compile(r"es-\d\d-\d+")
#: What a kernel invents at every run: addresses, namespace inodes, clock times.
_UNSTABLE = re.compile(r"\b0x[0-9a-f]{7,}\b|\b40265\d{5}\b|\[\d{10}\]|\b\d{1,2}:\d{2}:\d{2}\b")

#: What shows a widget of the course, by the name it is called with.
WIDGETS = (
    *("namespace_widget", "doctor_widget", "plan_widget", "meter", "race", "compare", "lifeline", "gauges"),
    *("explore", "stack", "push", "pull", "build", "mounts"),
)

Notebook = dict[str, Any]
Cell = dict[str, Any]


@dataclass(frozen=True)
class Code:
    """Il codice di una cella come lo vede Python: senza magie, e detto se gira nel laboratorio."""

    source: str
    in_lab: bool


def code_of(cell: Cell) -> Code:
    """Toglie le righe che sono di IPython e non di Python."""
    source = text(cell["source"])
    kept = [line for line in source.splitlines() if not re.match(r"\s*[%!]", line)]
    return Code("\n".join(kept), source.lstrip().startswith("%%lab"))


def tags(cell: Cell) -> set[str]:
    return set(cell.get("metadata", {}).get("tags", []))


def lesson_number(path: Path) -> str:
    return path.name[:2]


def is_ignored(cell: Cell) -> bool:
    """Vero se nbval non confronta gli output di questa cella."""
    return bool(tags(cell) & _IGNORE_TAGS) or bool(_IGNORE_COMMENT.search(text(cell["source"])))


def ignored_share(nb: Notebook) -> tuple[int, int]:
    cells = list(notebook.code_cells(nb))
    return sum(map(is_ignored, cells)), len(cells)


def executed(nb: Notebook) -> Iterator[str]:
    """Ogni cella di codice è stata eseguita, in ordine, in un kernel nuovo."""
    counts = [c.get("execution_count") for c in nb["cells"] if c["cell_type"] == "code"]
    if counts != list(range(1, len(counts) + 1)):
        yield f"le celle non sono state eseguite tutte e in ordine: {counts}"


def errors(nb: Notebook) -> Iterator[str]:
    """Una cella che deve fallire è fallita, e nessun'altra."""
    for cell in notebook.code_cells(nb):
        failed = any(o["output_type"] == "error" for o in cell["outputs"])
        if failed != ("raises-exception" in tags(cell)):
            yield f"errore conservato: {failed}, etichetta raises-exception: {not failed}, in\n{text(cell['source'])}"


def stable(nb: Notebook) -> Iterator[str]:
    """Negli output confrontati non c'è quello che cambia a ogni esecuzione."""
    for cell in notebook.code_cells(nb):
        if not is_ignored(cell):
            for words in output_texts(cell):
                found = _UNSTABLE.search(words)
                if found:
                    yield f"«{found[0]}» cambia da una volta all'altra, in\n{text(cell['source'])}"


def output_texts(cell: Cell) -> Iterator[str]:
    for output in cell["outputs"]:
        if "text" in output:
            yield text(output["text"])
        for mime, data in output.get("data", {}).items():
            if mime in ("text/plain", "text/html"):
                yield text(data)


def tidy(nb: Notebook) -> Iterator[str]:
    """Il notebook è come lo scrive ``make notebooks``: metadati dell'elenco, identificatori unici."""
    if notebook.normalised(nb) != nb:
        yield "metadati o output da rimettere in ordine: make notebooks"
    for cell in notebook.code_cells(nb):
        for output in cell["outputs"]:
            size = len(text(output.get("data", {}).get("image/png", "")))
            if size > MAX_FIGURE:
                yield f"figura da {size} byte in\n{text(cell['source'])}"


def headings(nb: Notebook) -> list[tuple[int, str]]:
    """I titoli dei paragrafi: livello e parole, in ordine."""
    found = []
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            body = re.sub(r"```.*?```", "", text(cell["source"]), flags=re.DOTALL)
            found += [(len(m[1]), m[2].strip()) for m in re.finditer(r"^(#{1,6})\s+(.+)$", body, re.MULTILINE)]
    return found


def structure(nb: Notebook) -> Iterator[str]:
    """Le sezioni della lezione, nell'ordine fisso del corso."""
    titles = headings(nb)
    if not titles or titles[0][0] != 1 or [level for level, _ in titles].count(1) != 1:
        yield "la lezione deve avere un solo titolo di primo livello, all'inizio"
    words = [title.lower() for _, title in titles]
    position = 0
    for name, pattern in SECTIONS:
        found = next((i for i in range(position, len(words)) if re.search(pattern, words[i])), None)
        if found is None:
            yield f"la sezione «{name}» manca, o non è al suo posto"
        else:
            position = found + 1


def balance(nb: Notebook) -> Iterator[str]:
    """Circa una cella di testo per ogni cella di codice, e celle di codice corte."""
    code = list(notebook.code_cells(nb))
    prose = sum(c["cell_type"] == "markdown" for c in nb["cells"])
    if not 0.6 <= prose / max(len(code), 1) <= 1.7:
        yield f"{prose} celle di testo per {len(code)} di codice"
    for cell in code:
        lines = [x for x in text(cell["source"]).splitlines() if x.strip() and "### " not in x]
        if len(lines) > MAX_LINES:
            yield f"una cella di {len(lines)} righe: {lines[0]}…"


def calls(nb: Notebook, *names: str) -> list[str]:
    """Il primo argomento di ogni chiamata a una di queste funzioni («» se non è un testo)."""
    found = []
    for call in _calls(nb, *names):
        first = call.args[0] if call.args else None
        found.append(first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else "")
    return found


def _calls(nb: Notebook, *names: str) -> Iterator[ast.Call]:
    for cell in notebook.code_cells(nb):
        for node in ast.walk(ast.parse(code_of(cell).source)):
            if isinstance(node, ast.Call) and _name(node.func) in names:
                yield node


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def material(nb: Notebook, number: str) -> Iterator[str]:
    """Quiz, previsioni, widget, figura e parametri personali: ci sono, e sono quelli registrati."""
    asked = calls(nb, "quiz")
    if sorted(asked) != sorted(catalog.questions(number)) or len(asked) < 3:
        yield f"quiz nel notebook {sorted(asked)}, nel file {sorted(catalog.questions(number))}: almeno 3, gli stessi"
    predictions = calls(nb, "predict")
    if not predictions or len(set(predictions)) != len(predictions):
        yield f"le previsioni devono esserci, ognuna con la sua chiave: {predictions}"
    if any(not re.fullmatch(rf"p-{number}-\d+", key) for key in predictions):
        yield f"una previsione non è di questa lezione: {predictions}"
    if not calls(nb, *WIDGETS):
        yield "manca un widget"
    images = {m for c in notebook.code_cells(nb) for o in c["outputs"] for m in o.get("data", {})}
    if not images & {"image/png", "image/svg+xml"}:
        yield "manca una figura"
    if not calls(nb, "parameter"):
        yield "manca un parametro personale: parameter('es-NN-k')"


def predictions(nb: Notebook, number: str) -> Iterator[str]:
    """Come va a finire una previsione lo sanno i dati della lezione, ed è una delle opzioni."""
    outcomes = catalog.outcomes(number)
    options: dict[str, list[str]] = {}
    key = ""
    for call in _calls(nb, "predict", "reveal"):
        if _name(call.func) == "predict":
            key, _, options[key] = (ast.literal_eval(argument) for argument in call.args[:3])
        elif not call.args and key not in outcomes:
            yield f"{key}: reveal() non sa che cosa è successo, [{key}] manca in quiz_{number}.toml"
    for key, happened in outcomes.items():
        if happened not in options.get(key, []):
            yield f"{key}: «{happened}» non è fra le opzioni {options.get(key)}"


def exercises(nb: Notebook, number: str) -> Iterator[str]:
    """Ogni esercizio: la cella dello studente, subito dopo la sua verifica, riuscita con la soluzione."""
    registered = catalog.exercises(number)
    cells = list(notebook.code_cells(nb))
    found = []
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        source = text(cell["source"])
        keys = sorted(t for t in tags(cell) if _EXERCISE.fullmatch(t))
        if "### BEGIN SOLUTION" in source and not keys:
            yield f"una soluzione fuori da un esercizio:\n{source}"
        for key in keys:
            found.append(key)
            if "### BEGIN SOLUTION" not in source:
                yield f"{key}: nella sua cella mancano le marche della soluzione"
            if following is None or f'check("{key}"' not in text(following["source"]):
                yield f"{key}: la cella dopo deve chiamare check"
            elif not any(words.startswith(f"✔ {key} ") for words in output_texts(following)):
                yield f"{key}: la soluzione di riferimento non risulta riuscita"
            elif is_ignored(following):
                yield f"{key}: la verifica non è confrontata"
    if sorted(found) != sorted(registered) or len(found) < 3:
        yield f"esercizi nel notebook {sorted(found)}, registrati {sorted(registered)}: almeno 3, gli stessi"


def imports(nb: Notebook) -> Iterator[str]:
    """Di labkit solo i nomi pubblici; ``labkit.kernel`` solo dentro il laboratorio (``%%lab``)."""
    for cell in notebook.code_cells(nb):
        code = code_of(cell)
        public = {*labkit.__all__, "kernel"} if code.in_lab else set(labkit.__all__)
        for node in ast.walk(ast.parse(code.source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "labkit":
                names = {a.name for a in node.names}
                if node.module != "labkit" or not names <= public:
                    yield f"from {node.module} import {', '.join(sorted(names))}"
            elif isinstance(node, ast.Import):
                yield from (f"import {a.name}" for a in node.names if a.name.startswith("labkit."))

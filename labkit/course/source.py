"""``source``: il codice di labkit mostrato dentro la lezione, dove insegna qualcosa.

Il codice è letto dal suo file con ``ast``, mai importato: così una lezione può mostrare anche
``kernel.namespaces.unshare``, che nel processo del notebook non si deve caricare.
"""

from __future__ import annotations

import ast
import html
import io
import keyword
import textwrap
import token
import tokenize
from pathlib import Path
from types import ModuleType
from typing import Any

from labkit.errors import InvalidError, NotFoundError

_PACKAGE = Path(__file__).resolve().parent.parent
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

#: JupyterLab's own editor colours, so the code follows the light and the dark theme.
_COLOURS = {
    "keyword": "var(--jp-mirror-editor-keyword-color, #00733b)",
    "string": "var(--jp-mirror-editor-string-color, #a31515)",
    "number": "var(--jp-mirror-editor-number-color, #0b5394)",
    "comment": "var(--jp-mirror-editor-comment-color, #5f6368)",
    "name": "var(--jp-mirror-editor-def-color, #1a56b0)",
}


class Source:
    """Un pezzo di codice di labkit: ``name``, ``file`` (dentro il progetto) e ``code``."""

    def __init__(self, name: str, file: str, code: str) -> None:
        self.name, self.file, self.code = name, file, code

    def __repr__(self) -> str:
        return f"# {self.name}, nel file {self.file}\n{self.code}"

    def _repr_html_(self) -> str:
        return (
            f"<div><i><code>{html.escape(self.name)}</code>, nel file <code>{html.escape(self.file)}</code></i>"
            f'<pre style="padding:8px 12px;border-left:4px solid var(--jp-border-color1, #bdbdbd)">'
            f"{highlight(self.code)}</pre></div>"
        )


def source(thing: Any) -> Source:
    """Mostra il codice di una funzione, classe o modulo di labkit.

    Accetta l'oggetto, ``source(lab.run)``, o il nome puntato, ``source("kernel.namespaces.unshare")``.

    >>> source("course.source.source").name
    'labkit.course.source.source'
    """
    name = thing if isinstance(thing, str) else _name_of(thing)
    parts = name.removeprefix("labkit.").split(".")
    file, rest = _module_file(parts)
    if file is None:
        raise NotFoundError(f"In labkit non c'è «{name}».", 'source("kernel.namespaces.unshare")')
    text = file.read_text(encoding="utf-8")
    shown = f"labkit/{file.relative_to(_PACKAGE)}"
    full = ".".join(["labkit", *parts])
    return Source(full, shown, text if not rest else _definition(text, rest, full, shown))


def highlight(code: str) -> str:
    """Il codice come HTML, con parole chiave, testi, numeri e commenti colorati.

    >>> highlight("x = 1")
    'x = <span style="color:var(--jp-mirror-editor-number-color, #0b5394)">1</span>'
    """
    lines = code.splitlines(keepends=True)
    pieces: list[str] = []
    row, column, after = 1, 0, ""
    for item in tokenize.generate_tokens(io.StringIO(code).readline):
        kind = _kind(item, after)
        if item.string.strip():
            after = item.string
        if kind is None or item.start < (row, column):
            continue
        pieces += [html.escape(_between(lines, (row, column), item.start), quote=False)]
        pieces += [f'<span style="color:{_COLOURS[kind]}">{html.escape(item.string, quote=False)}</span>']
        row, column = item.end
    return "".join(pieces) + html.escape(_between(lines, (row, column), (len(lines) + 1, 0)), quote=False)


def _kind(item: tokenize.TokenInfo, after: str) -> str | None:
    if item.type == token.NAME:
        return "keyword" if keyword.iskeyword(item.string) else "name" if after in ("def", "class") else None
    # Python 3.12 cuts an f-string into three kinds of token; only the text of it is coloured.
    if item.type == token.STRING or token.tok_name[item.type].startswith("FSTRING"):
        return "string" if "{{" not in item.string and "}}" not in item.string else None
    return {token.NUMBER: "number", token.COMMENT: "comment"}.get(item.type)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    (row, column), (last, stop) = start, end
    if row == last:
        return lines[row - 1][column:stop] if row <= len(lines) else ""
    middle = lines[row - 1 : last]
    if not middle:
        return ""
    middle[0] = middle[0][column:]
    if last <= len(lines):
        middle[-1] = middle[-1][:stop]
    return "".join(middle)


def _name_of(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        name = thing.__name__
    else:
        thing = thing if hasattr(thing, "__qualname__") else type(thing)
        name = f"{thing.__module__}.{thing.__qualname__}"
    if not name.startswith("labkit") or "<" in name:
        raise InvalidError(f"«{name}» non è una funzione o una classe di labkit.", "source(lab.run)")
    return name


def _module_file(parts: list[str]) -> tuple[Path | None, list[str]]:
    """The longest part of the name that is a file, and what is left of the name."""
    if not all(p.isidentifier() for p in parts):
        return None, []
    for length in range(len(parts), 0, -1):
        path = _PACKAGE.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file, parts[length:]
    return None, []


def _definition(text: str, path: list[str], full: str, shown: str) -> str:
    body: list[ast.stmt] = ast.parse(text).body
    node: _Definition | None = None
    for name in path:
        node = next((n for n in body if isinstance(n, _Definition) and n.name == name), None)
        if node is None:
            names = ", ".join(n.name for n in body if isinstance(n, _Definition) and not n.name.startswith("_"))
            raise NotFoundError(f"«{full}» non c'è in {shown}.", f"scegli fra: {names}" if names else "")
        body = node.body
    assert node is not None
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return textwrap.dedent("".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno])).rstrip()

"""La pagina di un mazzo: un solo file HTML, con dentro tutto quello che serve, che non chiede mai la rete."""

from __future__ import annotations

import base64
import html
import json
import mimetypes
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import mistune

from labkit.course.slides import npm
from labkit.course.slides.deck import Block, Code, Deck, Pause, Slide, Text
from labkit.errors import NotFoundError

_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"

_PAGE = """<!DOCTYPE html>
<html lang="it">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main class="reveal"><div class="slides">
{slides}
</div></main>
{scripts}
</body>
</html>
"""


def render(deck: Deck, notebook: Mapping[str, Any]) -> str:
    """La pagina del mazzo ``deck``, con i risultati che ``notebook`` (il mazzo eseguito) contiene."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = iter([list(cell["outputs"]) for cell in cells])
    slides = [_cover(deck), *_grouped(deck, outputs)]
    state = notebook.get("metadata", {}).get("widgets", {}).get(_STATE)
    views = any(_VIEW in output.get("data", {}) for cell in cells for output in cell["outputs"])
    scripts = [_script(npm.text(npm.REVEAL, "dist/reveal.js")), _script(_asset("deck.js"))]
    if views and state:
        scripts.extend(_widget_scripts(state))  # after: with RequireJS in the page reveal.js would not be a global
    css = [npm.text(npm.REVEAL, "dist/reset.css"), npm.text(npm.REVEAL, "dist/reveal.css"), _code_css()]
    return _PAGE.format(
        title=html.escape(deck.title),
        css="\n".join([*css, _asset("deck.css")]),
        slides="\n".join(slides),
        scripts="\n".join(scripts),
    )


def _grouped(deck: Deck, outputs: Iterator[list[Any]]) -> Iterator[str]:
    """The slides, each with its deeper ones below it: reveal nests a section for the vertical direction."""
    column: list[str] = []
    for slide in deck.slides:
        section = _section(slide, outputs, deck.folder)
        if slide.deeper and column:
            column.append(section)
        else:
            if column:
                yield _column(column)
            column = [section]
    if column:
        yield _column(column)


def _column(sections: list[str]) -> str:
    return sections[0] if len(sections) == 1 else '<section class="colonna">\n' + "\n".join(sections) + "\n</section>"


def _cover(deck: Deck) -> str:
    number = deck.lesson.partition("-")[0]
    return (
        '<section class="copertina"><div class="foglio">'
        f'<p class="lezione">Lezione {html.escape(number)}</p>'
        f"<h1>{html.escape(deck.title)}</h1><p>{html.escape(deck.subtitle)}</p></div></section>"
    )


def _section(slide: Slide, outputs: Iterator[list[Any]], folder: Path) -> str:
    parts: list[str] = []
    fragments: list[list[str]] = []
    for block in slide.blocks:
        if isinstance(block, Pause):
            fragments.append([])
            continue
        (fragments[-1] if fragments else parts).append(_block(block, outputs, folder))
    parts.extend(f'<div class="fragment">{"".join(part)}</div>' for part in fragments)
    notes = f'<aside class="notes">{_markdown(slide.notes, folder)}</aside>' if slide.notes else ""
    return f'<section><div class="foglio">{"".join(parts)}</div>{notes}</section>'


def _block(block: Block, outputs: Iterator[list[Any]], folder: Path) -> str:
    if isinstance(block, Text):
        return f'<div class="prosa">{_markdown(block.source, folder)}</div>'
    if not isinstance(block, Code):
        return ""
    results = next(outputs) if block.runs else []
    if block.mode == "muto":
        return ""
    shown = "" if block.mode == "nascosto" else _highlighted(block.source, block.language)
    return shown + "".join(_output(output) for output in results)


# ---------------------------------------------------------------- text and code


def _markdown(source: str, folder: Path) -> str:
    class Renderer(mistune.HTMLRenderer):
        def image(self, text: str, url: str, title: str | None = None) -> str:
            return f'<img src="{_inlined(folder / url)}" alt="{html.escape(text, quote=True)}">'

        def block_code(self, code: str, info: str | None = None) -> str:
            return _highlighted(code, (info or "text").split()[0])

    convert = mistune.create_markdown(renderer=Renderer(escape=False), plugins=["table", "strikethrough"])
    return str(convert(source))


def _inlined(path: Path) -> str:
    if not path.is_file():
        raise NotFoundError(f"La figura {path} non c'è.")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _highlighted(source: str, language: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name("ipython3" if language == "python" else language)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return str(highlight(source, lexer, HtmlFormatter(cssclass="codice", wrapcode=True)))


def _code_css() -> str:
    from pygments.formatters import HtmlFormatter

    return str(HtmlFormatter(style="friendly", cssclass="codice").get_style_defs(".codice"))


# ---------------------------------------------------------------- results


def _output(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f'<pre class="risultato {output["name"]}">{_plain(output["text"])}</pre>'
    if output["output_type"] == "error":
        return f'<pre class="risultato stderr">{_plain(output["evalue"] or output["ename"])}</pre>'
    data = output.get("data", {})
    if _VIEW in data:
        return f'<div class="vivo"><script type="{_VIEW}">{_json(data[_VIEW])}</script></div>'
    if "text/html" in data:
        return f'<div class="risultato html">{data["text/html"]}</div>'
    if "image/svg+xml" in data:
        # Bare in the page it would share ids and styles with the others; as an image it stays itself.
        encoded = base64.b64encode(data["image/svg+xml"].encode()).decode()
        return _figure(f"data:image/svg+xml;base64,{encoded}", data)
    if "image/png" in data:
        return _figure("data:image/png;base64," + re.sub(r"\s", "", data["image/png"]), data)
    return f'<pre class="risultato">{_plain(data.get("text/plain", ""))}</pre>'


def _figure(source: str, data: Mapping[str, Any]) -> str:
    words = str(data.get("text/plain", "")).strip()
    alt = words if words and not words.startswith("<") else "figura"
    return f'<img class="risultato" src="{source}" alt="{html.escape(alt, quote=True)}">'


def _plain(text: str) -> str:
    return html.escape(re.sub(r"\x1b\[[0-9;]*m", "", text).rstrip("\n"), quote=False)


# ---------------------------------------------------------------- scripts


def _widget_scripts(state: Mapping[str, Any]) -> Iterator[str]:
    yield _script(npm.text(npm.REQUIRE, "require.js"))
    yield _script(_anywidget())
    yield f'<script type="{_STATE}">{_json(state)}</script>'
    # «cdn-only» off, and a CDN that is nowhere: a widget that is not in the file must never ask the network.
    yield _script(npm.text(npm.WIDGETS, "dist/embed-amd.js"), 'data-jupyter-widgets-cdn="data:,"')


def _anywidget() -> str:
    """anywidget's module, from its installed wheel, with the name under which the widgets look for it."""
    path = Path(sys.prefix, "share", "jupyter", "nbextensions", "anywidget", "index.js")
    if not path.is_file():
        raise NotFoundError("Manca il modulo di anywidget per il browser.", "pip install --force-reinstall anywidget")
    source = path.read_text(encoding="utf-8")
    return source.replace('define(["@jupyter-widgets/base"]', 'define("anywidget", ["@jupyter-widgets/base"]')


def _script(source: str, attributes: str = "") -> str:
    safe = re.sub(r"</(script)", r"<\\/\1", source, flags=re.IGNORECASE).replace("<!--", "<\\!--")
    return f"<script {attributes}>{safe}</script>" if attributes else f"<script>{safe}</script>"


def _json(value: Any) -> str:
    return json.dumps(value).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return resources.files("labkit.course.slides").joinpath("assets", name).read_text(encoding="utf-8")

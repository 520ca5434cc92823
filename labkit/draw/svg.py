"""SVG esatto e piccolo: nodi immutabili, ogni testo protetto, i colori per nome.

Un colore è una parola della tavolozza (``ink``, ``paper``, ``hue1``…), mai un codice: nel disegno scritto
c'è insieme il colore fisso, per chi non legge i fogli di stile, e la classe che segue il tema di JupyterLab
o, fuori, la preferenza chiaro/scuro. Gli ``id`` non ci sono: due disegni nella stessa pagina non si toccano.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

from labkit.draw.words import clean

#: nome → (variabile di JupyterLab, colore su chiaro, colore su scuro).
#: Le tinte ``hue`` hanno contrasto ≥ 3:1 sull'uno e sull'altro: valgono anche dove il tema non si può sapere.
PALETTE: Final[dict[str, tuple[str, str, str]]] = {
    "paper": ("--jp-layout-color0", "#ffffff", "#111111"),
    "panel": ("--jp-layout-color2", "#eeeeee", "#2b2b2b"),
    "ink": ("--jp-content-font-color1", "#212121", "#ececec"),
    "soft": ("--jp-content-font-color2", "#5f6368", "#b6b6b6"),
    "line": ("--jp-border-color2", "#dadce0", "#4a4a4a"),
    "focus": ("--jp-brand-color1", "#1976d2", "#4aa3f5"),
    "hue0": ("", "#77808c", "#77808c"),
    "hue1": ("", "#0a7ac2", "#0a7ac2"),
    "hue2": ("", "#d1600a", "#d1600a"),
    "hue3": ("", "#0c8f6a", "#0c8f6a"),
    "hue4": ("", "#b04fa8", "#b04fa8"),
    "hue5": ("", "#a07a00", "#a07a00"),
    "good": ("--jp-success-color1", "#2e7d32", "#4caf50"),
    "bad": ("--jp-error-color1", "#c62828", "#f4665a"),
}

SANS: Final = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif"
MONO: Final = "ui-monospace, 'SFMono-Regular', Menlo, 'Noto Sans Mono', 'DejaVu Sans Mono', monospace"


@dataclass(frozen=True)
class Node:
    """Un elemento SVG: nome, attributi nell'ordine dato, figli (nodi o testo)."""

    tag: str
    attrs: tuple[tuple[str, str], ...] = ()
    children: tuple[Node | str, ...] = ()

    def __getitem__(self, name: str) -> str:
        return dict(self.attrs)[name]

    def get(self, name: str, default: str = "") -> str:
        """Il valore di un attributo, o ``default``."""
        return dict(self.attrs).get(name, default)


def node(tag: str, /, *children: Node | str, **attrs: str | float) -> Node:
    """Un nodo; ``text_anchor=`` diventa ``text-anchor``, ``class_=`` diventa ``class``."""
    pairs = tuple((key.rstrip("_").replace("_", "-"), _value(value)) for key, value in attrs.items())
    return Node(tag, pairs, children)


def rect(x: float, y: float, width: float, height: float, **attrs: str | float) -> Node:
    """Un rettangolo; ``rx=`` arrotonda gli angoli."""
    return node("rect", x=x, y=y, width=width, height=height, **attrs)


def line(x1: float, y1: float, x2: float, y2: float, **attrs: str | float) -> Node:
    """Un segmento."""
    return node("line", x1=x1, y1=y1, x2=x2, y2=y2, **attrs)


def strokes(points: Iterable[tuple[float, float, float, float]], **attrs: str | float) -> Node:
    """Molti segmenti in un solo nodo."""
    path = "".join(f"M{_value(a)} {_value(b)}L{_value(c)} {_value(d)}" for a, b, c, d in points)
    return node("path", d=path, fill="none", **attrs)


def hatch(style: int, x1: float, y1: float, x2: float, y2: float) -> list[tuple[float, float, float, float]]:
    """Il tratteggio dentro un rettangolo: niente, ⟋, ⟍, orizzontale, verticale, a griglia."""
    step = 7.0
    if style in (1, 2):
        lines = []
        start = x1 - (y2 - y1) + step / 2
        while start < x2:
            low, high = max(start, x1), min(start + (y2 - y1), x2)
            if low < high:
                a, b = low - start, high - start  # how far down the diagonal enters and leaves the box
                lines.append((low, y2 - a, high, y2 - b) if style == 1 else (low, y1 + a, high, y1 + b))
            start += step
        return lines
    lines = []
    if style in (3, 5):
        rows = int((y2 - y1) // step)
        lines += [(x1, y, x2, y) for y in (y1 + step * (i + 0.5) for i in range(rows + 1)) if y <= y2]
    if style in (4, 5):
        lines += [(x, y1, x, y2) for x in (x1 + step * (i + 0.5) for i in range(int((x2 - x1) // step) + 1)) if x <= x2]
    return lines


def text(x: float, y: float, words: str, size: float = 13, *, mono: bool = False, **attrs: str | float) -> Node:
    """Una riga di testo con la base in ``y``; inchiostro normale se ``fill=`` non dice altro."""
    style = {"font_size": size, "fill": "ink", **({"class_": "lk-mono"} if mono else {}), **attrs}
    return node("text", words, x=x, y=y, **style)


def group(*children: Node | str, **attrs: str | float) -> Node:
    """Un gruppo di nodi."""
    return node("g", *children, **attrs)


def title(words: str) -> Node:
    """Il nome di un nodo: lo leggono il puntatore e i lettori di schermo."""
    return node("title", words)


def document(width: float, height: float, name: str, description: str, *children: Node, role: str = "img") -> Node:
    """Il disegno intero, con nome e descrizione per chi non lo vede."""
    return node(
        "svg",
        title(name),
        node("desc", description),
        node("style", STYLE),
        rect(0, 0, width, height, fill="paper", class_="lk-paper"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="lk",
        role=role,
        aria_label=clean(name),
        width=width,
        height=height,
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        font_family=SANS,
        style="max-width:100%;height:auto",
    )


def render(item: Node | str) -> str:
    """Il testo SVG del nodo: gli stessi nodi danno gli stessi byte.

    >>> render(text(1, 2.5, "a < b"))
    '<text x="1" y="2.5" font-size="13" fill="#212121" class="lk-f-ink">a &lt; b</text>'
    """
    if isinstance(item, str):
        return escape(clean(item), quote=False)
    attrs, classes = [], []
    for key, value in item.attrs:
        if key == "class":
            classes.append(value)
        elif key in ("fill", "stroke") and value in PALETTE:
            attrs.append((key, PALETTE[value][1]))
            classes.append(f"lk-{key[0]}-{value}")
        else:
            attrs.append((key, value))
    if classes:
        attrs.append(("class", " ".join(classes)))
    head = "".join(f' {key}="{escape(clean(value))}"' for key, value in attrs)
    if item.tag == "style":
        return f"<style>{item.children[0]}</style>"  # our own constant: a text node here would break the selectors
    if not item.children:
        return f"<{item.tag}{head}/>"
    return f"<{item.tag}{head}>{''.join(map(render, item.children))}</{item.tag}>"


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _stylesheet() -> str:
    def variables(shade: int) -> str:
        return "".join(
            f"--lk-{name}:{f'var({entry[0]},{entry[shade]})' if entry[0] else entry[shade]};"
            for name, entry in PALETTE.items()
        )

    uses = "".join(f".lk-f-{name}{{fill:var(--lk-{name})}}.lk-s-{name}{{stroke:var(--lk-{name})}}" for name in PALETTE)
    return (
        f".lk{{{variables(1)}}}@media (prefers-color-scheme:dark){{.lk{{{variables(2)}}}}}"
        f"{uses}.lk .lk-mono{{font-family:{MONO}}}"
    )


STYLE: Final = _stylesheet()

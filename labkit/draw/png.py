"""Lo stesso disegno in PNG, per chi non mostra SVG (un quaderno non fidato, la pagina di un deposito).

Legge i nodi che :mod:`labkit.draw.svg` sa costruire, e solo quelli, con la tavolozza chiara.
"""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

from labkit.draw.svg import PALETTE, Node

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SEGMENT = re.compile(r"M([-\d.]+) ([-\d.]+)L([-\d.]+) ([-\d.]+)")
_ANCHOR = {"start": "left", "middle": "center", "end": "right"}


def render(document: Node, scale: float = 1.5) -> str:
    """Il PNG del disegno in base64, come lo vuole Jupyter; ``scale`` pixel per unità."""
    from matplotlib.figure import Figure

    width, height = float(document["width"]), float(document["height"])
    figure = Figure(figsize=(width / 72, height / 72), dpi=72 * scale)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    _paint(axes, document)
    return encode(figure)


def encode(figure: Figure) -> str:
    """La figura come PNG in base64, con 128 colori: un terzo dei byte, nessuna differenza da vedere."""
    from PIL import Image

    full, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    with Image.open(full) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _paint(axes: Axes, node: Node) -> None:
    # Matplotlib would draw all lines above all boxes: keep the order of the document.
    order = len(axes.get_children())
    if node.tag == "rect":
        _rect(axes, node, order)
    elif node.tag == "line":
        _lines(axes, node, [tuple(float(node[k]) for k in ("x1", "y1", "x2", "y2"))], order)
    elif node.tag == "path":
        _lines(axes, node, [tuple(map(float, found)) for found in _SEGMENT.findall(node["d"])], order)
    elif node.tag == "text":
        _text(axes, node, order)
    elif node.tag in ("svg", "g"):
        for child in node.children:
            if isinstance(child, Node):
                _paint(axes, child)


def _colour(node: Node, name: str) -> tuple[str, float] | str:
    word = node.get(name, "none")
    if word == "none":
        return "none"
    return (PALETTE[word][1], float(node.get(f"{name}-opacity", "1")))


def _rect(axes: Axes, node: Node, order: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y, width, height = (float(node[k]) for k in ("x", "y", "width", "height"))
    radius = min(float(node.get("rx", "0")), width / 2, height / 2)
    style = f"round,pad=0,rounding_size={radius}" if radius else "square,pad=0"
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle=style,
            facecolor=_colour(node, "fill"),
            edgecolor=_colour(node, "stroke"),
            linewidth=float(node.get("stroke-width", "1")),
            zorder=order,
        )
    )


def _lines(axes: Axes, node: Node, segments: list[tuple[float, ...]], order: int) -> None:
    from matplotlib.collections import LineCollection

    collection = LineCollection(
        [[(s[0], s[1]), (s[2], s[3])] for s in segments],
        linewidths=float(node.get("stroke-width", "1")),
        colors=[_colour(node, "stroke")],
        zorder=order,
    )
    axes.add_collection(collection, autolim=False)


def _text(axes: Axes, node: Node, order: int) -> None:
    family = "DejaVu Sans Mono" if "lk-mono" in node.get("class") else "DejaVu Sans"
    bold = float(node.get("font-weight", "400")) >= 600
    axes.text(
        float(node["x"]),
        float(node["y"]),
        "".join(str(c) for c in node.children),
        # DejaVu is wider than the fonts of a browser: a slightly smaller size keeps the words in their place.
        fontsize=float(node["font-size"]) * 0.9,
        family=family,
        weight="bold" if bold else "normal",
        color=_colour(node, "fill"),
        ha=_ANCHOR[node.get("text-anchor", "start")],
        va="baseline",
        parse_math=False,
        zorder=order,
    )

"""Numeri a confronto: una barra per nome, lunga quanto la mediana, con un punto per ogni misura.

Un :class:`Chart` è solo dati. In una cella mostra la figura; come testo dice che cosa confronta ma non i
valori misurati, che cambiano a ogni esecuzione: quelli li dà ``print``.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from labkit.draw import png
from labkit.draw.svg import PALETTE
from labkit.draw.words import THIN, clean, columns, listing, number, pad
from labkit.errors import InvalidError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI: Final = 150
_WIDTH: Final = 6.8  # inches: 680 px on the page, what a cell shows with the sidebar open


@dataclass(frozen=True)
class Chart:
    """Un grafico a barre; si mostra da solo in fondo a una cella."""

    series: tuple[tuple[str, tuple[float, ...]], ...]
    title: str = ""
    unit: str = ""
    log: bool = False
    note: str = ""

    def medians(self) -> dict[str, float]:
        """La mediana di ogni serie."""
        return {name: statistics.median(values) for name, values in self.series}

    def figure(self) -> Figure:
        """La figura di matplotlib, da ritoccare o salvare."""
        return _figure(self)

    def __repr__(self) -> str:
        head = f"Grafico «{self.title}»" if self.title else "Grafico"
        unit = f" ({self.unit})" if self.unit else ""
        return f"{head}{unit}: {listing([name for name, _ in self.series])}"

    def __str__(self) -> str:
        width = max(columns(name) for name, _ in self.series)
        lines = []
        for name, values in self.series:
            line = f"{pad(name, width)}  {_measure(statistics.median(values), self.unit)}"
            if len(values) > 1:
                low, high = number(min(values)), number(max(values))
                line += f"  (mediana di {len(values)} misure, da {low} a {high})"
            lines.append(line)
        return "\n".join([repr(self), *lines, *([self.note] if self.note else [])])

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        figure = self.figure()
        size = {"width": round(figure.get_figwidth() * 100), "height": round(figure.get_figheight() * 100)}
        return {"text/plain": repr(self), "image/png": png.encode(figure)}, {"image/png": size}


def chart(
    values: Mapping[str, float | Sequence[float]],
    *,
    title: str = "",
    unit: str = "",
    log: bool = False,
    note: str = "",
) -> Chart:
    """Un grafico che confronta ``values``: un numero, o una fila di misure, per ogni nome.

    ``unit`` è l'unità dei numeri («ms», «MB»…); ``log=True`` usa una scala in cui ogni tratto vale dieci
    volte il precedente, per numeri di grandezza molto diversa; ``note`` è una riga sotto la figura.
    Un valore che non è un numero dà :class:`~labkit.errors.InvalidError`.

    >>> chart({"processo": 1.5, "container": [9, 11, 10]}, title="Tempo di avvio", unit="ms")
    Grafico «Tempo di avvio» (ms): processo e container
    """
    if not values:
        raise InvalidError("Il grafico non ha niente da confrontare.", "chart({'processo': 1.5, 'container': 12})")
    series = tuple((clean(name), _numbers(clean(name), value, log)) for name, value in values.items())
    return Chart(series, clean(title), clean(unit), log, clean(note))


def to_svg(drawn: Chart) -> str:
    """Il grafico in SVG: gli stessi numeri danno gli stessi byte."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "labkit"}):
        drawn.figure().savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _numbers(name: str, value: float | Sequence[float], log: bool) -> tuple[float, ...]:
    many = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
    try:
        numbers = tuple(float(v) for v in many)
    except (TypeError, ValueError):
        raise InvalidError(
            f"«{name}» vale {value!r}, che non è un numero.", "chart({'processo': 1.5, 'container': [9, 11, 10]})"
        ) from None
    if not numbers:
        raise InvalidError(f"«{name}» non ha nessuna misura.", f"togli «{name}», o misuralo almeno una volta")
    if any(n != n or abs(n) == float("inf") for n in numbers):
        raise InvalidError(f"«{name}» contiene una misura che non è un numero finito.", "togli quella misura")
    if log and min(numbers) <= 0:
        raise InvalidError(
            f"«{name}» vale {number(min(numbers))}: su una scala logaritmica si parte da più di zero.", "log=False"
        )
    return numbers


def _measure(value: float, unit: str) -> str:
    return f"{number(value)}{THIN}{unit}" if unit else number(value)


def _figure(drawn: Chart) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    rows = len(drawn.series)
    height = 0.42 * rows + 0.55 + (0.4 if drawn.title else 0.1) + (0.3 if drawn.note else 0)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", facecolor=PALETTE["paper"][1])
    axes = figure.add_subplot()
    ink, soft, rule = (PALETTE[name][1] for name in ("ink", "soft", "line"))
    _bars(axes, drawn)
    axes.set_yticks(range(rows), [name for name, _ in drawn.series], fontsize=10, color=ink)
    axes.set_ylim(rows - 0.45, -0.55)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.tick_params(axis="x", colors=soft, labelsize=8.5)
    axes.tick_params(which="both", length=0)
    axes.grid(axis="x", color=rule, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(soft)
    if drawn.unit:
        scale = " (scala logaritmica)" if drawn.log else ""
        axes.set_xlabel(f"{drawn.unit}{scale}", fontsize=9, color=soft, loc="right", parse_math=False)
    if drawn.title:
        figure.suptitle(drawn.title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=ink, parse_math=False)
    if drawn.note:
        figure.supxlabel(drawn.note, x=0.01, ha="left", fontsize=9, color=soft, parse_math=False)
    return figure


def _bars(axes: Axes, drawn: Chart) -> None:
    if drawn.log:
        axes.set_xscale("log")
    colour, ink = PALETTE["hue1"][1], PALETTE["ink"][1]
    everything = [v for _, values in drawn.series for v in values]
    low, high = min(everything), max(everything)
    if drawn.log:
        axes.set_xlim(low / 2, high * (high / low) ** 0.22 * 1.6)
    else:
        left, right = min(low, 0.0), max(high, 0.0)
        room = 0.2 * (right - left) or 1.0  # for the number beside the longest bar
        axes.set_xlim(left - room * (left < 0), right + room * (right > 0 or left == 0))
    for row, (_, values) in enumerate(drawn.series):
        middle = statistics.median(values)
        axes.barh(row, middle, height=0.58, color=colour, alpha=0.35, edgecolor=colour, linewidth=1)
        if len(values) > 1:
            # A fixed zigzag, not a random jitter: the same measures give the same picture.
            heights = [row + 0.1 * ((i % 3) - 1) for i in range(len(values))]
            axes.plot(values, heights, "o", markersize=3.6, color=colour, markeredgecolor="white", markeredgewidth=0.5)
        edge = max([*values, 0]) if middle >= 0 else min([*values, 0])
        axes.annotate(
            _measure(middle, drawn.unit),
            (edge, row),
            xytext=(6 if middle >= 0 else -6, 0),
            textcoords="offset points",
            ha="left" if middle >= 0 else "right",
            va="center",
            fontsize=10,
            fontweight="bold",
            color=ink,
            parse_math=False,
        )

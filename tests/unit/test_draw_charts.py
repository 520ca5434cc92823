"""I grafici: numeri italiani sulle barre, niente di misurato nel testo confrontato."""

from __future__ import annotations

import base64
import warnings

import pytest

from labkit.draw.charts import Chart, chart, to_svg
from labkit.errors import InvalidError

TIMES = {"processo": [1.1, 1.3, 1.2], "container": 9.25, "docker": [390.0, 412.0, 455.0]}


def test_the_text_says_what_is_compared_but_no_measure() -> None:
    drawn = chart(TIMES, title="Avvio", unit="ms")
    assert repr(drawn) == "Grafico «Avvio» (ms): processo, container e docker"
    assert repr(chart({"a": 1})) == "Grafico: a"


def test_print_gives_the_measures() -> None:
    lines = str(chart(TIMES, title="Avvio", unit="ms", note="Più corto è meglio.")).splitlines()
    assert lines[1] == "processo   1,2\u202fms  (mediana di 3 misure, da 1,1 a 1,3)"
    assert lines[2] == "container  9,25\u202fms"
    assert lines[4] == "Più corto è meglio."


@pytest.mark.parametrize("log", [False, True])
def test_medians_are_written_on_the_bars(log: bool) -> None:
    figure = chart(TIMES, title="Avvio", unit="ms", log=log).figure()
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.texts] == ["1,2\u202fms", "9,25\u202fms", "412\u202fms"]
    assert [bar.get_width() for bar in axes.patches] == [1.2, 9.25, 412.0]
    assert axes.get_xlim()[1] > 455
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 3]  # one point per measure, only where many


def test_the_same_numbers_give_the_same_bytes() -> None:
    one, two = (chart(TIMES, title="Avvio", unit="ms") for _ in range(2))
    assert to_svg(one) == to_svg(two)
    assert one._repr_mimebundle_() == two._repr_mimebundle_()


def test_what_jupyter_shows_is_text_and_a_small_png() -> None:
    data, metadata = chart(TIMES, title="Avvio")._repr_mimebundle_()
    assert data.keys() == {"text/plain", "image/png"}
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert len(data["image/png"]) < 50_000
    assert metadata["image/png"]["width"] == 680


@pytest.mark.parametrize(
    "values", [{"a": 0}, {"a": [0, 0]}, {"a": -3, "b": 5}, {"a": 1e-9}, {"$x_1$ & <b>": 2, "y" * 60: 3}]
)
def test_odd_values_are_drawn_without_warnings(values: dict[str, float | list[float]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chart(values, title="Prova $", unit="%", note="nota")._repr_mimebundle_()[0]["image/png"]


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ({}, False),
        ({"a": []}, False),
        ({"a": "tre"}, False),
        ({"a": None}, False),
        ({"a": [1, float("nan")]}, False),
        ({"a": 0}, True),
    ],
)
def test_what_is_not_a_number_is_refused_with_a_remedy(values: dict[str, object], log: bool) -> None:
    with pytest.raises(InvalidError) as refused:
        chart(values, log=log)  # type: ignore[arg-type]
    assert refused.value.remedy


def test_a_chart_is_plain_data() -> None:
    assert chart({"a": 1}) == Chart((("a", (1.0,)),))

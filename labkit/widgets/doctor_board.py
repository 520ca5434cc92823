"""La diagnosi della macchina con un filtro e un pulsante «Copia» accanto a ogni comando."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import anywidget
import traitlets

from labkit.draw import doctor
from labkit.model import Feature
from labkit.widgets.shell import STYLE, Shell, toggle


class DoctorBoard(anywidget.AnyWidget):
    """La tabella, con i pulsanti che copiano i comandi."""

    _esm = Path(__file__).with_suffix(".js")
    _css = STYLE
    html = traitlets.Unicode().tag(sync=True)


class DoctorWidget(Shell):
    """La diagnosi con il suo filtro; vedi :func:`doctor_widget`."""

    def __init__(self, report: Iterable[Feature]) -> None:
        self._features = tuple(report)
        self.board = DoctorBoard()
        self.only_missing = toggle("solo quello che manca", False)
        self.only_missing.observe(lambda _: self._draw(), names="value")
        super().__init__([self.only_missing, self.board])
        self._draw()

    def words(self) -> str:
        return doctor.text(self._features)

    def _draw(self) -> None:
        self.board.html = doctor.to_html(self._features, only_missing=self.only_missing.value)


def doctor_widget(report: Iterable[Feature]) -> DoctorWidget:
    """La diagnosi ``report`` (quella di ``labkit.doctor()``) con il filtro e i comandi da copiare."""
    return DoctorWidget(report)

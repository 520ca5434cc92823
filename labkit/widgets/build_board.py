"""Una costruzione disegnata passo per passo mentre si fa. Vedi ``Lab.build``."""

from __future__ import annotations

from labkit.draw import build
from labkit.draw.build import Row
from labkit.widgets.shell import Drawing, Shell


class BuildBoard(Shell):
    """Il disegno dei passi: :meth:`show` ne aggiunge uno, o cambia quello che si sta facendo."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.drawing = Drawing()
        super().__init__([self.drawing])

    def words(self) -> str:
        return build.text(tuple(self.rows.values()))

    def show(self, row: Row) -> None:
        """Un passo comincia, o finisce."""
        self.rows[row.number] = row
        rows = tuple(self.rows.values())
        self.drawing.svg = build.to_svg(rows)
        if row.state not in ("running", "waiting"):
            self.drawing.news = build.summary(rows)

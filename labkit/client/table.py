"""Una tabella: testo in un terminale, disegnata in un notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence


class Table:
    """Righe sotto un'intestazione: testo in un terminale, tabella in un notebook."""

    HEADER: tuple[str, ...] = ()

    def rows(self) -> Sequence[tuple[str, ...]]:
        """Le righe, già testo."""
        return ()

    def __repr__(self) -> str:
        table = [self.HEADER, *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.HEADER))]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        head = "".join(f"<th {left}>{name}</th>" for name in self.HEADER)
        body = "".join(
            "<tr>" + "".join(f"<td {left}>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

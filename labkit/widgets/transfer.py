"""Un'immagine che viaggia, disegnata pezzo per pezzo mentre viaggia."""

from __future__ import annotations

from labkit.client.progress import Transfer
from labkit.draw import transfer
from labkit.draw.transfer import Piece
from labkit.widgets.shell import Drawing, Shell


class TransferView(Shell):
    """Il disegno di un viaggio: si aggiorna a ogni pezzo. Vedi ``Lab.pull`` e ``Lab.push``."""

    def __init__(self, title: str, sending: bool) -> None:
        self._words = transfer.text(title, (), sending)
        self.drawing = Drawing(svg=transfer.to_svg(title, (), sending))
        super().__init__([self.drawing])

    def words(self) -> str:
        return self._words

    def show(self, shown: Transfer, piece: Piece) -> None:
        """Un pezzo è cambiato: ridisegna tutto."""
        self._words = repr(shown)
        self.drawing.svg = transfer.to_svg(shown.title, shown.pieces, shown.sending)
        if all(one.ended for one in shown.pieces):
            self.drawing.news = transfer.summary(shown.pieces)

"""Le immagini come pile di strati, con una casella per ognuna: togliendone una si vede che cosa resta sul disco."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import ipywidgets

from labkit.draw import stack
from labkit.widgets.shell import Drawing, Shell, toggle


class HasSize(Protocol):
    """Quello che il disegno chiede a uno strato."""

    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def created_by(self) -> str: ...


class HasLayers(Protocol):
    """Quello che il disegno chiede a un'immagine."""

    name: str

    @property
    def layers(self) -> Sequence[HasSize]: ...


class ImageStack(Shell):
    """Le pile, e una casella per ogni immagine; vedi ``Lab.stack``."""

    def __init__(self, images: Sequence[HasLayers]) -> None:
        self._piles = [_pile(image) for image in images]
        self.boxes = [toggle(pile.name, True) for pile in self._piles]
        self.drawing = Drawing()
        for box in self.boxes:
            box.observe(lambda _: self._draw(), names="value")
        super().__init__([ipywidgets.HBox(self.boxes, layout={"flex_flow": "row wrap"}), self.drawing])
        self._draw()

    @property
    def chosen(self) -> list[stack.Pile]:
        """Le pile delle immagini scelte con le caselle."""
        return [pile for pile, box in zip(self._piles, self.boxes, strict=True) if box.value]

    def words(self) -> str:
        return stack.text(self._piles)

    def _draw(self) -> None:
        self.drawing.svg = stack.to_svg(self.chosen, live=True)
        self.drawing.news = stack.summary(self.chosen)


def _pile(image: HasLayers) -> stack.Pile:
    slices = (stack.Slice(one.digest, _title(one.created_by), one.size) for one in image.layers)
    return stack.Pile(image.name.removesuffix(":latest"), tuple(slices))


def _title(created_by: str) -> str:
    """Il passo che ha fatto lo strato, senza ciò che ogni passo ha uguale.

    >>> _title("corso: il client"), _title("RUN /bin/sh -c apt-get update # buildkit")
    ('il client', 'RUN apt-get update')
    """
    return created_by.removeprefix("corso: ").removesuffix(" # buildkit").replace("/bin/sh -c ", "") or "uno strato"

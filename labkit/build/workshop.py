"""Chi esegue i RUN: un container di un laboratorio, e le sue modifiche diventate uno strato.

Il laboratorio nasce solo se serve: un Containerfile senza RUN, o con i RUN già fatti, non ne ha bisogno.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from labkit.build.clamp import clamped
from labkit.build.steps import Failed, Run
from labkit.client.container import Container, feed
from labkit.client.image import Image
from labkit.client.lab import Lab
from labkit.client.output import consume
from labkit.errors import NotFoundError
from labkit.images import image as oci
from labkit.images.archive import add_layer
from labkit.images.compression import decompressed, pieces
from labkit.images.image import Layer
from labkit.images.store import Store


class LabWorkshop:
    """Esegue un programma in un container del laboratorio che ``lab`` dà."""

    def __init__(self, store: Store, lab: Callable[[], Lab]) -> None:
        self._store, self._lab = store, lab

    def run(self, wanted: Run, say: Callable[[str], None]) -> Layer:
        lab = self._lab()
        name = f"costruzione-{secrets.token_hex(4)}"
        said = _Said(say)
        with self._listed(lab, wanted.image) as image:
            try:
                channel = lab.open_run(
                    image, wanted.command, name=name, entrypoint=[], env=dict(wanted.env), network=wanted.network,
                    interactive=wanted.stdin is not None, no_healthcheck=True, pull="never",
                )  # fmt: skip
                feed(channel, wanted.stdin)
                result = consume(channel, target=said)
                if result.exit_code:
                    raise Failed(result.exit_code, said.getvalue() + _unsaid(result.stderr, said.getvalue()))
                return self._layer(lab.container(name), wanted.epoch)
            finally:
                _remove(Container(lab, name))

    @contextmanager
    def _listed(self, lab: Lab, image: oci.Image) -> Iterator[Image]:
        """L'immagine di adesso nell'elenco di quelle che ci sono, senza nome, finché dura il passo."""
        known = {one.descriptor.digest for one in self._store.images()}
        descriptor = self._store.put(image)
        try:
            yield Image(lab, "", image)
        finally:
            if descriptor.digest not in known:
                self._store.forget(descriptor)

    def _layer(self, container: Container, epoch: int | None) -> Layer:
        """Le modifiche del container come strato, già fra le immagini."""
        layer = container.layer(pause=False)
        if epoch is None:
            return layer
        with layer.open() as file:
            return add_layer(self._store, clamped(decompressed(pieces(file)), epoch))


class _Said(io.StringIO):
    """Ciò che il programma ha scritto: detto subito a chi guarda, e tenuto."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def write(self, text: str) -> int:
        self._say(text)
        return super().write(text)


def _unsaid(text: str, said: str) -> str:
    return "" if text in said else text


def _remove(container: Container) -> None:
    try:
        container.rm(force=True)
    except NotFoundError:  # it was never born
        pass

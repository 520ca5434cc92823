"""I file di un'immagine visti senza avviarla: che cosa c'è a ogni percorso, letto dai tar dei suoi strati.

Serve a COPY: sapere se la destinazione è una cartella, dove porta un link, di chi è la cartella che la contiene.
Un link si segue sempre dentro la radice dell'immagine: da lì non si esce. I percorsi non hanno la barra davanti.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from labkit.errors import InvalidError
from labkit.images import tar_header as header
from labkit.images.compression import decompressed, pieces
from labkit.images.image import Image, Layer
from labkit.images.pipeline import Limits, bounded
from labkit.images.tar import TarReader
from labkit.images.whiteouts import OPAQUE, PREFIX

#: linux/namei.h, MAXSYMLINKS: how many links a path may go through.
MAXSYMLINKS = 40
#: How many folders one inside the other: far fewer than Python's own stack allows.
DEEPEST = 400
#: The two files that turn a name into a number.
ACCOUNTS = ("etc/passwd", "etc/group")
_LARGEST_ACCOUNTS = 1 << 20


@dataclass(frozen=True)
class Node:
    """Un file, una cartella o un link; ``held`` dice in quale strato e con quale nome stanno i suoi byte."""

    kind: bytes
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    link: str = ""
    size: int = 0
    layer: int = -1
    held: tuple[int, bytes] = (-1, b"")


@dataclass(frozen=True)
class View:
    """Un'immagine: ogni suo percorso, e ciò che una cartella contiene. :meth:`above` ne dà un'altra, questa resta."""

    layers: tuple[Layer, ...] = ()
    nodes: dict[str, Node] = field(default_factory=lambda: {"": Node(header.DIRECTORY)}, repr=False)
    inside: dict[str, dict[str, None]] = field(default_factory=lambda: {"": {}}, repr=False)
    accounts: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, image: Image) -> View:
        found = cls()
        for layer in image.layers:
            found = found.above(layer)
        return found

    def above(self, layer: Layer) -> View:
        """Con uno strato in più in cima."""
        inside = {path: dict(names) for path, names in self.inside.items()}
        made = View((*self.layers, layer), dict(self.nodes), inside, dict(self.accounts))
        with layer.open() as file:
            reader = TarReader(bounded(decompressed(pieces(file)), Limits()))
            for entry in reader:
                made._take(entry, reader, len(self.layers))
        return made

    # ------------------------------------------------------------ one layer over the others

    def _take(self, entry: header.Entry, reader: TarReader, layer: int) -> None:
        path = plain(entry.name)
        if path.count("/") > DEEPEST:
            raise InvalidError(f"Nello strato «{entry.shown}» è dentro più di {DEEPEST} cartelle: non lo seguo.")
        folder, name = posixpath.split(path)
        if name == OPAQUE.decode():
            for below in [*self.inside.get(folder, ())]:
                self._remove(posixpath.join(folder, below), layer)
            return
        if name.startswith(PREFIX.decode()):
            self._remove(posixpath.join(folder, name.removeprefix(PREFIX.decode())), layer)
            return
        node = Node(
            entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime_ns, os.fsdecode(entry.link),
            entry.length, layer, (layer, entry.name),
        )  # fmt: skip
        if entry.kind == header.LINK:
            first = self.nodes.get(plain(entry.link))
            if first is None:
                raise InvalidError(f"Nello strato «{entry.shown}» è un link a un file che non c'è.")
            node = replace(first, layer=layer)
        self._add(path, node)
        if path in ACCOUNTS and entry.kind == header.REGULAR and entry.pieces is None:
            data = b"".join(reader.data()) if entry.size <= _LARGEST_ACCOUNTS else b""
            self.accounts[path] = data.decode("utf-8", "replace")

    def _add(self, path: str, node: Node) -> None:
        old = self.nodes.get(path)
        if old and old.kind == header.DIRECTORY != node.kind:
            self._remove(path, -1)
        self.nodes[path] = node
        if node.kind == header.DIRECTORY:
            self.inside.setdefault(path, {})
        while path:
            folder, name = posixpath.split(path)
            known = self.nodes.get(folder)
            if known is None or known.kind != header.DIRECTORY:  # named by nobody: it is born with its contents
                self.nodes[folder] = Node(header.DIRECTORY, layer=node.layer)
            self.inside.setdefault(folder, {})[name] = None
            path = folder

    def _remove(self, path: str, layer: int) -> None:
        """Toglie ciò che c'è sotto ``path``, tranne quello che lo strato ``layer`` ha già messo lui."""
        node = self.nodes.get(path)
        if node is None or not path:
            return
        for name in [*self.inside.get(path, ())]:
            self._remove(posixpath.join(path, name), layer)
        if node.layer != layer and not self.inside.get(path):
            folder, name = posixpath.split(path)
            del self.nodes[path]
            self.inside.pop(path, None)
            self.inside.get(folder, {}).pop(name, None)
            self.accounts.pop(path, None)

    # ------------------------------------------------------------ what a program would find

    def resolve(self, path: str, last: bool = True) -> str:
        """Il percorso senza link, che non esce mai dalla radice; ciò che non esiste resta com'è scritto.

        Con ``last=False`` l'ultimo pezzo resta com'è, anche se è un link.
        """
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        found: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                found = found[:-1]
                continue
            node = self.nodes.get("/".join([*found, part]))
            if node is None or node.kind != header.SYMLINK or (not waiting and not last):
                found.append(part)
                continue
            links += 1
            if links > MAXSYMLINKS:
                raise InvalidError(f"«/{path.lstrip('/')}» nell'immagine gira in tondo: un link porta a sé stesso.")
            if node.link.startswith("/"):
                found = []
            waiting += [one for one in reversed(node.link.split("/")) if one not in ("", ".")]
        return "/".join(found)

    def is_folder(self, path: str) -> bool:
        node = self.nodes.get(path)
        return node is not None and node.kind == header.DIRECTORY

    def under(self, path: str) -> Iterator[str]:
        """Tutti i percorsi sotto una cartella, in ordine, senza la cartella."""
        for name in sorted(self.inside.get(path, ())):
            below = posixpath.join(path, name)
            yield below
            yield from self.under(below)

    def contents(self, paths: list[str]) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """I byte di quei file, strato per strato: percorso, lunghezza, pezzi. Ognuno si legge prima del prossimo."""
        wanted: dict[int, dict[bytes, list[str]]] = {}
        for path in paths:
            layer, name = self.nodes[path].held
            wanted.setdefault(layer, {}).setdefault(name, []).append(path)
        for number, names in sorted(wanted.items()):
            with self.layers[number].open() as file:
                reader = TarReader(bounded(decompressed(pieces(file)), Limits()))
                for entry in reader:
                    if entry.kind != header.REGULAR or entry.name not in names:
                        continue
                    first, *others = names.pop(entry.name)
                    if others:  # several names of one file: kept while each is given its bytes
                        data = b"".join(_whole(entry, reader))
                        yield from ((path, entry.length, iter([data])) for path in (first, *others))
                    else:
                        yield first, entry.length, _whole(entry, reader)


def plain(name: bytes) -> str:
    """Il nome di una voce come percorso della vista: senza barra davanti, senza punti."""
    text = posixpath.normpath("/" + os.fsdecode(name)).lstrip("/")
    return "" if text == "." else text


def _whole(entry: header.Entry, reader: TarReader) -> Iterator[bytes]:
    """I byte di un file; i buchi di uno sparso diventano zeri."""
    if entry.pieces is None:
        yield from map(bytes, reader.data())
        return
    data = b"".join(reader.data())
    at = read = 0
    for piece in entry.pieces:
        yield from _zeros(piece.offset - at)
        yield data[read : read + piece.size]
        read, at = read + piece.size, piece.offset + piece.size
    yield from _zeros(entry.length - at)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, 1 << 18))
        count -= 1 << 18

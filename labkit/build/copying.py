"""``COPY`` e ``ADD``: da ciò che è scritto a ciò che si copia, e dove.

La destinazione segue le regole di Docker (Dockerfile reference, «COPY»): una cartella dà il suo contenuto; un file va
*dentro* la destinazione se finisce con una barra o se lì c'è già una cartella, se no prende quel nome.
"""

from __future__ import annotations

import bz2
import lzma
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from labkit.build import layering, sources
from labkit.build.changes import directory
from labkit.build.instructions import Instruction
from labkit.build.layering import Draft, Owner
from labkit.build.lines import heredoc
from labkit.build.sources import Context, Item
from labkit.build.view import View
from labkit.build.words import WordError, expand_text
from labkit.errors import LabError
from labkit.images import compression
from labkit.images.pipeline import Limits, bounded
from labkit.images.tar_header import BLOCK


@dataclass(frozen=True)
class Asked:
    """Un COPY o un ADD con le variabili sostituite: che cosa, dove (con la barra in fondo se c'era), di chi."""

    step: Instruction = field(repr=False)
    items: tuple[Item, ...]
    target: str
    written: str
    owner: str
    mode: int | None

    @property
    def summary(self) -> str:
        """Le cose copiate come le nomina Docker nella storia: ``file:``, ``dir:`` o ``multi:`` e l'impronta."""
        flags = f"--chown={self.owner} " if self.owner else ""
        digests = [f"{'dir' if item.is_folder else 'file'}:{item.digest}" for item in self.items]
        if len(digests) == 1:
            return flags + digests[0]
        return f"{flags}multi:" + sources.combined(
            [f"{item.name} {one}" for item, one in zip(self.items, digests, strict=True)]
        )


def asked(
    step: Instruction, values: Mapping[str, str], process: Mapping[str, Any], origin: View | None, context: Context,
    now: int,
) -> Asked:  # fmt: skip
    """Legge un COPY o un ADD; ``origin`` sono i file dell'immagine di ``--from``."""
    *wanted, last = step.words
    target = step.expand(last, values)
    if not target:
        raise step.error("La destinazione è vuota.", "COPY sito/ /srv/", last)
    texts = iter(step.heredocs)
    items: list[Item] = []
    for word in wanted:
        if heredoc(word, step.line.source.escape):
            one = next(texts)
            text = _expanded(step, one.text, values) if one.expand else one.text
            items.append(sources.from_text(one.name, text, now))
            continue
        source = step.expand(word, values)
        try:
            items += sources.from_image(origin, source) if origin else context.items(source)
        except LabError as problem:
            raise step.error(problem.message, problem.remedy, word) from None
    ends = "/" if target.endswith(("/", "/.")) or target == "." else ""
    path = directory(process, target)
    if len(items) > 1 and not ends:
        raise step.error(
            "Con più di un file la destinazione è una cartella: finisce con una barra.", f"{target}/", last
        )
    flag = step.flags.get("chmod")
    mode = step.expand(flag, values) if flag else ""
    if flag and not (mode.isascii() and mode.isdecimal() and len(mode) <= 4 and set(mode) <= set("01234567")):
        raise step.error("--chmod vuole i permessi in ottale.", "--chmod=755", flag)
    owner = step.flags.get("chown")
    return Asked(
        step, tuple(items), path.rstrip("/") + ends or "/", target, step.expand(owner, values) if owner else "",
        int(mode, 8) if mode else None,
    )  # fmt: skip


def _expanded(step: Instruction, text: str, values: Mapping[str, str]) -> str:
    """Un here-document con le variabili sostituite."""
    escape = step.line.source.escape
    try:
        return expand_text(text, values, escape)
    except WordError as problem:
        raise step.error(f"Nel testo: {problem.message}.", f"{escape}$ se il dollaro è un dollaro") from None


def layer(asked: Asked, view: View, now: int, epoch: int | None) -> Iterator[bytes]:
    """Il tar dello strato, a pezzi."""
    draft = Draft(view, now, epoch)
    whose = layering.owner(asked.owner, view) if asked.owner else None
    target = view.resolve(asked.target)
    into = asked.target.endswith("/") or view.is_folder(target)
    for item in asked.items:
        if asked.step.keyword == "ADD" and item.file and (archive := _archive(item.file)):
            yield from draft.folder(target, whose or Owner())
            yield from draft.unpack(bounded(archive, Limits()), target, whose)
        else:
            place = posixpath.join(target, item.name) if into and not item.is_folder else target
            yield from draft.copy(item, view.resolve(place), whose, asked.mode)
    yield layering.END


def folder(view: View, path: str, now: int, epoch: int | None) -> Iterator[bytes]:
    """Il tar di uno strato con una cartella sola (``WORKDIR``)."""
    yield from Draft(view, now, epoch).folder(path, Owner())
    yield layering.END


def _archive(path: str) -> Iterator[bytes] | None:
    """I pezzi del tar, se il file è un archivio che ADD apre: solo tar, anche gzip, bzip2, xz o zstd."""
    for opened in (_plain, bz2.open, lzma.open):
        try:
            with cast(BinaryIO, opened(path)) as file:
                pieces = compression.decompressed(compression.pieces(file))
                head = b""
                while len(head) < BLOCK and (piece := next(pieces, b"")):
                    head += piece
        except (OSError, EOFError, lzma.LZMAError, LabError):
            continue
        if head[257:262] == b"ustar":
            return _pieces(cast(BinaryIO, opened(path)))
    return None


def _plain(path: str) -> BinaryIO:
    return open(path, "rb")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from compression.decompressed(compression.pieces(file))

"""I file di un container dalla parte di chi lo usa: ``diff``, ``commit``, ``export``, ``cp``.

I byte viaggiano sul filo, al passo di chi legge: vale lo stesso quando il laboratorio è dentro una macchina virtuale.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from labkit.backends.choice import tell
from labkit.client.table import Table
from labkit.draw.words import clean
from labkit.errors import InvalidError, LabError, NotFoundError

if TYPE_CHECKING:
    from labkit.client.image import Image
    from labkit.client.lab import Lab
    from labkit.client.wire import Channel
    from labkit.images.image import Image as Content
    from labkit.images.image import Layer

_PIECE = 1 << 18
_WORDS = {"A": "aggiunto", "C": "cambiato", "D": "tolto"}


@dataclass(frozen=True)
class Change:
    """Una modifica: ``kind`` è ``A`` (aggiunto), ``C`` (cambiato) o ``D`` (tolto), come in ``docker diff``."""

    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


class ChangeList(Table, list[Change]):
    """Le modifiche di un container al suo filesystem, in ordine di percorso."""

    HEADER = ("COSA", "PERCORSO")

    def rows(self) -> list[tuple[str, ...]]:
        return [(f"{one.kind} ({_WORDS[one.kind]})", clean(one.path)) for one in self]

    def __repr__(self) -> str:
        return "\n".join(clean(str(one)) for one in self) or "(nessuna modifica)"


class Contents:
    """Quello che un container sa dire e fare dei suoi file: mai partito, mentre gira, o finito."""

    lab: Lab
    name: str

    def diff(self) -> ChangeList:
        """Che cosa ha cambiato rispetto alla sua immagine, come ``docker diff``."""
        return ChangeList(Change(kind, path) for kind, path in self.lab.wire.call("diff", name=self.name))

    def export(self, path: str | os.PathLike[str] | BinaryIO) -> int:
        """Scrive in un file il tar della radice intera, senza volumi (``docker export``); torna i byte."""
        return write_whole(self.lab.wire.open("export", name=self.name), path)

    def get_archive(self, path: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        """Il tar, a pezzi, di un file o di una cartella, e che cos'è (``name size mode mtime linkTarget``).

        Un link simbolico si copia com'è; si segue se ``path`` finisce con «/».
        """
        channel = self.lab.wire.open("archive_get", name=self.name, path=path)
        early: list[bytes] = []
        stat: dict[str, Any] = {}
        while not stat and (piece := channel.receive()) is not None:
            if piece[0] == "event":
                stat = piece[1].get("stat", {})
            elif piece[0] == "stdout":
                early.append(piece[1])
        if not stat:
            return iter(()), channel.result  # it raises
        return _pieces(channel, early), stat

    def stat(self, path: str) -> dict[str, Any] | None:
        """Che cos'è un file del container, come in :meth:`get_archive` ma attraverso i link; ``None`` se non c'è."""
        channel = self.lab.wire.open("archive_get", name=self.name, path=f"{path}/", look=True)
        try:
            _ = channel.result
        except NotFoundError:
            if self.lab.wire.call("inspect", name=self.name):  # it raises: it is the container that is not there
                return None
        found: dict[str, Any] = channel.events[0]["stat"]
        return found

    def put_archive(self, path: str, data: bytes | BinaryIO | Iterable[bytes]) -> None:
        """Apre un tar (anche compresso) nella cartella ``path`` del container, che deve esserci.

        Si aggiunge a quello che c'è: un file con lo stesso nome è sostituito, una cartella è completata. Niente esce
        dalla radice del container, qualunque cosa dica l'archivio.
        """
        lost = send_all(self.lab.wire.open("archive_put", name=self.name, path=path), data)
        for why, count in lost.items():
            tell(f"In «{self.name}» mancano: {why} ({count}).")

    def layer(self, *, pause: bool = True, compression: str = "gzip") -> Layer:
        """Le modifiche del container come strato, conservato fra le immagini; serve ``lab.store.writing()`` attorno."""
        layer, _ = self._layer(pause, compression)
        return layer

    def _layer(self, pause: bool, compression: str) -> tuple[Layer, dict[str, Any]]:
        from labkit.images.archive import add_layer

        channel = self.lab.wire.open("layer", name=self.name, pause=pause)
        layer = add_layer(self.lab.store, _pieces(channel), compression)
        answer: dict[str, Any] = channel.result
        for why, count in answer["skipped"].items():
            tell(f"Nello strato di «{self.name}» mancano: {why} ({count}).")
        return layer, answer

    def commit(
        self,
        name: str = "",
        changes: str | Sequence[str] = (),
        message: str = "",
        author: str = "",
        *,
        pause: bool = True,
    ) -> Image:
        """Fa un'immagine: quella da cui il container è nato più uno strato con le sue modifiche (``docker commit``).

        ``changes`` sono istruzioni di un Containerfile (``CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD USER VOLUME
        WORKDIR``) che dicono come partirà; il resto è come il container. Mentre si legge, se gira, è in pausa
        (``pause``). Dei volumi non c'è niente.
        """
        from labkit.images.config import History, timestamp
        from labkit.images.reference import parse

        reference = parse(name) if name else None
        if reference is not None and reference.digest:
            raise InvalidError("Il nome di un'immagine nuova non può avere un'impronta.", "c.commit('corso/prova:1')")
        lines = [changes] if isinstance(changes, str) else list(changes)
        check(lines)
        with self.lab.store.writing():
            layer, answer = self._layer(pause, "gzip")
            moment = timestamp(_now())
            content = self._base(answer["image"], moment)
            process = answer["process"]
            words = " ".join([*(process["Entrypoint"] or ()), *(process["Cmd"] or ())])
            step = History(created_by=words, created=moment, comment=message, author=author)
            now = {**content.config.process, **process}
            fields = {**process, **changed({key: value for key, value in now.items() if value is not None}, lines)}
            descriptor = self.lab.store.put(content.append(layer, step, **fields), reference)
        return self.lab._made(descriptor, reference)

    def _base(self, digest: str, moment: str) -> Content:
        """L'immagine da cui il container è nato; di una cartella se ne fa una, con uno strato solo."""
        from labkit.images.archive import add_layer
        from labkit.images.config import History
        from labkit.images.image import Image as Content

        if digest:
            return self.lab.store.image(digest)
        channel = self.lab.wire.open("export", name=self.name, below=True)
        layer = add_layer(self.lab.store, _pieces(channel))
        return Content.empty().append(layer, History(created=moment, created_by="una cartella di questa macchina"))


def _now() -> datetime:
    """L'istante di adesso, o quello di ``SOURCE_DATE_EPOCH``: stessi byte, stessa impronta."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)


def _pieces(channel: Channel, early: Iterable[bytes] = ()) -> Iterator[bytes]:
    """Lo stdout di una richiesta; alla fine, se è andata male, il suo errore."""
    yield from early
    for stream, data in channel:
        if stream == "stdout":
            yield data
    _ = channel.result


def _chunks(data: bytes | BinaryIO | Iterable[bytes]) -> Iterator[bytes]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            yield bytes(view[start : start + _PIECE])
    elif hasattr(data, "read"):
        while piece := data.read(_PIECE):
            yield piece
    else:
        yield from data


#: What `docker commit --change` accepts.
_ALLOWED = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "USER", "VOLUME", "WORKDIR", "HEALTHCHECK",
            "STOPSIGNAL")  # fmt: skip


def check(lines: Sequence[str]) -> None:
    """Alza un errore se una riga di ``--change`` non è un'istruzione che si può dare qui."""
    for line in lines:
        if not isinstance(line, str) or "\n" in line:
            raise InvalidError(f"Un cambiamento è un'istruzione su una riga: {line!r} non lo è.", "'CMD [\"sh\"]'")
        word = line.strip().partition(" ")[0].upper()
        if word not in _ALLOWED:
            raise InvalidError(f"In un commit non si può dire «{line}».", f"una di queste: {', '.join(_ALLOWED)}")
    changed({}, lines)


def changed(process: Mapping[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """I campi della configurazione ``process`` che quelle istruzioni cambiano."""
    # Building imports the client: only here the other way round, and only when somebody asks.
    from labkit.build.changes import change
    from labkit.build.instructions import instruction
    from labkit.build.lines import read

    fields: dict[str, Any] = {}
    for text in lines:
        _, found = read("--change", text)
        for line in found:
            so_far = {**process, **fields}
            env = dict(one.split("=", 1) for one in so_far.get("Env") or ())
            fields |= change(instruction(line), env, so_far, True).fields
    return fields


def write_whole(channel: Channel, path: str | os.PathLike[str] | BinaryIO) -> int:
    """Le uscite di un canale in un file, che compare solo quando è intero; torna i byte."""
    if not isinstance(path, (str, os.PathLike)):
        return sum(path.write(piece) for piece in _pieces(channel))
    from labkit.images.disk import explained

    final = os.path.abspath(os.fspath(path))
    half = f"{os.path.dirname(final)}/.{os.path.basename(final)}.{os.urandom(4).hex()}"
    with explained(f"scrivere «{final}»"):
        try:
            with open(half, "xb") as file:
                size = sum(file.write(piece) for piece in _pieces(channel))
            os.rename(half, final)
        except BaseException:
            if os.path.exists(half):
                os.unlink(half)
            raise
    return size


def send_all(channel: Channel, data: bytes | BinaryIO | Iterable[bytes]) -> dict[str, int]:
    """Manda dei byte a chi li legge dall'altra parte del canale, e torna la sua risposta."""
    problem: list[BaseException] = []

    def write() -> None:
        try:
            for piece in _chunks(data):
                if channel.closed:
                    return
                channel.send(piece)
            channel.close_stdin()
        except LabError:
            pass  # whoever was reading ended first, and says why
        except BaseException as failure:  # noqa: BLE001  the source broke: it is told by whoever waits
            problem.append(failure)
            channel.interrupt("SIGKILL")

    writer = threading.Thread(target=write, name="labkit-archivio", daemon=True)
    writer.start()
    try:
        answer: dict[str, int] = channel.result
    except LabError:
        if problem:
            raise problem[0] from None
        raise
    return answer

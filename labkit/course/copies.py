"""La copia personale dei notebook: lo studente lavora lì, e il suo lavoro non si tocca mai.

Per ogni file si confrontano tre cose: quello consegnato l'ultima volta (``.labkit/copia.json``),
quello che c'è adesso, quello nuovo. Se lo studente non l'ha cambiato si aggiorna; se l'ha cambiato
resta com'è, e la versione nuova si mette accanto (``03-namespace.nuova.ipynb``).
"""

from __future__ import annotations

import hashlib
import html
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labkit.course import notebook
from labkit.course.student import STATE, locked, read_json, user_name, write_atomic, write_json
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError

State = Literal["nuovo", "uguale", "aggiornato", "tuo", "accanto"]

_SENTENCES = {
    "nuovo": "copiato",
    "uguale": "già a posto",
    "aggiornato": "aggiornato: non l'avevi modificato",
    "tuo": "lasciato com'è: l'hai modificato tu",
    "accanto": "lasciato com'è: l'hai modificato tu; la versione nuova è in {beside}",
}


@dataclass(frozen=True)
class Copied:
    """Che cosa è successo a un file della copia."""

    name: str
    state: State
    beside: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {_SENTENCES[self.state].format(beside=self.beside)}"


@dataclass(frozen=True, repr=False)
class CopyReport:
    """La copia appena fatta o aggiornata: la cartella, e file per file che cosa è successo."""

    folder: Path
    files: tuple[Copied, ...]

    def __repr__(self) -> str:
        return "\n".join([f"Copia in {self.folder}", *(f"  {f}" for f in self.files)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def default_source() -> Path:
    """La cartella dei notebook verificati: ``LABKIT_NOTEBOOKS``, quella del progetto, o quella installata."""
    project = Path(__file__).resolve().parents[2] / "notebooks"
    installed = Path(sys.prefix) / "share" / "labkit" / "notebooks"
    chosen = os.environ.get("LABKIT_NOTEBOOKS")
    for folder in [Path(chosen)] if chosen else [project, installed]:
        if folder.is_dir():
            return folder.resolve()
    raise NotFoundError(
        "I notebook del corso non ci sono in questa installazione.",
        "LABKIT_NOTEBOOKS=/percorso/dei/notebooks labkit lab",
    )


def make_copy(target_folder: str | os.PathLike[str], source: str | os.PathLike[str] | None = None) -> CopyReport:
    """Crea o aggiorna la copia personale dei notebook in ``target_folder``, e dice che cosa ha fatto.

    Senza output e senza soluzioni. Quello che lo studente ha cambiato resta com'è, e così i suoi
    progressi; si può ripetere quante volte si vuole. Solleva :class:`~labkit.errors.LabError` se
    la cartella è un file, non si può scrivere, o sta dentro i notebook verificati.
    """
    origin = default_source() if source is None else Path(source).resolve()
    if not origin.is_dir():
        raise NotFoundError(f"La cartella dei notebook «{origin}» non c'è.")
    target = Path(target_folder).expanduser().absolute()
    _refuse(target, origin)
    try:
        (target / STATE).mkdir(parents=True, exist_ok=True)
        with locked(target / STATE / "copia.json"):
            _identify(target)
            return CopyReport(target, tuple(_copy_all(origin, target)))
    except OSError as error:
        if isinstance(error, LabError):
            raise
        raise LabError(
            f"La cartella «{target}» non si può scrivere ({error.strerror}).", "labkit lab ~/dentro-i-container"
        ) from error


def _refuse(target: Path, origin: Path) -> None:
    real = target.resolve()
    if real == origin or origin in real.parents:
        raise InvalidError(
            f"«{target}» è dentro i notebook verificati: la tua copia deve stare altrove.",
            "labkit lab ~/dentro-i-container",
        )
    for path in (real, *real.parents):
        if path.exists() and not path.is_dir():
            raise InvalidError(
                f"«{path}» è un file: per la copia ci vuole una cartella.", "labkit lab ~/dentro-i-container"
            )
    if (real / STATE).exists() and not (real / STATE).is_dir():
        raise InvalidError(
            f"In «{target}» c'è un file di nome {STATE}: lì devono stare i tuoi progressi.", f"mv {STATE} altro-nome"
        )


def _identify(target: Path) -> None:
    """Give the copy an identity of its own once: two students of one account get different parameters."""
    path = target / STATE / "studente.json"
    if not read_json(path).get("id"):
        write_json(path, {"id": os.environ.get("LABKIT_STUDENT") or f"{user_name()}-{secrets.token_hex(4)}"})


def _copy_all(origin: Path, target: Path) -> Iterator[Copied]:
    record = target / STATE / "copia.json"
    found = read_json(record)
    delivered = {str(k): str(v) for k, v in found.items()}
    for name, data in _files(origin):
        copied = _copy_one(target, name, data, delivered)
        if delivered != found:
            # Written file by file: an interruption never makes a delivered file look like the student's.
            write_json(record, dict(delivered))
            found = dict(delivered)
        yield copied


def _files(origin: Path) -> Iterator[tuple[str, bytes]]:
    """What a copy is made of: each name inside the copy, and its content as delivered."""
    for folder, folders, names in os.walk(origin):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        for name in sorted(n for n in names if not n.startswith(".") and not n.endswith((".pyc", "~"))):
            path = Path(folder, name)
            data = path.read_bytes()
            if path.suffix == ".ipynb":
                data = notebook.dump(notebook.student_version(notebook.read(path)))
            yield str(path.relative_to(origin)), data
    glossary = origin.parent / "docs" / "glossario.md"
    if glossary.is_file():
        yield glossary.name, glossary.read_bytes()


def _copy_one(target: Path, name: str, data: bytes, delivered: dict[str, str]) -> Copied:
    path = target / name
    if path.is_dir():
        raise ConflictError(f"«{path}» è una cartella, e lì deve stare un file del corso.", f"mv {path} {path}.mia")
    new, now, before = _fingerprint(name, data), _fingerprint_of(path), delivered.get(name)
    if now is None or now == before != new:
        write = _with_outputs(path, data) if now and path.suffix == ".ipynb" else data
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, write)
        delivered[name] = new
        return Copied(name, "aggiornato" if now else "nuovo")
    if now == new:
        delivered[name] = new
        return Copied(name, "uguale")
    if new == before:
        return Copied(name, "tuo")
    return _put_beside(target, name, data, new, delivered)


def _put_beside(target: Path, name: str, data: bytes, new: str, delivered: dict[str, str]) -> Copied:
    stem, suffix = os.path.splitext(name)
    for number in range(1, 1000):
        beside = f"{stem}.nuova{'' if number == 1 else f'-{number}'}{suffix}"
        now = _fingerprint_of(target / beside)
        if delivered.get(beside) == new:  # already offered; a student who threw it away is not asked again
            return Copied(name, "accanto", beside) if now else Copied(name, "tuo")
        if now is None or now == delivered.get(beside):
            write_atomic(target / beside, data)
            delivered[beside] = new
            return Copied(name, "accanto", beside)
    raise ConflictError(f"Ci sono troppe versioni nuove di «{name}» accanto alla tua.", f"rm {stem}.nuova*{suffix}")


def _with_outputs(path: Path, data: bytes) -> bytes:
    """The new notebook with the outputs the student already has in the cells that did not change."""
    new, old = notebook.loads(data), notebook.read(path)
    return notebook.dump(notebook.keep_outputs(new, old))


def _fingerprint(name: str, data: bytes) -> str:
    if name.endswith(".ipynb"):
        try:
            return notebook.fingerprint(notebook.loads(data))
        except InvalidError:  # the student's file is no longer a notebook: it is their work all the same
            return hashlib.sha256(data).hexdigest()
    return hashlib.sha256(data).hexdigest()


def _fingerprint_of(path: Path) -> str | None:
    return _fingerprint(path.name, path.read_bytes()) if path.exists() else None

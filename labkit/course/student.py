"""Chi è lo studente e dove sta la sua cartella.

La cartella dello studente è quella che contiene ``.labkit/`` (la crea ``labkit lab``): la si cerca
dalla cartella del notebook in su. Fuori da una copia (per esempio in ``notebooks/``) non c'è
cartella, e niente viene scritto su disco.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Il nome della cartella nascosta con i dati dello studente.
STATE = ".labkit"


def student_folder() -> Path | None:
    """La cartella dello studente, o ``None`` se non siamo in una copia.

    Comanda la variabile ``LABKIT_FOLDER``; poi la prima cartella con ``.labkit/``, da qui in su.
    """
    chosen = os.environ.get("LABKIT_FOLDER")
    if chosen:
        return Path(chosen)
    try:
        here = Path.cwd()
    except OSError:  # the notebook's folder has been removed under us
        return None
    for folder in (here, *here.parents):
        if (folder / STATE).is_dir():
            return folder
    return None


def student_id() -> str:
    """L'identità da cui nascono i parametri personali degli esercizi.

    Nell'ordine: la variabile ``LABKIT_STUDENT``, il file ``.labkit/studente.json``, il nome dell'utente.
    """
    fixed = os.environ.get("LABKIT_STUDENT")
    if fixed:
        return fixed
    folder = student_folder()
    if folder is not None:
        found = read_json(folder / STATE / "studente.json").get("id")
        if isinstance(found, str) and found:
            return found
    return user_name()


def user_name() -> str:
    """Il nome dell'utente, o ``utente-UID`` se la macchina non lo conosce.

    >>> user_name() != ""
    True
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"utente-{os.getuid()}"


def read_json(path: Path) -> dict[str, Any]:
    """Il contenuto di un file JSON; un file che manca, o guasto, vale come vuoto."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_atomic(path: Path, data: bytes) -> None:
    """Scrive un file tutto o niente: chi legge vede il vecchio o il nuovo, mai un pezzo (rename(2))."""
    fd, name = tempfile.mkstemp(prefix=".labkit-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(data)
            # mkstemp gives 0600; a file the student already has keeps its own mode.
            os.fchmod(out.fileno(), path.stat().st_mode & 0o777 if path.exists() else 0o644)
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Scrive un file JSON leggibile, tutto o niente."""
    write_atomic(path, (json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Tiene il lucchetto di ``path`` (flock(2) su un file accanto) finché dura il blocco."""
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)

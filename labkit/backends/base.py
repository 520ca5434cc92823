"""Un backend: sa dire se può far nascere un laboratorio qui, e farlo nascere."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from labkit import rundir, volumes
from labkit.errors import BackendError

#: La cartella da cui il processo del laboratorio importa labkit: la stessa del client.
SOURCE = str(Path(__file__).resolve().parent.parent.parent)

#: Dell'ambiente del notebook il laboratorio riceve solo questo: niente gettoni, niente chiavi.
_ENVIRONMENT = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TERM", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME",
    "LABKIT_RUN", "LABKIT_LAYERS", "LABKIT_WARM",
)  # fmt: skip

# -I -S: nothing of the user's environment or site-packages enters the supervisor, which must stay small.
_BOOT = "import sys; sys.path.insert(0, {source!r}); from labkit.supervisor.guard import main; main()"


def fingerprint() -> int:
    """L'età del sorgente di labkit: il file cambiato per ultimo.

    Un terminale aperto dopo un aggiornamento non deve parlare con un laboratorio nato prima.
    """
    return max(path.stat().st_mtime_ns for path in Path(SOURCE, "labkit").rglob("*.py"))


@dataclass
class Started:
    """Un laboratorio appena nato: la presa del filo e il processo che lo custodisce."""

    sock: socket.socket
    process: subprocess.Popen[bytes]


class Backend(Protocol):
    """Quello che ogni backend sa fare."""

    name: str

    def start(self, lab_id: str) -> Started:
        """Fa nascere il laboratorio; il primo messaggio sul filo dirà se è pronto o perché no."""
        ...


def start_guard(backend: str, lab_id: str, **more: Any) -> Started:
    """Avvia il guardiano in un processo nuovo: il notebook non si sdoppia mai, perché ha più thread.

    ``more`` si aggiunge alla sua configurazione.
    """
    if more and not _on_a_command_line(rundir.base()):
        raise BackendError(f"La riga di comando di un kernel non sa portare il percorso {rundir.base()!r}.",
                           "export LABKIT_RUN=~/.labkit")  # fmt: skip
    mine, theirs = socket.socketpair()
    client = os.pidfd_open(os.getpid())
    config = {
        "wire": theirs.fileno(),
        "client_pidfd": client,
        "client_pid": os.getpid(),
        "id": lab_id,
        "backend": backend,
        "code": fingerprint(),
        "paths": [path for path in sys.path if path],
        "volumes": volumes.default_root(),
        **more,
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT.format(source=SOURCE), json.dumps(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), client),
            cwd="/",
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            # Its own session: Ctrl-C in a terminal is for the command, not for the lab.
            start_new_session=True,
        )
    except OSError as problem:
        mine.close()
        raise BackendError(f"Il processo del laboratorio non parte: {problem}.", "labkit doctor") from None
    finally:
        theirs.close()
        os.close(client)
    return Started(mine, process)


def _on_a_command_line(path: str) -> bool:
    """A kernel reads its command line up to the quotation mark (Documentation/admin-guide/kernel-parameters.rst)."""
    return path.isprintable() and '"' not in path

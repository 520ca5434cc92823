"""Il registro del corso acceso da qui: un registro vero, che finisce con chi lo ha acceso."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from types import TracebackType

from labkit.images.local_registry import LocalRegistry


def default_root() -> str:
    """Dove il comando ``labkit registry`` tiene le immagini: ``LABKIT_REGISTRY``, o i dati dell'utente."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.environ.get("LABKIT_REGISTRY") or f"{data}/labkit/registry"


class CourseRegistry:
    """Un registro su questa macchina; :attr:`address` è quello che si scrive davanti al nome di un'immagine.

    Senza ``folder`` le immagini mandate stanno in una cartella provvisoria, che finisce con lui.
    """

    def __init__(self, folder: str = "", port: int = 0) -> None:
        root = os.path.abspath(os.path.expanduser(folder)) if folder else tempfile.mkdtemp(prefix="labkit-registro-")
        self._temporary = "" if folder else root
        try:
            self._server = LocalRegistry(root, port).__enter__()
        except BaseException:
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        self._end = weakref.finalize(self, _end, self._server, self._temporary)

    @property
    def address(self) -> str:
        """Macchina e porta: ``127.0.0.1:5000``."""
        return self._server.address

    @property
    def folder(self) -> str:
        """Dove tiene le immagini."""
        return self._server.root

    @property
    def closed(self) -> bool:
        return not self._end.alive

    def name(self, image: str) -> str:
        """Il nome di un'immagine in questo registro: ``registro.name("corso/prova:1")``."""
        return f"{self.address}/{image}"

    def close(self) -> None:
        """Lo spegne. Due volte non fa danno."""
        self._end()

    def __enter__(self) -> CourseRegistry:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Registro del corso{', spento' if self.closed else ''}"


def _end(server: LocalRegistry, temporary: str) -> None:
    server.__exit__()
    if temporary:
        shutil.rmtree(temporary, ignore_errors=True)

"""Il registro del corso acceso da qui: un registro vero, che finisce con chi lo ha acceso."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import overload

from labkit.client.table import Table
from labkit.draw.words import clean
from labkit.errors import NotFoundError
from labkit.images.local_registry import LocalRegistry
from labkit.images.local_registry_log import Request
from labkit.images.local_registry_shelf import repositories
from labkit.images.reference import parse
from labkit.limits import show_bytes


def default_root() -> str:
    """Dove il comando ``labkit registry`` tiene le immagini: ``LABKIT_REGISTRY``, o i dati dell'utente."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.environ.get("LABKIT_REGISTRY") or f"{data}/labkit/registry"


class CourseRegistry:
    """Un registro su questa macchina; :attr:`address` è quello che si scrive davanti al nome di un'immagine.

    Senza ``folder`` le immagini mandate stanno in una cartella provvisoria, che finisce con lui.
    """

    def __init__(
        self, folder: str = "", port: int = 0, host: str = "", watch: Callable[[Request], None] = lambda request: None
    ) -> None:
        root = os.path.abspath(os.path.expanduser(folder)) if folder else tempfile.mkdtemp(prefix="labkit-registro-")
        self._temporary = "" if folder else root
        try:
            self._server = LocalRegistry(root, port, host, watch).__enter__()
        except BaseException:
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        self._end = weakref.finalize(self, _end, self._server, self._temporary)
        self._read = 0

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
        return f"{self.address}/{image.removeprefix(f'{self.address}/')}"

    def log(self, new: bool = False) -> RequestList:
        """Le domande che ha avuto, con i byte dei loro corpi (al massimo le ultime diecimila).

        Con ``new`` solo quelle arrivate dopo l'ultima volta che si è letto: che cosa ha viaggiato da allora.
        """
        found, total = self._server.requests.all()
        fresh, self._read = total - self._read, total
        return RequestList(found[max(len(found) - fresh, 0) :] if new else found)

    def repositories(self) -> list[str]:
        """I depositi che hanno almeno un tag (distribution, «Catalog»)."""
        return repositories(self.folder)

    def tags(self, repository: str) -> list[str]:
        """I tag di un deposito."""
        return self._server.shelf(repository).tags()

    def digest(self, image: str) -> str:
        """L'impronta a cui porta adesso un nome, qui: ``registro.digest("corso/prova:1")``."""
        reference = parse(self.name(image))
        found = self._server.shelf(reference.repository).manifest(str(reference.digest or reference.tag))
        if not found:
            raise NotFoundError(f"Nel registro «{image}» non c'è.", "registro.repositories()")
        return str(found[0])

    def delete(self, image: str) -> int:
        """Cancella un'immagine con tutti i suoi tag; torna i byte che non servivano a nessun altro."""
        before = self.size
        self._server.delete(self._server.shelf(parse(self.name(image)).repository), self.digest(image))
        return before - self.size

    def gc(self) -> int:
        """Toglie subito ciò che nessuna immagine usa, anche appena arrivato; torna i byte liberati."""
        return self._server.gc()

    @property
    def size(self) -> int:
        """I byte che occupa: ogni blob una volta sola."""
        blobs = self._server.blobs
        return sum(blobs.size(digest) or 0 for digest in blobs.all())

    def weight(self, repository: str) -> int:
        """I byte di ciò che un deposito tiene, anche se è in comune con altri."""
        return sum(self._server.blobs.size(digest) or 0 for digest in self._server.shelf(repository).digests())

    def close(self) -> None:
        """Lo spegne. Due volte non fa danno."""
        self._end()

    def __enter__(self) -> CourseRegistry:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Registro del corso{', spento' if self.closed else ''}"


class RequestList(Table, Sequence[Request]):
    """Le domande a un registro: una tabella, e i byte in tutto."""

    HEADER = ("DA", "DOMANDA", "DEPOSITO", "CHE COSA", "QUALE", "RISPOSTA", "RICEVUTI", "MANDATI")

    def __init__(self, found: Sequence[Request]) -> None:
        self._found = tuple(found)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> RequestList: ...
    def __getitem__(self, index: int | slice) -> Request | RequestList:
        return RequestList(self._found[index]) if isinstance(index, slice) else self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    @property
    def received(self) -> int:
        """I byte arrivati al registro."""
        return sum(one.received for one in self._found)

    @property
    def sent(self) -> int:
        """I byte partiti dal registro."""
        return sum(one.sent for one in self._found)

    def only(self, kind: str) -> RequestList:
        """Solo quelle di un tipo: ``"manifesto"``, ``"blob"``, ``"invio"``, ``"tag"``."""
        return RequestList([one for one in self._found if one.what[1] == kind])

    def rows(self) -> list[tuple[str, ...]]:
        return [row(one) for one in self._found]


def row(request: Request) -> tuple[str, ...]:
    """Una domanda come riga della tabella; le impronte si accorciano."""
    repository, kind, which = request.what
    which = which.partition(":")[2][:12] if ":" in which else "" if kind == "invio" else which
    counts = (show_bytes(request.received), show_bytes(request.sent))
    return clean(request.client), request.method, clean(repository), kind, clean(which), str(request.status), *counts


def _end(server: LocalRegistry, temporary: str) -> None:
    server.__exit__()
    if temporary:
        shutil.rmtree(temporary, ignore_errors=True)

"""Gli errori del laboratorio: che cosa è successo, perché, e il comando che ripara.

::

    LabError                    ogni errore di labkit (codice, messaggio, rimedio)
    ├── KernelError             una chiamata di sistema ha detto di no (anche OSError)
    ├── BackendError            il laboratorio non può nascere su questa macchina
    ├── LabClosedError          il laboratorio è già finito, o è morto
    ├── ProtocolError           i due capi del filo non si capiscono
    ├── InvalidError            un'opzione scritta male (anche ValueError)
    ├── NotFoundError           container, immagine, processo o percorso che non c'è
    ├── ConflictError           nome o porta già presi, stato che non lo permette
    ├── CommandError            il comando non è partito (126 o 127)
    ├── PlanError               un passo del piano non si può fare o annullare
    ├── CellError               il codice Python di una cella %%lab è fallito
    ├── RegistryError           un registro ha detto di no, o non risponde
    └── CorruptError            un pezzo di un'immagine si è rovinato sul disco

Un errore attraversa il filo come dati (:meth:`LabError.to_dict`, :func:`from_dict`): dall'altra
parte si sceglie la classe in una tabella chiusa, non si importa mai un nome mandato dal filo.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import Any


class LabError(Exception):
    """Errore del laboratorio.

    ``message`` dice in italiano che cosa è successo e perché; ``remedy`` il comando o il gesto
    che ripara (può essere vuoto); ``exit_code`` è quello che userebbe Docker (125 in genere).

    >>> print(LabError("Il nome «web» è già preso.", "labkit rm web"))
    Il nome «web» è già preso. Rimedio: labkit rm web
    """

    code = "lab"
    exit_code = 125

    def __init__(self, message: str, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details
        if "exit_code" in details:
            self.exit_code = int(details["exit_code"])

    def __str__(self) -> str:
        return f"{self.message} Rimedio: {self.remedy}" if self.remedy else self.message

    def to_dict(self) -> dict[str, Any]:
        """L'errore come dati semplici, pronti per JSON."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy, "details": self.details}

    def _render_traceback_(self) -> list[str]:
        # IPython calls this instead of printing a traceback: a student sees one sentence.
        return [f"{type(self).__name__}: {self}"]


class KernelError(LabError, OSError):
    """Una chiamata di sistema è fallita: tiene ``errno``, ``syscall`` e ``path`` (errno(3))."""

    code = "kernel"

    def __init__(
        self, message: str, remedy: str = "", *, errno: int = 0, syscall: str = "", path: str = "", **details: Any
    ) -> None:
        super().__init__(message, remedy, errno=errno, syscall=syscall, path=path, **details)
        self.errno = errno
        self.syscall = syscall
        self.path = path

    @property
    def name(self) -> str:
        """Il nome dell'errore, per esempio ``EPERM``."""
        return _errno.errorcode.get(self.errno or 0, str(self.errno))

    @property
    def explanation(self) -> str:
        """La frase della libreria C (in inglese) per questo errno."""
        return os.strerror(self.errno or 0)


class BackendError(LabError):
    """Il laboratorio non può nascere qui: dice che cosa manca e come averlo."""

    code = "backend"


class LabClosedError(LabError):
    """Il laboratorio è finito: i suoi oggetti del kernel non esistono più."""

    code = "closed"


class ProtocolError(LabError):
    """Un messaggio del filo fra client e laboratorio non è valido."""

    code = "protocol"


class InvalidError(LabError, ValueError):
    """Un valore scritto male: nome, porta, variabile d'ambiente, numero, percorso."""

    code = "invalid"


class NotFoundError(LabError, LookupError):
    """La cosa cercata non c'è: container, immagine, processo, percorso, utente."""

    code = "not-found"


class ConflictError(LabError):
    """La cosa chiesta urta con una che esiste: nome o porta presi, stato sbagliato."""

    code = "conflict"


class CommandError(LabError):
    """Il comando del container non è partito: ``exit_code`` 127 (non c'è) o 126 (non si può eseguire)."""

    code = "command"
    exit_code = 127


class PlanError(LabError):
    """Un passo del piano non si può fare, o non si può annullare."""

    code = "plan"


class CellError(LabError):
    """Il codice di una cella ``%%lab`` è fallito; ``details['traceback']`` è il racconto di Python."""

    code = "cell"


class RegistryError(LabError):
    """Un registro ha detto di no, o non ha risposto; ``status`` è il codice HTTP (0 se non c'è stato)."""

    code = "registry"

    def __init__(self, message: str, remedy: str = "", status: int = 0, **details: Any) -> None:
        super().__init__(message, remedy, status=status, **details)
        self.status = status


class CorruptError(LabError):
    """Un pezzo di un'immagine non è più quello che era: è stato messo da parte."""

    code = "corrupt"


_CLASSES: dict[str, type[LabError]] = {
    cls.code: cls
    for cls in (
        LabError,
        KernelError,
        BackendError,
        LabClosedError,
        ProtocolError,
        InvalidError,
        NotFoundError,
        ConflictError,
        CommandError,
        PlanError,
        CellError,
        RegistryError,
        CorruptError,
    )
}


def from_dict(data: dict[str, Any]) -> LabError:
    """Ricostruisce l'errore dai dati di :meth:`LabError.to_dict`; un codice ignoto dà ``LabError``.

    >>> from_dict({"code": "conflict", "message": "Nome preso.", "remedy": ""})
    ConflictError('Nome preso.')
    """
    cls = _CLASSES.get(str(data.get("code")), LabError)
    details = data.get("details")
    return cls(
        str(data.get("message", "")),
        str(data.get("remedy", "")),
        **{str(k): v for k, v in (details if isinstance(details, dict) else {}).items()},
    )

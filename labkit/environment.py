"""L'ambiente di un programma: da dove viene ogni variabile e chi vince; e i nomi di ciò che non deve starci.

Le regole sono quelle di ``docker run``. Qui c'è solo testo: niente file aperti, niente kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from labkit.errors import InvalidError

#: Una variabile chiesta: nome e valore. ``None`` la toglie, come ``-e NOME`` con un nome che chi chiede non ha.
Setting = tuple[str, str | None]

#: Chi ha dato il valore, dal più debole al più forte: il laboratorio, l'immagine, un ``--env-file``, ``-e``.
Origin = Literal["lab", "image", "file", "option"]

#: I nomi dei segreti: quelli di Docker, al massimo 64 caratteri.
_SECRET = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")

#: Gli spazi che Docker toglie all'inizio di una riga (Go, ``unicode.IsSpace``).
_SPACES = (
    "\t\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True)
class Variable:
    """Una variabile dell'ambiente di un container, e chi le ha dato il valore.

    >>> str(Variable("COLORE", "verde", "file"))
    'COLORE=verde'
    """

    name: str
    value: str
    origin: Origin

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Variable:
        return cls(data["name"], data["value"], data["origin"])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def check(settings: Iterable[Setting]) -> None:
    """Alza :class:`~labkit.errors.InvalidError` per un nome o un valore che execve(2) non può portare."""
    for name, value in settings:
        if not name or "=" in name or "\0" in name + (value or ""):
            raise InvalidError(f"«{name}» non può essere il nome di una variabile.", "env={'COLORE': 'verde'}")


def merge(*layers: tuple[Origin, Iterable[Setting]]) -> tuple[Variable, ...]:
    """L'ambiente che risulta: ogni strato copre quelli prima, ``None`` toglie.

    >>> [str(v) for v in merge(("image", [("A", "1"), ("B", "2")]), ("option", [("A", "3"), ("B", None)]))]
    ['A=3']
    """
    found: dict[str, Variable] = {}
    for origin, settings in layers:
        for name, value in settings:
            if value is None:
                found.pop(name, None)
            else:
                found[name] = Variable(name, value, origin)
    return tuple(found.values())


def parse_file(data: bytes, name: str, caller: Mapping[str, str]) -> tuple[Setting, ...]:
    """Le variabili di un ``--env-file``: una per riga, ``NOME=valore``, con le regole di Docker.

    Un commento occupa una riga intera e comincia con ``#``. Gli apici non significano niente: fanno parte del
    valore, come gli spazi alla fine. ``NOME`` da solo prende il valore da ``caller``, e se non c'è si salta.
    ``name`` è il file, per dire dov'è un errore.

    >>> parse_file(b"# il colore\\nCOLORE='verde'\\nSHELL\\n", "sito.env", {"SHELL": "/bin/sh"})
    (('COLORE', "'verde'"), ('SHELL', '/bin/sh'))
    """
    settings: list[Setting] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode().lstrip(_SPACES)
        except UnicodeDecodeError:
            raise _bad(name, number, "ci sono byte che non sono testo UTF-8", f"file {name}") from None
        if not line or line.startswith("#"):
            continue
        variable, equals, value = line.partition("=")
        if not variable:
            raise _bad(name, number, "manca il nome prima di «=»", "COLORE=verde")
        if " " in variable or "\t" in variable:
            without = "_".join(variable.split())
            raise _bad(name, number, f"il nome «{variable}» contiene uno spazio", f"{without}=valore")
        if "\0" in line:
            raise _bad(name, number, "c'è un byte zero, che in una variabile non può stare", f"file {name}")
        if equals:
            settings.append((variable, value))
        elif variable in caller:
            settings.append((variable, caller[variable]))
    return tuple(settings)


def _bad(name: str, number: int, why: str, remedy: str) -> InvalidError:
    return InvalidError(f"{name}, riga {number}: {why}.", remedy)


def check_secret(name: str) -> None:
    """Alza :class:`~labkit.errors.InvalidError` se un segreto non può avere quel nome: è quello di un file."""
    if not _SECRET.fullmatch(name):
        raise InvalidError(
            f"{name!r} non può essere il nome di un segreto: da 1 a 64 lettere, cifre, «_», «.» e «-», "
            "con una lettera o una cifra all'inizio e alla fine.",
            "secrets={'db_password': Path('password.txt')}",
        )

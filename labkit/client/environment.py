"""Quello che chi chiede un container gli dà da leggere: variabili, file di variabili, segreti, modelli.

Qui si aprono i file di chi chiede, una volta sola e prima che nasca qualcosa. Il valore di un segreto non
compare mai in un messaggio.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from labkit.environment import Setting, check, check_secret, parse_file
from labkit.errors import InvalidError, NotFoundError
from labkit.template import Template

Environment = Mapping[str, Any] | Iterable[str] | None
EnvFiles = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None

#: Un segreto, come in Docker, è al massimo di 500 KiB; tutti insieme, di 1 MiB.
SECRET_LIMIT = 500 << 10
SECRETS_LIMIT = 1 << 20
_SECRETS_COUNT = 32

#: Un file di variabili o un modello più grande è un file sbagliato.
_TEXT_LIMIT = 1 << 20

_SECRET_REMEDY = "secrets={'db_password': Path('password.txt')}"


def environment(value: Environment) -> tuple[Setting, ...]:
    """Le variabili come coppie: un dizionario, o una lista di ``NOME=valore``.

    Come per Docker, nella lista ``NOME`` da solo prende il valore che ha qui; se qui non c'è, o se nel
    dizionario vale ``None``, la variabile si toglie anche se l'immagine la dà.

    >>> environment(["COLORE=verde"])
    (('COLORE', 'verde'),)
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        settings = [(str(name), None if text is None else str(text)) for name, text in value.items()]
    elif isinstance(value, Iterable):
        settings = [_setting(str(entry)) for entry in ([value] if isinstance(value, str) else value)]
    else:
        raise InvalidError(f"env vuole un dizionario: {value!r} non lo è.", "env={'COLORE': 'verde'}")
    check(settings)
    return tuple(settings)


def _setting(entry: str) -> Setting:
    name, equals, text = entry.partition("=")
    return (name, text) if equals else (name, os.environ.get(name))


def env_files(value: EnvFiles) -> tuple[Setting, ...]:
    """Le variabili dei file, uno dopo l'altro: se due danno la stessa vince l'ultimo (vedi ``parse_file``)."""
    if value is None:
        return ()
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    return tuple(setting for path in paths for setting in _env_file(os.fspath(path)))


def _env_file(path: str) -> tuple[Setting, ...]:
    return parse_file(_read(path, "il file di variabili", _TEXT_LIMIT), path, os.environ)


def secrets(value: Mapping[str, Any] | None) -> dict[str, bytes]:
    """I segreti, per nome: il valore è un testo, dei byte, o il ``Path`` di un file che lo contiene."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidError("secrets vuole un dizionario: a ogni nome un valore, o un Path.", _SECRET_REMEDY)
    found = {str(name): _secret(str(name), given) for name, given in value.items()}
    if len(found) > _SECRETS_COUNT or sum(map(len, found.values())) > SECRETS_LIMIT:
        raise InvalidError(
            f"I segreti di un container sono al massimo {_SECRETS_COUNT}, e tutti insieme {SECRETS_LIMIT} byte.",
            "per i file grandi c'è una cartella: i segreti sono password e chiavi",
        )
    return found


def _secret(name: str, value: Any) -> bytes:
    check_secret(name)
    if isinstance(value, os.PathLike):
        data = _read(os.fspath(value), f"il segreto «{name}»", SECRET_LIMIT)
    elif isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
    else:
        kind = type(value).__name__
        raise InvalidError(f"Il segreto «{name}» è un testo, dei byte o un Path: {kind} non va bene.", _SECRET_REMEDY)
    if not 0 < len(data) <= SECRET_LIMIT:
        why = "è vuoto" if not data else f"è di {len(data)} byte, e al massimo possono essere {SECRET_LIMIT}"
        raise InvalidError(f"Il segreto «{name}» {why}.", _SECRET_REMEDY)
    return data


def templates(value: Mapping[str, Any] | None) -> tuple[Template, ...]:
    """I modelli: al percorso che il file avrà nel container, il testo, o il ``Path`` del file che lo contiene."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise InvalidError(
            "templates vuole un dizionario: al file del container, il suo modello.",
            "templates={'/etc/sito.conf': Path('sito.conf')}",
        )
    return tuple(_template(str(target), given) for target, given in value.items())


def _template(target: str, value: Any) -> Template:
    if isinstance(value, str):
        return Template(target, value)
    if not isinstance(value, os.PathLike):
        raise InvalidError(
            f"Il modello di {target} è un testo o un Path: {value!r} non lo è.",
            f"templates={{{target!r}: Path('sito.conf')}}",
        )
    path = os.fspath(value)
    try:
        return Template(target, _read(path, "il modello", _TEXT_LIMIT).decode(), path)
    except UnicodeDecodeError:
        raise InvalidError(f"Il modello «{path}» non è un testo UTF-8.", f"file {path}") from None


def _read(path: str, what: str, limit: int) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise NotFoundError(f"Non trovo {what}: «{path}» non c'è.", f"ls -l {path}") from None
    except (OSError, ValueError) as problem:
        why = os.strerror(problem.errno or 0) if isinstance(problem, OSError) else "il percorso non è valido"
        raise InvalidError(f"Non posso leggere {what} «{path}»: {why}.", f"ls -l {path}") from None
    if len(data) > limit:
        raise InvalidError(f"Non leggo {what} «{path}»: è più grande di {limit} byte.", f"ls -l {path}")
    return data


def secret_options(values: Iterable[str]) -> dict[str, Any]:
    """I ``--secret id=NOME,src=FILE`` (o ``env=VARIABILE``) come li vuole :func:`secrets`."""
    found: dict[str, Any] = {}
    for value in values:
        fields = dict(field.partition("=")[::2] for field in value.split(","))
        name, path, variable = fields.pop("id", ""), fields.pop("src", ""), fields.pop("env", "")
        if fields or not name or bool(path) == bool(variable):
            raise InvalidError(
                "Un segreto si dà con un nome, e con il file o la variabile di qui che lo contiene.",
                "--secret id=db_password,src=password.txt, oppure --secret id=db_password,env=DB_PASSWORD",
            )
        if variable and variable not in os.environ:
            raise InvalidError(f"Il segreto «{name}» non c'è: qui la variabile {variable} non esiste.", _SECRET_REMEDY)
        if name in found:
            raise InvalidError(f"Il segreto «{name}» è dato due volte.", "togline uno")
        found[name] = Path(path) if path else os.environ[variable]
    return found


def template_options(values: Iterable[str]) -> dict[str, Any]:
    """I ``--template FILE:PERCORSO`` come li vuole :func:`templates`."""
    found: dict[str, Any] = {}
    for value in values:
        source, _, target = value.rpartition(":")
        if not source or not target:
            raise InvalidError(
                f"Un modello si dà con il file e con il percorso che avrà nel container: «{value}» non basta.",
                "--template sito.conf:/etc/sito.conf",
            )
        found[target] = Path(source)
    return found

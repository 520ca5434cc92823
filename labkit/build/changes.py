"""Le istruzioni che cambiano solo come un'immagine parte: da un'istruzione ai campi della sua configurazione.

Il testo che finisce nella storia è quello che scrive Docker (``ENV A=1``), dopo aver sostituito le variabili: è lui a
dire se il passo è già stato fatto.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit import units
from labkit.build.instructions import Instruction
from labkit.build.words import expand_all
from labkit.errors import InvalidError

#: Docker's own, for an image that does not say another.
DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SIGNAL = re.compile(r"(SIG)?[A-Z]+[A-Z0-9+-]*|\d+")


@dataclass(frozen=True)
class Change:
    """Come cambia la configurazione: i campi (``None`` li toglie), e il testo per la storia."""

    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""


def change(step: Instruction, values: Mapping[str, str], process: Mapping[str, Any], cmd_given: bool) -> Change:
    """Il cambiamento che un'istruzione chiede a una configurazione ``process``; ``values`` sono le variabili."""
    return _CHANGES[step.keyword](_Asked(step, values, process, cmd_given))


@dataclass(frozen=True)
class _Asked:
    step: Instruction
    values: Mapping[str, str]
    process: Mapping[str, Any]
    #: CMD is already in this stage: ENTRYPOINT leaves it.
    cmd_given: bool

    def words(self) -> list[str]:
        return [self.step.expand(word, self.values) for word in self.step.words]

    def pairs(self) -> list[tuple[str, str]]:
        first = self.step.words[0]
        if "=" not in first.text:  # the old form: one name, and all the rest is its value
            name, value = self.words()
            return [(name, value)]
        found = []
        for word in self.step.words:
            name, _, _ = word.text.partition("=")
            value = self.step.expand(type(word)(word.text[len(name) + 1 :], word.at + len(name) + 1), self.values)
            found.append((self.step.expand(type(word)(name, word.at), self.values), value))
        return found

    def command(self) -> list[str]:
        """``CMD``, ``ENTRYPOINT``: le parole, o la shell con il testo intero."""
        if self.step.exec_form:
            return list(self.step.texts)
        return [*shell(self.process), *self.step.texts] if self.step.words else []

    def wrong(self, message: str, remedy: str, index: int = 0) -> Exception:
        return self.step.error(message, remedy, self.step.words[index])


def shell(process: Mapping[str, Any]) -> tuple[str, ...]:
    """La shell che legge i comandi senza quadre."""
    return tuple(process.get("Shell") or DEFAULT_SHELL)


def with_variables(env: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """L'elenco ``NOME=valore`` con questi valori: chi c'è già cambia, chi non c'è va in fondo.

    >>> with_variables(["A=1", "B=2"], [("A", "3"), ("C", "4")])
    ['A=3', 'B=2', 'C=4']
    """
    found = dict(one.partition("=")[::2] for one in env)
    found.update(pairs)
    return [f"{name}={value}" for name, value in found.items()]


def directory(process: Mapping[str, Any], wanted: str) -> str:
    """Una cartella scritta in WORKDIR o come destinazione, resa assoluta."""
    return posixpath.normpath(posixpath.join("/", process.get("WorkingDir") or "/", wanted)).replace("//", "/")


def _env(asked: _Asked) -> Change:
    pairs = asked.pairs()
    text = "ENV " + " ".join(f"{name}={value}" for name, value in pairs)
    return Change(text, {"Env": with_variables(asked.process.get("Env") or (), pairs)})


def _label(asked: _Asked) -> Change:
    pairs = asked.pairs()
    text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)
    return Change(text, {"Labels": {**(asked.process.get("Labels") or {}), **dict(pairs)}})


def _cmd(asked: _Asked) -> Change:
    command = asked.command()
    return Change(f"CMD [{_quoted(command)}]", {"Cmd": command or None})


def _entrypoint(asked: _Asked) -> Change:
    command = asked.command()
    fields: dict[str, Any] = {"Entrypoint": command or None}
    if not asked.cmd_given:  # the base's CMD was for the base's ENTRYPOINT
        fields["Cmd"] = None
    return Change(f"ENTRYPOINT [{_quoted(command)}]", fields)


def _expose(asked: _Asked) -> Change:
    try:
        texts = [one for word in asked.step.texts
                 for one in expand_all(word, asked.values, asked.step.line.source.escape)]  # fmt: skip
    except ValueError:
        texts = asked.words()  # it says where, under its own word
    ports = dict(asked.process.get("ExposedPorts") or {})
    for text in texts:
        found = _PORT.fullmatch(text)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not found or not 1 <= first <= last <= 65535:
            raise asked.wrong(f"«{text}» non è una porta.", "EXPOSE 80, EXPOSE 53/udp")
        ports |= {f"{port}/{(found[3] or 'tcp').lower()}": {} for port in range(first, last + 1)}
    return Change("EXPOSE " + " ".join(sorted(texts)), {"ExposedPorts": ports})


def _volume(asked: _Asked) -> Change:
    paths = asked.words()
    if not all(path.strip() for path in paths):
        raise asked.wrong("Un volume senza percorso.", "VOLUME /var/lib/dati")
    volumes = {**(asked.process.get("Volumes") or {}), **{path: {} for path in paths}}
    return Change(f"VOLUME [{' '.join(paths)}]", {"Volumes": volumes})


def _user(asked: _Asked) -> Change:
    (user,) = asked.words()
    return Change(f"USER {user}", {"User": user})


def _workdir(asked: _Asked) -> Change:
    (wanted,) = asked.words()
    if not wanted:
        raise asked.wrong("WORKDIR senza cartella.", "WORKDIR /app")
    path = directory(asked.process, wanted)
    return Change(f"WORKDIR {path}", {"WorkingDir": path})


def _stopsignal(asked: _Asked) -> Change:
    (signal,) = asked.words()
    if not _SIGNAL.fullmatch(signal):
        raise asked.wrong(f"«{signal}» non è un segnale.", "STOPSIGNAL SIGQUIT")
    return Change(f"STOPSIGNAL {signal}", {"StopSignal": signal})


def _shell(asked: _Asked) -> Change:
    return Change(f"SHELL [{' '.join(asked.step.texts)}]", {"Shell": list(asked.step.texts)})


def _maintainer(asked: _Asked) -> Change:
    return Change(f"MAINTAINER {asked.step.texts[0]}", author=asked.step.texts[0])


def _onbuild(asked: _Asked) -> Change:
    text = asked.step.rest.text
    for one in asked.step.heredocs:
        text += f"\n{one.content}{one.name}"
    return Change(f"ONBUILD {text}", {"OnBuild": [*(asked.process.get("OnBuild") or ()), text]})


def _healthcheck(asked: _Asked) -> Change:
    step = asked.step
    if not step.flags and step.rest.text.upper() == "NONE":
        return Change("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}})
    found: dict[str, Any] = {"Test": ["CMD", *step.texts] if step.exec_form else ["CMD-SHELL", *step.texts]}
    for name, key in _HEALTH.items():
        if word := step.flags.get(name):
            text = step.expand(word, asked.values)
            try:
                value = int(text) if name == "retries" else round(units.duration(text) * 1e9)
            except ValueError as problem:
                why = problem.message if isinstance(problem, InvalidError) else f"«{text}» non è un numero."
                raise step.error(why, f"--{name}={'3' if name == 'retries' else '30s'}", word) from None
            if value:
                found[key] = value
    return Change(str(step), {"Healthcheck": found})


_HEALTH = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
           "start-interval": "StartInterval", "retries": "Retries"}  # fmt: skip


def _quoted(words: Sequence[str]) -> str:
    return " ".join(json.dumps(word, ensure_ascii=False) for word in words)


_CHANGES: dict[str, Callable[[_Asked], Change]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}

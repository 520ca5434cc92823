"""Le variabili di una costruzione: che cosa vale ``$NOME`` a ogni passo.

``ENV`` vince sempre su ``ARG``; un valore dato da fuori (``--build-arg``) vince su quello scritto nel file; un ``ARG``
prima del primo ``FROM`` vale solo nei ``FROM``, finché uno stadio non lo dichiara di nuovo (Dockerfile
reference, «ARG»).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from labkit.build.instructions import Instruction
from labkit.build.words import Word
from labkit.images.descriptor import Platform

#: Arguments that need no ARG, and of which no trace stays in the image: they are of who builds.
PROXIES = frozenset(
    name
    for one in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (one, one.lower())
)  # fmt: skip
#: Given to the builder, not to the programs (reproducible-builds.org, SOURCE_DATE_EPOCH).
EPOCH = "SOURCE_DATE_EPOCH"


@dataclass
class Scope:
    """Gli argomenti di uno stadio: quelli dati, quelli in cima al file, quelli dichiarati fin qui."""

    given: Mapping[str, str]
    top: Mapping[str, str] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)

    def declare(self, step: Instruction, env: Iterable[tuple[str, str]]) -> str:
        """Legge un ``ARG``; torna il testo per la storia."""
        texts = []
        for word in step.words:
            name, equals, _ = word.text.partition("=")
            default = None
            if equals:
                value = Word(word.text[len(name) + 1 :], word.at + len(name) + 1)
                default = step.expand(value, self.values(env))
            texts.append(name if default is None else f"{name}={default}")
            value_now = self.given.get(name, default if default is not None else self.top.get(name))
            if value_now is not None:
                self.declared[name] = value_now
        return f"ARG {' '.join(texts)}"

    def values(self, env: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Ciò che un'istruzione trova: gli argomenti, e sopra di loro l'ambiente dell'immagine."""
        return {**self.declared, **dict(env)}

    def for_run(self, env: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Gli argomenti che un RUN riceve come variabili, in ordine; quelli dell'immagine ci sono già."""
        have = dict(env)
        return {name: value for name, value in sorted(self.declared.items()) if name not in have}

    def proxies(self) -> dict[str, str]:
        """I proxy dati da fuori: un RUN li riceve, l'immagine e la cache non li vedono."""
        return {name: value for name, value in self.given.items() if name in PROXIES}


def top(steps: Iterable[Instruction], given: Mapping[str, str]) -> dict[str, str]:
    """Gli argomenti in cima al file, con quelli della macchina che costruisce."""
    platform = Platform.current()
    machine: dict[str, str] = {}
    for side in ("TARGET", "BUILD"):
        machine |= {f"{side}PLATFORM": str(platform), f"{side}OS": platform.os, f"{side}ARCH": platform.architecture,
                    f"{side}VARIANT": platform.variant}  # fmt: skip
    scope = Scope(given, declared=machine | {name: given[name] for name in machine if name in given})
    for step in steps:
        scope.declare(step, ())
    return scope.declared

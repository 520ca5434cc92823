"""Un file di configurazione con dei vuoti: ``${NOME}`` diventa il valore di una variabile dell'ambiente.

È quello che l'immagine ufficiale di nginx fa con envsubst, con due differenze: ``$NOME`` senza graffe resta
com'è (per nginx è una variabile sua), e una variabile che manca è un errore, non un vuoto.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labkit.errors import InvalidError

#: ``$${`` è un ``${`` da lasciare; ``${NOME}``, ``${NOME:-testo}`` e ``${NOME:?testo}`` stanno su una riga.
_HOLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::([-?])([^}\n]*))?\})?")

_FORMS = "${NOME}, ${NOME:-testo} o ${NOME:?errore}; $${ per scrivere ${"

#: Dove non si scrive un file: i filesystem del kernel, e i segreti.
_NOT_HERE = ("/proc", "/sys", "/dev", "/run/secrets")


@dataclass(frozen=True)
class _Hole:
    """Un vuoto: la variabile, ``-`` o ``?`` e le parole che lo seguono, dove comincia nel testo."""

    name: str
    how: str
    words: str
    position: int


@dataclass(frozen=True)
class Template:
    """Un modello: il testo, il file che diventa nel container, il nome con cui chiamarlo in un errore.

    >>> Template("/etc/sito.conf", "listen ${PORTA:-80};").render({"PORTA": "8080"})
    'listen 8080;'
    """

    target: str
    text: str
    source: str = ""

    def __post_init__(self) -> None:
        target = self.target
        if (
            not target.startswith("/")
            or target.startswith("//")
            or "\0" in target
            or os.path.normpath(target) != target
            or target == "/"
        ):
            raise InvalidError(
                f"Un modello diventa un file del container, con il percorso intero: {target!r} non lo è.",
                "templates={'/etc/sito.conf': Path('sito.conf')}",
            )
        if any(f"{target}/".startswith(f"{folder}/") for folder in _NOT_HERE):
            raise InvalidError(
                f"Un modello non può diventare «{target}»: quella cartella è del kernel, o dei segreti.",
                "templates={'/etc/sito.conf': Path('sito.conf')}",
            )
        self.variables  # noqa: B018  a hole that cannot be read is an error now, before anything is born

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Template:
        return cls(data["target"], data["text"], data["source"])

    @property
    def variables(self) -> tuple[str, ...]:
        """I nomi delle variabili nominate, una volta sola, nell'ordine del testo."""
        return tuple(dict.fromkeys(piece.name for piece in self._pieces() if isinstance(piece, _Hole)))

    def render(self, env: Mapping[str, str]) -> str:
        """Il testo con i valori di ``env``; una variabile che manca è un :class:`~labkit.errors.InvalidError`.

        ``${NOME:-testo}`` vale ``testo`` se la variabile manca o è vuota; con ``${NOME:?testo}`` in quel caso
        ``testo`` è l'errore; ``${NOME}`` vuole che la variabile ci sia, anche vuota.
        """
        return "".join(piece if isinstance(piece, str) else self._fill(piece, env) for piece in self._pieces())

    def _fill(self, hole: _Hole, env: Mapping[str, str]) -> str:
        value = env.get(hole.name)
        if hole.how == "-":
            return value or hole.words
        if value is None or (hole.how == "?" and not value):
            why = hole.words or ("" if value is None else "è vuota")
            missing = f"manca la variabile {hole.name}" + (f": {why}" if why else "")
            raise self._bad(hole.position, missing, f"env={{'{hole.name}': '…'}}")
        return value

    def _pieces(self) -> Iterator[str | _Hole]:
        """Il testo a pezzi: quello che resta com'è, e i vuoti da riempire."""
        end = 0
        for match in _HOLE.finditer(self.text):
            yield self.text[end : match.start()]
            end = match.end()
            name, how, words = match.groups()
            if match.group() == "$${":
                yield "${"
            elif name:
                yield _Hole(name, how or "", words or "", match.start())
            else:
                found = self.text[match.start() :].partition("\n")[0][:40]
                raise self._bad(match.start(), f"non capisco «{found}»", _FORMS)
        yield self.text[end:]

    def _bad(self, position: int, why: str, remedy: str) -> InvalidError:
        line = self.text.count("\n", 0, position) + 1
        return InvalidError(f"{self.source or self.target}, riga {line}: {why}.", remedy)

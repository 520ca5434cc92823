"""I modelli con gli asterischi: quelli di ``COPY`` (Go, ``path.Match``) e quelli di ``.dockerignore``.

Sono due lingue diverse: in ``COPY`` un asterisco non passa una barra; in ``.dockerignore`` c'è anche ``**``, un
modello vale per tutto ciò che sta sotto, e ``!`` ripesca. Vince l'ultima riga che dice qualcosa.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.errors import InvalidError

_WILD = re.compile(r"[*?\[]")


def is_pattern(text: str) -> bool:
    """Se c'è qualcosa da indovinare, e non solo un nome."""
    return _WILD.search(text) is not None


def pattern(text: str) -> re.Pattern[str]:
    r"""Il modello di ``path.Match``: ``*``, ``?``, ``[a-z]``, ``[^a]``, ``\x``; nessuno passa una barra.

    >>> bool(pattern("sito/*.html").fullmatch("sito/a.html")), bool(pattern("*").fullmatch("a/b"))
    (True, False)
    """
    return _compiled(text, stars=False)


def _compiled(text: str, stars: bool) -> re.Pattern[str]:
    made = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*" and stars and text[at : at + 1] == "*":
            at += 1
            if text[at : at + 1] == "/":  # «**/x» is also «x»
                at += 1
                made += "(?:.*/)?"
            else:
                made += ".*"
        elif char == "*":
            made += "[^/]*"
        elif char == "?":
            made += "[^/]"
        elif char == "[":
            group, at = _class(text, at)
            made += group
        elif char == "\\":
            if at == len(text):
                raise InvalidError(f"Il modello «{text}» finisce con una barra rovescia.", "togli l'ultima \\")
            made += re.escape(text[at])
            at += 1
        else:
            made += re.escape(char)
    return re.compile(made, re.DOTALL)


def _class(text: str, at: int) -> tuple[str, int]:
    """Un insieme fra quadre, da dopo la ``[``."""
    wrong = InvalidError(f"Nel modello «{text}» una quadra è aperta e non chiusa.", "[a-z]")
    negated = text[at : at + 1] == "^"
    at += negated
    parts = ""

    def one() -> str:
        nonlocal at
        if text[at : at + 1] == "\\":
            at += 1
        if at >= len(text):
            raise wrong
        at += 1
        return text[at - 1]

    while not parts or text[at : at + 1] != "]":
        if text[at : at + 1] in ("]", "-", ""):
            raise wrong
        low = high = one()
        if text[at : at + 1] == "-":
            at += 1
            high = one()
        if low > high:
            raise InvalidError(f"Nel modello «{text}» l'intervallo {low}-{high} è al contrario.", f"[{high}-{low}]")
        parts += f"{re.escape(low)}-{re.escape(high)}"
    return f"(?!/)[{'^' if negated else ''}{parts}]", at + 1


@dataclass(frozen=True)
class Ignore:
    """Le righe di un ``.dockerignore``: ogni modello, e se ripesca (``!``)."""

    rules: tuple[tuple[re.Pattern[str], bool], ...] = ()

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore") -> Ignore:
        """Legge il file; una riga che comincia con ``#`` è un commento.

        >>> Ignore.parse("*.log\\n!importante.log").hides("importante.log")
        False
        """
        rules = []
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
            wanted = line.strip()
            if not wanted or line.startswith("#"):
                continue
            keeps = wanted.startswith("!")
            path = posixpath.normpath(wanted[keeps:].strip() or ".").lstrip("/")
            if keeps and not wanted[1:].strip():
                raise InvalidError(f"{name}, riga {number}: dopo «!» manca il modello.", "!importante.log")
            try:
                rules.append((_compiled(path, stars=True), keeps))
            except InvalidError as problem:
                raise InvalidError(f"{name}, riga {number}: {problem.message}", problem.remedy) from None
        return cls(tuple(rules))

    def hides(self, path: str) -> bool:
        """Se quel percorso (relativo, con le barre) non fa parte del contesto."""
        parts = path.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        hidden = False
        for rule, keeps in self.rules:
            if hidden == keeps and any(rule.fullmatch(one) for one in above):
                hidden = not keeps
        return hidden

    @property
    def may_keep(self) -> bool:
        """Se dentro una cartella nascosta può esserci qualcosa di ripescato."""
        return any(keeps for _, keeps in self.rules)


def chosen(wanted: re.Pattern[str], paths: Iterable[str]) -> list[str]:
    """I percorsi che il modello sceglie, in ordine."""
    return sorted(path for path in paths if wanted.fullmatch(path))

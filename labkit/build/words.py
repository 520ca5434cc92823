"""Le parole di un'istruzione: dove si dividono, e che cosa diventano quando le variabili hanno un valore.

È la piccola shell di Docker (Dockerfile reference, «Environment replacement»): apici, escape, ``$nome``,
``${nome:-altrimenti}`` e compagni. Nessun comando, nessun asterisco.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_SPECIAL = "@*#?-$!"


@dataclass(frozen=True)
class Word:
    """Una parola com'è scritta, apici compresi, e dove comincia nella riga."""

    text: str
    at: int


class WordError(ValueError):
    """Una parola scritta male; ``at`` è il carattere, contato dall'inizio della parola."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def split(text: str, escape: str = "\\", start: int = 0) -> list[Word]:
    """Le parole di ``text``, divise dagli spazi che non stanno fra apici.

    >>> [word.text for word in split('a "b c" d\\\\ e')]
    ['a', '"b c"', 'd\\\\ e']
    """
    found: list[Word] = []
    word, begin, quote, blank = "", 0, "", False
    position = 0
    while position < len(text):
        char = text[position]
        if not quote and char.isspace():
            if word or blank:
                found.append(Word(word, start + begin))
            word, blank = "", False
        else:
            if not word:
                begin = position
            if quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote, blank = char, True
            if char == escape and quote != "'":
                if position + 1 == len(text):
                    break
                word += char
                position += 1
                char = text[position]
            word += char
        position += 1
    if word or blank:
        found.append(Word(word, start + begin))
    return found


def expand(word: str, values: Mapping[str, str], escape: str = "\\") -> str:
    """La parola senza apici, con i valori al posto delle variabili.

    >>> expand('"${CHI:-mondo}"', {}), expand("$A-${B:+c}", {"A": "1", "B": "2"})
    ('mondo', '1-c')
    """
    return _Lexer(word, values, escape).until("")[0]


def expand_all(word: str, values: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Come :func:`expand`, ma un valore con degli spazi diventa più parole (per ``EXPOSE``)."""
    text, cuts = _Lexer(word, values, escape).until("")
    parts = []
    start = 0
    for position, char in enumerate([*text, " "]):
        if char.isspace() and (position == len(text) or position in cuts):
            if position > start:
                parts.append(text[start:position])
            start = position + 1
    return parts


def expand_text(text: str, values: Mapping[str, str], escape: str = "\\") -> str:
    """Un here-document con i valori al posto delle variabili; gli apici sono testo, come nella shell.

    >>> expand_text('"$A" \\\\$A', {"A": "1"})
    '"1" $A'
    """
    return _Lexer(text, values, escape, quotes=False).until("")[0]


def unquoted(word: str, escape: str = "\\") -> str:
    """La parola senza apici; le variabili restano come sono scritte."""
    return _Lexer(word, None, escape).until("")[0]


class _Lexer:
    def __init__(self, word: str, values: Mapping[str, str] | None, escape: str, quotes: bool = True) -> None:
        self._word, self._values, self._escape, self._quotes = word, values, escape, quotes
        self._at = 0

    def _peek(self) -> str:
        return self._word[self._at] if self._at < len(self._word) else ""

    def _next(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char

    def until(self, stop: str) -> tuple[str, set[int]]:
        """Fino al carattere ``stop`` (che resta), o alla fine; e dove gli spazi dividono."""
        text = ""
        bare: set[int] = set()
        while (char := self._peek()) and char != stop:
            if char == "'" and self._quotes:
                text += self._single()
            elif char == '"' and self._quotes:
                text += self._double()
            elif char == "$" and self._values is not None:
                value = self._dollar()
                bare |= set(range(len(text), len(text) + len(value)))
                text += value
            else:
                self._next()
                if char == self._escape and (self._quotes or self._peek() in ("$", self._escape)):
                    char = self._next()
                text += char
        return text, bare

    def _single(self) -> str:
        start = self._at
        self._next()
        end = self._word.find("'", self._at)
        if end < 0:
            raise WordError("l'apice ' è aperto e non chiuso", start)
        text, self._at = self._word[self._at : end], end + 1
        return text

    def _double(self) -> str:
        start = self._at
        self._next()
        text = ""
        while char := self._peek():
            if char == '"':
                self._next()
                return text
            if char == "$" and self._values is not None:
                text += self._dollar()
                continue
            self._next()
            if char == self._escape and self._peek() in ('"', "$", self._escape):
                char = self._next()
            text += char
        raise WordError("l'apice \" è aperto e non chiuso", start)

    def _name(self) -> str:
        start = self._at
        char = self._peek()
        if char.isascii() and (char.isalpha() or char == "_"):
            while (char := self._peek()) and char.isascii() and (char.isalnum() or char == "_"):
                self._next()
        elif char.isascii() and char.isdecimal():
            while self._peek().isascii() and self._peek().isdecimal():
                self._next()
        elif char and char in _SPECIAL:
            self._next()
        return self._word[start : self._at]

    def _dollar(self) -> str:
        assert self._values is not None
        start = self._at
        self._next()
        if self._peek() != "{":
            name = self._name()
            return self._values.get(name, "") if name else "$"
        self._next()
        name = self._name()
        if not name:
            raise WordError("dopo ${ ci vuole il nome di una variabile", start)
        value = self._values.get(name)
        kind = self._next()
        if kind == "}":
            return value or ""
        empty = value is None
        if kind == ":":
            empty = not value
            kind = self._next()
        if not kind:
            raise WordError("manca la graffa } che chiude ${", start)
        if kind not in "-+?":
            raise WordError(f"in ${{{name}…}} si può scrivere :- :+ :? (o - + ?), non «{kind}»", start)
        other, _ = self.until("}")
        if not self._next():
            raise WordError("manca la graffa } che chiude ${", start)
        if kind == "+":
            return "" if empty else other
        if not empty:
            return value or ""
        if kind == "?":
            raise WordError(f"la variabile {name} non ha un valore{': ' if other else ''}{other}", start)
        return other

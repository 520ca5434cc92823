"""Dal testo di un Containerfile alle righe logiche: direttive, commenti, righe che continuano, here-document.

Le regole sono quelle di Docker (Dockerfile reference, «Format»). Ogni carattere di una riga logica sa da quale
riga e colonna del file viene: un errore si mostra con il segno sotto la parola sbagliata.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field

from labkit.build.words import Word, WordError, split, unquoted
from labkit.errors import InvalidError

#: Longest file that is read: Docker's own limit is far above what anyone writes.
LARGEST = 1 << 20
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
#: The instructions that may have a here-document, and the one that may hold one of those.
_WITH_HEREDOC = re.compile(r"(?:ONBUILD\s+)?(?:ADD|COPY|RUN)\s.*<<", re.IGNORECASE)


class ContainerfileError(InvalidError):
    """Un Containerfile scritto male: dice il file, la riga, e segna il punto."""

    def __str__(self) -> str:
        return f"{self.message}\nRimedio: {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True)
class Heredoc:
    """Il testo fra ``<<NOME`` e la riga ``NOME``; con ``expand`` le variabili dentro si sostituiscono."""

    name: str
    content: str
    expand: bool
    chomp: bool

    @property
    def text(self) -> str:
        """Il contenuto; con ``<<-`` senza le tabulazioni all'inizio delle righe."""
        return re.sub(r"^\t+", "", self.content, flags=re.MULTILINE) if self.chomp else self.content


@dataclass(frozen=True)
class Source:
    """Un file letto: il suo nome, le sue righe, il carattere che fa continuare una riga."""

    name: str
    lines: tuple[str, ...]
    escape: str = "\\"

    def error(self, message: str, remedy: str = "", line: int = 1, column: int = 0, length: int = 1) -> Exception:
        """L'errore da sollevare: ``line`` parte da 1, ``column`` da 0."""
        text = self.lines[line - 1].rstrip("\r") if line <= len(self.lines) else ""
        shown = text.replace("\t", " ")
        caret = " " * column + "^" * max(1, min(length, len(shown) - column))
        margin = " " * len(str(line))
        picture = f"\n  {line} │ {shown}\n  {margin} │ {caret}" if shown else ""
        return ContainerfileError(f"{self.name}, riga {line}: {message}{picture}", remedy)


@dataclass(frozen=True)
class Line:
    """Una riga logica: il suo testo, e da dove viene ogni suo pezzo."""

    source: Source = field(repr=False)
    text: str
    #: For each piece of the text: where it starts in it, and in which line and column of the file.
    pieces: tuple[tuple[int, int, int], ...]
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def number(self) -> int:
        """La riga del file in cui comincia, da 1."""
        return self.pieces[0][1]

    def error(self, message: str, remedy: str = "", at: int = 0, length: int = 1) -> Exception:
        """L'errore al carattere ``at`` di questa riga logica."""
        start, line, column = self.pieces[max(0, bisect.bisect_right([piece[0] for piece in self.pieces], at) - 1)]
        return self.source.error(message, remedy, line, column + at - start, length)


def read(name: str, data: bytes | str) -> tuple[Source, tuple[Line, ...]]:
    """Le righe logiche di un Containerfile, ``name`` è il nome che gli errori mostrano.

    >>> [line.text for line in read("Containerfile", "FROM a\\nRUN b \\\\\\n  c\\n")[1]]
    ['FROM a', 'RUN b   c']
    """
    if len(data) > LARGEST:
        raise ContainerfileError(f"{name} è di {len(data)} byte: il massimo è {LARGEST}.")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as problem:
        raise ContainerfileError(f"{name} non è un testo UTF-8 (byte {problem.start}).") from None
    if "\0" in text:
        raise ContainerfileError(f"{name} contiene un byte zero: non è un testo.")
    lines = tuple(text.removeprefix("\ufeff").split("\n"))
    source = Source(name, lines, _escape(Source(name, lines)))
    return source, tuple(_Reader(source).all())


def _escape(source: Source) -> str:
    """Le direttive in cima al file: la prima riga che non lo è le fa finire."""
    seen: dict[str, str] = {}
    for number, line in enumerate(source.lines, 1):
        found = _DIRECTIVE.fullmatch(line.strip())
        if not found or found[1].lower() not in _DIRECTIVES:
            break
        key = found[1].lower()
        if key in seen:
            raise source.error(f"La direttiva «{key}» c'è già.", "lasciane una sola", number, 0, len(line.rstrip()))
        seen[key] = found[2]
        if key == "escape" and found[2] not in ("\\", "`"):
            column = line.index(found[2], line.index("="))
            raise source.error(
                f"«{found[2]}» non può essere il carattere di escape: solo \\ oppure `.",
                "# escape=\\", number, column, len(found[2]),
            )  # fmt: skip
    return seen.get("escape", "\\")


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._next = 0
        token = re.escape(source.escape)
        self._continues = re.compile(rf"(^|[^{token}]){token}[ \t]*$")

    def all(self) -> list[Line]:
        found = []
        while (line := self._logical()) is not None:
            if line.text:  # a lone escape makes an empty one
                found.append(line)
        return found

    def _physical(self) -> tuple[int, str] | None:
        if self._next == len(self._source.lines):
            return None
        self._next += 1
        return self._next, self._source.lines[self._next - 1].rstrip("\r")

    def _logical(self) -> Line | None:
        text, pieces = "", []
        going_on = False
        while (physical := self._physical()) is not None:
            number, raw = physical
            shown = raw.lstrip() if not going_on else raw
            if raw.lstrip().startswith("#") or not raw.strip():
                continue  # inside a line that goes on too
            pieces.append((len(text), number, len(raw) - len(shown)))
            going_on = self._continues.search(shown) is not None
            text += shown.rstrip(" \t")[:-1] if going_on else shown
            if not going_on:
                break
        if not pieces:
            return None
        line = Line(self._source, text.rstrip(), tuple(pieces))
        return Line(self._source, line.text, line.pieces, tuple(self._heredocs(line)))

    def _heredocs(self, line: Line) -> list[Heredoc]:
        if not _WITH_HEREDOC.match(line.text):
            return []
        return [self._content(line, word, *found) for word in split(line.text, self._source.escape)
                if (found := heredoc(word, self._source.escape))]  # fmt: skip

    def _content(self, line: Line, word: Word, name: str, expand: bool, chomp: bool) -> Heredoc:
        content = ""
        while (physical := self._physical()) is not None:
            raw = physical[1]
            if (raw.lstrip("\t") if chomp else raw) == name:
                return Heredoc(name, content, expand, chomp)
            content += raw + "\n"
        raise line.error(
            f"Manca la riga «{name}» che chiude il testo.", f"scrivi {name} da solo, dopo l'ultima riga",
            word.at, len(word.text),
        )  # fmt: skip


def heredoc(word: Word, escape: str) -> tuple[str, bool, bool] | None:
    """Se la parola apre un here-document: il nome che lo chiude, se si espande, se perde le tabulazioni."""
    found = _HEREDOC.fullmatch(word.text)
    if not found:
        return None
    try:
        name = unquoted(found[2], escape)
    except WordError:
        return None
    return (name, name == found[2], bool(found[1])) if name else None

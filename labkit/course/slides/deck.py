"""Un mazzo di slide come dati: si legge da un testo semplice, e un errore dice la riga.

La forma del testo è in ``slides/README.md``. Leggere un mazzo non esegue niente.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from labkit.errors import InvalidError, NotFoundError

#: Una riga di codice più lunga non si legge dall'ultimo banco.
COLUMNS = 72

Mode = Literal["esegui", "nascosto", "fermo", "errore", "muto"]
_MODES: dict[str, Mode] = {"": "esegui", "nascosto": "nascosto", "fermo": "fermo", "errore": "errore"}

#: What a later cell may need: a failure leaves nothing behind it.
_NEEDED = ("esegui", "nascosto")

_FENCE = re.compile(r"^(?P<ticks>`{3,})\s*(?P<language>[\w+-]*)\s*(?P<option>\w*)\s*$")
_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>[^)\s]+)\)")
_HEADER = re.compile(r"\A\+\+\+\n(?P<toml>.*?)^\+\+\+\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Text:
    """Testo in Markdown."""

    source: str


@dataclass(frozen=True)
class Code:
    """Un pezzo di codice: ``mode`` dice se si esegue, se si vede, se deve fallire (``muto``: si esegue e basta)."""

    source: str
    language: str = "python"
    mode: Mode = "fermo"

    @property
    def runs(self) -> bool:
        return self.mode != "fermo"


@dataclass(frozen=True)
class Pause:
    """Quello che segue appare al passo dopo."""


Block = Text | Code | Pause


@dataclass(frozen=True)
class Slide:
    """Una slide: i suoi blocchi, le note di chi parla, e se è un approfondimento (in giù)."""

    blocks: tuple[Block, ...]
    notes: str = ""
    deeper: bool = False

    @property
    def title(self) -> str:
        """Il titolo, senza i segni del Markdown."""
        first = self.blocks[0] if self.blocks else Pause()
        line = first.source.partition("\n")[0] if isinstance(first, Text) else ""
        return re.sub(r"[*`#]", "", line).strip()


@dataclass(frozen=True)
class Deck:
    """Un mazzo: l'intestazione e le slide, nell'ordine in cui si proiettano."""

    title: str
    lesson: str
    slides: tuple[Slide, ...]
    subtitle: str = ""
    minutes: int = 0
    folder: Path = Path()

    def short(self) -> Deck:
        """Lo stesso mazzo senza gli approfondimenti, ma con il loro codice: le celle dopo ne hanno bisogno."""
        kept: list[Slide] = []
        for slide in self.slides:
            if not slide.deeper:
                kept.append(slide)
            elif kept:
                silent = tuple(
                    replace(b, mode="muto") for b in slide.blocks if isinstance(b, Code) and b.mode in _NEEDED
                )
                kept[-1] = replace(kept[-1], blocks=(*kept[-1].blocks, *silent))
        return replace(self, slides=tuple(kept))


def read(path: Path) -> Deck:
    """Legge il mazzo ``path``; un testo sbagliato dà un :class:`InvalidError` con il numero di riga."""
    if not path.is_file():
        raise NotFoundError(f"Il mazzo «{path}» non c'è.", "labkit slides corsi")
    return parse(path.read_text(encoding="utf-8"), path.name, path.parent)


def parse(text: str, name: str = "mazzo", folder: Path = Path()) -> Deck:
    """Il mazzo scritto in ``text``; ``folder`` è la cartella delle figure.

    >>> deck = parse('+++\\ntitolo = "Uno"\\nlezione = "01-uno"\\n+++\\n# Ciao\\n\\n---\\n# Due\\nNote: adagio')
    >>> [slide.title for slide in deck.slides], deck.slides[1].notes
    (['Ciao', 'Due'], 'adagio')
    """
    header = _HEADER.match(text)
    if header is None:
        raise InvalidError(f"{name}: manca l'intestazione fra due righe «+++».", "cat slides/README.md")
    try:
        values = tomllib.loads(header["toml"])
        title, lesson = str(values["titolo"]), str(values["lezione"])
        minutes = int(values.get("minuti", 0))
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise InvalidError(f"{name}: l'intestazione non si legge ({error}).", "cat slides/README.md") from error
    except KeyError as error:
        raise InvalidError(f"{name}: nell'intestazione manca {error.args[0]}.", "cat slides/README.md") from error
    first = text[: header.end()].count("\n") + 1
    slides = tuple(_slides(text[header.end() :].split("\n"), first, name, folder))
    if not slides:
        raise InvalidError(f"{name}: non c'è nemmeno una slide.", "cat slides/README.md")
    return Deck(title, lesson, slides, str(values.get("sottotitolo", "")), minutes, folder)


def _slides(lines: list[str], first: int, name: str, folder: Path) -> Iterator[Slide]:
    blocks: list[Block] = []
    prose: list[str] = []
    notes: list[str] | None = None
    deeper = False
    fence: re.Match[str] | None = None
    code: list[str] = []

    def end_prose() -> None:
        if any(line.strip() for line in prose):
            blocks.append(Text("\n".join(prose).strip("\n")))
        prose.clear()

    for number, line in enumerate(lines, first):
        where = f"{name}, riga {number}"
        if fence is not None:
            if line.rstrip() == fence["ticks"]:
                blocks.append(_code(fence, code, name, number))
                fence, code = None, []
            else:
                code.append(line)
        elif line.strip() in ("---", "--"):
            end_prose()
            if blocks:
                yield Slide(tuple(blocks), _joined(notes), deeper)
            blocks, notes, deeper = [], None, line.strip() == "--"
        elif notes is not None:
            notes.append(line)
        elif line.startswith("Note:"):
            end_prose()
            notes = [line.removeprefix("Note:")]
        elif line.strip() == ". . .":
            end_prose()
            blocks.append(Pause())
        elif (fence := _FENCE.match(line)) is not None:
            end_prose()
        else:
            _check_figures(line, where, folder)
            prose.append(line)
    if fence is not None:
        raise InvalidError(f"{name}: un riquadro di codice non è chiuso da {fence['ticks']}.")
    end_prose()
    if blocks:
        yield Slide(tuple(blocks), _joined(notes), deeper)


def _joined(notes: list[str] | None) -> str:
    return "\n".join(notes or ()).strip()


def _code(fence: re.Match[str], lines: list[str], name: str, end: int) -> Code:
    language, option = fence["language"] or "text", fence["option"]
    if language == "python" and option not in _MODES:
        raise InvalidError(
            f"{name}, riga {end - len(lines) - 1}: «python {option}» non esiste.",
            "python, python nascosto, python fermo, python errore",
        )
    code = Code("\n".join(lines), language, _MODES[option] if language == "python" else "fermo")
    for number, line in enumerate(lines, end - len(lines)):
        if code.mode != "nascosto" and len(line) > COLUMNS:
            raise InvalidError(
                f"{name}, riga {number}: {len(line)} colonne di codice, al massimo {COLUMNS}.", "vai a capo prima"
            )
    return code


def _check_figures(line: str, where: str, folder: Path) -> None:
    for image in _IMAGE.finditer(line):
        if not image["alt"].strip():
            raise InvalidError(f"{where}: la figura {image['path']} è senza descrizione.", "![descrizione](figure/…)")
        if not (folder / image["path"]).is_file():
            raise NotFoundError(f"{where}: la figura {image['path']} non c'è in {folder}.")

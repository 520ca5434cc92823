"""I corsi: quali mazzi, quanti minuti, quale notebook in laboratorio. Il manifesto è ``slides/corsi.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import InvalidError, NotFoundError


@dataclass(frozen=True)
class Stage:
    """Una tappa di un corso: un mazzo da proiettare, e forse il laboratorio che segue."""

    deck: str
    minutes: int
    lab_minutes: int = 0


@dataclass(frozen=True)
class Course:
    """Un corso: il nome con cui si chiede, il titolo, le tappe, e se comprende gli approfondimenti."""

    name: str
    title: str
    stages: tuple[Stage, ...]
    deeper: bool = True

    @property
    def minutes(self) -> int:
        return sum(stage.minutes + stage.lab_minutes for stage in self.stages)

    def __str__(self) -> str:
        hours, minutes = divmod(self.minutes, 60)
        lines = [f"{self.name}: {self.title} ({hours} h {minutes:02} min)"]
        for stage in self.stages:
            lab = f", poi {stage.lab_minutes} min di laboratorio" if stage.lab_minutes else ""
            lines.append(f"  {stage.deck}: {stage.minutes} min{lab}")
        return "\n".join(lines)


def deck_paths(folder: Path) -> dict[str, Path]:
    """I mazzi di ``folder``, dal nome della lezione al file: ``{"03-namespace": …}``."""
    return {path.stem: path for path in sorted(folder.glob("[0-9][0-9]-*.md"))}


def find_deck(folder: Path, wanted: str) -> Path:
    """Il mazzo chiesto con il numero (``03``, ``3``) o con il nome intero."""
    decks = deck_paths(folder)
    number = wanted.zfill(2) if wanted.isdecimal() else wanted
    for name, path in decks.items():
        if number in (name, name.partition("-")[0]):
            return path
    raise NotFoundError(
        f"Il mazzo «{wanted}» non c'è. Ci sono: {', '.join(decks) or 'nessuno'}.", "labkit slides build"
    )


def read_courses(folder: Path) -> dict[str, Course]:
    """I corsi del manifesto di ``folder``; un corso che chiede un mazzo che non c'è è un errore."""
    path = folder / "corsi.toml"
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        courses = [_course(data) for data in found.get("corso", [])]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidError(f"{path}: il manifesto dei corsi non si legge ({error!r}).") from error
    decks = deck_paths(folder)
    for course in courses:
        for stage in course.stages:
            if stage.deck not in decks:
                raise NotFoundError(f"{path}: il corso «{course.name}» chiede il mazzo «{stage.deck}», che non c'è.")
    return {course.name: course for course in courses}


def find_course(folder: Path, name: str) -> Course:
    """Il corso che si chiama ``name``."""
    courses = read_courses(folder)
    if name not in courses:
        raise NotFoundError(
            f"Il corso «{name}» non c'è. Ci sono: {', '.join(courses) or 'nessuno'}.", "labkit slides corsi"
        )
    return courses[name]


def _course(data: dict[str, Any]) -> Course:
    stages = tuple(
        Stage(str(stage["mazzo"]), int(stage["minuti"]), int(stage.get("laboratorio", 0))) for stage in data["tappe"]
    )
    return Course(str(data["nome"]), str(data["titolo"]), stages, bool(data.get("approfondimenti", True)))

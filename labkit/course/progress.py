"""I progressi dello studente: esercizi, quiz e previsioni, in ``.labkit/progressi.json``.

Due notebook aperti insieme scrivono lo stesso file: ogni modifica rilegge, cambia e riscrive
sotto un lucchetto (flock(2)), quindi nessuna va persa. Fuori da una copia dello studente i
progressi vivono solo finché vive il notebook.
"""

from __future__ import annotations

import html
import os
import sys
from dataclasses import dataclass
from typing import Any, Literal

from labkit.course import catalog
from labkit.course.student import STATE, locked, read_json, student_folder, write_json

Section = Literal["esercizi", "quiz", "previsioni"]

#: Where progress goes when there is no student's folder: it ends with the process.
_memory: dict[str, dict[str, dict[str, Any]]] = {}


def entry(section: Section, key: str) -> dict[str, Any]:
    """Quello che si sa di un esercizio, di un quiz o di una previsione (vuoto se è nuovo)."""
    folder = student_folder()
    data = _memory if folder is None else read_json(folder / STATE / "progressi.json")
    return _entry(data, section, key)


def record(section: Section, key: str, **values: Any) -> None:
    """Annota ``values``; una cartella che non si può scrivere ferma i progressi, non la lezione."""
    folder = student_folder()
    if folder is None:
        _memory.setdefault(section, {})[key] = {**_entry(_memory, section, key), **values}
        return
    path = folder / STATE / "progressi.json"
    try:
        with locked(path):
            data = read_json(path)
            if not data and path.exists() and path.stat().st_size:
                os.replace(path, path.with_name("progressi.guasto.json"))
            old = _entry(data, section, key)
            if not isinstance(data.get(section), dict):
                data[section] = {}
            data[section][key] = {**old, **values}
            write_json(path, data)
    except OSError as error:
        print(f"I progressi non si sono potuti salvare in {path}: {error.strerror}.", file=sys.stderr)


def _entry(data: dict[str, Any], section: Section, key: str) -> dict[str, Any]:
    """An entry of a file that a student may have edited: a wrong shape counts as missing."""
    entries = data.get(section)
    found = entries.get(key) if isinstance(entries, dict) else None
    return dict(found) if isinstance(found, dict) else {}


@dataclass(frozen=True)
class LessonProgress:
    """I progressi in una lezione: quanti esercizi e quanti quiz sono riusciti, su quanti."""

    lesson: str
    exercises: tuple[int, int]
    quizzes: tuple[int, int]

    def __str__(self) -> str:
        (done, all_), (right, questions) = self.exercises, self.quizzes
        return f"Lezione {self.lesson}: esercizi riusciti {done} su {all_}, quiz giusti {right} su {questions}"


class Progress(tuple[LessonProgress, ...]):
    """Il riassunto di tutte le lezioni; in un notebook si vede come tabella."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "Nessuna lezione installata."

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(p.lesson)}</td><td>{p.exercises[0]} su {p.exercises[1]}</td>"
            f"<td>{p.quizzes[0]} su {p.quizzes[1]}</td></tr>"
            for p in self
        )
        return f"<table><tr><th>lezione</th><th>esercizi riusciti</th><th>quiz giusti</th></tr>{rows}</table>"


def summary() -> Progress:
    """Lezione per lezione, gli esercizi riusciti e i quiz con la risposta giusta."""
    found = []
    for number in catalog.numbers():
        exercises, questions = catalog.exercises(number), catalog.questions(number)
        found.append(
            LessonProgress(
                number,
                (sum(entry("esercizi", key).get("riuscito") is True for key in exercises), len(exercises)),
                (sum(entry("quiz", key).get("giusta") is True for key in questions), len(questions)),
            )
        )
    return Progress(found)

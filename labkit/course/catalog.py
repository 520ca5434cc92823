"""Quello che una lezione sa: esercizi (``es-03-1``), domande (``q-03-1``), come finisce una previsione (``p-03-1``).

Una lezione si carica solo quando serve. I suoi dati sono controllati alla nascita, quindi un
esercizio senza tre indizi o una domanda con due risposte giuste non arriva mai a uno studente.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from random import Random
from types import MappingProxyType
from typing import Any

from labkit.errors import InvalidError, LabError, NotFoundError
from labkit.model import Outcome

_PACKAGE = "labkit.course.lessons"


@dataclass(frozen=True)
class Exercise:
    """Un esercizio: che cosa si chiede, tre indizi sempre più espliciti, e la verifica.

    ``check(lab, *risposte)`` dà un :class:`~labkit.model.Outcome`; ``parameter(random)`` sceglie il
    valore personale dello studente, sempre lo stesso per lo stesso studente. ``needs`` è la voce di
    ``lab.features`` senza la quale l'esercizio non si può fare: la verifica lo dice, e non è un errore.
    """

    key: str
    title: str
    goal: str
    hints: tuple[str, str, str]
    check: Callable[..., Outcome]
    parameter: Callable[[Random], Any] | None = None
    needs: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"es-\d\d-\d+", self.key):
            raise InvalidError(f"«{self.key}» non può essere la chiave di un esercizio.", "una chiave come es-03-1")
        if len(self.hints) != 3 or not all(self.hints) or not self.title or not self.goal:
            raise InvalidError(f"L'esercizio {self.key} deve avere un titolo, una consegna e tre indizi.")


@dataclass(frozen=True)
class Answer:
    """Una risposta possibile, con il perché è giusta o sbagliata."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """Una domanda a risposta chiusa: una sola risposta è giusta.

    >>> answers = (Answer("sì", "usa quello della macchina."), Answer("no", "ce n'è uno per tutti.", True))
    >>> Question("q-00-1", "Un container ha un suo kernel?", answers).right
    1
    """

    key: str
    text: str
    answers: tuple[Answer, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"q-\d\d-\d+", self.key):
            raise InvalidError(f"«{self.key}» non può essere la chiave di una domanda.", "una chiave come q-03-1")
        if not self.text or not all(a.text and a.why for a in self.answers):
            raise InvalidError(f"Nella domanda {self.key} manca il testo, una risposta o un perché.")
        if not 2 <= len(self.answers) <= 6 or len({a.text for a in self.answers}) != len(self.answers):
            raise InvalidError(f"La domanda {self.key} deve avere da 2 a 6 risposte diverse.")
        if sum(a.right for a in self.answers) != 1:
            raise InvalidError(f"La domanda {self.key} deve avere una sola risposta giusta.")

    @property
    def right(self) -> int:
        """Il posto della risposta giusta, contando da 0."""
        return [a.right for a in self.answers].index(True)


def numbers() -> tuple[str, ...]:
    """I numeri delle lezioni installate, in ordine: ``("00", "03")``."""
    found = set()
    for item in resources.files(_PACKAGE).iterdir():
        match = re.fullmatch(r"(?:lesson_(\d\d)\.py|quiz_(\d\d)\.toml)", item.name)
        if match:
            found.add(match[1] or match[2])
    return tuple(sorted(found))


@functools.cache
def exercises(number: str) -> Mapping[str, Exercise]:
    """Gli esercizi di una lezione, per chiave; una lezione che non ne ha dà una tabella vuota."""
    name = f"{_PACKAGE}.lesson_{number}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return MappingProxyType({})
    return MappingProxyType({e.key: e for e in module.EXERCISES})


@functools.cache
def questions(number: str) -> Mapping[str, Question]:
    """Le domande di una lezione, per chiave, lette da ``quiz_NN.toml``."""
    file = resources.files(_PACKAGE) / f"quiz_{number}.toml"
    if not file.is_file():
        return MappingProxyType({})
    return MappingProxyType(parse_questions(file.read_text(encoding="utf-8")))


@functools.cache
def outcomes(number: str) -> Mapping[str, str]:
    """Che cosa succede davvero dopo ogni previsione di una lezione, letto da ``quiz_NN.toml``."""
    file = resources.files(_PACKAGE) / f"quiz_{number}.toml"
    if not file.is_file():
        return MappingProxyType({})
    return MappingProxyType(parse_outcomes(file.read_text(encoding="utf-8")))


def parse_outcomes(text: str) -> dict[str, str]:
    """Legge da un testo TOML che cosa succede dopo ogni previsione (``[p-03-1]``, ``happened``).

    >>> parse_outcomes('[p-00-1]\\nhappened = "come prima"')
    {'p-00-1': 'come prima'}
    """
    found = {}
    for key, data in _tables(text).items():
        if not key.startswith("p-"):
            continue
        happened = data.get("happened") if isinstance(data, dict) else None
        if not re.fullmatch(r"p-\d\d-\d+", key):
            raise InvalidError(f"«{key}» non può essere la chiave di una previsione.", "una chiave come p-03-1")
        if not isinstance(happened, str) or not happened.strip():
            raise InvalidError(f"Della previsione {key} manca che cosa succede davvero.", 'happened = "…"')
        found[key] = happened.strip()
    return found


def parse_questions(text: str) -> dict[str, Question]:
    """Legge le domande da un testo TOML; un file scritto male dà un :class:`InvalidError`."""
    try:
        return {
            key: Question(
                key,
                str(data["question"]).strip(),
                tuple(
                    Answer(str(a["text"]).strip(), str(a["why"]).strip(), a.get("right") is True)
                    for a in data["answers"]
                ),
            )
            for key, data in _tables(text).items()
            if not key.startswith("p-")
        }
    except LabError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(f"Il file delle domande è scritto male: {error}.") from error


def find_exercise(key: str) -> Exercise:
    """L'esercizio con quella chiave, o un :class:`NotFoundError` che propone le più vicine."""
    number = _lesson_of(key, "es")
    table = exercises(number) if number else {}
    if key in table:
        return table[key]
    known = [k for n in numbers() for k in exercises(n)]
    raise _not_found(f"L'esercizio «{key}» non c'è.", "check", key, known)


def find_question(key: str) -> Question:
    """La domanda con quella chiave, o un :class:`NotFoundError` che propone le più vicine."""
    number = _lesson_of(key, "q")
    table = questions(number) if number else {}
    if key in table:
        return table[key]
    known = [k for n in numbers() for k in questions(n)]
    raise _not_found(f"La domanda «{key}» non c'è.", "quiz", key, known)


def find_outcome(key: str) -> str:
    """Che cosa succede davvero dopo la previsione ``key``, o un :class:`NotFoundError` che dice come fare."""
    number = _lesson_of(key, "p")
    table = outcomes(number) if number else {}
    if key in table:
        return table[key]
    raise NotFoundError(
        f"Della previsione «{key}» il corso non sa come va a finire: la sua chiave non è fra quelle della lezione.",
        'previsione.reveal("quello che hai visto succedere")',
    )


def _tables(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidError(f"Il file delle domande è scritto male: {error}.") from error


def _lesson_of(key: object, prefix: str) -> str:
    match = re.fullmatch(rf"{prefix}-(\d\d)-\d+", key) if isinstance(key, str) else None
    return match[1] if match else ""


def _not_found(message: str, function: str, key: object, known: list[str]) -> NotFoundError:
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
    return NotFoundError(message, f'{function}("{near[0]}", …)' if near else "")

"""Gli esercizi visti dallo studente: ``check`` verifica, ``hint`` aiuta, ``parameter`` personalizza.

``check`` guarda l'effetto sul kernel e non solleva mai un'eccezione: qualunque cosa succeda lo
studente legge una frase con un indizio.
"""

from __future__ import annotations

import hashlib
import html
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from labkit.course import progress
from labkit.course.catalog import Exercise, find_exercise
from labkit.course.student import student_id
from labkit.errors import InvalidError, LabError
from labkit.model import Outcome

_ANIMALS = ("volpe", "lupo", "gufo", "riccio", "lince", "tasso", "falco", "lontra", "cervo", "corvo", "orso", "grillo")


@dataclass(frozen=True, repr=False)
class Verdict(Outcome):
    """Il risultato di una verifica con il nome dell'esercizio; vale vero se è riuscito."""

    key: str = ""
    title: str = ""
    impossible: str = ""

    def __repr__(self) -> str:
        mark = "✔" if self.ok else "–" if self.impossible else "✘"
        head = f"{mark} {self.key}" + (f" «{self.title}»" if self.title else "")
        if self.impossible:
            return f"{head}: qui non si può fare, e non conta. {self.impossible}"
        if self.ok:
            return f"{head}: riuscito. Ho trovato {self.found}."
        tail = f"; indizio: {self.hint}" if self.hint else "."
        return f"{head}: mi aspettavo {self.expected}, ho trovato {self.found}{tail}"

    def _repr_html_(self) -> str:
        colour = "var(--jp-success-color0, #1b5e20)" if self.ok else "var(--jp-error-color0, #b71c1c)"
        mark, word = ("✔", "riuscito") if self.ok else ("✘", "non ancora")
        if self.impossible:
            colour, mark, word = "var(--jp-info-color0, #0d47a1)", "–", "qui non si può fare, e non conta"
        rows = (
            [("ho trovato", self.found)] if self.ok else [("mi aspettavo", self.expected), ("ho trovato", self.found)]
        )
        if self.impossible:
            rows = [("perché", self.impossible)]
        elif self.hint and not self.ok:
            rows.append(("indizio", self.hint))
        body = "".join(f"<div><b>{label}:</b> {html.escape(text)}</div>" for label, text in rows)
        title = html.escape(f"{self.key} «{self.title}»" if self.title else self.key)
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:4px 12px">'
            f'<div style="color:{colour}"><b>{mark} {title}: {word}</b></div>{body}</div>'
        )


@dataclass(frozen=True, repr=False)
class Hint:
    """Un indizio: il numero, quanti sono, e il testo."""

    number: int
    total: int
    text: str

    def __repr__(self) -> str:
        return f"Indizio {self.number} di {self.total}: {self.text}"

    def _repr_html_(self) -> str:
        return (
            '<div role="status" style="border-left:4px solid var(--jp-info-color0, #0d47a1);padding:4px 12px">'
            f"<b>Indizio {self.number} di {self.total}:</b> {html.escape(self.text)}</div>"
        )


def check(key: str, *answer: Any) -> Verdict:
    """Verifica un esercizio: ``check("es-03-1", lab)``, o ``check("es-03-2", lab, risposta)``.

    Guarda l'effetto sul kernel, annota il risultato nei progressi e non solleva mai un'eccezione.
    Un esercizio riuscito resta riuscito anche se lo si verifica di nuovo.
    """
    try:
        exercise = find_exercise(key)
        if why := _missing(exercise, answer):
            return Verdict(False, "", "", key=key, title=exercise.title, impossible=why)
        outcome = _outcome(exercise, answer)
        old = progress.entry("esercizi", key)
        progress.record(
            "esercizi", key, riuscito=old.get("riuscito") is True or outcome.ok, prove=_count(old, "prove") + 1
        )
    except Exception as error:  # noqa: BLE001 - an unknown key, a lesson that does not load
        return Verdict(False, "un esercizio che conosco", _in_words(error), getattr(error, "remedy", ""), key=str(key))
    clue = outcome.hint or _fill(exercise, exercise.hints[0])
    return Verdict(outcome.ok, outcome.expected, outcome.found, clue, key=key, title=exercise.title)


def hint(key: str) -> Hint:
    """Il prossimo indizio dell'esercizio: sono tre, sempre più espliciti; poi resta l'ultimo."""
    exercise = find_exercise(key)
    total = len(exercise.hints)
    number = min(_count(progress.entry("esercizi", key), "indizi") + 1, total)
    progress.record("esercizi", key, indizi=number)
    return Hint(number, total, _fill(exercise, exercise.hints[number - 1]))


def parameter(key: str) -> Any:
    """Il valore personale dello studente per un esercizio: sempre lo stesso per lo stesso studente.

    Solleva :class:`~labkit.errors.InvalidError` se l'esercizio non ha un parametro.
    """
    exercise = find_exercise(key)
    if exercise.parameter is None:
        raise InvalidError(f"L'esercizio {key} è uguale per tutti: non ha un parametro.", f'check("{key}", lab)')
    return _parameter(exercise)


def expect(ok: bool, expected: str, found: str, hint: str = "") -> Outcome:
    """L'esito di una verifica, per chi scrive le lezioni; senza ``hint`` vale il primo indizio.

    >>> bool(expect(1 + 1 == 2, "due", "due"))
    True
    """
    return Outcome(bool(ok), expected, found, hint)


def first_failure(outcomes: Iterable[Outcome]) -> Outcome:
    """Il primo esito negativo, o l'ultimo positivo: più verifiche in fila, fermandosi alla prima che fallisce.

    >>> first_failure([expect(True, "uno", "uno"), expect(False, "due", "tre")]).found
    'tre'
    """
    last = Outcome(False, "almeno una verifica", "nessuna verifica")
    for last in outcomes:
        if not last.ok:
            break
    return last


def animal(random: Random) -> str:
    """Un nome buono come hostname, per esempio ``volpe-42``.

    >>> animal(Random(1))
    'gufo-82'
    """
    return f"{random.choice(_ANIMALS)}-{random.randint(10, 99)}"


def _missing(exercise: Exercise, answer: tuple[Any, ...]) -> str:
    """Why this laboratory cannot do the exercise at all, with the remedy; empty if it can."""
    features = getattr(answer[0], "features", {}) if answer and exercise.needs else {}
    feature = features.get(exercise.needs)
    if feature is None or feature.ok:
        return ""
    reason = f"{feature.reason[:1].upper()}{feature.reason[1:]}."
    return f"{reason} Rimedio: {feature.remedy}" if feature.remedy else reason


def _outcome(exercise: Exercise, answer: tuple[Any, ...]) -> Outcome:
    signature = inspect.signature(exercise.check)
    expected = "di poter fare la verifica"
    try:
        signature.bind(*answer)
    except TypeError:
        call = ", ".join([f'"{exercise.key}"', *signature.parameters])
        return Outcome(False, expected, f"una verifica chiamata con {len(answer)} argomenti", f"check({call})")
    try:
        outcome: object = exercise.check(*answer)
    except Exception as error:  # noqa: BLE001 - a student must never meet a traceback of ours
        return Outcome(False, expected, _in_words(error), getattr(error, "remedy", ""))
    if not isinstance(outcome, Outcome):
        return Outcome(False, expected, f"una verifica che ha dato {type(outcome).__name__}")
    return outcome


def _in_words(error: Exception) -> str:
    if isinstance(error, LabError):
        return error.message.rstrip(".")
    return f"un errore di Python ({type(error).__name__}: {error})".rstrip()


def _count(entry: dict[str, Any], name: str) -> int:
    value = entry.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _parameter(exercise: Exercise) -> Any:
    assert exercise.parameter is not None
    digest = hashlib.sha256(f"{student_id()}\0{exercise.key}".encode()).digest()
    return exercise.parameter(Random(int.from_bytes(digest[:8], "big")))


def _fill(exercise: Exercise, text: str) -> str:
    """Only the one mark is replaced: hints hold Python code, full of braces of its own."""
    return text if exercise.parameter is None else text.replace("{parametro}", str(_parameter(exercise)))

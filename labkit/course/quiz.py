"""Le domande di una lezione: ``quiz("q-03-1")`` mostra i pulsanti, ``quiz("q-03-1", "b")`` risponde.

Ogni risposta, giusta o sbagliata, ha il suo perché. Il testo è sempre completo anche dove i
pulsanti non ci sono (un terminale, GitHub, una pagina esportata).
"""

from __future__ import annotations

import html
import string
from typing import Any

from labkit.course import progress
from labkit.course.catalog import Question, find_question
from labkit.errors import InvalidError


class Quiz:
    """Una domanda in una cella: testo dove non c'è altro, pulsanti in JupyterLab."""

    def __init__(self, question: Question) -> None:
        self.question = question

    def __repr__(self) -> str:
        lines = [f"Domanda {self.question.key}: {self.question.text}"]
        lines += [f"  {string.ascii_lowercase[i]}) {a.text}" for i, a in enumerate(self.question.answers)]
        return "\n".join([*lines, f'Per rispondere senza pulsanti: quiz("{self.question.key}", "a")'])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        # Only where there are buttons to show: they are slow to import.
        from labkit.widgets.quiz import quiz_widget
        from labkit.widgets.shell import mimebundle

        texts = [a.text for a in self.question.answers]
        shown = quiz_widget(self.question.text, texts, lambda choice: answer(self.question, choice))
        return mimebundle(shown, repr(self))


class Reply:
    """La correzione di una risposta: giusta o no, e perché."""

    def __init__(self, key: str, chosen: str, why: str, right: bool) -> None:
        self.key, self.chosen, self.why, self.right = key, chosen, why, right

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{self._head()}: «{self.chosen}». {_sentence(self.why)}"

    def _repr_html_(self) -> str:
        colour = "var(--jp-success-color0, #1b5e20)" if self.right else "var(--jp-error-color0, #b71c1c)"
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:4px 12px;line-height:1.5">'
            f'<b style="color:{colour}">{self._head()}</b>: «{html.escape(self.chosen)}». '
            f"{html.escape(_sentence(self.why))}</div>"
        )

    def _head(self) -> str:
        return "✔ Giusto" if self.right else "✘ Non è così"


def quiz(key: str, choice: str | None = None) -> Quiz | Reply:
    """Mostra la domanda ``key``; con ``choice`` (una lettera: "a", "b"…) risponde subito.

    Le risposte vanno nei progressi. Solleva :class:`~labkit.errors.NotFoundError` se la domanda non
    c'è, :class:`~labkit.errors.InvalidError` se la lettera non è fra le risposte.
    """
    question = find_question(key)
    if choice is None:
        return Quiz(question)
    letters = string.ascii_lowercase[: len(question.answers)]
    letter = choice.strip().lower().rstrip(")") if isinstance(choice, str) else ""
    if len(letter) != 1 or letter not in letters:
        raise InvalidError(f"La risposta è una lettera fra {', '.join(letters)}.", f'quiz("{key}", "{letters[0]}")')
    return answer(question, letters.index(letter))


def answer(question: Question, choice: int) -> Reply:
    """Corregge la risposta numero ``choice`` (da 0) e la annota nei progressi."""
    given = question.answers[choice]
    old = progress.entry("quiz", question.key)
    tries = old.get("prove")
    progress.record(
        "quiz",
        question.key,
        risposta=given.text,
        giusta=given.right or old.get("giusta") is True,
        prove=(tries if isinstance(tries, int) else 0) + 1,
    )
    return Reply(question.key, given.text, given.why, given.right)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

"""Quiz e previsioni: il testo è completo da solo, i pulsanti rispondono, tutto resta nei progressi."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import pytest

from labkit.course import catalog, progress
from labkit.course import quiz as quiz_module
from labkit.course.catalog import Answer, Question, parse_questions
from labkit.course.predict import predict
from labkit.course.quiz import Reply, quiz
from labkit.errors import ConflictError, InvalidError, NotFoundError

TOML = """
[q-98-1]
question = "Un container ha un suo <kernel>?"

[[q-98-1.answers]]
text = "sì"
why = "usa quello della macchina."

[[q-98-1.answers]]
text = "no"
right = true
why = "c'è un solo kernel per tutti."
"""


@pytest.fixture(autouse=True)
def questions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    table = parse_questions(TOML)
    monkeypatch.setattr(quiz_module, "find_question", lambda key: table[key])
    monkeypatch.setattr(progress, "_memory", {})
    monkeypatch.delenv("LABKIT_FOLDER", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    ipywidgets.Widget.close_all()


def widget(shown: Any) -> Any:
    """Il widget che una cella mostrerebbe."""
    bundle = shown._repr_mimebundle_()
    assert bundle["text/plain"] == repr(shown)
    model = bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    return ipywidgets.widgets.widget._instances[model]


def press(board: Any) -> None:
    """Il pulsante «Rispondi», premuto nella pagina."""
    board._handle_custom_msg({"kind": "answer"}, [])


def test_the_text_of_a_question_has_every_answer_and_says_how_to_answer() -> None:
    assert repr(quiz("q-98-1")) == (
        "Domanda q-98-1: Un container ha un suo <kernel>?\n"
        "  a) sì\n"
        "  b) no\n"
        'Per rispondere senza pulsanti: quiz("q-98-1", "a")'
    )


def test_each_answer_has_its_reason_and_is_recorded() -> None:
    wrong = quiz("q-98-1", "a")
    assert not wrong
    assert repr(wrong) == "✘ Non è così: «sì». Usa quello della macchina."
    assert progress.entry("quiz", "q-98-1") == {"risposta": "sì", "giusta": False, "prove": 1}
    right = quiz("q-98-1", " B) ")
    assert right
    assert repr(right) == "✔ Giusto: «no». C'è un solo kernel per tutti."
    assert progress.entry("quiz", "q-98-1") == {"risposta": "no", "giusta": True, "prove": 2}
    quiz("q-98-1", "a")
    assert progress.entry("quiz", "q-98-1")["giusta"] is True


@pytest.mark.parametrize("choice", ["c", "", "ab", "1", 2])
def test_a_letter_that_is_not_there_is_refused_in_words(choice: Any) -> None:
    with pytest.raises(InvalidError, match="una lettera fra a, b"):
        quiz("q-98-1", choice)


def test_the_buttons_answer() -> None:
    board = widget(quiz("q-98-1"))
    assert board.question == "Un container ha un suo <kernel>?"
    assert board.action == "Rispondi"
    assert board.index is None
    press(board)
    assert board.reply == ""
    board.index = 1
    press(board)
    assert "✔ Giusto" in board.reply
    assert progress.entry("quiz", "q-98-1")["giusta"] is True


def test_the_question_and_its_options_reach_the_page_as_they_are() -> None:
    board = widget(quiz("q-98-1"))
    assert board.options == ["sì", "no"]
    assert {"question", "options", "index", "locked", "action", "reply"} <= set(board.keys)


@pytest.mark.parametrize("content", [None, "answer", {"kind": "altro"}, []])
def test_a_strange_message_from_the_page_answers_nothing(content: Any) -> None:
    board = widget(quiz("q-98-1"))
    board.index = 0
    board._handle_custom_msg(content, [])
    assert board.reply == ""


def test_a_choice_that_is_not_there_is_not_taken() -> None:
    board = widget(quiz("q-98-1"))
    board.index = 1
    board.index = 7
    assert board.index == 1


def test_an_explanation_is_text_in_the_page_and_not_html() -> None:
    assert "<b>male" not in Reply("q-98-1", "<b>male</b>", "<b>male</b>", False)._repr_html_()


def test_an_unknown_question_proposes_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(NotFoundError, match="«q-77-1» non c'è") as info:
        catalog.find_question("q-77-1")
    assert "quiz(" in info.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("right = true", "", "una sola risposta giusta"),
        ('text = "sì"', 'text = "sì"\nright = true', "una sola risposta giusta"),
        ('why = "usa quello della macchina."', 'why = ""', "manca il testo"),
        ('why = "usa quello della macchina."', "", "scritto male: 'why'"),
        ('text = "sì"', 'text = "no"', "risposte diverse"),
        ("[q-98-1]", "[q-98-1", "scritto male"),
        ("q-98-1", "domanda", "chiave di una domanda"),
    ],
)
def test_a_badly_written_question_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        parse_questions(TOML.replace(old, new))


def test_a_question_needs_two_answers() -> None:
    with pytest.raises(InvalidError):
        Question("q-98-1", "?", (Answer("sì", "perché.", True),))


def test_a_prediction_is_asked_in_words_and_kept() -> None:
    asked = predict("p-98-1", "Quanti processi?", ["uno", "tutti"])
    assert repr(asked) == "Previsione p-98-1: Quanti processi?\n  ○ uno\n  ○ tutti"
    assert asked.choice is None
    board = widget(asked)
    board.index = 1
    assert asked.choice == "tutti"
    assert "annotata" in board.reply
    assert repr(asked.reveal("uno")) == "Previsto: tutti. È successo invece: uno."
    assert repr(asked.reveal("tutti")) == "Previsto: tutti. È successo proprio questo."


def test_what_happened_is_in_the_lesson_and_not_in_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "outcomes", lambda number: {"p-98-1": "uno"} if number == "98" else {})
    asked = predict("p-98-1", "Quanti?", ["uno", "tutti"], "tutti")
    assert repr(asked.reveal()) == "Previsto: tutti. È successo invece: uno."
    with pytest.raises(NotFoundError, match="«p-98-2» il corso non sa") as info:
        predict("p-98-2", "Quanti?", ["uno", "tutti"]).reveal()
    assert "previsione.reveal(" in info.value.remedy


def test_who_has_not_chosen_is_told_to_try_first() -> None:
    found = repr(predict("p-98-1", "Quanti?", ["uno", "tutti"]).reveal("uno"))
    assert found == "È successo questo: uno. Non avevi scelto: la prossima volta prova prima."


def test_after_the_reveal_the_choice_does_not_change() -> None:
    asked = predict("p-98-1", "Quanti?", ["uno", "tutti"])
    board = widget(asked)
    board.index = 1
    asked.reveal("uno")
    assert board.locked
    assert "non si cambia più" in board.reply
    board.index = 0
    assert (board.index, asked.choice) == (1, "tutti")
    with pytest.raises(ConflictError, match="Hai già visto"):
        asked.choose("uno")
    assert widget(asked) is board
    assert widget(predict("p-98-1", "Quanti?", ["uno", "tutti"])).locked is False


def test_what_happened_does_not_lock_when_it_is_not_known() -> None:
    asked = predict("p-98-3", "Quanti?", ["uno", "tutti"])
    with pytest.raises(NotFoundError):
        asked.reveal()
    asked.choose("uno")
    assert asked.choice == "uno"


def test_outcomes_and_questions_live_in_one_file() -> None:
    both = TOML + '\n[p-98-1]\nhappened = "uno"\n'
    assert catalog.parse_outcomes(both) == {"p-98-1": "uno"}
    assert list(parse_questions(both)) == ["q-98-1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[p-98]\nhappened = "uno"', "chiave di una previsione"),
        ("[p-98-1]", "manca che cosa succede"),
        ('[p-98-1]\nhappened = " "', "manca che cosa succede"),
        ("p-98-1 = 3", "manca che cosa succede"),
        ("[p-98-1", "scritto male"),
    ],
)
def test_a_badly_written_outcome_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        catalog.parse_outcomes(text)


def test_a_prediction_is_found_again_when_the_notebook_is_reopened() -> None:
    predict("p-98-1", "Quanti?", ["uno", "tutti"], "tutti")
    assert widget(predict("p-98-1", "Quanti?", ["uno", "tutti"])).index == 1


def test_a_prediction_given_on_options_that_are_gone_counts_as_not_given() -> None:
    predict("p-98-1", "Quanti?", ["uno", "tutti"], "tutti")
    assert predict("p-98-1", "Quanti?", ["uno", "due"]).choice is None


@pytest.mark.parametrize("options", [["uno"], [], ["uno", "uno"], "uno"])
def test_a_prediction_needs_two_different_options(options: Any) -> None:
    with pytest.raises(InvalidError, match="almeno due opzioni"):
        predict("p-98-1", "Quanti?", options)


def test_a_prediction_outside_the_options_is_refused() -> None:
    with pytest.raises(InvalidError, match="non è fra le opzioni"):
        predict("p-98-1", "Quanti?", ["uno", "due"], "tre")

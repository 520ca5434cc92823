"""Le slide: che cosa vuol dire il testo, quali errori si dicono, che cosa finisce nella pagina."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.course.slides import command, courses, deck, main, page, run
from labkit.errors import InvalidError, LabError, NotFoundError

HEADER = '+++\ntitolo = "Prova"\nlezione = "99-prova"\n+++\n'
ROOT = Path(__file__).resolve().parents[2]


def parsed(body: str, folder: Path = Path()) -> deck.Deck:
    return deck.parse(HEADER + body, "99-prova.md", folder)


def test_a_deck_is_slides_with_pauses_code_and_notes() -> None:
    found = parsed("# Uno\n\n. . .\n\n```python\n1 + 1\n```\nNote: piano,\nmolto.\n\n---\n# Due\n\n--\n# Tre\n")
    first = found.slides[0]
    assert [type(block).__name__ for block in first.blocks] == ["Text", "Pause", "Code"]
    assert first.notes == "piano,\nmolto."
    assert [(s.title, s.deeper) for s in found.slides] == [("Uno", False), ("Due", False), ("Tre", True)]


def test_a_separator_inside_code_is_code() -> None:
    found = parsed("# Uno\n\n```text\n---\nNote: no\n. . .\n```\n")
    assert len(found.slides) == 1
    assert found.slides[0].blocks[1] == deck.Code("---\nNote: no\n. . .", "text", "fermo")


@pytest.mark.parametrize(
    ("option", "mode", "runs"),
    [("", "esegui", True), ("nascosto", "nascosto", True), ("fermo", "fermo", False), ("errore", "errore", True)],
)
def test_an_option_says_whether_code_runs(option: str, mode: str, runs: bool) -> None:
    code = parsed(f"# A\n\n```python {option}\nx\n```\n").slides[0].blocks[1]
    assert isinstance(code, deck.Code)
    assert (code.mode, code.runs) == (mode, runs)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Senza intestazione\n", "manca l'intestazione"),
        ('+++\ntitolo = "A"\n+++\n# Uno\n', "manca lezione"),
        ("+++\ntitolo = \n+++\n# Uno\n", "non si legge"),
        (HEADER, "nemmeno una slide"),
        (HEADER + "# A\n\n```python\n1\n", "non è chiuso"),
        (HEADER + "# A\n\n```python svelto\n1\n```\n", "riga 7: «python svelto» non esiste"),
        (HEADER + f"# A\n\n```python\nx = 1\n{'y' * 73}\n```\n", "riga 9: 73 colonne"),
        (HEADER + "# A\n\n![](figure/x.svg)\n", "riga 7: la figura figure/x.svg è senza descrizione"),
    ],
)
def test_a_wrong_deck_says_where_and_what(text: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words.replace("(", r"\(")):
        deck.parse(text, "99-prova.md")


def test_a_figure_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="figure/no.svg"):
        parsed("# A\n\n![una figura](figure/no.svg)\n", tmp_path)


def test_hidden_code_may_be_long() -> None:
    assert parsed(f"# A\n\n```python nascosto\n{'y' * 100}\n```\n").slides


def test_a_short_course_skips_the_deeper_slides_but_runs_their_code() -> None:
    short = parsed("# A\n\n--\n# B\n\n```python\nx = 1\n```\n\n```python errore\n1 / 0\n```\n\n---\n# C\n").short()
    assert [slide.title for slide in short.slides] == ["A", "C"]
    assert short.slides[0].blocks[1:] == (deck.Code("x = 1", "python", "muto"),)
    html = page.render(short, executed(short, [[text("un risultato")]]))
    assert "un risultato" not in html


def test_the_notebook_of_a_deck_has_the_marks_of_a_live_show() -> None:
    found = run.to_notebook(parsed("# A\n\n. . .\n\nb\n\n```python\n1\n```\nNote: n\n\n--\n# C\n"))
    kinds = [cell["metadata"]["slideshow"]["slide_type"] for cell in found["cells"]]
    assert kinds == ["slide", "slide", "fragment", "-", "notes", "subslide"]
    assert found["metadata"]["kernelspec"]["name"] == "labkit"
    assert len({cell["id"] for cell in found["cells"]}) == len(kinds)
    assert found == run.to_notebook(parsed("# A\n\n. . .\n\nb\n\n```python\n1\n```\nNote: n\n\n--\n# C\n"))


def text(words: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": words}


def executed(found: deck.Deck, outputs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    notebook = run.to_notebook(found)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, results in zip(cells, outputs, strict=True):
        cell["outputs"] = results
    return notebook


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Al posto di ciò che viene da npm, niente: qui conta la pagina."""
    monkeypatch.setattr("labkit.course.slides.npm.text", lambda package, name: f"/* {package.name} {name} */")


@pytest.mark.usefixtures("plain")
class TestPage:
    def test_results_are_shown_under_their_code_and_nothing_is_html_by_accident(self) -> None:
        found = parsed("# A\n\n```python\nprint('<b>')\n```\n\n```python nascosto\nsegreto()\n```\n")
        html = page.render(found, executed(found, [[text("<b>\n")], [text("\x1b[31mrosso\x1b[0m\n")]]))
        assert '<pre class="risultato stdout">&lt;b&gt;</pre>' in html
        assert '<pre class="risultato stdout">rosso</pre>' in html
        assert "segreto" not in html
        assert 'lang="it"' in html

    @pytest.mark.parametrize(
        ("data", "shown"),
        [
            ({"text/plain": "3", "text/html": "<i>tre</i>"}, '<div class="risultato html"><i>tre</i></div>'),
            ({"text/plain": "tre barre", "image/png": "QUJD\n"}, 'src="data:image/png;base64,QUJD" alt="tre barre"'),
            ({"text/plain": "<Figure size 1>", "image/svg+xml": "<svg/>"}, 'alt="figura"'),
            ({"text/plain": "'ciao'"}, "<pre class=\"risultato\">'ciao'</pre>"),
        ],
    )
    def test_the_richest_form_of_a_result_is_shown(self, data: dict[str, str], shown: str) -> None:
        found = parsed("# A\n\n```python\nx\n```\n")
        output = {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": 1}
        assert shown in page.render(found, executed(found, [[output]]))

    def test_a_figure_travels_inside_the_page(self, tmp_path: Path) -> None:
        (tmp_path / "f.svg").write_text("<svg/>")
        found = parsed("# A\n\n![una figura](f.svg)\n", tmp_path)
        assert '<img src="data:image/svg+xml;base64,PHN2Zy8+" alt="una figura">' in page.render(
            found, executed(found, [])
        )

    def test_the_widgets_engine_is_there_only_with_a_widget(self) -> None:
        found = parsed("# A\n\n```python\nx\n```\n")
        view = {"application/vnd.jupyter.widget-view+json": {"model_id": "</script>"}}
        notebook = executed(found, [[{"output_type": "display_data", "data": view, "metadata": {}}]])
        assert "embed-amd" not in page.render(found, executed(found, [[]]))
        notebook["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"a": "</script>"}}}
        html = page.render(found, notebook)
        assert "embed-amd" in html
        assert html.index("reveal.js dist/reveal.js") < html.index("requirejs")
        assert "\\u003c/script>" in html


def test_a_cell_that_fails_stops_the_deck_with_its_source() -> None:
    with pytest.raises(LabError, match="(?s)ZeroDivisionError.*1 / 0"):
        run.execute(parsed("# A\n\n```python\n1 / 0\n```\n"))


def test_a_cell_that_must_fail_and_does_not_stops_the_deck() -> None:
    with pytest.raises(LabError, match="doveva fallire"):
        run.execute(parsed("# A\n\n```python errore\n1\n```\n"))


@pytest.mark.parametrize("wanted", ["03", "3", "03-namespace"])
def test_a_deck_is_found_by_number_or_name(wanted: str) -> None:
    assert courses.find_deck(ROOT / "slides", wanted).name == "03-namespace.md"


def test_a_deck_that_is_not_there_says_which_there_are() -> None:
    with pytest.raises(NotFoundError, match="00-benvenuto, .*03-namespace"):
        courses.find_deck(ROOT / "slides", "77")


def test_the_courses_of_the_manifest_use_decks_that_exist_and_have_different_lengths() -> None:
    found = courses.read_courses(ROOT / "slides")
    assert set(found) >= {"seminario", "giornata", "completo"}
    assert found["seminario"].minutes <= 120 < found["giornata"].minutes <= 6 * 60
    assert not found["seminario"].deeper
    assert "1 h" in str(found["seminario"]) or "2 h" in str(found["seminario"])


def test_a_course_that_asks_a_deck_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corsi.toml").write_text(
        '[[corso]]\nnome = "a"\ntitolo = "A"\ntappe = [{mazzo = "01-no", minuti = 1}]\n'
    )
    with pytest.raises(NotFoundError, match="01-no"):
        courses.read_courses(tmp_path)


def test_every_deck_of_the_course_can_be_read_and_speaks_to_who_teaches() -> None:
    for path in courses.deck_paths(ROOT / "slides").values():
        found = deck.read(path)
        assert found.lesson == path.stem
        assert all(slide.title for slide in found.slides)
        assert [slide.title for slide in found.slides if not slide.notes] == []


def test_the_command_lists_the_courses_and_explains_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corsi"]) == 0
    assert "03-namespace" in capsys.readouterr().out
    assert main(["build", "77"]) == 125
    assert "Il mazzo «77» non c'è" in capsys.readouterr().err


def test_without_the_slides_the_error_says_how_to_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_SLIDES", str(tmp_path / "no"))
    with pytest.raises(NotFoundError, match="non ci sono"):
        command.source_folder()

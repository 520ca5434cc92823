"""La diagnosi: segno, perché e rimedio, in testo e in HTML."""

from __future__ import annotations

from html.parser import HTMLParser

from labkit.draw import doctor
from labkit.model import Feature

FEATURES = (
    Feature("userns", "Namespace utente", True, "Si possono creare.", "non serve dirlo"),
    Feature("subuid", "Utenti subordinati", False, "Manca <anna> & co.", "sudo usermod --add-subuids 1-2 anna"),
    Feature("uml", "UML", None, "Non provato.", "apt install uml"),
)


class Texts(HTMLParser):
    """Raccoglie i tag e il testo di ogni ``<code>``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.codes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "code" and len(self.codes) < self.tags.count("code"):
            self.codes.append(data)


def test_text_has_mark_reason_and_the_command_below() -> None:
    lines = doctor.text(FEATURES).splitlines()
    assert lines[0] == "✔ Namespace utente    Si possono creare."
    assert lines[1] == "✘ Utenti subordinati  Manca <anna> & co."
    assert lines[2].strip() == "rimedio: sudo usermod --add-subuids 1-2 anna"
    assert lines[3] == "– UML                 Non provato."
    assert lines[4].strip() == "se lo vuoi: apt install uml"
    assert lines[-1] == "1 cosa a posto, 1 manca, 1 non serve o non si sa."


def test_html_escapes_and_shows_only_needed_commands() -> None:
    page = doctor.to_html(FEATURES)
    assert "Manca &lt;anna&gt; &amp; co." in page
    assert Texts(page).codes == ["sudo usermod --add-subuids 1-2 anna", "apt install uml"]
    assert "non serve dirlo" not in page


def test_html_uses_only_tags_that_survive_a_sanitizer() -> None:
    allowed = {"table", "caption", "thead", "tbody", "tr", "th", "td", "strong", "span", "br", "code"}
    assert set(Texts(doctor.to_html(FEATURES)).tags) <= allowed


def test_the_filter_keeps_only_what_is_missing() -> None:
    page = doctor.to_html(FEATURES, only_missing=True)
    assert "Utenti subordinati" in page
    assert "Namespace utente" not in page
    assert "UML" not in page
    assert "1 cosa a posto" in page  # the count is still of the whole machine


def test_when_nothing_is_missing_it_says_so() -> None:
    assert doctor.text(FEATURES[:1]).endswith("1 cosa a posto: non manca niente.")
    assert doctor.mimebundle(FEATURES[:1]).keys() == {"text/plain", "text/html"}

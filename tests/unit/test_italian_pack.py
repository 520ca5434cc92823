"""JupyterLab in italiano: tutte le frasi, con gli stessi segnaposto, e il server capace di leggerle."""

from __future__ import annotations

import gettext
import importlib.util
import io
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

from labkit.course.italiano import server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("untranslated", ROOT / "tools" / "untranslated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_sentence_of_the_installed_jupyterlab_is_in_the_pack(tool: ModuleType) -> None:
    assert len(tool.installed()) > 1500
    assert tool.missing() == []


def test_a_sentence_that_the_pack_does_not_have_is_found(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "lab" / "static").mkdir(parents=True)
    (tmp_path / "lab" / "static" / "a.js").write_text(r"""x=t.__('Don\'t \u201cpanic\u201d'),y=t._p("menu","Run")""")
    assert tool.missing(tmp_path) == ["Don't “panic”"]


@pytest.mark.parametrize("domain", server.DOMAINS)
def test_a_translation_keeps_the_places_of_its_values(domain: str) -> None:
    wrong = [
        key
        for key, forms in server.sentences(domain).items()
        for form in forms
        if set(re.findall(r"%\d", key)) != set(re.findall(r"%\d", form)) and len(forms) == 1
    ]
    assert wrong == []


def test_the_plural_is_said_and_is_another_word() -> None:
    plurals = {key: forms for key, forms in server.sentences("jupyterlab").items() if len(forms) == 2}
    assert len(plurals) >= 30
    assert all(one != many for one, many in plurals.values())
    assert {len(forms) for forms in server.sentences("jupyterlab").values()} == {1, 2}


def test_what_stays_the_same_is_a_name() -> None:
    same = [key for key, forms in server.sentences("jupyterlab").items() if forms == [key.rpartition("\x04")[2]]]
    assert [key for key in same if len(key.split()) > 3] == []


def test_the_server_finds_the_settings_in_italian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab_language_pack_it_IT", ModuleType("none"))
    server.install(tmp_path)
    found = gettext.translation("jupyterlab", tmp_path / "locale", ["it_IT"])
    assert found.pgettext("menu", "Run") == "Esegui"
    assert found.pgettext("schema", "Notebook settings.") == "Impostazioni del notebook."
    assert sys.modules["jupyterlab_language_pack_it_IT"].__file__ == str(tmp_path / "__init__.py")


def test_a_catalogue_holds_accents_and_unknown_sentences_stay() -> None:
    found = gettext.GNUTranslations(io.BytesIO(server.catalogue({"Yes": "Sì", "Up": "Su"})))
    assert [found.gettext(word) for word in ("Yes", "Up", "Down")] == ["Sì", "Su", "Down"]


def test_the_course_is_the_only_one_that_speaks_italian() -> None:
    providers = [entry.value for entry in entry_points(group="jupyterlab.languagepack") if entry.name == "it_IT"]
    assert providers == ["labkit.course.italiano"]

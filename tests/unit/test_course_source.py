"""``source``: mostra il codice di labkit senza importarlo, a colori e fedele fino all'ultimo carattere."""

import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.course import source as source_module
from labkit.course.source import Source, highlight, source
from labkit.errors import InvalidError, LabError, NotFoundError

PACKAGE = Path(labkit.__file__ or "").parent


def plain(page: str) -> str:
    """Il testo di un HTML, senza le marche."""
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def test_a_function_is_shown_whole_and_nothing_else() -> None:
    shown = source(source)
    assert shown.code.startswith("def source(thing: Any) -> Source:")
    assert shown.file == "labkit/course/source.py"
    assert "def highlight" not in shown.code
    assert repr(shown).splitlines()[0] == "# labkit.course.source.source, nel file labkit/course/source.py"


def test_a_method_is_shown_without_the_indent_of_its_class_and_with_its_decorators() -> None:
    assert source(Source.__init__).code.startswith("def __init__(")
    assert source("course.catalog.Question.right").code.startswith("@property\ndef right(")


@pytest.mark.parametrize("name", ["model.Outcome", "labkit.model.Outcome"])
def test_a_dotted_name_may_leave_the_package_out(name: str) -> None:
    assert source(name).name == "labkit.model.Outcome"


def test_a_module_and_an_instance_are_shown_too() -> None:
    assert source(source_module).code == Path(source_module.__file__ or "").read_text()
    assert "class Source" in source(source("model.Outcome")).code


def test_the_code_of_the_kernel_is_read_and_never_imported() -> None:
    code = (
        "import sys; from labkit.course.source import source; shown = source('kernel.namespaces');"
        "assert 'unshare' in shown.code; assert not [m for m in sys.modules if m.startswith('labkit.kernel')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(PACKAGE.parent)})


@pytest.mark.parametrize(
    "thing",
    ["course.source.non_c_è", "non_c_è", "course/../model", "", "..", "model.Outcome.non_c_è", len, 3, lambda: 0],
)
def test_what_is_not_in_labkit_gets_a_sentence(thing: Any) -> None:
    with pytest.raises((NotFoundError, InvalidError)) as info:
        source(thing)
    assert isinstance(info.value, LabError)
    assert "«" in info.value.message


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_colours_change_no_character(file: Path) -> None:
    code = file.read_text()
    assert plain(highlight(code)) == code


def test_colours_say_what_is_what() -> None:
    page = highlight('def f(x):  # nota\n    return f"a{x}" < 12\n')
    for text in ("def", "f", "# nota", "return", "12"):
        assert re.search(rf'<span style="color:[^"]*">{re.escape(text)}</span>', page), text
    assert "&lt;" in page


def test_the_page_is_escaped() -> None:
    assert "<script>" not in Source("n", "f", 'x = "<script>"')._repr_html_()

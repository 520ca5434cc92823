"""Un modulo è un concetto: dice la sua regola in cima e non supera le 400 righe. I nomi pubblici sono pochi."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import labkit
from tests.architecture.imports import ROOT, modules

LONGEST = 400
SOURCES = [
    *sorted(path for folder in ("labkit", "tools", "tests", "bench") for path in (ROOT / folder).rglob("*.py")),
    *sorted((ROOT / "labkit").rglob("*.js")),
]
#: A promise to finish later is not a finished module.
_PROMISES = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def test_no_module_is_longer_than_two_concepts():
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    too_long = {name: lines for name, lines in sizes.items() if lines > LONGEST and not name.startswith("tests/")}
    assert too_long == {}


@pytest.mark.parametrize("name", sorted(modules(ROOT / "labkit")))
def test_a_module_says_what_it_is(name):
    path = modules(ROOT / "labkit")[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), f"{name}: manca la frase che dice che cosa custodisce"


@pytest.mark.parametrize("name", sorted(modules(ROOT / "labkit")))
def test_nothing_is_promised_and_not_done(name):
    found = _PROMISES.findall(modules(ROOT / "labkit")[name].read_text(encoding="utf-8"))
    assert found == []


def test_the_course_has_few_words_and_they_are_sorted():
    assert labkit.__all__ == sorted(labkit.__all__)
    assert len(labkit.__all__) <= 15
    assert all(getattr(labkit, name).__doc__ for name in labkit.__all__)


def test_every_public_name_is_there_and_a_wrong_one_is_an_attribute_error():
    script = "from labkit import *; import labkit; print(all(n in globals() for n in labkit.__all__)); labkit.docker"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "True\n"
    assert done.stderr.splitlines()[-1].startswith("AttributeError: ")

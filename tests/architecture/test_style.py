"""Lo stile e i tipi sono prove come le altre."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.imports import ROOT


def output(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_has_nothing_to_say():
    assert output("ruff", "check", "--no-cache", "--quiet", ".") == ""


def test_the_code_is_formatted():
    assert output("ruff", "format", "--no-cache", "--check", "--quiet", ".") == ""


@pytest.mark.slow  # on a machine of many mypy takes minutes
def test_types_are_strict_and_right():
    assert output("mypy", "--cache-dir=/dev/null") == ""


@pytest.mark.slow
def test_the_tools_that_change_a_machine_have_types_too():
    assert (
        output("mypy", "--cache-dir=/dev/null", "--strict", "tools/setup.py", "tests/users.py", "tests/leaks.py") == ""
    )

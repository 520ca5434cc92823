"""I modelli: che cosa si riempie, che cosa resta com'è, dove sta un errore."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvalidError
from labkit.template import Template

PIECES = st.sampled_from(
    ["$", "${", "}", "$$", "$${", "A", "B", "_", "0", ":-", ":?", ":", "-", "?", "{", "\n", " ", "${A}", "${B:-sì}",
     "${A:?no}", "$uri", "è"]
)  # fmt: skip
TEXT = st.lists(PIECES, max_size=20).map("".join)
ENV = st.dictionaries(st.sampled_from(["A", "B", "AB", "_"]), st.sampled_from(["", "1", "${B}", "x}"]), max_size=4)


class RefusedError(Exception):
    """Il testo non va."""


def by_hand(text: str, env: dict[str, str]) -> str:
    """La stessa lingua, letta una lettera alla volta."""
    out, at = "", 0
    while at < len(text):
        if text.startswith("$${", at):
            out, at = out + "${", at + 3
            continue
        if not text.startswith("${", at):
            out, at = out + text[at], at + 1
            continue
        end = text.find("}", at)
        inside = text[at + 2 : end] if end >= 0 else "\n"
        name = re.match(r"[A-Za-z_][A-Za-z_0-9]*", inside)
        rest = inside[name.end() :] if name else ":"
        if "\n" in inside or not name or (rest and rest[:2] not in (":-", ":?")):
            raise RefusedError
        value = env.get(name[0])
        if rest.startswith(":-"):
            out += value or rest[2:]
        elif value is None or (rest and value == ""):
            raise RefusedError
        else:
            out += value
        at = end + 1
    return out


@given(TEXT, ENV)
def test_a_template_is_filled_as_by_hand(text: str, env: dict[str, str]) -> None:
    try:
        wanted = by_hand(text, env)
    except RefusedError:  # a hole that cannot be read is told before one that cannot be filled: any line
        with pytest.raises(InvalidError, match=r"^x.conf, riga \d+: ") as caught:
            Template("/etc/x", text, "x.conf").render(env)
        assert caught.value.remedy
    else:
        assert Template("/etc/x", text, "x.conf").render(env) == wanted


def test_what_nginx_calls_a_variable_stays() -> None:
    text = "location / { try_files $uri $uri/ =404; return 200 ${SALUTO}; } # $${host} $$"
    assert Template("/x", text).render({"SALUTO": "ciao"}) == (
        "location / { try_files $uri $uri/ =404; return 200 ciao; } # ${host} $$"
    )


@pytest.mark.parametrize(
    ("hole", "env", "result"),
    [
        ("${A}", {"A": ""}, ""),
        ("${A:-b}", {}, "b"),
        ("${A:-b}", {"A": ""}, "b"),
        ("${A:-b}", {"A": "a"}, "a"),
        ("${A:-}", {}, ""),
        ("${A:?serve}", {"A": "a"}, "a"),
        ("${A}", {"A": "${B}"}, "${B}"),
    ],
)
def test_a_hole_has_three_forms(hole: str, env: dict[str, str], result: str) -> None:
    assert Template("/x", hole).render(env) == result


@pytest.mark.parametrize(
    ("text", "env", "message"),
    [
        ("a\n\nlisten ${PORTA};", {}, "sito.conf, riga 3: manca la variabile PORTA."),
        ("${PORTA:?scrivi la porta}", {}, "sito.conf, riga 1: manca la variabile PORTA: scrivi la porta."),
        ("\n${PORTA:?}", {"PORTA": ""}, "sito.conf, riga 2: manca la variabile PORTA: è vuota."),
    ],
)
def test_a_variable_that_is_missing_is_told_with_its_line(text: str, env: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Template("/etc/sito.conf", text, "sito.conf").render(env)
    assert caught.value.message == message
    assert caught.value.remedy == "env={'PORTA': '…'}"


@pytest.mark.parametrize("text", ["${}", "${0A}", "${A", "${A:+x}", "${A-x}", "${A\n}", "${A:-x\n}", "${ A}"])
def test_a_hole_that_cannot_be_read_is_refused_at_birth(text: str) -> None:
    with pytest.raises(InvalidError, match=r"^/etc/x, riga 2: non capisco «\$\{"):
        Template("/etc/x", f"\n{text}")


def test_a_template_says_which_variables_it_names() -> None:
    assert Template("/x", "${B} $A ${A:-1} $${C} ${B}").variables == ("B", "A")


@pytest.mark.parametrize(
    "target",
    ["", "x", "/", "/a/", "/a//b", "/a/../b", "/a\0", "//proc/x", "/proc/x", "/sys", "/dev/null", "/run/secrets/x"],
)
def test_a_template_becomes_a_file_of_the_container(target: str) -> None:
    with pytest.raises(InvalidError, match="Un modello"):
        Template(target, "")
    Template("/process/x", "")

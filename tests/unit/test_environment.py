"""L'ambiente di un programma: il file come lo legge Docker, chi vince, che cosa non può essere una variabile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.environment import Setting, Variable, check, check_secret, merge, parse_file
from labkit.errors import InvalidError

#: Quello che di solito c'è in un file di variabili, e quello che fa sbagliare.
PIECES = st.sampled_from(
    [b"A", b"B", b"C", b"=", b"=", b" ", b"\t", b"\n", b"\n", b"\r", b"\r\n", b"#", b"'", b'"', b"$A", b"\\",
     b"\xef\xbb\xbf", b"\xc2\xa0", b"\xe2\x80\x83", b"\xc3\xa8", b"\xff", b"\x1c", b"\v", b"\f"]
)  # fmt: skip
FILE = st.lists(PIECES, max_size=30).map(b"".join)
CALLER = {"A": "dell'host", "C": ""}


def docker(data: bytes, caller: dict[str, str]) -> list[str] | int:
    """Le regole di Docker scritte una riga alla volta (docker/cli, pkg/kvfile); il numero della riga se rifiuta."""
    spaces = {chr(n) for n in (9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))}
    spaces |= {chr(n) for n in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000)}
    kept = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        raw = raw[:-1] if raw.endswith(b"\r") else raw
        raw = raw[3:] if number == 1 and raw.startswith(b"\xef\xbb\xbf") else raw
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            return number
        while line and line[0] in spaces:
            line = line[1:]
        if line == "" or line[0] == "#":
            continue
        key = line.split("=", 1)[0]
        if key == "" or " " in key or "\t" in key:
            return number
        if "=" in line:
            kept.append(line)
        elif key in caller:
            kept.append(f"{key}={caller[key]}")
    return kept


@given(FILE)
def test_a_file_is_read_as_docker_reads_it(data: bytes) -> None:
    wanted = docker(data, CALLER)
    if isinstance(wanted, int):
        with pytest.raises(InvalidError, match=f"^prova.env, riga {wanted}: ") as caught:
            parse_file(data, "prova.env", CALLER)
        assert caught.value.remedy
    else:
        assert [f"{name}={value}" for name, value in parse_file(data, "prova.env", CALLER)] == wanted


def test_what_a_file_says_is_taken_as_it_is() -> None:
    text = "\n".join(
        ["# commento", "  # anche questo", "", "A=1", "B=", "C='x y' # no", "  D=rientrata", "E=$A", "F=a=b", "G=z  "]
    )
    assert parse_file(text.encode(), "x", {}) == (
        ("A", "1"), ("B", ""), ("C", "'x y' # no"), ("D", "rientrata"), ("E", "$A"), ("F", "a=b"), ("G", "z  "),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "why", "remedy"),
    [
        (b"=verde", "manca il nome prima di «=»", "COLORE=verde"),
        (b"export A=1", "il nome «export A» contiene uno spazio", "export_A=valore"),
        (b"A =1", "il nome «A » contiene uno spazio", "A=valore"),
        (b"A=\xff", "non sono testo UTF-8", "file sito.env"),
        (b"A=\0", "un byte zero", "file sito.env"),
    ],
)
def test_a_wrong_line_is_named(line: bytes, why: str, remedy: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_file(b"# prima\nB=2\n" + line + b"\nC=3\n", "sito.env", {})
    assert caught.value.message.startswith("sito.env, riga 3: ")
    assert why in caught.value.message
    assert caught.value.remedy == remedy


NAME = st.sampled_from("ABCD")
LAYER = st.lists(st.tuples(NAME, st.none() | st.sampled_from(["", "1", "2"])), max_size=4)


@given(LAYER, LAYER, LAYER)
def test_the_last_to_speak_wins_and_none_takes_away(
    image: list[Setting], file: list[Setting], option: list[Setting]
) -> None:
    expected: dict[str, Variable] = {}
    for origin, layer in (("image", image), ("file", file), ("option", option)):
        for name, value in layer:
            expected.pop(name, None)
            if value is not None:
                expected[name] = Variable(name, value, origin)  # type: ignore[arg-type]
    found = merge(("image", image), ("file", file), ("option", option))
    assert {variable.name: variable for variable in found} == expected
    assert len(found) == len(expected)


def test_a_variable_that_changes_keeps_its_place() -> None:
    found = merge(("image", [("PATH", "/bin"), ("A", "1")]), ("option", [("PATH", "/sbin")]))
    assert list(map(str, found)) == ["PATH=/sbin", "A=1"]


@pytest.mark.parametrize("name", ["", "A=", "A\0", "="])
def test_what_execve_cannot_carry_is_no_variable(name: str) -> None:
    with pytest.raises(InvalidError):
        check([(name, "x")])
    check([("con spazio", "x"), ("0", ""), ("à", None)])


@pytest.mark.parametrize("name", ["db_password", "a", "A.b-c", "0", "x" * 64])
def test_a_secret_is_named_as_a_file(name: str) -> None:
    check_secret(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a-", "_", "a b", "à", "a\n", "x" * 65, "a\0"])
def test_a_secret_that_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="nome di un segreto"):
        check_secret(name)

"""Dal testo di un Containerfile alle istruzioni: che cosa si legge, e dove si segna ciò che è scritto male."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.build.containerfile import Containerfile, parse
from labkit.build.lines import ContainerfileError, Heredoc, read
from labkit.build.words import WordError, expand, expand_all, expand_text, split, unquoted
from labkit.errors import NotFoundError


def steps(text: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.keyword, one.texts) for one in only(text)]


def only(text: str) -> tuple:
    return parse("Containerfile", f"FROM scratch\n{text}").stages[0].steps


def refused(text: str, start: str = "FROM scratch\n") -> list[str]:
    """Le righe dell'errore."""
    with pytest.raises(ContainerfileError) as caught:
        parse("Containerfile", start + text)
    return str(caught.value).split("\n")


# ---------------------------------------------------------------- logical lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a \\\n  b", ["RUN a   b"]),
        ("RUN a \\  \n b", ["RUN a  b"]),
        ("RUN a \\\n# un commento\n\n   && b\nRUN c", ["RUN a    && b", "RUN c"]),
        ("  # un commento\n  RUN x", ["RUN x"]),
        ("RUN a \\\\\nRUN b", ["RUN a \\\\", "RUN b"]),
        ("RUN echo # non è un commento", ["RUN echo # non è un commento"]),
        ("# escape=`\nRUN a `\n b \\\nRUN c", ["RUN a  b \\", "RUN c"]),
        ("# un commento\n# escape=`\nRUN a \\\n b", ["RUN a  b"]),
        ("# syntax=docker/dockerfile:1\n# ESCAPE = `\nRUN a `\n b", ["RUN a  b"]),
        ("\ufeffRUN a\r\nRUN b \\\r\n c\r\n", ["RUN a", "RUN b  c"]),
        ("RUN a \\", ["RUN a"]),
        ("RUN a\x0bb", ["RUN a\x0bb"]),
        ("", []),
    ],
)
def test_lines_are_joined_as_docker_joins_them(text, expected):
    assert [line.text for line in read("Containerfile", text)[1]] == expected


def test_a_here_document_ends_where_its_name_is_alone():
    text = "RUN <<UNO cat <<'DUE' <<-TRE\n  $a\nUNO \nUNO\nDUE\n\tx\n\tTRE\nRUN dopo"
    first, second = only(text)
    assert first.heredocs == (
        Heredoc("UNO", "  $a\nUNO \n", expand=True, chomp=False),
        Heredoc("DUE", "", expand=False, chomp=False),
        Heredoc("TRE", "\tx\n", expand=True, chomp=True),
    )
    assert first.heredocs[2].text == "x\n"
    assert second.texts == ("dopo",)


@pytest.mark.parametrize(
    "text", ["RUN a < b", 'RUN ["sh", "-c", "cat <<EOF"]', "ENV A=<<EOF", "RUN cat <<<ciao", "RUN a<<b"]
)
def test_what_only_looks_like_a_here_document_is_none(text):
    assert only(text)[0].heredocs == ()


def test_a_here_document_that_does_not_end_is_told_where_it_begins():
    assert refused("RUN \\\n cat <<FINE\nuno\n")[:3] == [
        "Containerfile, riga 3: Manca la riga «FINE» che chiude il testo.", "  3 │  cat <<FINE", "    │      ^^^^^^",
    ]  # fmt: skip


# ---------------------------------------------------------------- instructions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run  echo  ciao ", ("RUN", ("echo  ciao",))),
        ('CMD ["a", "b c"]', ("CMD", ("a", "b c"))),
        ("CMD [a, b]", ("CMD", ("[a, b]",))),
        ("CMD", ("CMD", ())),
        ("CMD []", ("CMD", ())),
        ('ENTRYPOINT ["a", 1]', ("ENTRYPOINT", ('["a", 1]',))),
        ("ENV A=1 B='due parole' C=tre\\ parole", ("ENV", ("A=1", "B='due parole'", "C=tre\\ parole"))),
        ("ENV A due  parole", ("ENV", ("A", "due  parole"))),
        ('COPY "a b" c', ("COPY", ('"a', 'b"', "c"))),
        ("RUN a\n\\", ("RUN", ("a",))),
        ('COPY ["un file", "/x/"]', ("COPY", ("un file", "/x/"))),
        ("COPY --from=a --chown=1:2 --chmod=755 x y /z", ("COPY", ("x", "y", "/z"))),
        ("COPY -- --strano /z", ("COPY", ("--strano", "/z"))),
        ("VOLUME /a /b", ("VOLUME", ("/a", "/b"))),
        ("EXPOSE 80 443/tcp", ("EXPOSE", ("80", "443/tcp"))),
        ("WORKDIR /con uno spazio", ("WORKDIR", ("/con uno spazio",))),
        ("HEALTHCHECK NONE", ("HEALTHCHECK", ("NONE",))),
        ("HEALTHCHECK --interval=5s CMD wget -q x", ("HEALTHCHECK", ("wget -q x",))),
        ('HEALTHCHECK CMD ["a", "b"]', ("HEALTHCHECK", ("a", "b"))),
        ("ONBUILD RUN x", ("ONBUILD", ("RUN x",))),
        ("MAINTAINER Anna <anna@example.org>", ("MAINTAINER", ("Anna <anna@example.org>",))),
        ("ARG A B=2", ("ARG", ("A", "B=2"))),
        ("RUN\techo x", ("RUN", ("echo x",))),
    ],
)
def test_an_instruction_is_read(text, expected):
    assert steps(text) == [expected]


@pytest.mark.parametrize(
    ("text", "message", "mark"),
    [
        ("RUNN x", "«RUNN» non è un'istruzione.", "^^^^"),
        ("RUN", "A RUN manca un argomento.", "^^^"),
        ("ENV A=1 B", "«B» non è nome=valore.", "        ^"),
        ("ENV SOLO", "«SOLO» non ha un valore.", "    ^^^^"),
        ("LABEL =x", "«=x» non ha un nome.", "      ^^"),
        ("COPY a", "A COPY gli argomenti sono pochi.", "^^^^"),
        ("COPY --colore=x a b", "COPY non ha l'opzione --colore.", "     ^^^^^^^^^^"),
        ("COPY --chown= a b", "A --chown manca il valore.", "     ^^^^^^^^"),
        ("COPY --chmod=rwx a b", "--chmod vuole i permessi in ottale.", "             ^^^"),
        ("COPY --from=a --from=b a b", "L'opzione --from c'è già.", "              ^^^^^^^^"),
        ("RUN --mount=type=cache,target=/x y", "RUN qui non ha l'opzione --mount.", "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^"),
        ("ADD https://example.org/x /x", "ADD qui non scarica: una costruzione che dipende dalla rete domani dà "
         "un'altra immagine.", "    ^^^^^^^^^^^^^^^^^^^^^"),
        ("USER a b", "USER vuole meno parole.", "       ^"),
        ("SHELL /bin/sh", "SHELL vuole la forma fra quadre.", "      ^^^^^^^"),
        ("HEALTHCHECK wget x", "Dopo HEALTHCHECK e le sue opzioni ci vuole CMD, oppure NONE da solo.",
         "            ^^^^^^"),
        ("HEALTHCHECK CMD", "A HEALTHCHECK CMD manca il comando.", "^^^^^^^^^^^"),
        ("ONBUILD FROM x", "FROM non può stare dopo ONBUILD.", "        ^^^^"),
        ("ONBUILD", "A ONBUILD manca l'istruzione da conservare.", "^^^^^^^"),
        ("ARG 1=2", "«1=2» non va bene come nome di un argomento.", "    ^^^"),
        ("FROM a COME b", "Dopo l'immagine ci può essere solo «AS nome».", "       ^^^^"),
        ("FROM a AS 1b", "«1b» non va bene come nome di uno stadio.", "          ^^"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_a_mark_under_it(text, message, mark):
    said = refused(text)
    assert said[0] == f"Containerfile, riga 2: {message}"
    assert said[1] == f"  2 │ {text}"
    assert said[2].removeprefix("    │ ").startswith(mark)
    assert said[3].startswith("Rimedio: ")


def test_a_mistake_far_from_its_keyword_is_marked_in_its_own_line():
    assert refused("ENV A=1 \\\n    # commento\n    B=2 \\\n    C")[:3] == [
        "Containerfile, riga 5: «C» non è nome=valore.", "  5 │     C", "    │     ^",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Non c'è nessun FROM: da quale immagine si parte?"),
        ("RUN x\n", "Prima di RUN ci vuole un FROM."),
        ("# escape=x\nFROM a\n", "«x» non può essere il carattere di escape: solo \\ oppure `."),
        ("# escape=`\n# escape=`\nFROM a\n", "La direttiva «escape» c'è già."),
        ("FROM a AS x\nFROM b AS X\n", "Lo stadio «x» c'è già."),
    ],
)
def test_a_whole_file_is_checked(text, message):
    assert message in refused(text, start="")[0]


def test_what_is_no_text_is_refused():
    for data in (b"FROM \xff", b"FROM a\0", b"#" * (1 << 21)):
        with pytest.raises(ContainerfileError):
            parse("Containerfile", data)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$A", "1"), ("${A}", "1"), ("x${A}y", "x1y"), ("$AB", ""), ("\\$A", "$A"), ("'$A'", "$A"), ('"$A"', "1"),
        ('"\\$A"', "$A"), ('"\\n"', "\\n"), ("a\\ b", "a b"), ("$", "$"), ("$%", "$%"), ("$1", ""),
        ("a'b'\"c\"", "abc"),
        ("${A:-x}", "1"), ("${N:-x}", "x"), ("${V:-x}", "x"), ("${V-x}", ""), ("${N-x}", "x"), ("${A:+x}", "x"),
        ("${V:+x}", ""), ("${V+x}", "x"), ("${N+x}", ""), ("${N:-${A}2}", "12"), ("${N:-a b}", "a b"),
        ("${A:?no}", "1"), ("${N:-'}'}", "}"), ("", ""),
    ],
)  # fmt: skip
def test_variables_are_replaced_as_docker_replaces_them(word, expected):
    assert expand(word, {"A": "1", "V": ""}) == expected


@pytest.mark.parametrize(
    ("word", "at", "why"),
    [
        ("a'b", 1, "apice"), ('a"b', 1, "apice"), ("x${", 1, "nome"), ("${A", 0, "graffa"), ("${A:-x", 0, "graffa"),
        ("${A/b/c}", 0, "non «/»"), ("${N:?serve N}", 0, "serve N"), ("${}", 0, "nome"),
    ],
)  # fmt: skip
def test_a_word_written_badly_says_where(word, at, why):
    with pytest.raises(WordError, match=why) as caught:
        expand(word, {"A": "1"})
    assert caught.value.at == at


def test_the_spaces_of_a_value_divide_only_where_docker_says():
    assert expand("$P", {"P": "80 443"}) == "80 443"
    assert expand_all("$P", {"P": "80 443"}) == ["80", "443"]
    assert expand_all("'80 443'", {}) == ["80 443"]


def test_another_escape_leaves_the_backslash_alone():
    assert expand("c:\\`$x", {}, "`") == "c:\\$x"
    assert [word.text for word in split("a` b c", "`")] == ["a` b", "c"]


def test_a_here_document_is_text_where_only_the_dollar_counts():
    assert expand_text("'$A' \"${B:-x}\" \\n \\$A \\\\", {"A": "1"}) == "'1' \"x\" \\n $A \\"


@given(st.text(alphabet="ab $\"'\\{}:-", max_size=20))
def test_any_word_is_expanded_or_refused_and_never_hangs(text):
    for word in split(text):
        try:
            expand(word.text, {"a": "x"})
            unquoted(word.text)
        except WordError as problem:
            assert 0 <= problem.at <= len(word.text)  # noqa: PT017


@given(st.text(alphabet="FROMRUNCPY ab\\\n#<=-\"'[]$", max_size=60))
def test_any_text_is_a_containerfile_or_a_clear_mistake(text):
    try:
        assert isinstance(parse("Containerfile", f"FROM a\n{text}"), Containerfile)
    except ContainerfileError as problem:
        assert problem.message.startswith("Containerfile, riga ")  # noqa: PT017


# ---------------------------------------------------------------- stages


STAGES = """
ARG BASE=uno
FROM scratch AS uno
FROM scratch AS inutile
FROM $BASE AS tre
COPY --from=inutile /a /b
FROM scratch
COPY --from=uno /a /b
COPY --from=busybox /a /b
"""


@pytest.mark.parametrize(
    ("target", "needed"), [("", [0, 3]), ("tre", [0, 1, 2]), ("uno", [0]), ("INUTILE", [1]), ("1", [1]), ("3", [0, 3])]
)
def test_only_the_stages_that_lead_to_the_target_are_needed(target, needed):
    file = parse("Containerfile", STAGES)
    assert [stage.index for stage in file.needed(file.target(target), {"BASE": "uno"})] == needed


def test_a_stage_is_not_its_own_ancestor():
    file = parse("Containerfile", "FROM a AS a\nCOPY --from=1 x y\nFROM a AS b\n")
    assert [stage.index for stage in file.needed(file.target("a"), {})] == [0]


def test_an_unknown_target_names_those_that_are_there():
    with pytest.raises(NotFoundError, match="uno, inutile, tre, 3"):
        parse("Containerfile", STAGES).target("quattro")

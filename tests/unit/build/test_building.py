"""Da un Containerfile a un'immagine, con un finto esecutore: configurazione, strati, memoria, stadi, errori."""

from __future__ import annotations

import io
import os
import time
from dataclasses import replace

import pytest

from labkit.build.lines import ContainerfileError
from labkit.build.steps import BuildError, Step
from labkit.build.telling import Printer
from labkit.errors import InvalidError, LabError, NotFoundError
from tests.unit.build.conftest import Bench

pytestmark = pytest.mark.usefixtures("base")


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("ENV A=1 B='due parole'", "Env", ["A=1", "B=due parole"]),
        ("ENV A due parole", "Env", ["A=due parole"]),
        ("ENV A=1\nENV A=2 B=$A", "Env", ["A=2", "B=1"]),
        ("ARG N=x\nENV A=$N-${M:-y}", "Env", ["A=x-y"]),
        ('CMD ["a", "b"]', "Cmd", ["a", "b"]),
        ("CMD a $B", "Cmd", ["/bin/sh", "-c", "a $B"]),
        ('SHELL ["/bin/ash", "-ec"]\nCMD a', "Cmd", ["/bin/ash", "-ec", "a"]),
        ("ENTRYPOINT a", "Entrypoint", ["/bin/sh", "-c", "a"]),
        ("CMD a\nENTRYPOINT [\"b\"]", "Cmd", ["/bin/sh", "-c", "a"]),
        ("WORKDIR /app\nWORKDIR sito", "WorkingDir", "/app/sito"),
        ("ENV D=/dati\nWORKDIR $D/x/..", "WorkingDir", "/dati"),
        ("USER www:dati", "User", "www:dati"),
        ("EXPOSE 80 53/UDP 8000-8001", "ExposedPorts", {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}),
        ("ENV P='80 443'\nEXPOSE $P", "ExposedPorts", {"80/tcp": {}, "443/tcp": {}}),
        ("VOLUME /a /b\nVOLUME [\"/c d\"]", "Volumes", {"/a": {}, "/b": {}, "/c d": {}}),
        ("LABEL a=1 b=\"x y\"\nLABEL a=2", "Labels", {"a": "2", "b": "x y"}),
        ("STOPSIGNAL SIGQUIT", "StopSignal", "SIGQUIT"),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK --interval=5s --retries=2 CMD wget x", "Healthcheck",
         {"Test": ["CMD-SHELL", "wget x"], "Interval": 5_000_000_000, "Retries": 2}),
        ("ONBUILD RUN x\nONBUILD COPY . /", "OnBuild", ["RUN x", "COPY . /"]),
    ],
)  # fmt: skip
def test_an_instruction_becomes_the_field_that_docker_writes(bench: Bench, text, field, expected):
    found = bench.build(f"FROM base\n{text}\n").config.process[field]
    if field == "Env":
        found = [one for one in found if not one.startswith("PATH=")]
    assert found == expected


def test_an_image_that_says_no_path_gets_dockers(bench: Bench):
    assert bench.build('FROM scratch\nCMD ["/a"]\n').config.env == (
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    )


def test_the_cmd_of_the_base_goes_when_the_entrypoint_changes(bench: Bench):
    bench.build('FROM base\nENTRYPOINT ["a"]\nCMD ["b"]\n', "una")
    image = bench.build('FROM una\nENTRYPOINT ["c"]\n')
    assert image.config.command == ("c",)


def test_the_author_and_the_history_are_dockers(bench: Bench):
    image = bench.build('FROM base\nMAINTAINER Anna\nARG V=1\nENV A=1\nRUN echo $V\nCMD ["a"]\n')
    assert image.config.data["author"] == "Anna"
    assert [(one.created_by, one.empty_layer) for one in image.config.history[1:]] == [
        ("/bin/sh -c #(nop)  MAINTAINER Anna", True),
        ("/bin/sh -c #(nop)  ARG V=1", True),
        ("/bin/sh -c #(nop)  ENV A=1", True),
        ("|1 V=1 /bin/sh -c echo $V", False),
        ('/bin/sh -c #(nop)  CMD ["a"]', True),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXPOSE ottanta", "«ottanta» non è una porta"),
        ("EXPOSE 70000", "«70000» non è una porta"),
        ("STOPSIGNAL sigquit", "«sigquit» non è un segnale"),
        ("HEALTHCHECK --interval=boh CMD a", "«boh» non è un tempo"),
        ("HEALTHCHECK --retries=molte CMD a", "«molte» non è un numero"),
        ("ENV A=${X", "Manca la graffa"),
        ("ENV A=${X:?ci vuole X}", "ci vuole X"),
        ("COPY nessuno /", "«nessuno» non c'è nella cartella"),
        ("COPY ../fuori /", "è fuori dalla cartella"),
        ("COPY *.boh /", "Nessun file del contesto"),
        ("COPY Containerfile Containerfile /x", "finisce con una barra"),
        ("COPY --from=0 a b", "copiare da sé stesso"),
    ],
)
def test_what_is_found_wrong_while_building_is_shown_in_its_line(bench: Bench, text, message):
    with pytest.raises(ContainerfileError, match=message) as caught:
        bench.build(f"FROM base\nENV PRIMA=1\n{text}\n")
    assert "Containerfile, riga 3: " in str(caught.value)
    assert "^" in str(caught.value)


# ---------------------------------------------------------------- arguments


def test_an_argument_from_outside_wins_and_env_wins_over_arguments(bench: Bench):
    text = "ARG TOP=alto\nFROM base\nARG TOP\nARG A=file\nARG B=file\nARG C\nENV B=env\nRUN x\nLABEL l=$TOP-$A-$B-$C\n"
    image = bench.build(text, build_args={"A": "fuori", "B": "fuori"})
    assert image.config.process["Labels"] == {"l": "alto-fuori-env-"}
    assert dict(bench.ran[0].env) == {"A": "fuori", "TOP": "alto"}


def test_an_argument_without_a_value_is_taken_from_the_environment(bench: Bench, monkeypatch):
    monkeypatch.setenv("VERSIONE", "7")
    assert bench.build("FROM base\nARG VERSIONE\nLABEL v=$VERSIONE", build_args={"VERSIONE": None}).config.process[
        "Labels"
    ] == {"v": "7"}


def test_a_proxy_reaches_the_program_and_leaves_no_trace(bench: Bench):
    text = "FROM base\nRUN x\n"
    first = bench.build(text, build_args={"http_proxy": "http://uno"})
    assert dict(bench.ran[0].env) == {"http_proxy": "http://uno"}
    second = bench.build(text, build_args={"http_proxy": "http://due"})
    assert second.id == first.id
    assert bench.seen.states == ["done", "cached"]


def test_an_argument_that_nobody_asks_for_is_told(bench: Bench):
    bench.build("FROM base\nARG A\n", build_args={"A": "1", "BOH": "2", "https_proxy": "x", "SOURCE_DATE_EPOCH": "0"})
    assert bench.seen.said.count("BOH") == 1


# ---------------------------------------------------------------- cache


TEXT = "FROM base\nRUN uno\nCOPY a /a\nRUN due\nCMD x\n"


def test_a_second_build_does_nothing_and_gives_the_same_image(bench: Bench):
    (bench.context / "a").write_text("1")
    first = bench.build(TEXT)
    assert bench.seen.states == ["done"] * 5
    second = bench.build(TEXT)
    assert bench.seen.states == ["done"] + ["cached"] * 4
    assert bench.ran == []
    assert second.digest == first.digest


@pytest.mark.parametrize(
    ("change", "states"),
    [
        (lambda here: (here / "a").write_text("2"), ["cached", "done", "done", "done"]),
        (lambda here: (here / "a").chmod(0o600), ["cached", "done", "done", "done"]),
        (lambda here: os.utime(here / "a", (1, 1)), ["cached"] * 4),
        (lambda here: (here / "b").write_text("x"), ["cached"] * 4),
    ],
    ids=["content", "mode", "time", "another file"],
)
def test_a_copy_is_done_again_when_what_it_copies_changes_and_never_for_the_time(bench: Bench, change, states):
    (bench.context / "a").write_text("1")
    (bench.context / "a").chmod(0o644)
    bench.build(TEXT)
    change(bench.context)
    bench.build(TEXT)
    assert bench.seen.states[1:] == states


def test_after_the_first_step_done_again_all_the_others_are(bench: Bench):
    (bench.context / "a").write_text("1")
    bench.build(TEXT)
    bench.build(TEXT.replace("RUN uno", "RUN altro"))
    assert bench.seen.states[1:] == ["done"] * 4


def test_a_different_argument_is_another_run_and_only_from_there(bench: Bench):
    text = "FROM base\nRUN prima\nARG V\nRUN dopo\n"
    bench.build(text, build_args={"V": "1"})
    bench.build(text, build_args={"V": "2"})
    assert bench.seen.states[1:] == ["cached", "cached", "done"]


def test_no_cache_does_everything_again(bench: Bench):
    (bench.context / "a").write_text("1")
    bench.build(TEXT)
    bench.build(TEXT, no_cache=True)
    assert len(bench.ran) == 2


def test_the_memory_keeps_nothing_alive(bench: Bench):
    (bench.context / "a").write_text("1")
    bench.build(TEXT)
    before = bench.images.store.df().size
    bench.images.rmi("prova")
    assert bench.images.store.df().size < before
    bench.build(TEXT)
    assert bench.seen.states[1] == "done"


def test_a_damaged_memory_is_a_step_to_do_again(bench: Bench):
    bench.build("FROM base\nRUN uno\n")
    for path in (bench.context.parent / "immagini/build").iterdir():
        path.write_text("{")
    bench.build("FROM base\nRUN uno\n")
    assert bench.seen.states == ["done", "done"]


def test_a_date_that_is_asked_for_makes_the_same_bytes_every_time(bench: Bench):
    (bench.context / "a").write_text("1")
    args = {"SOURCE_DATE_EPOCH": "1000000"}
    text = "FROM base\nWORKDIR /nuova\nCOPY a b/\nCOPY <<X y\nciao\nX\nCMD x\n"
    first = bench.build(text, build_args=args)
    os.utime(bench.context / "a", (2_000_000, 2_000_000))
    second = bench.build(text, no_cache=True, build_args=args)
    assert first.digest == second.digest
    assert first.config.created == "1970-01-12T13:46:40Z"


def test_two_moments_are_two_images(bench: Bench):
    first = bench.build("FROM base\nENV A=1\n")
    time.sleep(1.1)
    assert bench.build("FROM base\nENV A=1\n", no_cache=True).id != first.id


# ---------------------------------------------------------------- failures


def test_a_failed_step_says_which_and_what_the_program_said_and_leaves_nothing(bench: Bench):
    before = bench.images.images()
    with pytest.raises(BuildError) as caught:
        bench.build('FROM base\nRUN uno\nRUN ["false"]\nRUN mai\n')
    problem = caught.value
    assert str(problem).splitlines()[:3] == [
        "Passo 3/4 (Containerfile, riga 3): «RUN [\"false\"]» è finito con il codice 3.", "  │ prima riga",
        "  │ ultima riga",
    ]  # fmt: skip
    assert (problem.exit_code, problem.output, problem.step.state) == (3, "prima riga\nultima riga\n", "failed")
    assert list(bench.images.images()) == list(before)
    assert bench.seen.states == ["done", "done", "failed"]
    bench.build("FROM base\nRUN uno\n")
    assert bench.seen.states == ["done", "cached"], "quello che era riuscito resta fatto"


def test_an_error_inside_a_step_says_which_step(bench: Bench):
    (bench.context / "a").write_text("1")
    with pytest.raises(BuildError, match="Passo 2/2 .Containerfile, riga 2.: .*«nessuno»"):
        bench.build("FROM base\nCOPY --chown=nessuno a /\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tag": "MAIUSCOLO"}, "MAIUSCOLO"),
        ({"tag": "a@sha256:" + "0" * 64}, "impronta"),
        ({"network": "boh"}, "network"),
        ({"target": "boh"}, "stadio «boh»"),
        ({"file": "boh"}, "non c'è «boh»"),
        ({"build_args": {"1x": "2"}}, "«1x»"),
        ({"build_args": {"SOURCE_DATE_EPOCH": "ieri"}}, "«ieri»"),
    ],
)
def test_bad_options_are_refused_before_anything_is_done(bench: Bench, options, message):
    with pytest.raises(LabError, match=message):
        bench.build("FROM base\nRUN uno\n", **options)
    assert bench.ran == []


def test_a_folder_that_is_not_there_is_told(bench: Bench, tmp_path):
    bench.context = tmp_path / "nessuna"
    with pytest.raises((NotFoundError, FileNotFoundError)):
        bench.build("FROM base")


# ---------------------------------------------------------------- stages and triggers


def test_only_the_stages_that_serve_are_built(bench: Bench):
    text = "FROM base AS uno\nRUN uno\nFROM base AS due\nRUN due\nFROM base\nCOPY --from=uno /run-1 /preso\n"
    image = bench.build(text)
    assert [run.command[-1] for run in bench.ran] == ["uno"]
    assert [(step.number, step.total, step.stage) for step in bench.seen.steps] == [
        (1, 4, "uno"), (2, 4, "uno"), (3, 4, "2"), (4, 4, "2"),
    ]  # fmt: skip
    assert bench.files(image)["preso"] == "/bin/sh -c uno"


def test_a_target_stops_there(bench: Bench):
    bench.build("FROM base AS uno\nRUN uno\nFROM uno AS due\nRUN due\n", target="uno")
    assert [run.command[-1] for run in bench.ran] == ["uno"]


def test_a_stage_goes_on_from_another(bench: Bench):
    image = bench.build("FROM base AS uno\nENV A=1\nFROM uno\nRUN due\n")
    assert ("A", "1") in image.config.env
    assert ("A", "1") in bench.ran[0].image.config.env


def test_what_onbuild_keeps_runs_in_the_next_image_once(bench: Bench):
    (bench.context / "a").write_text("1")
    bench.build("FROM base\nONBUILD COPY a /a\nONBUILD RUN dopo\n", "modello")
    image = bench.build("FROM modello\nENV A=1\n", "figlia")
    assert [run.command[-1] for run in bench.ran] == ["dopo"]
    assert bench.files(image)["a"] == "1"
    assert "OnBuild" not in image.config.process
    assert [step.total for step in bench.seen.steps] == [2, 4, 4, 4]
    bench.build("FROM figlia\nENV B=1\n")
    assert bench.ran == []


def test_from_takes_another_image_by_name_or_says_that_it_is_not_there(bench: Bench, monkeypatch):
    asked = []
    monkeypatch.setattr(bench.images, "pull", lambda name, platform: asked.append((name, platform)))
    with pytest.raises(LabError, match="Passo 1/1"):
        bench.build("FROM --platform=linux/arm64 lontana:1\n")
    assert asked == [("lontana:1", "linux/arm64")]
    with pytest.raises(InvalidError, match="vuoto"):
        bench.build("ARG N\nFROM $N\n")


# ---------------------------------------------------------------- the command of a RUN


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("RUN a  b", ("/bin/sh", "-c", "a  b"), None),
        ('RUN ["a", "$B"]', ("a", "$B"), None),
        ("RUN <<E\nuno\ndue\nE", ("/bin/sh", "-c", "uno\ndue\n"), None),
        ("RUN cat <<E > x && b\nuno\nE", ("/bin/sh", "-c", "cat <<E > x && b\nuno\nE"), None),
        ("RUN <<E\n#!/usr/bin/env python3\nx\nE", ("/usr/bin/env", "python3", "/dev/stdin"),
         b"#!/usr/bin/env python3\nx\n"),
        ('SHELL ["/bin/ash", "-ec"]\nRUN a', ("/bin/ash", "-ec", "a"), None),
    ],
)  # fmt: skip
def test_a_run_executes_what_docker_would(bench: Bench, text, command, stdin):
    bench.build(f"FROM base\n{text}\n")
    assert (bench.ran[0].command, bench.ran[0].stdin) == (command, stdin)


def test_a_run_has_the_network_that_is_asked_for(bench: Bench):
    bench.build("FROM base\nRUN a\nRUN --network=none b\n", network="default")
    assert [run.network for run in bench.ran] == ["bridge", "none"]
    bench.build("FROM base\nRUN c\n")
    assert bench.ran[0].network == "none"


def test_a_build_without_a_name_is_an_image_without_a_name(bench: Bench):
    assert bench.handle("FROM base\nENV A=1\n", tag="").name == ""
    assert bench.seen.said == "[]"
    assert bench.handle("FROM base\nENV A=1\n", tag=["una:1", "altra:2"]).name == "una:1"
    assert bench.images.image("altra:2").digest == bench.images.image("una:1").digest


def test_the_steps_are_told_one_per_line(bench: Bench):
    out = io.StringIO()
    printer = Printer(out)
    for step in (Step(1, 3, "FROM  base"), Step(2, 3, "RUN x"), Step(3, 3, "CMD " + "y" * 200)):
        printer.step(step)
        if step.number == 2:
            printer.output("fatto")
        printer.step(replace(step, state="cached" if step.number == 3 else "done"))
    printer.end("prova:1")
    assert out.getvalue().splitlines() == [
        "Passo 1/3: FROM base", "Passo 2/3: RUN x", "fatto", f"Passo 3/3: CMD {'y' * 85}… — dalla cache",
        "prova:1: 3 passi, 1 dalla cache.",
    ]  # fmt: skip

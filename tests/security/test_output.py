"""Quello che un programma stampa non riempie la memoria, non blocca il notebook e non lo inganna."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import time
from contextlib import redirect_stdout

import pytest

from labkit import Lab

pytestmark = pytest.mark.kernel

#: Un client che riceve un fiume di righe per due secondi, poi Ctrl-C, e racconta com'è andata.
FLOOD = """
import os, resource, signal, sys, threading, time
from labkit import Lab
sys.stdout = open("/dev/null", "w")
with Lab() as lab:
    process = lab.process(label="a-mano")
    container = lab.run("busybox", "yes", detach=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    try:
        CALL
        code = 0
    except KeyboardInterrupt:
        code = 130
    elapsed = time.monotonic() - started
    alive = lab.run("busybox", ["echo", "vivo"], quiet=True).output
    container.stop(grace=1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(code, round(elapsed, 2), alive.strip(), grown // 1024, file=sys.stderr)
"""


def client(source: str, timeout: float = 60) -> list[str]:
    """L'ultima riga dello stderr di un client in un processo suo."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()


@pytest.mark.serial
@pytest.mark.parametrize(
    "call",
    [
        "lab.run('busybox', 'yes', quiet=True)",
        "lab.run('busybox', 'yes')",
        "container.exec('yes')",
        "container.logs(follow=True)",
        "process.run('yes')",
    ],
)
def test_a_flood_is_bounded_and_ctrl_c_gives_the_prompt_back(call: str) -> None:
    code, elapsed, alive, megabytes = client(FLOOD.replace("CALL", call))
    assert int(code) == 130
    assert float(elapsed) < 4
    assert alive == "vivo"
    assert int(megabytes) < 100


def test_a_pipe_that_closes_early_ends_the_flood(lab: Lab) -> None:
    result = lab.run("busybox", ["sh", "-c", "yes | head -n 3"], quiet=True)
    assert (result.exit_code, result.output) == (0, "y\ny\ny\n")


def test_background_processes_do_not_hold_the_prompt(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "1000"], detach=True)
    try:
        started = time.monotonic()
        result = container.exec(["sh", "-c", "sleep 100 & echo fatto"], quiet=True)
        assert result.output == "fatto\n"
        flooded = container.exec(["sh", "-c", "yes & sleep 0.2; echo fine >&2"], quiet=True)
        assert flooded.exit_code == 0
        assert flooded.stderr == "fine\n"
        assert time.monotonic() - started < 10
        assert container.exec(["echo", "vivo"], quiet=True).output == "vivo\n"
    finally:
        container.rm(force=True)


def test_a_program_deaf_to_term_is_stopped_within_its_grace(lab: Lab) -> None:
    for command in (["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], ["sleep", "1000"]):
        container = lab.run("busybox", command, detach=True)
        started = time.monotonic()
        container.stop(grace=1)
        assert time.monotonic() - started < 8
        assert container.status == "exited"
        container.rm()


def test_zombies_are_collected_by_init(lab: Lab) -> None:
    script = "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l"
    assert lab.run("busybox", ["sh", "-c", script], init=True, quiet=True).output.strip() == "0"


ESCAPES = r"\033]0;titolo\007\033[2J\033[31mrosso\033[0m\033]52;c;Y2lhbw==\007\033Pq\033\\\r\b\000fine\n"


def test_terminal_escapes_do_not_reach_the_notebook(lab: Lab) -> None:
    screen = io.StringIO()
    with redirect_stdout(screen):
        lab.run("busybox", ["printf", ESCAPES])
    shown = screen.getvalue()
    assert "rosso" in shown
    assert "fine" in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\x1bP" not in shown
    assert "\x07" not in shown
    assert "\0" not in shown


def test_markup_in_names_and_commands_is_shown_as_text(lab: Lab) -> None:
    danger = "<script>alert(1)</script>"
    container = lab.run("busybox", ["sh", "-c", f"sleep 1000 # {danger}<b>\x1b[2J"], detach=True)
    try:
        for thing in (lab.ps(), container, container.inspect(), container.plan, lab.events(), lab):
            for maker in ("_repr_html_", "_repr_markdown_"):
                drawn = getattr(thing, maker, lambda: "")() or ""
                assert "<script>" not in drawn, (thing, maker)
            assert "\x1b" not in repr(thing)
    finally:
        container.rm(force=True)


def test_a_terminal_of_a_container_cannot_type_into_another(lab: Lab) -> None:
    result = lab.run("busybox", ["sh", "-c", "tty; ls /dev/pts"], tty=True, quiet=True)
    lines = result.output.split()
    assert lines[0] == "/dev/pts/0"
    assert set(lines[1:]) == {"0", "ptmx"}

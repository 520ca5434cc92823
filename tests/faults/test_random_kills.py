"""SIGKILL a chiunque, in un momento qualunque: entro mezzo secondo non resta niente.

I momenti sono cento (quaranta per chi non è root), divisi fra le quattro vittime, metà mentre il laboratorio nasce e
metà mentre dentro nascono container uno dopo l'altro; il seme li rende gli stessi a ogni prova.
"""

from __future__ import annotations

import random
import signal
import statistics
import time
from pathlib import Path

import pytest

from labkit import Lab
from tests import users
from tests.faults.leftovers import Client, client, folders, gone, new_run, send

pytestmark = [pytest.mark.faults, pytest.mark.kernel, pytest.mark.serial, pytest.mark.slow]

ROUNDS = 25 if users.mode() == "root" else 10
PROMISE = 0.5  # seconds, the half of the times: on a machine of many the slowest say who else is at work


def _pause(dice: random.Random, program: Client) -> None:
    """Metà delle volte un momento della nascita del laboratorio, metà un momento della sua vita."""
    if dice.random() < 0.5:
        time.sleep(dice.uniform(0.05, 0.35))
    else:
        program.says()
        time.sleep(dice.uniform(0.0, 0.4))


def _victim(dice: random.Random, program: Client, who: str) -> int:
    if who == "container":
        return dice.choice(program.containers() or [0])
    return {"client": program.pid, "guardiano": program.guard(), "supervisore": program.supervisor()}[who]


def _strike(dice: random.Random, who: str, run: Path) -> float | None:
    """Un colpo; torna i secondi fino a quando non resta niente, ``None`` se la vittima non era ancora nata."""
    with client("storm", str(dice.randrange(1 << 30)), run=run) as program:
        _pause(dice, program)
        pid = _victim(dice, program, who)
        if not pid or not send(pid, signal.SIGKILL):
            return None
        begin = time.monotonic()
        if who == "client":
            program.process.wait()
        elif who == "container":
            return _goes_on(program)
        else:
            # Its laboratory is gone: a client that waits for ever would be a fault.
            assert program.process.wait(timeout=10) != 0
        gone(run, folder=who != "guardiano")
        return time.monotonic() - begin


def _goes_on(program: Client) -> float:
    """Un container ucciso è una cosa che capita: il laboratorio va avanti, e poi finisce come sempre."""
    last = ""
    for _ in range(4):
        last = program.says()
    assert last.isdecimal(), f"dopo la morte di un container il programma si è fermato: {last!r}"
    begin = time.monotonic()
    program.kill()
    gone(program.run)
    return time.monotonic() - begin


@pytest.mark.parametrize("who", ["client", "supervisore", "guardiano", "container"])
def test_nothing_is_left_whoever_is_killed(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(f"2024 {who}")
    run = new_run()
    times: list[float] = []
    while len(times) < ROUNDS:
        seconds = _strike(dice, who, run)
        if seconds is not None:
            times.append(seconds)
    median = statistics.median(times)
    assert median <= PROMISE, f"mediana {median * 1000:.0f} ms; in ms: {[round(t * 1000) for t in sorted(times)]}"

    # What a killed guard could not remove, the next laboratory does.
    monkeypatch.setenv("LABKIT_RUN", str(run))
    Lab().close()
    assert folders(run) == []
    run.rmdir()

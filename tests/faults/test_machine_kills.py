"""SIGKILL a chiunque tenga in piedi una macchina virtuale, anche mentre si accende: non resta niente.

Un kernel User Mode Linux è fatto di molti processi, e quelli che eseguono i suoi programmi, da soli, andrebbero avanti
sull'host. I momenti sono a caso, ma gli stessi a ogni prova.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from labkit import Lab
from labkit.backends import kernels, qemu
from labkit.backends.uml import executable_folder
from labkit.errors import BackendError
from tests import users
from tests.faults.leftovers import Client, children, client, folders, gone, new_run, send

pytestmark = [
    pytest.mark.faults,
    pytest.mark.kernel,
    pytest.mark.serial,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="i kernel del corso sono per x86-64"),
]

#: How many kills for each victim, and how long a machine takes to be ready, in seconds.
ROUNDS = {"uml": 6, "qemu": 2} if users.mode() == "root" else {"uml": 2, "qemu": 1}
BOOT = {"uml": 1.2, "qemu": 4.0}
SOON = 5.0


@pytest.fixture(params=["uml", "qemu"])
def backend(request: pytest.FixtureRequest) -> str:
    try:
        if request.param == "qemu":
            qemu.program()
            kernels.linux()
        else:
            kernels.uml()
    except BackendError as problem:
        pytest.skip(str(problem))
    return str(request.param)


def _victim(program: Client, who: str) -> int:
    """Il PID di chi si uccide, 0 se non è ancora nato."""
    chain = {"client": program.pid, "guardiano": program.guard()}
    chain["sorvegliante"] = next(iter(children(chain["guardiano"])), 0)
    chain["macchina"] = next(iter(children(chain["sorvegliante"])), 0)
    return chain[who]


def _strike(dice: random.Random, who: str, backend: str, booting: bool, run: Path) -> bool:
    """Un colpo; falso se la vittima non era ancora nata."""
    with client("storm", str(dice.randrange(1 << 30)), backend, run=run) as program:
        if booting:
            time.sleep(dice.uniform(0.1, BOOT[backend]))
        else:
            assert program.says() == "pronto"
            time.sleep(dice.uniform(0.0, 0.5))
        pid = _victim(program, who)
        if not pid or not send(pid, signal.SIGKILL):
            return False
        # Its machine is gone: a client that waits for ever would be a fault.
        assert program.process.wait(timeout=10) != 0
        gone(run, folder=who != "guardiano", within=SOON)
    return True


def _memory_files() -> set[str]:
    """I file di memoria di UML di questo utente che hanno ancora un nome: accanto possono provare gli altri."""
    found = set()
    for path in Path(executable_folder()).glob("vm_file*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_uid == os.geteuid():
                found.add(path.name)
    return found


def test_nothing_is_left_of_a_machine_when_everybody_is_told_to_end(backend: str) -> None:
    """Come quando si esce dalla sessione: SIGTERM a tutti quelli che lo possono sentire."""
    run = new_run()
    with client("storm", "1", backend, run=run) as program:
        assert program.says() == "pronto"
        guard, warden = _victim(program, "guardiano"), _victim(program, "sorvegliante")
        os.killpg(guard, signal.SIGTERM)
        send(warden, signal.SIGTERM)
        assert program.process.wait(timeout=10) != 0
        gone(run, folder=False, within=SOON)
    shutil.rmtree(run)


@pytest.mark.parametrize("who", ["client", "guardiano", "sorvegliante", "macchina"])
def test_nothing_is_left_of_a_machine_whoever_is_killed(
    backend: str, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(f"2024 {who} {backend}")
    run = new_run()
    files = _memory_files()
    struck = 0
    while struck < ROUNDS[backend]:
        struck += _strike(dice, who, backend, struck % 2 == 0, run)
    assert _memory_files() <= files

    # What a killed guard could not remove, the next laboratory does: of any kind.
    monkeypatch.setenv("LABKIT_RUN", str(run))
    Lab("fake" if backend == "qemu" else "uml").close()
    assert folders(run) == []
    run.rmdir()

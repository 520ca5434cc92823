"""Quello che una macchina virtuale promette a un utente qualunque: pronta presto, svelta, leggera."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.samples import Goal
from labkit.backends import kernels as machine_kernels
from labkit.backends import qemu
from labkit.errors import BackendError
from tests import kernels, users
from tests.measures.promises import best_of, expect, stretched
from tests.users import RunAs

pytestmark = [
    pytest.mark.bench,
    pytest.mark.serial,
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="i kernel del corso sono per x86-64"),
]

ATTEMPTS = 3


@pytest.fixture(scope="module", autouse=True)
def readable_kernels(mode: str) -> Iterator[None]:
    """I kernel, dove li può leggere anche l'utente con cui si misura."""
    if mode != "root":
        yield
        return
    try:
        with kernels.shared():
            yield
    except BackendError as problem:
        pytest.skip(str(problem))


def _measure(backend: str, request: pytest.FixtureRequest) -> list[Goal]:
    """Un giro di ``bench/machines.py``, da utente normale."""
    command = [sys.executable, "bench/machines.py", backend, "--json"]
    if users.mode() == "root":
        run_as: RunAs = request.getfixturevalue("run_as")
        done = run_as("nosub", command)
    else:
        done = subprocess.run(command, capture_output=True, text=True, cwd=users.ROOT, timeout=600)
    assert done.stdout, done.stderr
    return stretched([Goal(**row) for row in json.loads(done.stdout)])


@pytest.mark.parametrize("backend", ["uml", "qemu"])
def test_a_machine_keeps_its_promises(backend: str, request: pytest.FixtureRequest) -> None:
    try:
        if backend == "qemu":
            qemu.program()
            machine_kernels.linux()
        else:
            machine_kernels.uml()
    except BackendError as problem:
        pytest.skip(str(problem))
    expect(best_of(ATTEMPTS, lambda: _measure(backend, request)))

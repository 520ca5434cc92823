"""Una suite, molti backend: quello che vale in un laboratorio vale in tutti, finto, vero o dentro una macchina.

Un programma di prova usa solo quello che ogni backend sa fare: ``true``, ``false``, ``echo``, ``sleep``,
``cat``, ``sh -c 'exit N'``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import Lab
from tests import kernels

MACHINES = ("uml", "qemu")
BACKENDS = [
    "fake",
    pytest.param("direct", marks=pytest.mark.kernel),
    *(pytest.param(name, marks=[pytest.mark.kernel, pytest.mark.machine, pytest.mark.once]) for name in MACHINES),
]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return available(str(request.param))


def available(name: str) -> str:
    if name in MACHINES and (reason := kernels.missing(name)):
        pytest.skip(reason)
    return name


@pytest.fixture(params=BACKENDS[:-1])
def born(request: pytest.FixtureRequest) -> str:
    """Come ``backend``, per chi fa nascere laboratori solo suoi: in QEMU costa dieci secondi, e lì ne bastano pochi."""
    return available(str(request.param))


@pytest.fixture(scope="module")
def shared(backend: str) -> Iterator[Lab]:
    with Lab(backend=backend) as lab:
        yield lab
        expect_alive(lab)


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """Il laboratorio del modulo, che dopo ogni prova deve essere vivo, e torna vuoto."""
    yield shared
    for container in shared.ps(all=True):
        container.rm(force=True)
    # In a machine a container costs twenty times more: there one at the end of the module must be enough.
    if shared.backend not in MACHINES:
        expect_alive(shared)


def expect_alive(lab: Lab) -> None:
    assert lab.run("busybox", ["echo", "vivo"], quiet=True).output == "vivo\n"

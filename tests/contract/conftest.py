"""Una suite, molti backend: quello che vale in un laboratorio vale in tutti, finto o vero.

Un programma di prova usa solo quello che ogni backend sa fare: ``true``, ``false``, ``echo``, ``sleep``,
``cat``, ``sh -c 'exit N'``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import Lab

BACKENDS = ["fake", pytest.param("direct", marks=pytest.mark.kernel)]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shared(backend: str) -> Iterator[Lab]:
    with Lab(backend=backend) as lab:
        yield lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """Il laboratorio del modulo, che dopo ogni prova deve essere vivo, e torna vuoto."""
    yield shared
    for container in shared.ps(all=True):
        container.rm(force=True)
    assert shared.run("busybox", ["echo", "vivo"], quiet=True).output == "vivo\n"

"""Quello che vale per tutte le prove: chi siamo, che cosa non deve restare, a quali utenti si può diventare."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests import leaks, users

_RUN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    # Every test process has its own folder of laboratories: what is in it, or carries its name, is ours.
    config.stash[_RUN] = os.environ["LABKIT_RUN"] = tempfile.mkdtemp(prefix="lk-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_RUN], ignore_errors=True)


def pytest_report_header() -> str:
    return f"modo: {users.mode()} (root, user: utente con subuid, nosub: utente con un solo id)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mode = users.mode()
    for item in items:
        if item.get_closest_marker("root") and mode != "root":
            item.add_marker(pytest.mark.skip(reason="ha senso solo da root"))
        elif item.get_closest_marker("subuid") and mode == "nosub":
            item.add_marker(pytest.mark.skip(reason="serve più di un utente nel laboratorio: qui ce n'è uno solo"))


@pytest.fixture(scope="module", autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Dopo ogni modulo di prove la macchina è com'era: processi, namespace, mount, reti, cgroup, cartelle."""
    run = request.config.stash[_RUN]
    before = leaks.take(run)
    yield
    left = leaks.wait(before, lambda: leaks.take(run))
    assert not left, f"dopo {request.node.name} è rimasto qualcosa:\n  " + "\n  ".join(left)


@pytest.fixture(scope="session")
def mode() -> str:
    """``root``, ``user`` (utente con subuid) o ``nosub`` (utente con un solo id): chi esegue questa prova."""
    return users.mode()


@pytest.fixture(scope="session")
def run_as() -> Iterator[users.RunAs]:
    """Esegue un comando come ``root``, ``user`` o ``nosub``: ``run_as("nosub", ["id", "-u"])``. Solo da root."""
    if users.mode() != "root":
        pytest.skip("per cambiare utente bisogna essere root")
    with users.temporary() as people:
        yield users.RunAs(people)

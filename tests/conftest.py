"""Quello che vale per tutte le prove: chi siamo, che cosa non deve restare, a quali utenti si può diventare."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab
from tests import course_images as course
from tests import leaks, machine, report, users

_RUN = pytest.StashKey[str]()
_LASTING = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    # Every test process has its own folder of laboratories: what is in it, or carries its name, is ours.
    config.stash[_RUN] = os.environ["LABKIT_RUN"] = tempfile.mkdtemp(prefix="lk-")
    # And its own images, volumes and registry, which are made to outlive a laboratory: nothing is ours in them.
    config.stash[_LASTING] = tempfile.mkdtemp(prefix="lk-lasting-")
    for name in ("images", "registry", "volumes"):
        os.environ[f"LABKIT_{name.upper()}"] = f"{config.stash[_LASTING]}/{name}"


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_RUN], ignore_errors=True)
    shutil.rmtree(config.stash[_LASTING], ignore_errors=True)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Le prove di un file vanno allo stesso processo, perché hanno in comune il laboratorio; le lezioni intere no."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return nodeid if file.endswith("test_notebooks_run.py") else file

    return ByFile(config, log)


def pytest_report_header() -> str:
    return f"modo: {users.mode()} (root, user: utente con subuid, nosub: utente con un solo id)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mode = users.mode()
    version = report.cgroup_version()
    for item in items:
        backend = backend_of(item)
        kernel = {"": "", "fake": "", "direct": version}.get(backend, "v2")  # a machine of the course has only v2
        item.user_properties += [("backend", backend), ("cgroup", kernel)]
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(600))
        if machine.here() and (reason := out_of_place(item)):
            item.add_marker(pytest.mark.skip(reason=reason))
        elif item.get_closest_marker("root") and mode != "root":
            item.add_marker(pytest.mark.skip(reason="ha senso solo da root"))
        elif item.get_closest_marker("clock") and not os.path.exists("/proc/self/ns/time"):
            item.add_marker(pytest.mark.skip(reason="questo kernel non ha il namespace time"))
        elif item.get_closest_marker("subuid") and mode == "nosub":
            item.add_marker(pytest.mark.skip(reason="serve più di un utente nel laboratorio: qui ce n'è uno solo"))


def backend_of(item: pytest.Item) -> str:
    """Il backend del laboratorio di una prova; vuoto se non ne ha."""
    parameters = (
        item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    )
    for value in parameters:
        if value in ("fake", "direct", "uml", "qemu"):
            return str(value)
    if item.get_closest_marker("machine"):
        return "macchine"
    return "direct" if item.get_closest_marker("kernel") else ""


def out_of_place(item: pytest.Item) -> str:
    """Perché una prova non si esegue dentro una macchina virtuale; vuoto se si esegue."""
    if item.get_closest_marker("machine"):
        return "una macchina virtuale non ne accende un'altra"
    if outside := item.get_closest_marker("outside"):
        return str(outside.args[0])
    return ""


@pytest.fixture(scope="module", autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Dopo ogni modulo di prove la macchina è com'era: processi, namespace, mount, reti, cgroup, cartelle."""
    run = request.config.stash[_RUN]
    before = leaks.take(run)
    yield
    left = leaks.wait(before, lambda: leaks.take(run))
    assert not left, f"dopo {request.node.name} è rimasto qualcosa:\n  " + "\n  ".join(left)


@pytest.fixture(scope="session")
def course_seed() -> Iterator[None]:
    """Le immagini del corso, pronte per le case degli utenti di ``run_as``."""
    with course.shared():
        yield


@pytest.fixture(scope="module")
def course_images(course_seed: None) -> Iterator[Path]:
    """La cartella delle immagini di questo modulo di prove, con dentro quelle del corso."""
    place = Path(tempfile.mkdtemp(prefix="lk-course-"))
    course.give(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_IMAGES", str(place))
        yield place
        if (place / "layers").exists():
            with Lab(backend="direct") as lab, lab.process() as root:  # the files of subordinate users are not ours
                root.run(["rm", "-rf", f"{place}/layers"], quiet=True)
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def mode() -> str:
    """``root``, ``user`` (utente con subuid) o ``nosub`` (utente con un solo id): chi esegue questa prova."""
    return users.mode()


@pytest.fixture(scope="session")
def run_as() -> Iterator[users.RunAs]:
    """Esegue un comando come ``root``, ``user`` o ``nosub``: ``run_as("nosub", ["id", "-u"])``. Solo da root."""
    if users.mode() != "root":
        pytest.skip("per cambiare utente bisogna essere root")
    if machine.here():
        pytest.skip("nella macchina virtuale c'è un utente solo")
    with users.temporary() as people:
        yield users.RunAs(people)

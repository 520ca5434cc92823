"""Gli esercizi della lezione 04, e il laboratorio che cerca un posto con i limiti."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from labkit import Lab, check, parameter
from labkit.course.exercises import Verdict
from labkit.errors import BackendError, InvalidError
from tests import kernels

pytestmark = pytest.mark.kernel

NEEDS = ("memory", "cpus", "pids_limit", "pause")
SPIN = ["sh", "-c", "while :; do :; done"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    if reason := kernels.missing("uml"):
        pytest.skip(reason)
    with Lab(needs=NEEDS) as lab:
        yield lab


@pytest.fixture
def lab(shared: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("LABKIT_STUDENT", "prova")
    yield shared
    for container in shared.ps(all=True):
        container.rm(force=True)


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


# ---- a place that can


def test_a_lab_lives_where_what_it_needs_is_there(shared: Lab) -> None:
    assert all(shared.features[key].ok for key in NEEDS)
    assert shared.backend == "direct" or re.match(r"Il laboratorio vive in .+\. Qui non c'è «", shared.why)


def test_a_place_that_cannot_is_refused_with_the_reason() -> None:
    with Lab(backend="direct") as lab:
        wanting = [key for key in NEEDS if lab.features[key].ok is False]
    for key in wanting:
        with pytest.raises(BackendError, match="Qui non c'è «"):
            Lab(backend="direct", needs=key)


def test_a_need_that_is_no_feature_is_refused() -> None:
    with pytest.raises(InvalidError, match="«volare» non è una cosa che un laboratorio sa"):
        Lab(backend="direct", needs=["volare"])


# ---- the exercises


def test_the_ant_is_asked_for_its_limit(lab: Lab) -> None:
    other = lab.run("busybox", "sleep 100", memory=f"{parameter('es-04-1')}m", detach=True)
    refused(check("es-04-1", lab), "nessun container", "name='formica'")
    other.rm(force=True)
    ended = lab.run("busybox", "true", name="formica", remove=False, detach=True)
    ended.wait()
    refused(check("es-04-1", lab), "finito", "detach=True")
    ended.rm()
    free = lab.run("busybox", "sleep 100", name="formica", detach=True)
    refused(check("es-04-1", lab), "nessun limite", "memory")
    free.update(memory=f"{parameter('es-04-1') + 1}m")
    refused(check("es-04-1", lab), "un limite di", "memory")
    free.update(memory=f"{parameter('es-04-1')}m")
    assert check("es-04-1", lab).ok


def test_the_brake_is_looked_for_on_a_program_that_runs(lab: Lab) -> None:
    snail = lab.run("busybox", SPIN, name="lumaca", detach=True)
    refused(check("es-04-2", lab, snail), "nessuna quota", "update")
    snail.update(cpus=0.5)
    refused(check("es-04-2", lab, snail), "0,5 CPU", "update")
    snail.update(cpus=0.2)
    assert check("es-04-2", lab, snail).ok
    asleep = lab.run("busybox", "sleep 100", cpus=0.1, detach=True)
    refused(check("es-04-2", lab, asleep), "0 %", "ciclo")


def test_the_fence_is_a_group_of_its_own_with_its_number(lab: Lab) -> None:
    with lab.process(label="recinto") as fence:
        refused(check("es-04-3", lab, fence), "gruppo del laboratorio", "create()")
        fence.python("from labkit import kernel; g = kernel.cgroup_top().child('recinto').create(); g.add()")
        refused(check("es-04-3", lab, fence), "nessun limite", "pids.max")
        fence.python("g.write('pids.max', 2)")
        refused(check("es-04-3", lab, fence), "al massimo 2 processi", "write")
        fence.python(f"g.write('pids.max', {parameter('es-04-3')})")
        assert check("es-04-3", lab, fence).ok


def test_the_bear_is_still_and_alive(lab: Lab) -> None:
    bear = lab.run("busybox", SPIN, name="orso", cpus=0.2, detach=True)
    refused(check("es-04-4", lab, bear), "che gira", "tasto")
    bear.pause()
    assert check("es-04-4", lab, bear).ok
    bear.kill()
    bear.wait()
    refused(check("es-04-4", lab, bear), "finito", "tasto")

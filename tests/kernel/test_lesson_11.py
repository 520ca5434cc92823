"""Gli esercizi della lezione 11: ogni modo sbagliato di farli riceve una frase che dice che cosa manca."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab, check, parameter
from labkit.course.exercises import Verdict

pytestmark = pytest.mark.kernel


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("LABKIT_STUDENT", "prova")
    with Lab() as lab:
        yield lab
        for container in lab.ps(all=True):
            container.rm(force=True)
        lab.volume.prune(all=True)


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


def again(lab: Lab, name: str, **options: Any) -> None:
    for old in lab.ps(all=True):
        old.rm(force=True)
    lab.run("busybox", ["sleep", "60"], name=name, detach=True, **options)


def writes(lab: Lab, volume: str, script: str, **options: Any) -> None:
    lab.run("busybox", ["sh", "-c", script], volumes=f"{volume}:/dati", quiet=True, **options)


def test_a_note_stays_when_who_wrote_it_is_gone(lab: Lab) -> None:
    name = parameter("es-11-1")
    refused(check("es-11-1", lab), "nessuno", f"lab.volume.create('{name}')")
    again(lab, "chi", volumes=f"{name}:/dati")
    refused(check("es-11-1", lab), "senza quel file", "/dati/promemoria")
    writes(lab, name, "echo latte > /dati/promemoria")
    refused(check("es-11-1", lab), "chi", "rm(force=True)")
    lab.container("chi").rm(force=True)
    assert check("es-11-1", lab).ok


def test_a_reader_is_tried_by_writing(lab: Lab) -> None:
    lab.volume.create("l11-sito")
    refused(check("es-11-2", lab), "nessun container", "lettore")
    again(lab, "lettore")
    refused(check("es-11-2", lab), "non lo monta", "l11-sito:/sito:ro")
    again(lab, "lettore", volumes="l11-sito:/sito")
    refused(check("es-11-2", lab), "un file scritto", ":ro")
    again(lab, "lettore", volumes="l11-sito:/sito:ro")
    assert check("es-11-2", lab).ok


def test_a_copy_has_the_same_files(lab: Lab, tmp_path: Path) -> None:
    name = parameter("es-11-3")
    writes(lab, "l11-sito", "echo pagina > /dati/index.html")
    refused(check("es-11-3", lab), "l11-sito", name)
    writes(lab, name, "echo altra > /dati/index.html")
    refused(check("es-11-3", lab), "file diversi", "lab.volume.backup")
    lab.volume.rm(name)
    lab.volume.backup("l11-sito", tmp_path / "sito.tar")
    lab.volume.restore(name, tmp_path / "sito.tar")
    assert check("es-11-3", lab).ok


def test_memory_is_measured_by_the_kernel(lab: Lab) -> None:
    again(lab, "effimero")
    refused(check("es-11-4", lab), "una cartella", "size=2m")
    again(lab, "effimero", tmpfs="/memoria:size=1m")
    refused(check("es-11-4", lab), "1048576 byte", "size=2m")
    again(lab, "effimero", tmpfs="/memoria:size=2m")
    assert check("es-11-4", lab).ok

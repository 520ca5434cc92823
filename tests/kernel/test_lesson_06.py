"""Gli esercizi della lezione 06: ogni modo sbagliato di farli riceve una frase che dice che cosa manca."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab, check, parameter
from labkit.course.exercises import Verdict

pytestmark = [pytest.mark.kernel, pytest.mark.once]


@pytest.fixture(scope="module")
def lab(course_images: Path) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch, Lab(backend="direct") as lab:
        patch.setenv("LABKIT_STUDENT", "prova")
        yield lab


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


def again(lab: Lab, image: str, command: Any = None, **options: Any) -> Any:
    for old in lab.ps(all=True):
        old.rm(force=True)
    return lab.run(image, command, detach=True, **options)


def test_an_archive_is_a_server_with_that_database(lab: Lab) -> None:
    name = parameter("es-06-1")
    refused(check("es-06-1", lab), "nessun container", "corso/mariadb")
    again(lab, "corso/base", "sleep 100", name="archivio")
    refused(check("es-06-1", lab), "un'altra immagine, corso/base", "rm(force=True)")
    again(lab, "corso/mariadb", name="archivio", env={"MARIADB_ROOT_PASSWORD": "x"})
    refused(check("es-06-1", lab), "i database", "MARIADB_DATABASE")
    again(lab, "corso/mariadb", name="archivio").wait(timeout=20)
    refused(check("es-06-1", lab), "nello stato «exited»", "logs()")
    again(lab, "corso/mariadb", name="archivio", env={"MARIADB_ROOT_PASSWORD": "x", "MARIADB_DATABASE": name})
    assert check("es-06-1", lab).ok


def test_only_the_new_layers_weigh(lab: Lab) -> None:
    there = {layer.digest for layer in lab.image("corso/mariadb").layers}
    layers = lab.image("corso/nginx").layers
    new = sum(layer.size for layer in layers if layer.digest not in there)
    whole = sum(layer.size for layer in layers)
    refused(check("es-06-2", lab, None), "la risposta None", "impronta")
    refused(check("es-06-2", lab, whole), "MiB", "c'è già")
    refused(check("es-06-2", lab, whole - new), "MiB", "byte risparmiati")
    refused(check("es-06-2", lab, -1), "la risposta -1", "impronta")
    assert check("es-06-2", lab, new).ok


def test_a_name_more_is_of_the_same_image(lab: Lab) -> None:
    name = parameter("es-06-3")
    refused(check("es-06-3", lab), "nessuna immagine", "lab.tag")
    lab.tag("corso/base", name)
    refused(check("es-06-3", lab), "un'altra immagine", f"lab.rmi('{name}')")
    lab.tag("corso/nginx", name)
    assert check("es-06-3", lab).ok


def test_the_page_is_of_the_container_and_not_of_the_image(lab: Lab) -> None:
    word = parameter("es-06-4")
    again(lab, "corso/nginx", name="vetrina")
    refused(check("es-06-4", lab), "nessuna risposta", "publish='80'")
    window = again(lab, "corso/nginx", name="vetrina", publish="80")
    window.exec(["timeout", "20", "sh", "-c", "until [ -s /run/nginx.pid ]; do sleep 0.05; done"])
    refused(check("es-06-4", lab), "la pagina «<!doctype html>", "index.html")
    window.exec(["sh", "-c", f"echo {word} > /usr/share/nginx/html/index.html"])
    assert check("es-06-4", lab).ok

"""Gli esercizi della lezione 12: ogni modo sbagliato di farli riceve una frase che dice che cosa manca."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab, check, parameter
from labkit.course.exercises import Verdict

pytestmark = pytest.mark.kernel

SERVER = "httpd -f -p 80 -h /srv/sito"


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("LABKIT_STUDENT", "prova")
    with Lab() as lab:
        yield lab


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


def again(lab: Lab, name: str, command: Any = "sleep 100", **options: Any) -> None:
    for old in lab.ps(all=True):
        old.rm(force=True)
    lab.run("busybox", command, name=name, detach=True, **options)


def test_a_sign_is_a_variable_and_not_a_word_of_the_command(lab: Lab) -> None:
    word = parameter("es-12-1")
    refused(check("es-12-1", lab), "nessun container", "sonno")
    again(lab, "insegna")
    refused(check("es-12-1", lab), "nessuna variabile", "env={'INSEGNA'")
    again(lab, "insegna", env={"INSEGNA": "altra"})
    refused(check("es-12-1", lab), "INSEGNA=altra", "rm(force=True)")
    again(lab, "insegna", ["sh", "-c", f"export INSEGNA={word}; exec sleep 100"])
    refused(check("es-12-1", lab), "nel comando", "uguale per tutti")
    again(lab, "insegna", ["sh", "-c", f"echo {word}; sleep 100"], env={"INSEGNA": word})
    refused(check("es-12-1", lab), "nel comando", "uguale per tutti")
    again(lab, "insegna", env={"INSEGNA": word})
    assert check("es-12-1", lab).ok


def test_a_price_is_decided_by_the_last_to_speak(lab: Lab, tmp_path: Path) -> None:
    price = parameter("es-12-2")
    file = tmp_path / "menu.env"
    file.write_text("PIATTO=lasagne\nPREZZO=4\n")
    refused(check("es-12-2", lab), "nessun container", "")
    again(lab, "menu", env_file=file)
    refused(check("es-12-2", lab), "PREZZO=4, da un file", "env= ha l'ultima parola")
    again(lab, "menu", env={"PREZZO": price, "PIATTO": "lasagne"})
    refused(check("es-12-2", lab), "PIATTO=lasagne, da env=", "env_file=")
    again(lab, "menu", env={"PREZZO": price})
    refused(check("es-12-2", lab), "nessuna variabile PIATTO", "env_file=")
    again(lab, "menu", env_file=file, env={"PREZZO": price})
    assert check("es-12-2", lab).ok


def test_a_code_is_in_its_file_and_nowhere_else(lab: Lab) -> None:
    code = parameter("es-12-3")
    again(lab, "cassaforte", env={"CODICE": code})
    refused(check("es-12-3", lab), "nessun segreto", "secrets={'codice'")
    again(lab, "cassaforte", secrets={"codice": "000"})
    refused(check("es-12-3", lab), "un altro codice", "secrets=")
    secrets = {"codice": code}
    again(lab, "cassaforte", secrets=secrets, env={"CODICE": code})
    refused(check("es-12-3", lab), "fra le variabili", "altrove")
    again(lab, "cassaforte", ["sh", "-c", f"sleep 100 # {code}"], secrets=secrets)
    refused(check("es-12-3", lab), "nel comando", "altrove")
    again(lab, "cassaforte", ["sh", "-c", "cat /run/secrets/codice; touch /x; sleep 100"], secrets=secrets)
    lab.container("cassaforte").exec(["sh", "-c", "until [ -e /x ]; do sleep 0.1; done"], quiet=True)
    refused(check("es-12-3", lab), "nel diario", "altrove")
    again(lab, "cassaforte", secrets=secrets)
    assert check("es-12-3", lab).ok


def test_a_window_shows_what_a_template_wrote(lab: Lab) -> None:
    word = parameter("es-12-4")
    page = "/srv/sito/index.html"
    written = ["sh", "-c", f"mkdir -p /srv/sito; echo {word} > {page}; exec {SERVER}"]

    def ready() -> None:
        lab.container("vetrina").exec(["sh", "-c", "until wget -q -O - localhost; do sleep 0.1; done"], quiet=True)

    again(lab, "vetrina", env={"PAROLA": word}, templates={page: "${PAROLA}"})
    refused(check("es-12-4", lab), "nessuna risposta", "publish='80'")
    again(lab, "vetrina", SERVER, publish="80", env={"PAROLA": "altra"}, templates={page: "${PAROLA}"})
    ready()
    refused(check("es-12-4", lab), "altra", "modello")
    again(lab, "vetrina", written, publish="80")
    ready()
    refused(check("es-12-4", lab), "ma non da un modello", "templates=")
    again(lab, "vetrina", SERVER, publish="80", templates={page: word})
    ready()
    refused(check("es-12-4", lab), "ma non da una variabile", "env=")
    again(lab, "vetrina", SERVER, publish="80", env={"PAROLA": word}, templates={page: "<b>${PAROLA}</b>"})
    ready()
    assert check("es-12-4", lab).ok


def test_two_environments_are_compared_by_name_or_by_container(lab: Lab) -> None:
    one = lab.run("busybox", "sleep 100", name="uno", env={"A": 1}, detach=True)
    lab.run("busybox", "sleep 100", name="due", env={"A": 2}, detach=True)
    assert lab.compare(one, "due").words() == lab.compare("uno", lab.container("due")).words()
    assert "≠  A          1 (da -e)" in lab.compare("uno", "due").words()

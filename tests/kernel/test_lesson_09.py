"""Gli esercizi della lezione 09: ogni modo sbagliato di farli riceve una frase che dice che cosa manca."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import Lab, check, parameter
from tests.kernel.test_lesson_checks import refused

pytestmark = pytest.mark.kernel


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("LABKIT_STUDENT", "prova")
    with Lab() as lab:
        yield lab


def test_a_phoenix_is_always_the_same_container(lab: Lab) -> None:
    refused(check("es-09-1", lab), "nessun container", "name='fenice'")
    phoenix = lab.run("busybox", "sleep 100", name="fenice", detach=True)
    refused(check("es-09-1", lab), "running", "wait()")
    phoenix.rm(force=True)
    for _ in range(parameter("es-09-1")):  # as many, but not the same one
        lab.run("busybox", "true", name="fenice", detach=True).wait()
        if _ < parameter("es-09-1") - 1:
            lab.container("fenice").rm()
    refused(check("es-09-1", lab), "partito 1 volte", "start()")
    phoenix = lab.container("fenice")
    for _ in range(parameter("es-09-1") - 1):
        phoenix.start().wait()
    assert check("es-09-1", lab).ok


def test_the_stubborn_one_must_fail_by_itself_the_right_number_of_times(lab: Lab) -> None:
    times = parameter("es-09-2")
    refused(check("es-09-2", lab), "nessun container", "name='tenace'")
    wrong = [
        ({"restart": "always"}, "la regola always", "restart='on-failure:N'"),
        ({"restart": f"on-failure:{times + 1}"}, f"{times + 1} ripartenze", "due punti"),
    ]
    for options, found, hint in wrong:
        lab.run("busybox", ["sh", "-c", "exit 9"], name="tenace", detach=True, **options)
        refused(check("es-09-2", lab), found, hint)
        lab.container("tenace").rm(force=True)
    lab.run("busybox", ["sh", "-c", "exit 8"], name="tenace", detach=True, restart=f"on-failure:{times}")
    refused(check("es-09-2", lab), "codice di uscita 8", "exit 9")
    lab.container("tenace").rm(force=True)
    lab.run("busybox", ["sh", "-c", "exit 9"], name="tenace", detach=True, restart=f"on-failure:{times}")
    assert check("es-09-2", lab).ok


def test_the_polite_one_ends_at_the_first_word(lab: Lab) -> None:
    refused(check("es-09-3", lab), "nessun container", "name='educato'")
    lab.run("busybox", "true", name="educato", detach=True).wait()
    refused(check("es-09-3", lab), "exited", "sleep 1000")
    lab.container("educato").rm()
    lab.run("busybox", "sleep 100", name="educato", detach=True)
    refused(check("es-09-3", lab), "137", "init=True")
    lab.container("educato").rm()
    lab.run("busybox", "sleep 100", name="educato", init=True, detach=True)
    assert check("es-09-3", lab).ok
    assert check("es-09-3", lab).ok, "asked again, it starts again"


def test_the_patient_is_ill_and_well_by_its_file_alone(lab: Lab) -> None:
    file = parameter("es-09-4")
    refused(check("es-09-4", lab), "nessun container", "name='paziente'")
    lab.run("busybox", "sleep 100", name="paziente", detach=True)
    refused(check("es-09-4", lab), "senza una prova", "health_cmd")
    lab.container("paziente").rm(force=True)
    quick = {"health_interval": "100ms", "health_retries": 1, "detach": True, "name": "paziente"}
    lab.run("busybox", "sleep 100", health_cmd="true", **quick)
    refused(check("es-09-4", lab), "healthy", f"/{file}")
    lab.container("paziente").rm(force=True)
    lab.run("busybox", "sleep 100", health_cmd=f"test -e /{file}", **quick)
    assert check("es-09-4", lab).ok

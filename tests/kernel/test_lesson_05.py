"""Gli esercizi della lezione 05: ogni modo sbagliato di farli riceve una frase che dice che cosa manca."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labkit import Lab, check, parameter
from labkit.course.exercises import Verdict

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def lab(shared: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("LABKIT_STUDENT", "prova")
    return shared


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


def again(lab: Lab, name: str, script: str = "", **options: Any) -> None:
    """Un container nuovo con quel nome, e un comando dato dentro."""
    for old in lab.ps(all=True):
        old.rm(force=True)
    container = lab.run("busybox", ["sleep", "100"], name=name, detach=True, **options)
    if script:
        assert container.exec(["/bin/busybox", "sh", "-c", script]).ok


def test_a_command_must_vanish_alone(lab: Lab) -> None:
    command = parameter("es-05-1")
    refused(check("es-05-1", lab), "nessun container", "detach=True")
    again(lab, "mago")
    refused(check("es-05-1", lab), "ancora lì", command)
    again(lab, "mago", f"rm {command}; echo > {command}")
    refused(check("es-05-1", lab), "cambiato, ma ancora lì", command)
    again(lab, "mago", "rm -r /bin")
    refused(check("es-05-1", lab), "con la sua cartella", command)
    again(lab, "mago", f"rm {command}")
    assert check("es-05-1", lab).ok


def test_a_folder_emptied_is_not_a_new_one(lab: Lab) -> None:
    name = parameter("es-05-2")
    again(lab, "casa", "rm -r /var")
    refused(check("es-05-2", lab), "nessuna cartella /var", "mkdir")
    again(lab, "casa", "rm -r /var; mkdir /var")
    refused(check("es-05-2", lab), "/var vuota", name)
    again(lab, "casa", f"touch /var/{name}")
    refused(check("es-05-2", lab), "cache", name)
    again(lab, "casa", f"rm -r /var/*; touch /var/{name}")
    refused(check("es-05-2", lab), "svuotata un nome alla volta", "opaca")
    again(lab, "casa", f"rm -r /var; mkdir /var; touch /var/{name}")
    assert check("es-05-2", lab).ok


def test_a_wall_has_stone_below_and_a_word_in_front(lab: Lab) -> None:
    word = parameter("es-05-3")
    with lab.process() as mason:
        mason.python("import os, tempfile\nfrom labkit import kernel\nos.chdir(tempfile.mkdtemp())")
        mason.python("for nome in ('sotto', 'sopra', 'lavoro', 'insieme'): os.mkdir(nome)")
        refused(check("es-05-3", lab, mason), "nessun mount", "kernel.overlay")
        mason.python("kernel.overlay('insieme', ('sotto',), 'sopra', 'lavoro')")
        refused(check("es-05-3", lab, mason), "sotto/muro vuoto", "prima di montare")
        mason.python("kernel.umount('insieme')")
        mason.python("with open('sotto/muro', 'w') as muro: muro.write('pietra')")
        mason.python("kernel.overlay('insieme', ('sotto',), 'sopra', 'lavoro')")
        refused(check("es-05-3", lab, mason), "«pietra» in insieme/muro", "dopo il mount")
        mason.python(f"with open('insieme/muro', 'w') as muro: muro.write('{word}')")
        assert check("es-05-3", lab, mason).ok


def test_a_statue_does_not_move_but_has_a_note(lab: Lab) -> None:
    note = parameter("es-05-4")
    write = f"echo {note} > /dev/shm/nota"
    again(lab, "statua", write)
    refused(check("es-05-4", lab), "si scrive ancora", "read_only=True")
    assert lab.container("statua").exec(["ls", "/tmp"], quiet=True).output == "", "the check leaves nothing"
    again(lab, "statua", read_only=True)
    refused(check("es-05-4", lab), "nessuna nota", "exec")
    again(lab, "statua", "echo altro > /dev/shm/nota", read_only=True)
    refused(check("es-05-4", lab), "«altro»", "exec")
    again(lab, "statua", write, read_only=True)
    assert check("es-05-4", lab).ok

"""Gli esercizi delle lezioni 00 e 03: ogni modo sbagliato di farli riceve una frase che dice che cosa manca."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import Lab, check, parameter
from labkit.course.exercises import Verdict

pytestmark = pytest.mark.kernel

SITE = "mkdir /srv/x; echo '{text}' > /srv/x/index.html; exec httpd -f -p 80 -h /srv/x"


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("LABKIT_STUDENT", "prova")
    with Lab() as lab:
        yield lab


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


def test_a_container_with_the_wrong_hostname_is_told_apart_from_no_container(lab: Lab) -> None:
    refused(check("es-00-1", lab), "nessun container", "programma")
    lab.run("busybox", "sleep 100", name="palestra", detach=True)
    refused(check("es-00-1", lab), "l'hostname", "hostname=")
    lab.container("palestra").rm(force=True)
    lab.run("busybox", "sleep 100", name="palestra", hostname=parameter("es-00-1"), detach=True)
    assert check("es-00-1", lab).ok


def test_a_site_is_asked_for_its_port_its_answer_and_its_word(lab: Lab) -> None:
    lab.run("busybox", "sleep 100", name="sito", detach=True)
    refused(check("es-00-2", lab), "nessuna porta", "publish='80'")
    lab.container("sito").rm(force=True)
    lab.run("busybox", "sleep 100", name="sito", publish="80", detach=True)
    refused(check("es-00-2", lab), "nessuna risposta", "logs()")
    lab.container("sito").rm(force=True)
    site = lab.run("busybox", ["sh", "-c", SITE.format(text="diversa")], name="sito", publish="80", detach=True)
    site.exec("sh -c 'until wget -q -O - localhost; do sleep 0.1; done'", quiet=True)
    refused(check("es-00-2", lab), "diversa", "exec")
    site.exec(["sh", "-c", f"echo {parameter('es-00-2')} > /srv/x/index.html"])
    assert check("es-00-2", lab).ok


def test_a_file_must_vanish_from_the_image_that_has_it(lab: Lab) -> None:
    lab.run("busybox", "sleep 100", name="prestigiatore", detach=True)
    refused(check("es-00-3", lab), "busybox", "«host»")
    lab.container("prestigiatore").rm(force=True)
    magician = lab.run("host", "sleep 100", name="prestigiatore", detach=True)
    refused(check("es-00-3", lab), "ancora visibile", "sezione 8")
    magician.exec(["rm", parameter("es-00-3")])
    assert check("es-00-3", lab).ok


def test_the_last_word_is_read_only_from_a_container_that_has_ended(lab: Lab) -> None:
    refused(check("es-00-4", lab), "nessun container", "exit")
    wrong = lab.run("busybox", ["sh", "-c", "read line; exit 0"], name="addio", detach=True)
    wrong.wait()
    refused(check("es-00-4", lab), "il codice di uscita", "exit")
    wrong.rm()
    slow = lab.run("busybox", "sleep 100", name="addio", detach=True)
    refused(check("es-00-4", lab), "running", "wait()")
    slow.rm(force=True)
    lab.run("busybox", ["sh", "-c", f"exit {parameter('es-00-4')}"], name="addio", detach=True).wait()
    assert check("es-00-4", lab).ok


def test_a_name_needs_its_namespace_first(lab: Lab) -> None:
    tenant = lab.process(label="affitto")
    tenant.sethostname(parameter("es-03-1"))
    refused(check("es-03-1", lab, tenant), "del laboratorio", "otto namespace")
    tenant.sethostname("laboratorio").unshare("uts")
    refused(check("es-03-1", lab, tenant), "l'hostname «laboratorio»", "sethostname")
    tenant.sethostname(parameter("es-03-1"))
    assert check("es-03-1", lab, tenant).ok


def test_flatmates_share_a_new_network_and_nothing_of_the_name(lab: Lab) -> None:
    kitchen, bedroom = lab.process(label="cucina"), lab.process(label="camera")
    refused(check("es-03-2", lab, kitchen, bedroom), "del laboratorio", "")
    kitchen.unshare("net")
    bedroom.unshare("net")
    refused(check("es-03-2", lab, kitchen, bedroom), "due reti diverse", "setns")
    bedroom.setns(kitchen, "net")
    refused(check("es-03-2", lab, kitchen, bedroom), "uguali", "unshare('uts')")
    bedroom.unshare("uts")
    assert check("es-03-2", lab, kitchen, bedroom).ok


@pytest.mark.clock
def test_time_moves_only_for_the_child_and_only_by_the_right_amount(lab: Lab) -> None:
    early = lab.process(label="nonno")
    early.unshare("time").time_offset(boottime=5 * 24 * 60 * 60)
    refused(check("es-03-3", lab, early), "del laboratorio", "fork")
    refused(check("es-03-3", lab, early.fork()), "5 giorni", "boottime")
    right = lab.process(label="nonno-2")
    right.unshare("time").time_offset(boottime=parameter("es-03-3") * 24 * 60 * 60).fork()
    assert check("es-03-3", lab, right).ok
    assert [p.label for p in lab.namespaces().processes if p.label == "testimone"] == []


def test_alone_means_pid_1_own_mounts_and_a_new_proc(lab: Lab) -> None:
    castaway = lab.process(label="robinson")
    castaway.unshare("pid")
    refused(check("es-03-4", lab, castaway), "namespace pid", "fork")
    castaway.fork()
    refused(check("es-03-4", lab, castaway), "namespace mount", "unshare('mount')")
    castaway.unshare("mount")
    refused(check("es-03-4", lab, castaway), "altri processi", "/proc")
    castaway.mount("proc", "/proc", "proc")
    assert check("es-03-4", lab, castaway).ok


def test_a_dead_process_or_a_closed_lab_gets_a_sentence(lab: Lab) -> None:
    gone = lab.process(label="andato")
    gone.close()
    refused(check("es-03-1", lab, gone), "non c'è più", "lab.process()")
    lab.close()
    refused(check("es-00-1", lab), "chiuso", "Lab()")

"""La lezione 01 su macchine vere: il racconto, il disco, il panico, la gara; e gli esercizi fatti male."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import Lab, check, parameter
from labkit.client import race
from labkit.client.process import Process
from labkit.course.exercises import Verdict
from labkit.draw import console as story
from labkit.errors import BackendError, LabClosedError, LabError

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.machine,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="i kernel del corso sono per x86-64"),
]

DISKS = {"uml": "/dev/ubda", "qemu": "/dev/vda"}
SYSRQ = "/proc/sysrq-trigger"


def power_on(backend: str) -> Lab:
    """Una macchina accesa; senza rete e senza pacchetti non c'è un kernel da provare."""
    try:
        return Lab(backend=backend)
    except BackendError as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(backend="direct") as lab:
        yield lab


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("LABKIT_STUDENT", "prova")
    with power_on("uml") as machine:
        yield machine


@pytest.mark.parametrize("backend", ["uml", "qemu"])
def test_a_machine_tells_its_boot_owns_a_disk_and_says_why_it_died(backend: str) -> None:
    with power_on(backend) as machine:
        inside = machine.process(label="dentro")
        assert len(story.moments(machine.console())) == 5
        assert f"Linux version {inside.read('/proc/sys/kernel/osrelease').strip()}" in machine.console()
        inside.write(DISKS[backend], "sul disco")
        inside.run("sync")
        disk = Path(machine.disk)
        assert disk.read_bytes()[:9] == b"sul disco"
        assert machine.memory() > 30 << 20
        assert str(disk) in machine.boot_files()
        pids = machine.host_pids()
        with pytest.raises(LabClosedError, match="sysrq triggered crash"):
            inside.write(SYSRQ, "c")
        assert machine.closed
        assert story.panic(machine.console()) == "sysrq triggered crash"
    assert not disk.exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_machine_closed_in_peace_has_nothing_to_explain(machine: Lab) -> None:
    machine.close()
    with pytest.raises(LabClosedError, match="tutto quello che conteneva"):
        machine.process()


def test_outside_a_container_of_a_machine_there_is_the_machine(machine: Lab) -> None:
    inside = machine.run("busybox", ["uname", "-r"], quiet=True).output
    assert machine.outside("uname -r") == inside != f"{os.uname().release}\n"
    assert list(machine.ps(all=True)) == []
    machine.close()
    assert machine.outside("uname -r") == f"{os.uname().release}\n"


def test_the_laboratory_of_this_kernel_has_no_console_and_no_disk(lab: Lab) -> None:
    assert (lab.console(), lab.disk, lab.boot_files()) == ("", "", {})
    assert lab.memory() > 1 << 20


def test_the_same_job_weighs_and_waits_more_in_a_machine(lab: Lab) -> None:
    power_on("uml").close()
    process, container, machine = (race.run(kind, lab) for kind in ("process", "container", "uml"))
    assert process.kernel == container.kernel == os.uname().release != machine.kernel
    assert process.ram == container.ram != machine.ram
    assert process.seconds < machine.seconds
    assert 0 < container.memory < machine.memory
    assert 0 < container.disk < machine.disk
    assert list(lab.ps(all=True)) == []


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


def test_a_word_reaches_the_console_only_through_the_kernel(machine: Lab, lab: Lab) -> None:
    refused(check("es-01-1", lab), "senza un kernel suo", "")
    refused(check("es-01-1", machine), "senza quella parola", "/dev/kmsg")
    machine.run("busybox", ["echo", parameter("es-01-1")])
    refused(check("es-01-1", machine), "senza quella parola", "a capo")
    machine.process().write("/dev/kmsg", parameter("es-01-1") + "\n")
    assert check("es-01-1", machine).ok


def test_a_disk_must_begin_with_the_signature(machine: Lab) -> None:
    inside = machine.process()
    refused(check("es-01-2", machine), "vuoto", "sync")
    inside.write(DISKS["uml"], "x" + parameter("es-01-2"))
    inside.run("sync")
    refused(check("es-01-2", machine), "comincia con «x", "primo byte")
    inside.write(DISKS["uml"], parameter("es-01-2"))
    inside.run("sync")
    assert check("es-01-2", machine).ok


def test_a_russian_doll_is_inside_the_machine_and_has_its_name(machine: Lab, lab: Lab) -> None:
    refused(check("es-01-3", lab), "senza un kernel suo", "macchina virtuale")
    refused(check("es-01-3", machine), "nessun container", "run")
    doll = machine.run("busybox", "sleep 1000", name="matrioska", detach=True)
    refused(check("es-01-3", machine), "l'hostname", "hostname=")
    doll.rm(force=True)
    machine.run("busybox", "sleep 1000", name="matrioska", hostname=parameter("es-01-3"), detach=True)
    assert check("es-01-3", machine).ok


def _poke(process: Process) -> None:
    with pytest.raises(LabError):
        process.write(SYSRQ, "c")


@pytest.mark.parametrize(
    ("end", "found"), [(None, "sta benissimo"), (Lab.close, "senza panico")], ids=["illesa", "spenta"]
)
def test_only_a_panic_is_a_panic(machine: Lab, lab: Lab, end: Callable[[Lab], None] | None, found: str) -> None:
    if end:
        end(machine)
    refused(check("es-01-4", lab, machine), found, "lettera")


def test_a_panic_passes_and_the_laboratory_is_asked(machine: Lab, lab: Lab) -> None:
    refused(check("es-01-4", lab, lab), "senza un kernel suo", "vittima")
    _poke(machine.process())
    assert check("es-01-4", lab, machine).ok

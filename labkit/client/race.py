"""Lo stesso lavoro fatto da un processo, da un container e da una macchina virtuale, con il cronometro.

Il lavoro scrive due righe: la versione del kernel che vede, e la memoria di quel kernel. Chi lo fa resta vivo
abbastanza da essere pesato, poi finisce.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

from labkit.client import weight
from labkit.client.lab import Lab
from labkit.client.machine import which
from labkit.errors import InvalidError, LabError

#: Il lavoro: che kernel c'è qui, e quanta memoria ha.
JOB = "uname -r; head -n 1 /proc/meminfo"

WAITING = f"{JOB}; exec sleep 1000"

#: Come si chiama chi corre, per chi guarda.
NAMES = {
    "process": "processo",
    "container": "container",
    "uml": "macchina virtuale (UML)",
    "qemu": "macchina virtuale (QEMU)",
}


@dataclass(frozen=True)
class Finish:
    """Com'è andata a un corridore: ``seconds`` alla prima riga, ``memory`` e ``disk`` in byte.

    ``kernel`` è la versione che ha visto, ``ram`` i byte di memoria che quel kernel dice di avere.
    """

    name: str
    seconds: float
    memory: int
    disk: int
    kernel: str
    ram: int


def run(kind: str, lab: Lab, started: Callable[[], None] = lambda: None) -> Finish:
    """Fa correre ``process``, ``container`` (nel laboratorio ``lab``), ``uml`` o ``qemu``.

    ``started`` è chiamata allo sparo. Una macchina che qui non si può accendere alza
    :class:`~labkit.errors.BackendError` con il rimedio.
    """
    if kind not in NAMES:
        raise InvalidError(f"«{kind}» non può correre: scegli fra {', '.join(NAMES)}.", "lab.race()")
    started()
    start = time.perf_counter()
    if kind == "process":
        return _process(start)
    return _container(lab, start) if kind == "container" else _machine(kind, start)


def _process(start: float) -> Finish:
    # The same program as in the container, where the laboratory has found it.
    busybox = which("busybox")
    command = [*([busybox] if busybox else []), "sh", "-c", WAITING]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - start
        second = process.stdout.readline()
        memory = weight.pss([process.pid])
        process.kill()
    return _finish("process", seconds, memory, 0, (first + second).decode())


def _container(lab: Lab, start: float) -> Finish:
    with _short_lived(lab) as (name, pieces):
        said = next(pieces)
        seconds = time.perf_counter() - start
        while said.count("\n") < 2:
            said += next(pieces)
        container = lab.container(name)
        memory = container.memory()
        disk = int(container.exec("du -s -x /", quiet=True).output.split()[0]) << 10
    return _finish("container", seconds, memory, disk, said)


@contextmanager
def _short_lived(lab: Lab) -> Iterator[tuple[str, Iterator[str]]]:
    """A container that does its job and then waits: its name, and what it says, piece by piece."""
    channel = lab.open_run("busybox", ["sh", "-c", WAITING], remove=True)
    early: list[str] = []  # what it says may arrive before the news that it has started
    while not channel.events:
        piece = channel.receive()
        if piece is None:
            raise LabError("Il container della gara è finito prima di partire.", "lab.race()")
        if piece[0] == "stdout":
            early.append(piece[1].decode())
    name = channel.events[0]["started"]["name"]
    later = (data.decode() for stream, data in channel if stream == "stdout")
    try:
        yield name, chain(early, later)
    finally:
        lab.container(name).kill()
        channel.discard()
        _ = channel.result


def _machine(kind: str, start: float) -> Finish:
    with Lab(backend=kind) as machine:
        said = machine.process(label="gara").run(["sh", "-c", JOB], quiet=True).output
        seconds = time.perf_counter() - start
        return _finish(kind, seconds, machine.memory(), sum(machine.boot_files().values()), said)


def _finish(kind: str, seconds: float, memory: int, disk: int, said: str) -> Finish:
    kernel, ram = said.splitlines()[:2]
    return Finish(NAMES[kind], seconds, memory, disk, kernel, int(ram.split()[1]) << 10)

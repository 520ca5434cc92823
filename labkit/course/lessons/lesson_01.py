"""Lezione 01, la virtualizzazione: quattro esercizi su macchine vere: la console, il disco, il kernel, il panico."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.draw.console import panic
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from labkit.client.container import Container
    from labkit.client.lab import Lab

#: The version of the kernel, as the kernel of whoever reads tells it.
_RELEASE = "/proc/sys/kernel/osrelease"

_WORDS = ("sirena", "cometa", "lanterna", "bussola", "aurora", "vulcano", "conchiglia", "mongolfiera")


def _word(random: Random) -> str:
    return f"{random.choice(_WORDS)}-{random.randint(100, 999)}"


def _machine(lab: Lab, hint: str = "") -> Outcome:
    vm = lab.mode == "vm" and not lab.closed
    found = "un laboratorio senza un kernel suo" if lab.mode != "vm" else "una macchina spenta" if lab.closed else ""
    return expect(vm, "una macchina virtuale accesa", found or "una macchina virtuale accesa", hint)


def _ask(lab: Lab, path: str) -> str:
    with lab.process(label="verifica") as process:
        return process.read(path).strip()


def _message(lab: Lab) -> Outcome:
    wanted = parameter("es-01-1")

    def steps() -> Iterator[Outcome]:
        yield _machine(lab)
        said = [line for line in lab.console().splitlines() if wanted in line]
        yield expect(
            bool(said),
            f"la parola «{wanted}» sulla console",
            f"la parola «{wanted}» sulla console" if said else "una console senza quella parola",
            "Il kernel ripete sulla console ogni riga scritta in /dev/kmsg: una riga intera, con il suo a capo.",
        )

    return first_failure(steps())


def _on_disk(lab: Lab) -> Outcome:
    wanted = parameter("es-01-2").encode()

    def steps() -> Iterator[Outcome]:
        yield _machine(lab)
        with open(lab.disk, "rb") as disk:
            found = disk.read(len(wanted))
        empty = not found.strip(b"\0")
        yield expect(
            found == wanted,
            f"un disco che comincia con «{wanted.decode()}»",
            f"un disco che comincia con «{found.decode(errors='replace')}»" if not empty else "un disco ancora vuoto",
            "Il disco della macchina è il dispositivo scritto in «disco». Dopo aver scritto serve un sync, come prima "
            "di staccare una chiavetta."
            if empty
            else "La parola deve essere proprio all'inizio del disco, nel suo primo byte.",
        )

    return first_failure(steps())


def _russian_doll(lab: Lab) -> Outcome:
    name = parameter("es-01-3")

    def steps() -> Iterator[Outcome]:
        yield _machine(lab, "Il container va avviato nella macchina virtuale, non nel laboratorio di sempre.")
        here = {c.name: c for c in lab.ps()}
        yield expect(
            "matrioska" in here,
            "un container «matrioska» che gira dentro la macchina",
            f"dentro la macchina: {', '.join(sorted(here)) or 'nessun container'}",
            "Anche la macchina ha il suo run, uguale a quello del laboratorio: macchina.run(…, detach=True).",
        )
        doll: Container = here["matrioska"]
        hostname = doll.exec(["hostname"], quiet=True).output.strip()
        yield expect(hostname == name, f"l'hostname «{name}»", f"l'hostname «{hostname}»", "L'opzione è hostname=.")
        release = doll.exec(["cat", _RELEASE], quiet=True).output.strip()
        own = release == _ask(lab, _RELEASE) != os.uname().release
        yield expect(
            own,
            "un container che usa il kernel della macchina virtuale",
            f"«matrioska», hostname «{name}», con il kernel della macchina virtuale" if own else f"il kernel {release}",
        )

    return first_failure(steps())


def _panicked(lab: Lab, victim: Lab) -> Outcome:
    def steps() -> Iterator[Outcome]:
        if not victim.closed:
            yield _machine(victim, "La vittima è quella preparata nella cella dell'esercizio.")
        reason = panic(victim.console())
        spent = "una macchina spenta senza panico" if victim.closed else "un kernel che sta benissimo"
        yield expect(
            bool(reason) and victim.closed,
            "un kernel fermato dal panico",
            f"il panico «{reason}»" if reason else spent,
            "Nella sezione 4 il kernel è andato in panico perché qualcuno ha scritto una lettera in un file.",
        )
        alive = bool(_ask(lab, _RELEASE))
        yield expect(alive, "il laboratorio illeso", f"il panico «{reason}», e il laboratorio illeso")

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-01-1",
        title="Una riga sulla console",
        goal="Fai scrivere al kernel della macchina la parola {parametro} sulla sua console.",
        hints=(
            "Sulla console scrive solo il kernel. C'è un file con cui un programma gli chiede di farlo.",
            "Il file è /dev/kmsg. Ci scrive un processo della macchina, per esempio «dentro». Serve un a capo.",
            "dentro.write('/dev/kmsg', mia_parola + '\\n')",
        ),
        check=_message,
        parameter=_word,
    ),
    Exercise(
        key="es-01-2",
        title="Il primo byte",
        goal="Scrivi {parametro} all'inizio del disco della macchina, in modo che arrivi fino al file dell'host.",
        hints=(
            "Rileggi la sezione 2: che file è, visto da dentro, il disco della macchina?",
            "Prima si scrive, poi si svuota la memoria di transito con sync.",
            "dentro.write(disco, mia_firma); dentro.run('sync')",
        ),
        check=_on_disk,
        parameter=_word,
    ),
    Exercise(
        key="es-01-3",
        title="La matrioska",
        goal="Avvia nella macchina virtuale un container «matrioska» con l'hostname {parametro}.",
        hints=(
            "La macchina è un laboratorio come l'altro: ha gli stessi comandi.",
            "Usa macchina.run con name=, hostname= e detach=True, e un programma che resta acceso.",
            "macchina.run('busybox', ['sleep', '1000'], name='matrioska', hostname=mio_nome, detach=True)",
        ),
        check=_russian_doll,
        parameter=animal,
    ),
    Exercise(
        key="es-01-4",
        title="Panico a comando",
        goal="Manda in panico il kernel di «vittima», senza far male al laboratorio.",
        hints=(
            "Rileggi la sezione 4: quale file, e quale lettera?",
            "Lo deve scrivere un processo della vittima: vittima.process().write(…). La chiamata fallirà, ed è giusto.",
            "try:\n    vittima.process().write('/proc/sysrq-trigger', 'c')\nexcept LabError:\n    pass",
        ),
        check=_panicked,
    ),
)

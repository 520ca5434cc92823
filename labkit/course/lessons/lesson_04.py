"""Lezione 04, i cgroup: quattro esercizi su container e processi, verificati sui loro cgroup."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import expect, first_failure, parameter
from labkit.limits import show_bytes
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.client.container import Container
    from labkit.client.lab import Lab
    from labkit.client.process import Process

_MIB = 1 << 20


def _running(container: Container, name: str) -> Outcome:
    status = container.status
    words = {"running": "gira", "paused": "è in pausa", "exited": "è finito", "removed": "non c'è più"}
    return expect(
        status == "running",
        f"«{name}» che gira",
        f"«{name}» che {words.get(status, 'non è ancora partito')}",
        "Avvialo con un programma che duri, per esempio sleep 1000, e con detach=True.",
    )


def _ant(lab: Lab) -> Outcome:
    wanted = parameter("es-04-1") * _MIB

    def steps() -> Iterator[Outcome]:
        yield expect(
            any(c.name == "formica" for c in lab.ps(all=True)),
            "un container di nome «formica»",
            "nessun container con quel nome",
            "Il nome è un'opzione di lab.run: name='formica'.",
        )
        container = lab.container("formica")
        yield _running(container, "formica")
        limit = container.stats().memory_limit
        yield expect(
            limit == wanted,
            f"un limite di {show_bytes(wanted)}",
            f"un limite di {show_bytes(limit)}" if limit else "nessun limite di memoria",
            "L'opzione è memory, e la m vuol dire MiB: memory='64m'.",
        )

    return first_failure(steps())


def _brake(lab: Lab, container: Container) -> Outcome:
    def steps() -> Iterator[Outcome]:
        yield _running(container, "lumaca")
        quota = container.inspect().limits.cpus
        yield expect(
            0 < quota <= 0.2,
            "al massimo un quinto di CPU",
            f"una quota di {quota:g} CPU".replace(".", ",") if quota else "nessuna quota",
            "Non serve un container nuovo: update cambia i limiti di uno che gira.",
        )
        before = container.stats()
        time.sleep(0.8)
        used = container.stats().cpu_percent(before)
        # On a busy machine it may get even less; what has never run at all is not that program.
        yield expect(
            0 < used < 30,
            "un programma che usa al massimo un quinto di CPU",
            "un programma che usa al massimo un quinto di CPU" if 0 < used < 30 else f"un uso del {used:.0f} %",
            "«lumaca» deve essere il container della cella, con il suo ciclo senza fine.",
        )

    return first_failure(steps())


def _said(process: Process, source: str) -> str:
    """What some Python writes, run in that process."""
    channel = process.lab.wire.open("process_ask", label=process.label, verb="cell", args={"source": source})
    return b"".join(data for _, data in channel).decode("utf-8", "replace").strip()


def _fence(lab: Lab, process: Process) -> Outcome:
    wanted = str(parameter("es-04-3"))

    def steps() -> Iterator[Outcome]:
        path = _said(process, "from labkit import kernel as _k\nprint(_k.cgroup().path('pids.max'))")
        home = _said(process, "from labkit import kernel as _k\nprint(_k.cgroup_top().path('pids.max'))")
        moved = path not in ("", home) and not path.endswith("/supervisor/pids.max")
        yield expect(
            moved,
            "«recinto» in un cgroup suo",
            "«recinto» in un cgroup suo" if moved else "«recinto» ancora nel gruppo del laboratorio",
            "Prima create() fa la cartella, poi add() ci mette il processo che la chiama.",
        )
        limit = _said(process, "from labkit import kernel as _k\nprint(_k.cgroup().read('pids.max'))")
        yield expect(
            limit == wanted,
            f"al massimo {wanted} processi",
            "nessun limite di processi" if limit == "max" else f"al massimo {limit} processi",
            "Il file è pids.max, e si scrive con write.",
        )

    return first_failure(steps())


def _bear(lab: Lab, container: Container) -> Outcome:
    def steps() -> Iterator[Outcome]:
        status = container.status
        yield expect(
            status == "paused",
            "«orso» in pausa",
            "«orso» in pausa" if status == "paused" else "«orso» che gira" if status == "running" else "«orso» finito",
            "Fermarlo non è ucciderlo: c'è un metodo che si chiama come il tasto di un lettore di musica.",
        )
        before = container.stats().cpu_seconds
        time.sleep(0.3)
        still = container.stats().cpu_seconds == before
        yield expect(still, "una CPU che non si muove", "una CPU che non si muove" if still else "una CPU che lavora")

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-04-1",
        title="La formica",
        goal="Avvia «formica», un container che può usare al massimo {parametro} MiB di memoria.",
        hints=(
            "È un'opzione di lab.run, la stessa della sezione 3.",
            "Serve anche detach=True, se no la cella aspetta che il programma finisca.",
            "lab.run('busybox', ['sleep', '1000'], name='formica', memory=f'{miei_mega}m', detach=True)",
        ),
        check=_ant,
        needs="memory",
        parameter=lambda random: random.choice((12, 20, 24, 28, 40, 48, 56)),
    ),
    Exercise(
        key="es-04-2",
        title="Il freno a mano",
        goal="Senza riavviarla, fai usare a «lumaca» al massimo un quinto di CPU.",
        hints=(
            "I limiti si cambiano anche mentre un container gira.",
            "Un quinto di CPU si scrive cpus=0.2.",
            "lumaca.update(cpus=0.2)",
        ),
        check=_brake,
        needs="cpus",
    ),
    Exercise(
        key="es-04-3",
        title="Il recinto",
        goal="A mano: metti «recinto» in un cgroup nuovo, con al massimo {parametro} processi.",
        hints=(
            "Le mosse sono tre: fare il gruppo, scrivere il limite, entrare.",
            "kernel.cgroup_top().child('recinto').create() fa il gruppo. Poi write e add.",
            "gruppo = kernel.cgroup_top().child('recinto').create(); gruppo.write('pids.max', …); gruppo.add()",
        ),
        check=_fence,
        needs="pids_limit",
        parameter=lambda random: random.randint(5, 90),
    ),
    Exercise(
        key="es-04-4",
        title="Il letargo",
        goal="Ferma «orso» senza ucciderlo: deve restare vivo e immobile.",
        hints=(
            "SIGSTOP ferma un processo. Qui ne serve uno per tutto il gruppo.",
            "È il file cgroup.freeze. Il container ha un metodo che lo scrive per te.",
            "orso.pause()",
        ),
        check=_bear,
        needs="pause",
    ),
)

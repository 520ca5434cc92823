"""Lezione 03, i namespace: quattro esercizi su processi comandati a mano, verificati sui loro namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.client.lab import Lab
    from labkit.client.process import Process

_DAY = 24 * 60 * 60


def _own(lab: Lab, process: Process, kind: str, who: str, hint: str = "") -> Outcome:
    """The process lives in a namespace of that kind which is not the laboratory's."""
    own = process.namespaces()[kind] != lab.namespaces()["laboratorio"].namespaces[kind]
    place = f"nel suo namespace {kind}" if own else f"ancora nel namespace {kind} del laboratorio"
    return expect(own, f"{who} in un namespace {kind} nuovo", f"{who} {place}", hint)


def _rented_name(lab: Lab, process: Process) -> Outcome:
    name = parameter("es-03-1")

    def steps() -> Iterator[Outcome]:
        yield _own(lab, process, "uts", "«affitto»")
        hostname = process.run("hostname", quiet=True).output.strip()
        yield expect(
            hostname == name,
            f"l'hostname «{name}»",
            f"l'hostname «{hostname}»",
            "Il namespace c'è. Ora serve sethostname, chiamata da «affitto».",
        )

    return first_failure(steps())


def _flatmates(lab: Lab, kitchen: Process, bedroom: Process) -> Outcome:
    def steps() -> Iterator[Outcome]:
        yield _own(lab, kitchen, "net", "«cucina»")
        one, two = kitchen.namespaces(), bedroom.namespaces()
        yield expect(
            one["net"] == two["net"],
            "«cucina» e «camera» nella stessa rete",
            "due reti diverse",
            "Una rete la crea uno solo, con unshare. L'altro ci entra, con setns.",
        )
        yield expect(
            one["uts"] != two["uts"],
            "la stessa rete nuova e due namespace uts diversi",
            "la stessa rete nuova, e due namespace uts "
            + ("diversi" if one["uts"] != two["uts"] else "uguali: cambiando nome a uno lo cambi all'altro"),
            "Almeno uno dei due deve chiamare unshare('uts').",
        )

    return first_failure(steps())


def _uptime(process: Process) -> float:
    return float(process.read("/proc/uptime").split()[0])


def _time_traveller(lab: Lab, process: Process) -> Outcome:
    days = parameter("es-03-3")

    def steps() -> Iterator[Outcome]:
        yield _own(lab, process, "time", "«nonno»", "Dopo unshare e time_offset ci vuole fork: vale per i figli.")
        witness = lab.process(label="testimone")
        try:
            found = (_uptime(process) - _uptime(witness)) / _DAY
        finally:
            witness.close()
        # The two clocks are read one after the other: a minute of a slow machine is not a day.
        exact = abs(found - days) * _DAY < 60
        shown = f"{round(found)}" if abs(found - round(found)) * _DAY < 60 else f"{found:.2f}"
        yield expect(
            exact,
            f"un computer acceso da {days} giorni in più",
            f"un computer acceso da {shown} giorni in più",
            "boottime è in secondi, e va dato prima di fork: un giorno sono 24 * 60 * 60.",
        )

    return first_failure(steps())


def _pids(process: Process) -> list[str]:
    """The processes that it sees: its own /proc is listed by a child of its, which is not counted."""
    shown = process.run("ls /proc", quiet=True).output.split()
    return [name for name in shown if name.isdecimal()]


def _alone(lab: Lab, process: Process) -> Outcome:
    def steps() -> Iterator[Outcome]:
        yield _own(lab, process, "pid", "«robinson»", "Dopo unshare('pid') ci vuole fork: il numero 1 sarà il figlio.")
        yield _own(
            lab,
            process,
            "mount",
            "«robinson»",
            "Montare un /proc nuovo disturba gli altri, se il namespace mount è lo stesso: prima unshare('mount').",
        )
        seen = _pids(process)
        yield expect(
            seen[:1] == ["1"] and len(seen) <= 2,
            "«robinson» con il PID 1, solo nel suo /proc",
            "«robinson» con il PID 1, solo nel suo /proc" if len(seen) <= 2 else "un /proc che mostra altri processi",
            "Il namespace pid è nuovo, ma /proc è quello vecchio: va montato di nuovo, con fstype 'proc'.",
        )

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-03-1",
        title="Un nome in affitto",
        goal="Dai a «affitto» l'hostname {parametro}, senza cambiare quello del laboratorio.",
        hints=(
            "L'hostname sta in uno degli otto namespace. Quale?",
            "Prima affitto deve smettere di condividere il namespace uts, poi può cambiare nome.",
            "affitto.unshare('uts'); affitto.sethostname(mio_nome)",
        ),
        check=_rented_name,
        parameter=animal,
    ),
    Exercise(
        key="es-03-2",
        title="Coinquilini",
        goal="Metti «cucina» e «camera» nella stessa rete nuova, con due namespace uts diversi.",
        hints=(
            "Un processo crea la rete, l'altro ci entra. Creare ed entrare sono due chiamate diverse.",
            "cucina.unshare('net', 'uts') crea. Per entrare: camera.setns(chi, 'net').",
            "cucina.unshare('net', 'uts'); camera.unshare('uts'); camera.setns(cucina, 'net')",
        ),
        check=_flatmates,
    ),
    Exercise(
        key="es-03-3",
        title="Viaggio nel tempo",
        goal="Per «nonno» il computer deve essere acceso da {parametro} giorni in più.",
        hints=(
            "È il namespace più giovane. Rileggi la sezione 9: i gesti sono tre.",
            "unshare('time'), poi time_offset(boottime=…) in secondi, poi fork().",
            "nonno.unshare('time'); nonno.time_offset(boottime=miei_giorni * 24 * 60 * 60); nonno.fork()",
        ),
        check=_time_traveller,
        needs="time",
        parameter=lambda random: random.randint(10, 999),
    ),
    Exercise(
        key="es-03-4",
        title="Solo al mondo",
        goal="Fai di «robinson» il PID 1 di un mondo in cui vede solo sé stesso.",
        hints=(
            "Servono due namespace: quello dei processi, e quello che permette di cambiare /proc senza disturbare.",
            "unshare('mount', 'pid'), poi fork(); manca un /proc nuovo, montato su /proc.",
            "robinson.unshare('mount', 'pid'); robinson.fork(); robinson.mount('proc', '/proc', 'proc')",
        ),
        check=_alone,
    ),
)

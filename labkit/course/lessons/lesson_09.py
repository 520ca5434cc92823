"""Lezione 09, il ciclo di vita: quattro esercizi su container, verificati su come vivono, finiscono e ripartono."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.errors import LabError, NotFoundError
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from labkit.client.container import Container
    from labkit.client.lab import Lab

#: Seconds that a check waits for something that takes a moment.
_PATIENCE = 5.0


def _container(lab: Lab, name: str) -> Container | None:
    try:
        return lab.container(name)
    except NotFoundError:
        return None


def _missing(name: str) -> Outcome:
    return expect(False, f"un container di nome «{name}»", "nessun container con quel nome",
                  f"Il nome si sceglie con name='{name}', e detach=True non aspetta la fine.")  # fmt: skip


def _until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return true()


def _phoenix(lab: Lab) -> Outcome:
    lives = parameter("es-09-1")
    phoenix = _container(lab, "fenice")
    if phoenix is None:
        return _missing("fenice")

    def steps() -> Iterator[Outcome]:
        info = phoenix.inspect()
        yield expect(info.state == "exited", "«fenice» ferma", f"«fenice» nello stato {info.state}",
                     "Il suo programma deve finire: aspettalo con wait().")  # fmt: skip
        births = len(lab.events(filters={"container": info.id, "event": "start"}))
        hint = "Un container fermo riparte con start(). Un container nuovo, con lo stesso nome, comincia da capo."
        yield expect(
            births == lives, f"un container partito {lives} volte", f"un container partito {births} volte", hint
        )

    return first_failure(steps())


def _stubborn(lab: Lab) -> Outcome:
    times = parameter("es-09-2")
    stubborn = _container(lab, "tenace")
    if stubborn is None:
        return _missing("tenace")

    def steps() -> Iterator[Outcome]:
        policy = stubborn.inspect().restart
        yield expect(policy.name == "on-failure", "la regola on-failure", f"la regola {policy}",
                     "La regola si dà alla nascita: restart='on-failure:N'.")  # fmt: skip
        down = _until(lambda: stubborn.status == "exited")
        info = stubborn.inspect()
        yield expect(down, "«tenace» che alla fine si arrende", f"«tenace» ancora nello stato {info.state}",
                     "Deve fallire in fretta, e avere un numero massimo di tentativi.")  # fmt: skip
        count = info.restart_count
        yield expect(count == times, f"{times} ripartenze", f"{count} ripartenze",
                     "Il numero dopo i due punti dice quante volte riprovare: restart='on-failure:N'.")  # fmt: skip
        yield expect(info.exit_code == 9, f"{times} ripartenze e il codice di uscita 9",
                     f"{count} ripartenze e il codice di uscita {info.exit_code}",
                     "Un programma sceglie il suo codice: sh -c 'exit 9'.")  # fmt: skip

    return first_failure(steps())


def _polite(lab: Lab) -> Outcome:
    polite = _container(lab, "educato")
    if polite is None:
        return _missing("educato")

    def steps() -> Iterator[Outcome]:
        try:
            polite.start()
        except LabError as problem:
            yield expect(
                False, "«educato» che parte", problem.message, "Serve un programma che resti acceso: sleep 1000."
            )
        time.sleep(0.3)
        alive = polite.status == "running"
        yield expect(alive, "«educato» che gira", f"«educato» nello stato {polite.status}",
                     "Serve un programma che resti acceso, come sleep 1000.")  # fmt: skip
        code = polite.stop(grace=2)
        hint = "137 vuol dire che c'è voluto SIGKILL. Chi fa il PID 1 di mestiere passa i segnali: init=True."
        yield expect(code == 143, "«educato» che a SIGTERM finisce con 143", f"«educato» che finisce con {code}", hint)

    return first_failure(steps())


def _patient(lab: Lab) -> Outcome:
    file = f"/{parameter('es-09-4')}"
    patient = _container(lab, "paziente")
    if patient is None:
        return _missing("paziente")

    def steps() -> Iterator[Outcome]:
        info = patient.inspect()
        found = f"«paziente» nello stato {info.state}, {'con' if info.health else 'senza'} una prova"
        hint = "La prova è un comando: health_cmd='test -e /file'. E il programma deve restare acceso."
        ready = info.state == "running" and info.health is not None
        yield expect(ready, "un container che gira, con una prova di salute", found, hint)
        hint = f"La prova deve dire sì solo se c'è {file}. Intervallo breve, pochi tentativi: health_interval='200ms'."
        patient.exec(["rm", "-f", file], quiet=True)
        ill = _until(lambda: patient.health == "unhealthy")
        yield expect(ill, f"«paziente» malato quando {file} non c'è", f"«paziente» {patient.health}", hint)
        patient.exec(["touch", file], quiet=True)
        well = _until(lambda: patient.health == "healthy")
        yield expect(well, f"«paziente» malato senza {file}, e sano quando c'è", f"«paziente» {patient.health}", hint)

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-09-1",
        title="La fenice",
        goal="Fai partire lo stesso container, «fenice», {parametro} volte in tutto. Alla fine deve essere fermo.",
        hints=(
            "Un container fermo non è perso: ha ancora il suo nome e il suo strato. Si può far ripartire.",
            "La prima volta nasce con lab.run(…, detach=True). Le altre volte riparte con start(). In mezzo, wait().",
            "fenice = lab.run('busybox', 'true', name='fenice', detach=True), poi fenice.start().wait() più volte",
        ),
        check=_phoenix,
        parameter=lambda random: random.randint(3, 6),
    ),
    Exercise(
        key="es-09-2",
        title="Il tenace",
        goal="«tenace» deve fallire con il codice 9, ripartire da solo {parametro} volte, poi arrendersi.",
        hints=(
            "Serve una regola di riavvio che guarda il codice di uscita, con un limite.",
            "La regola è on-failure, e il limite si scrive dopo i due punti. Il programma è una shell che fa exit.",
            "lab.run('busybox', ['sh', '-c', 'exit 9'], name='tenace', restart=f'on-failure:{mie_volte}', detach=True)",
        ),
        check=_stubborn,
        parameter=lambda random: random.randint(2, 4),
    ),
    Exercise(
        key="es-09-3",
        title="L'educato",
        goal="Avvia «educato», un programma che resta acceso e che a SIGTERM finisce subito, con il codice 143.",
        hints=(
            "Un PID 1 che non dice niente su SIGTERM lo ignora. Chi può fare il PID 1 al posto del programma?",
            "C'è un'opzione che mette un piccolo init davanti al programma. Rileggi la sezione 3.",
            "lab.run('busybox', 'sleep 1000', name='educato', init=True, detach=True)",
        ),
        check=_polite,
    ),
    Exercise(
        key="es-09-4",
        title="Il paziente",
        goal="«paziente» deve risultare sano solo quando esiste il file /{parametro}, e malato quando non c'è.",
        hints=(
            "La salute è la risposta di un comando: 0 vuol dire sì. Quale comando controlla se c'è un file?",
            "test -e FILE. Va dato alla nascita, con health_cmd; per non aspettare, health_interval breve.",
            "lab.run('busybox', 'sleep 1000', name='paziente', health_cmd=f'test -e /{mio_file}', "
            "health_interval='200ms', health_retries=2, detach=True)",
        ),
        check=_patient,
        parameter=animal,
    ),
)

"""Lezione 12, le variabili d'ambiente: quattro esercizi, verificati in /proc, in inspect e nelle pagine servite."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import urlopen

from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.environment import Variable
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.client.container import Container
    from labkit.client.lab import Lab

_ORIGINS = {"lab": "dal laboratorio", "image": "dall'immagine", "file": "da un file", "option": "da env="}


_FLAVOURS = ("panna", "menta", "limone", "fragola", "cannella", "pistacchio")


def _running(lab: Lab, name: str) -> Outcome:
    states = [c.status for c in lab.ps(all=True) if c.name == name]
    found = f"un container nello stato «{states[0]}»" if states else "nessun container con quel nome"
    return expect(states == ["running"], f"un container di nome «{name}», acceso", found)


def _again(name: str) -> str:
    return f"Prima di rifarlo: lab.container('{name}').rm(force=True)"


def _received(container: Container) -> dict[str, str]:
    """The environment that the program received, read where the kernel keeps it."""
    text = container.exec(["sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"], user="0", quiet=True).output
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _chosen(container: Container) -> dict[str, Variable]:
    return {variable.name: variable for variable in container.inspect().env}


def _sign(lab: Lab) -> Outcome:
    word = parameter("es-12-1")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "insegna")
        container = lab.container("insegna")
        found = _received(container).get("INSEGNA")
        yield expect(
            found == word,
            f"INSEGNA={word} fra le variabili ricevute dal programma",
            "nessuna variabile INSEGNA" if found is None else f"INSEGNA={found}",
            f"Le variabili si danno quando il container nasce: env={{'INSEGNA': …}}. {_again('insegna')}",
        )
        written = any(word in argument for argument in container.inspect().command)
        yield expect(
            not written,
            f"INSEGNA={word} fra le variabili, e un comando uguale per tutti",
            f"«{word}» scritto anche nel comando" if written else f"INSEGNA={word} fra le variabili del programma",
            "Il comando deve essere uguale per tutti: quello che cambia sta in env=.",
        )

    return first_failure(steps())


def _menu(lab: Lab) -> Outcome:
    price = str(parameter("es-12-2"))
    wanted = {"PREZZO": (price, "option"), "PIATTO": ("lasagne", "file")}

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "menu")
        found = _chosen(lab.container("menu"))
        for name, (value, origin) in wanted.items():
            variable = found.get(name)
            told = f"{variable}, {_ORIGINS[variable.origin]}" if variable else f"nessuna variabile {name}"
            yield expect(
                variable is not None and (variable.value, variable.origin) == (value, origin),
                f"{name}={value}, {_ORIGINS[origin]}",
                told,
                f"Il file non si cambia: env_file= lo legge, env= ha l'ultima parola. {_again('menu')}",
            )
        yield expect(True, "", f"PIATTO=lasagne da un file, e PREZZO={price} da env=")

    return first_failure(steps())


def _safe(lab: Lab) -> Outcome:
    code = parameter("es-12-3")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "cassaforte")
        safe = lab.container("cassaforte")
        secret = safe.exec(["cat", "/run/secrets/codice"], quiet=True)
        yield expect(
            secret.exit_code == 0 and secret.output.strip() == code,
            f"il codice {code} in /run/secrets/codice",
            "nessun segreto di nome «codice»" if secret.exit_code else "un altro codice",
            f"Un segreto si dà con secrets={{'codice': …}}. {_again('cassaforte')}",
        )
        leaks = [
            place
            for place, text in (
                ("fra le variabili", " ".join(_received(safe).values())),
                ("nel comando", " ".join(safe.inspect().command)),
                ("nel diario", safe.logs()),
            )
            if code in text
        ]
        yield expect(
            not leaks,
            "il codice in /run/secrets e da nessun'altra parte",
            f"il codice anche {leaks[0]}" if leaks else "il codice in /run/secrets, e da nessun'altra parte",
            "Il programma deve leggere il file quando gli serve; il valore non va scritto altrove.",
        )

    return first_failure(steps())


def _page(site: Container) -> str:
    """What a browser would get from the published port, or an empty text if nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{site.ports[80]}/", timeout=5) as reply:
            return str(reply.read(1 << 20).decode("utf-8", "replace"))
    except (OSError, KeyError):
        return ""


def _window(lab: Lab) -> Outcome:
    word = parameter("es-12-4")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "vetrina")
        window = lab.container("vetrina")
        page = _page(window)
        yield expect(
            word in page,
            f"la parola «{word}» nella pagina di «vetrina»",
            f"la pagina «{' '.join(page.split())[:60]}»" if page else "nessuna risposta dalla porta 80",
            f"publish='80', e un modello per /srv/sito/index.html. {_again('vetrina')}",
        )
        filled = any(step.name == "WriteTemplate" for step in window.inspect().steps)
        given = word in [variable.value for variable in _chosen(window).values()]
        yield expect(
            filled and given,
            f"«{word}» messa nella pagina da un modello, con il valore di una variabile",
            f"«{word}» nella pagina, ma non " + ("da una variabile" if filled else "da un modello"),
            "templates= dice dove va il file e com'è fatto, con ${NOME}; env= dà a NOME il suo valore.",
        )
        yield expect(True, "", f"«{word}» nella pagina, messa da un modello")

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-12-1",
        title="La tua insegna",
        goal="In «insegna» il programma deve ricevere la variabile INSEGNA con il valore {parametro}.",
        hints=(
            "Il comando può essere un sonno qualunque: conta quello che il kernel gli consegna insieme.",
            "lab.run ha un'opzione che vuole un dizionario: nome della variabile e valore.",
            "lab.run('busybox', 'sleep 1000', name='insegna', env={'INSEGNA': mia_insegna}, detach=True)",
        ),
        check=_sign,
        parameter=animal,
    ),
    Exercise(
        key="es-12-2",
        title="Il prezzo del giorno",
        goal="In «menu» PIATTO viene dal file, e PREZZO vale {parametro} senza cambiare il file.",
        hints=(
            "Rileggi la sezione 4: chi parla per ultimo vince.",
            "Servono insieme env_file=, con il file, ed env=, con il solo PREZZO.",
            "lab.run('busybox', 'sleep 1000', name='menu', detach=True, "
            "env_file=file_menu, env={'PREZZO': mio_prezzo})",
        ),
        check=_menu,
        parameter=lambda random: random.randint(5, 99),
    ),
    Exercise(
        key="es-12-3",
        title="La cassaforte",
        goal="Da' a «cassaforte» il codice {parametro} in modo che non si legga né in inspect né in /proc.",
        hints=(
            "Una variabile si legge in troppi posti. Rileggi la sezione 8.",
            "L'opzione è secrets=, e il nome del segreto è quello del file: codice.",
            "lab.run('busybox', 'sleep 1000', name='cassaforte', secrets={'codice': mio_codice}, detach=True)",
        ),
        check=_safe,
        parameter=lambda random: f"{random.randint(0, 999999):06d}-{random.choice('ABCDEFGH')}",
    ),
    Exercise(
        key="es-12-4",
        title="La vetrina",
        goal="La pagina di «vetrina» mostra {parametro}, e ce la mette un modello.",
        hints=(
            "Il modello è la pagina con un vuoto: ${NOME}. Il file che diventa è /srv/sito/index.html.",
            "templates={'/srv/sito/index.html': '<h1>${PAROLA}</h1>'} e env={'PAROLA': mia_parola}.",
            "lab.run('busybox', 'httpd -f -p 80 -h /srv/sito', name='vetrina', publish='80', detach=True, "
            "env={'PAROLA': mia_parola}, templates={'/srv/sito/index.html': '<h1>${PAROLA}</h1>'})",
        ),
        check=_window,
        parameter=lambda random: f"{random.choice(_FLAVOURS)}-{random.randint(10, 99)}",
    ),
)

"""Lezione 00, benvenuto: quattro esercizi sul primo container, verificati guardandoci dentro."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from urllib.request import urlopen

from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.client.container import Container
    from labkit.client.lab import Lab

#: Words for a web page: no accents, so that a page without a charset shows them all the same.
_WORDS = ("aquilone", "bussola", "cometa", "faro", "girandola", "lanterna", "mongolfiera", "nocciola", "vela")

#: Files that every Linux has, and that a container made from this machine's /etc sees.
_FILES = ("/etc/passwd", "/etc/group", "/etc/profile", "/etc/shells")


def _container(lab: Lab, name: str) -> Container | None:
    """The container with that name, also if it has ended; None if there is none."""
    return next((c for c in lab.ps(all=True) if c.name == name), None)


def _running(lab: Lab, name: str) -> Outcome:
    found = _container(lab, name)
    state = "nessun container con quel nome" if found is None else f"un container nello stato «{found.status}»"
    return expect(found is not None and found.status == "running", f"un container di nome «{name}», acceso", state)


def _own_name(lab: Lab) -> Outcome:
    name = parameter("es-00-1")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "palestra")
        hostname = lab.container("palestra").exec(["hostname"], quiet=True).output.strip()
        yield expect(
            hostname == name,
            f"l'hostname «{name}» dentro «palestra»",
            f"l'hostname «{hostname}»",
            "Il nome del container e l'hostname sono due cose: lab.run ha name= e ha hostname=. "
            "Prima di rifarlo: lab.container('palestra').rm(force=True)",
        )

    return first_failure(steps())


def _page(site: Container) -> str:
    """What a browser would get from the published port, or an empty text if nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{site.ports[80]}/", timeout=5) as reply:
            return str(reply.read(1 << 20).decode("utf-8", "replace"))
    except OSError:
        return ""


def _own_site(lab: Lab) -> Outcome:
    word = parameter("es-00-2")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "sito")
        site = lab.container("sito")
        yield expect(
            80 in site.ports,
            "la porta 80 di «sito» pubblicata sulla macchina",
            "nessuna porta pubblicata che arrivi alla 80",
            "La porta si pubblica quando il container nasce: publish='80'. Prima: lab.container('sito').rm(force=True)",
        )
        page = _page(site)
        yield expect(
            page != "",
            "una risposta dal server web di «sito»",
            "nessuna risposta",
            "Leggi il diario del container: print(lab.container('sito').logs())",
        )
        yield expect(
            word in page,
            f"la parola «{word}» nella pagina del sito",
            f"la pagina «{' '.join(page.split())[:60]}»",
            "nginx serve il file /srv/corso/index.html del container: riscrivilo con exec.",
        )

    return first_failure(steps())


def _vanished(lab: Lab) -> Outcome:
    path = parameter("es-00-3")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "prestigiatore")
        inside = lab.container("prestigiatore")
        image = inside.inspect().image
        yield expect(
            image == "host",
            "un container fatto con l'immagine «host»",
            f"un container fatto con l'immagine «{image}»",
            "Il file da far sparire è della macchina: serve l'immagine che lo presta, «host».",
        )
        hidden = inside.exec(["test", "-e", path], quiet=True).exit_code != 0
        yield expect(
            hidden and Path(path).exists(),
            f"{path} sparito nel container e intatto sulla macchina",
            f"{path} {'sparito' if hidden else 'ancora visibile'} nel container "
            f"e {'intatto' if Path(path).exists() else 'sparito'} sulla macchina",
        )

    return first_failure(steps())


def _last_word(lab: Lab) -> Outcome:
    code = parameter("es-00-4")

    def steps() -> Iterator[Outcome]:
        found = _container(lab, "addio")
        yield expect(found is not None, "un container di nome «addio»", "nessun container con quel nome")
        if found is not None:
            yield expect(
                found.status == "exited",
                "un container «addio» già finito",
                f"un container nello stato «{found.status}»",
                "Aspetta che finisca: lab.container('addio').wait()",
            )
            ended = found.exit_code
            yield expect(ended == code, f"il codice di uscita {code}", f"il codice di uscita {ended}")

    return first_failure(steps())


def _word(random: Random) -> str:
    return f"{random.choice(_WORDS)}-{random.randint(100, 999)}"


EXERCISES = (
    Exercise(
        key="es-00-1",
        title="Un nome tuo",
        goal="Avvia un container busybox «palestra» che resta acceso, con hostname {parametro}.",
        hints=(
            "Un container resta acceso finché il suo programma lavora: scegline uno lungo, e non aspettarlo.",
            "Servono quattro cose: un comando come ['sleep', '1000'], name=, hostname= e detach=True.",
            "lab.run('busybox', ['sleep', '1000'], name='palestra', hostname=mio_nome, detach=True)",
        ),
        check=_own_name,
        parameter=animal,
    ),
    Exercise(
        key="es-00-2",
        title="Il tuo sito",
        goal="Avvia nginx in un container «sito», con la porta 80 pubblicata e la parola {parametro} nella pagina.",
        hints=(
            "Parti dalla cella che ha avviato «web»: cambia il nome, e il resto va già bene.",
            "La pagina è il file /srv/corso/index.html del container. Riscrivilo con sito.exec(['sh', '-c', '…']).",
            "sito = lab.run('host', ['sh', '-c', lavori], name='sito', publish='80', detach=True, "
            "env={'CONFIGURAZIONE': configurazione}); poi "
            "sito.exec(['sh', '-c', f'sleep 1; echo {mia_parola} > /srv/corso/index.html'])",
        ),
        check=_own_site,
        parameter=_word,
    ),
    Exercise(
        key="es-00-3",
        title="Nascosto, non cancellato",
        goal="Nel container «prestigiatore», fatto con l'immagine host, fai sparire {parametro}.",
        hints=(
            "Rileggi la sezione 8: là è sparito /etc/passwd.",
            "Avvia un container che resta acceso dall'immagine «host», poi usa exec per eseguire rm là dentro.",
            "p = lab.run('host', ['sleep', '1000'], name='prestigiatore', detach=True); p.exec(['rm', mio_file])",
        ),
        check=_vanished,
        parameter=lambda random: random.choice(_FILES),
    ),
    Exercise(
        key="es-00-4",
        title="L'ultima parola",
        goal="Fai finire un container «addio» con il codice di uscita {parametro}.",
        hints=(
            "Nella shell, exit seguito da un numero finisce il programma con quel codice.",
            "Il comando è ['sh', '-c', f'exit {mio_codice}'], e il container si avvia con detach=True.",
            "lab.run('busybox', ['sh', '-c', f'exit {mio_codice}'], name='addio', detach=True).wait()",
        ),
        check=_last_word,
        parameter=lambda random: random.randint(2, 99),
    ),
)

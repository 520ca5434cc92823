"""Lezione 06, le immagini: quattro esercizi, verificati nei file dei container e nella cartella delle immagini."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.request import urlopen

from labkit.course.catalog import Exercise
from labkit.course.exercises import expect, first_failure, parameter
from labkit.errors import NotFoundError
from labkit.limits import show_bytes
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from labkit.client.container import Container
    from labkit.client.lab import Lab

_SUBJECTS = ("storia", "musica", "chimica", "disegno", "latino", "ginnastica")
_FLAVOURS = ("panna", "menta", "limone", "fragola", "cannella", "pistacchio")
#: A database that starts for the first time needs a moment; a page, a shorter one. In seconds.
_PATIENCE = 20.0


def _running(lab: Lab, name: str, image: str) -> Iterator[Outcome]:
    """A container of that name runs, and was born from that image whatever name the image was given."""
    found = {c.name: c for c in lab.ps(all=True)}.get(name)
    wanted = f"un container di nome «{name}», acceso, dall'immagine {image}"
    if found is None or found.status != "running":
        state = f"un container nello stato «{found.status}»" if found else "nessun container con quel nome"
        yield expect(False, wanted, state, _again(name) if found else "")
        return
    info = found.inspect()
    right = info.image_digest == lab.image(image).digest
    yield expect(right, wanted, f"un container di un'altra immagine, {info.image}", _again(name))


def _again(name: str) -> str:
    return f"Prima di rifarlo: lab.container('{name}').rm(force=True). logs() dice che cosa è successo."


def _archive(lab: Lab) -> Outcome:
    name = parameter("es-06-1")

    def steps() -> Iterator[Outcome]:
        yield from _running(lab, "archivio", "corso/mariadb")
        container = lab.container("archivio")
        yield expect(
            _appears(container, f"/var/lib/mysql/{name}"),
            f"un database di nome {name} fra i file del server",
            f"i database {_databases(container)}",
            f"Il nome del database si dà alla partenza, in MARIADB_DATABASE. {_again('archivio')}",
        )
        yield expect(True, "", f"il database {name} fra i file di «archivio»")

    return first_failure(steps())


def _appears(container: Container, folder: str) -> bool:
    """Whether the folder is there, or comes while the server still prepares itself."""
    deadline = time.monotonic() + _PATIENCE
    while container.exec(["test", "-d", folder], quiet=True).exit_code:
        if time.monotonic() > deadline or container.exec(["test", "-e", "/run/mysqld/mysqld.pid"], quiet=True).ok:
            return container.exec(["test", "-d", folder], quiet=True).ok
        time.sleep(0.1)
    return True


def _databases(container: Container) -> str:
    listed = container.exec(["find", "/var/lib/mysql", "-mindepth", "1", "-maxdepth", "1", "-type", "d"], quiet=True)
    names = sorted(line.rpartition("/")[2] for line in listed.output.splitlines())
    return ", ".join(names) or "di nessuno: il server non è pronto"


def _weight(lab: Lab, answer: object) -> Outcome:
    there = {layer.digest for layer in lab.image("corso/mariadb").layers}
    layers = lab.image("corso/nginx").layers
    new = sum(layer.size for layer in layers if layer.digest not in there)
    number = answer if isinstance(answer, int) and not isinstance(answer, bool) else None
    clue = "Contano solo gli strati la cui impronta non è fra quelle di corso/mariadb."
    if number == sum(layer.size for layer in layers):
        clue = f"Questo è il peso di tutti i suoi strati: qualcuno, sul disco, c'è già. {clue}"
    elif number == sum(layer.size for layer in layers if layer.digest in there):
        clue = "Questi sono i byte risparmiati. La domanda è quanti se ne aggiungono."
    found = f"la risposta {answer!r}"
    if number == new:
        found = "i byte dei soli strati nuovi"
    elif number is not None and number >= 0:
        found = show_bytes(number)
    return expect(number == new, "i byte dei soli strati nuovi di corso/nginx", found, clue)


def _name(lab: Lab) -> Outcome:
    name = parameter("es-06-3")

    def steps() -> Iterator[Outcome]:
        try:
            found = lab.image(name).digest
        except NotFoundError:
            found = ""
        yield expect(
            bool(found),
            f"un'immagine di nome {name}",
            "nessuna immagine con quel nome",
            "lab.tag dà a un'immagine che c'è un nome in più: prima quello vecchio, poi quello nuovo.",
        )
        yield expect(
            found == lab.image("corso/nginx").digest,
            f"{name} come altro nome di corso/nginx",
            "il nome di un'altra immagine",
            f"lab.rmi('{name}') toglie il nome sbagliato.",
        )
        yield expect(True, "", f"{name}, con la stessa impronta di corso/nginx")

    return first_failure(steps())


def _page(site: Container) -> str:
    """What a browser would get from the published port, or an empty text if nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{site.ports[80]}/", timeout=5) as reply:
            return str(reply.read(1 << 20).decode("utf-8", "replace"))
    except (OSError, KeyError):
        return ""


def _window(lab: Lab) -> Outcome:
    word = parameter("es-06-4")

    def steps() -> Iterator[Outcome]:
        yield from _running(lab, "vetrina", "corso/nginx")
        page = _page(lab.container("vetrina"))
        yield expect(
            word in page,
            f"la parola «{word}» nella pagina di «vetrina»",
            f"la pagina «{' '.join(page.split())[:60]}»" if page else "nessuna risposta dalla porta 80",
            "publish='80' alla partenza; poi con exec si scrive in /usr/share/nginx/html/index.html.",
        )
        new = lab.run("corso/nginx", ["cat", "/usr/share/nginx/html/index.html"], quiet=True, remove=True).output
        yield expect(
            word not in new,
            f"«{word}» solo in «vetrina»",
            f"«{word}» anche in un container nuovo di corso/nginx",
            "L'immagine non va cambiata: si scrive nel container.",
        )
        yield expect(True, "", f"«{word}» nella pagina di «vetrina», e non nell'immagine")

    return first_failure(steps())


def _code(random: Random, words: tuple[str, ...], joint: str) -> str:
    return f"{random.choice(words)}{joint}{random.randint(10, 99)}"


EXERCISES = (
    Exercise(
        key="es-06-1",
        title="Il tuo archivio",
        goal="Il container «archivio» è un server MariaDB, e ha un database di nome {parametro}.",
        hints=(
            "L'immagine è corso/mariadb. Il primo avvio si configura con le variabili: rileggi la sezione 4.",
            "Servono una password di root, qualunque, e MARIADB_DATABASE con il nome del database.",
            "lab.run('corso/mariadb', name='archivio', detach=True, "
            "env={'MARIADB_ROOT_PASSWORD': 'x', 'MARIADB_DATABASE': mio_database})",
        ),
        check=_archive,
        parameter=lambda random: _code(random, _SUBJECTS, "_"),
    ),
    Exercise(
        key="es-06-2",
        title="Quanto pesa in più",
        goal="Di quanti byte cresce il disco se, con corso/mariadb già presente, arriva corso/nginx?",
        hints=(
            "Gli strati di un'immagine sono in .layers, e ognuno ha digest e size.",
            "Fai l'insieme delle impronte di corso/mariadb, poi somma solo gli strati di corso/nginx che non ci sono.",
            "presenti = {s.digest for s in lab.image('corso/mariadb').layers}; "
            "sum(s.size for s in lab.image('corso/nginx').layers if s.digest not in presenti)",
        ),
        check=_weight,
    ),
    Exercise(
        key="es-06-3",
        title="Un nome in più",
        goal="corso/nginx ha anche il nome {parametro}.",
        hints=(
            "Il contenuto di un'immagine non si tocca; i nomi sì.",
            "In Docker è docker tag; qui è lab.tag.",
            "lab.tag('corso/nginx', mio_nome)",
        ),
        check=_name,
        parameter=lambda random: f"classe/{_code(random, _FLAVOURS, ':')}",
    ),
    Exercise(
        key="es-06-4",
        title="La vetrina",
        goal="La pagina di «vetrina», un container di corso/nginx, mostra {parametro}; l'immagine resta com'era.",
        hints=(
            "La pagina è un file di uno strato. Un container lo può coprire con il suo: rileggi la sezione 5.",
            "Avvia nginx con publish='80', poi con exec scrivi in /usr/share/nginx/html/index.html.",
            "vetrina = lab.run('corso/nginx', name='vetrina', publish='80', detach=True); "
            "vetrina.exec(['sh', '-c', f'echo {mia_parola} > /usr/share/nginx/html/index.html'])",
        ),
        check=_window,
        parameter=lambda random: _code(random, _FLAVOURS, "-"),
    ),
)

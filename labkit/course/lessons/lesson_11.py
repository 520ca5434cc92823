"""Lezione 11, i volumi: quattro esercizi, verificati da container che leggono i volumi e dai mount veri."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import expect, first_failure, parameter
from labkit.errors import NotFoundError
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from labkit.client.container import Container
    from labkit.client.lab import Lab

_WORDS = ("bosco", "fiume", "collina", "spiaggia", "pianura", "ghiacciaio")
#: The volume of the lesson that the exercises read and copy.
_SHARED = "l11-sito"
_ROOM = 2 << 20


def _volume(lab: Lab, name: str) -> Outcome:
    try:
        lab.volume.inspect(name)
    except NotFoundError:
        names = ", ".join(volume.name for volume in lab.volume) or "nessuno"
        clue = f"Un volume nasce con lab.volume.create('{name}'), o quando un container lo monta."
        return expect(False, f"un volume di nome {name}", f"questi volumi: {names}", clue)
    return expect(True, f"un volume di nome {name}", "c'è")


def _read(lab: Lab, volume: str, script: str) -> str:
    """What a container that only reads sees in a volume."""
    result = lab.run("busybox", ["sh", "-c", f"cd /v && {script}"], volumes=f"{volume}:/v:ro", quiet=True, remove=True)
    return result.output.strip()


def _running(lab: Lab, name: str) -> Iterator[Outcome]:
    found = {c.name: c for c in lab.ps(all=True)}.get(name)
    state = f"un container nello stato «{found.status}»" if found else "nessun container con quel nome"
    clue = f"lab.run('busybox', ['sleep', '600'], name='{name}', detach=True, …)"
    ok = found is not None and found.status == "running"
    yield expect(ok, f"un container acceso di nome «{name}»", state, _again(name) if found else clue)


def _again(name: str) -> str:
    return f"Prima di rifarlo: lab.container('{name}').rm(force=True)."


def _note(lab: Lab) -> Outcome:
    name = parameter("es-11-1")

    def steps() -> Iterator[Outcome]:
        yield _volume(lab, name)
        words = _read(lab, name, "cat promemoria")
        clue = "Un container monta il volume in /dati, scrive /dati/promemoria, e finisce."
        yield expect(bool(words), "un file «promemoria» con qualcosa dentro", "il volume senza quel file", clue)
        users = lab.volume.inspect(name).used_by
        clue = "Il container che ha scritto non serve più: toglilo con rm(force=True), o avvialo con remove=True."
        yield expect(not users, "un volume che nessuno usa", f"chi lo usa: {', '.join(users)}", clue)
        yield expect(True, "", f"il promemoria in {name}, senza più il container che l'ha scritto")

    return first_failure(steps())


def _writable(container: Container, place: str) -> bool:
    path = f"{place.rstrip('/')}/.prova"
    return container.exec(["sh", "-c", f": > {path} && rm {path}"], quiet=True).ok


def _reader(lab: Lab) -> Outcome:
    def steps() -> Iterator[Outcome]:
        yield from _running(lab, "lettore")
        container = lab.container("lettore")
        places = [mount.target for mount in container.inspect().mounts if mount.source == _SHARED]
        yield expect(
            bool(places), f"il volume {_SHARED} montato", "un container che non lo monta",
            f"volumes='{_SHARED}:/sito:ro'. {_again('lettore')}",
        )  # fmt: skip
        yield expect(
            not any(_writable(container, place) for place in places),
            "un volume che il container legge e basta", "un file scritto nel volume",
            f"Dopo il posto ci vuole «:ro». {_again('lettore')}",
        )  # fmt: skip
        yield expect(True, "", f"{_SHARED}, che «lettore» legge e non può scrivere")

    return first_failure(steps())


def _copy(lab: Lab) -> Outcome:
    name = parameter("es-11-3")
    digest = "find . -type f | sort | xargs sha256sum"

    def steps() -> Iterator[Outcome]:
        yield _volume(lab, name)
        same = _read(lab, name, digest) == _read(lab, _SHARED, digest) != ""
        clue = f"Prima lab.volume.backup('{_SHARED}', 'sito.tar'), poi lab.volume.restore con il nome nuovo."
        yield expect(same, f"gli stessi file di {_SHARED}", "file diversi", clue)
        yield expect(True, "", f"{name}, con gli stessi file di {_SHARED}")

    return first_failure(steps())


def _memory(lab: Lab) -> Outcome:
    def steps() -> Iterator[Outcome]:
        yield from _running(lab, "effimero")
        found = lab.container("effimero").exec(["stat", "-f", "-c", "%T %b %S", "/memoria"], quiet=True).output.split()
        kind = found[0] if found else ""
        clue = f"tmpfs='/memoria:size=2m'. {_again('effimero')}"
        yield expect(kind == "tmpfs", "in /memoria un tmpfs", "una cartella come le altre, o niente", clue)
        room = int(found[1]) * int(found[2])
        yield expect(room == _ROOM, "2 MiB di posto", f"{room} byte di posto", f"La misura è size=2m: {clue}")
        yield expect(True, "", "2 MiB di memoria in /memoria, e non un byte sul disco")

    return first_failure(steps())


def _name(random: Random) -> str:
    return f"l11-{random.choice(_WORDS)}{random.randint(10, 99)}"


EXERCISES = (
    Exercise(
        key="es-11-1",
        title="Il promemoria",
        goal="Il volume {parametro} contiene un file «promemoria», e il container che lo ha scritto non c'è più.",
        hints=(
            "Un volume resta quando il container se ne va: rileggi la sezione 2.",
            "Un container di busybox con il volume in /dati scrive /dati/promemoria; con remove=True sparisce.",
            "lab.run('busybox', ['sh', '-c', 'echo latte > /dati/promemoria'], "
            "volumes=f'{mio_volume}:/dati', remove=True)",
        ),
        check=_note,
        parameter=_name,
    ),
    Exercise(
        key="es-11-2",
        title="Chi legge e basta",
        goal="Il container «lettore» è acceso, monta l11-sito, e non ci può scrivere.",
        hints=(
            "Che cosa si può fare in un volume lo decide chi lo monta: rileggi la sezione 4.",
            "Il modo si scrive dopo il posto: volumes='nome:/posto:ro'.",
            "lab.run('busybox', ['sleep', '600'], name='lettore', detach=True, volumes='l11-sito:/sito:ro')",
        ),
        check=_reader,
    ),
    Exercise(
        key="es-11-3",
        title="La copia di sicurezza",
        goal="Il volume {parametro} ha gli stessi file di l11-sito.",
        hints=(
            "Una copia si fa in due passi: prima un file tar, poi un volume nuovo.",
            "lab.volume.backup scrive il tar, lab.volume.restore ne fa un volume.",
            "lab.volume.backup('l11-sito', archivio); lab.volume.restore(mia_copia, archivio)",
        ),
        check=_copy,
        parameter=_name,
    ),
    Exercise(
        key="es-11-4",
        title="Due mega di memoria",
        goal="Il container «effimero» è acceso, e in /memoria ha un tmpfs di 2 MiB.",
        hints=(
            "Non è un volume: i dati non toccano il disco. Rileggi la sezione 5.",
            "tmpfs='/posto:size=…' alla partenza.",
            "lab.run('busybox', ['sleep', '600'], name='effimero', detach=True, tmpfs='/memoria:size=2m')",
        ),
        check=_memory,
    ),
)

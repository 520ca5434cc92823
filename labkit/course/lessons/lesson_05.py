"""Lezione 05, la sola lettura: quattro esercizi, verificati negli strati dei container e di una pila fatta a mano."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.client.container import Container
    from labkit.client.lab import Lab
    from labkit.client.process import Process

_COMMANDS = ("vi", "sed", "awk", "tar", "grep", "ping", "wget", "sort", "date", "cal")
_WORDS = ("legno", "vetro", "ferro", "paglia", "sughero", "marmo", "ghiaccio", "carta")


def _running(lab: Lab, name: str) -> Outcome:
    states = [c.status for c in lab.ps(all=True) if c.name == name]
    found = f"un container nello stato «{states[0]}»" if states else "nessun container con quel nome"
    return expect(
        states == ["running"],
        f"un container di nome «{name}», acceso",
        found,
        "Avvialo con un programma che duri, per esempio sleep 1000, e con detach=True.",
    )


def _sign(lab: Lab) -> Outcome:
    path = parameter("es-05-1")
    folder, _, command = path.rpartition("/")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "mago")
        seen = lab.container("mago").browse(folder, limit=500)
        entry = next((e for e in seen[folder].entries if e.name == command), None) if folder in seen else None
        gone = entry is not None and entry.gone and entry.layer == 0
        other = f"{path} cambiato, ma ancora lì" if entry and entry.layer == 0 else f"{path} ancora lì"
        yield expect(
            gone,
            f"{path} cancellato nello strato di «mago», e intero nella sua immagine",
            f"{path} coperto da un whiteout" if gone else other if entry else f"{path} sparito con la sua cartella",
            f"Deve sparire quel nome e nient'altro: è un comando da dare nel container, su {path}.",
        )

    return first_failure(steps())


def _move(lab: Lab) -> Outcome:
    name = parameter("es-05-2")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "casa")
        view = lab.container("casa").browse("/var")
        yield expect(
            "/var" in view,
            "una cartella /var in «casa»",
            "nessuna cartella /var",
            "Dopo averla tolta bisogna rifarla: mkdir.",
        )
        inside = [entry.name for entry in view["/var"].entries if not entry.gone]
        yield expect(
            inside == [name],
            f"in /var solo il file «{name}»",
            f"in /var: {', '.join(inside)}" if inside else "/var vuota",
            f"touch fa un file vuoto. Il nome è «{name}».",
        )
        opaque = view["/"]["var"].opaque
        yield expect(
            opaque,
            "una cartella /var opaca",
            "una cartella /var opaca" if opaque else "la /var dell'immagine, svuotata un nome alla volta",
            "Togli la cartella intera, non solo il suo contenuto: quella nuova sarà opaca.",
        )

    return first_failure(steps())


#: Prints, one line each: the filesystem on `insieme`, what is written in the wall below and in the wall in front.
_WALL = """
import os as _os
def _read(path):
    try:
        return open(path).read().strip()
    except OSError:
        return ""
_here = _os.getcwd() + "/insieme"
_mounts = [line.split() for line in open("/proc/self/mountinfo")]
print(next((m[m.index("-") + 1] for m in reversed(_mounts) if m[4] == _here), "nessun mount"))
print(_read("sotto/muro"))
print(_read("insieme/muro"))
"""


def _pile(lab: Lab, process: Process) -> Outcome:
    word = parameter("es-05-3")

    def steps() -> Iterator[Outcome]:
        fstype, below, front = process.python(_WALL, quiet=True).output.split("\n")[:3]
        yield expect(
            fstype == "overlay",
            "un overlay montato su insieme",
            "un overlay montato su insieme" if fstype == "overlay" else f"su insieme, {fstype}",
            "La chiamata è kernel.overlay: dove, gli strati di sotto, sopra, lavoro.",
        )
        yield expect(
            below == "pietra",
            "«pietra» in sotto/muro",
            f"«{below}» in sotto/muro" if below else "sotto/muro vuoto, o che non c'è",
            "Il muro di sotto si scrive prima di montare.",
        )
        yield expect(
            front == word,
            f"«{word}» in insieme/muro",
            f"«{front}» in insieme/muro",
            "Scrivi in insieme, dopo il mount: overlay porterà la copia in sopra.",
        )

    return first_failure(steps())


def _written(container: Container, path: str) -> str:
    return container.exec(["cat", path], user="0", quiet=True).output.strip()


def _statue(lab: Lab) -> Outcome:
    note = parameter("es-05-4")

    def steps() -> Iterator[Outcome]:
        yield _running(lab, "statua")
        statue = lab.container("statua")
        # Not touch: it says yes of a file that is already there, even on what cannot be written.
        tried = statue.exec(["mkdir", f"/tmp/{note}-prova"], user="0", quiet=True)
        closed = "Read-only" in tried.stderr
        if tried.ok:
            statue.exec(["rmdir", f"/tmp/{note}-prova"], user="0", quiet=True)
        yield expect(
            closed,
            "una radice in cui non si può scrivere",
            "una radice in sola lettura" if closed else "una radice in cui si scrive ancora",
            "È un'opzione di lab.run: read_only=True. Prima: lab.container('statua').rm(force=True)",
        )
        found = _written(statue, "/dev/shm/nota")
        yield expect(
            found == note,
            f"«{note}» in /dev/shm/nota",
            f"«{found}» in /dev/shm/nota" if found else "nessuna nota in /dev/shm",
            "La nota si scrive con exec, quando il container gira già: /dev/shm è memoria.",
        )

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-05-1",
        title="Il segno",
        goal="In «mago» fai sparire il comando {parametro}, e nient'altro.",
        hints=(
            "Nella sezione 3 lo hai fatto a mano; qui basta un comando dentro il container.",
            "Il comando che cancella un file è rm, e si dà con exec.",
            "mago.exec(['rm', mio_comando])",
        ),
        check=_sign,
        parameter=lambda random: f"/bin/{random.choice(_COMMANDS)}",
    ),
    Exercise(
        key="es-05-2",
        title="Il trasloco",
        goal="In «casa» la cartella /var deve essere nuova, e avere dentro solo «{parametro}».",
        hints=(
            "Le mosse sono tre: togliere la cartella, rifarla, metterci un file.",
            "rm -r toglie una cartella con quello che contiene; mkdir la rifà; touch fa un file vuoto.",
            "casa.exec(['sh', '-c', f'rm -r /var; mkdir /var; touch /var/{mio_file}'])",
        ),
        check=_move,
        parameter=animal,
    ),
    Exercise(
        key="es-05-3",
        title="La pila a mano",
        goal="Con «muratore»: sotto c'è «pietra», davanti si legge «{parametro}».",
        hints=(
            "L'ordine conta: prima il muro di sotto, poi il mount, poi la scrittura in insieme.",
            "kernel.overlay('insieme', ('sotto',), 'sopra', 'lavoro') monta la pila.",
            "Tre volte muratore.python: \"with open('sotto/muro', 'w') as muro: muro.write('pietra')\"; poi il mount; "
            "poi \"with open('insieme/muro', 'w') as muro: muro.write('{parametro}')\"",
        ),
        check=_pile,
        parameter=lambda random: random.choice(_WORDS),
    ),
    Exercise(
        key="es-05-4",
        title="La statua",
        goal="Avvia «statua» con la radice in sola lettura, e scrivi «{parametro}» in /dev/shm/nota.",
        hints=(
            "L'opzione è quella della sezione 7.",
            "Prima lab.run con read_only=True e detach=True, poi exec per scrivere la nota.",
            "lab.run('busybox', ['sleep', '1000'], name='statua', read_only=True, detach=True), "
            "poi exec(['sh', '-c', 'echo {parametro} > /dev/shm/nota'])",
        ),
        check=_statue,
        parameter=lambda random: random.choice(_WORDS),
    ),
)

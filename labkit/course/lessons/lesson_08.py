"""Lezione 08, il Containerfile: tre esercizi, verificati avviando l'immagine costruita o costruendola di nuovo."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.build.building import build
from labkit.build.telling import Printer
from labkit.build.workshop import LabWorkshop
from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.errors import LabError, NotFoundError
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.build.steps import Step
    from labkit.client.image import Image
    from labkit.client.lab import Lab

_BASE = "corso/minima:1"


def _image(lab: Lab, name: str) -> Image | None:
    try:
        return lab.image(name)
    except NotFoundError:
        return None


def _there(image: Image | None, name: str) -> Outcome:
    return expect(
        image is not None,
        f"un'immagine di nome {name}",
        "nessuna immagine con quel nome",
        f"lab.build(cartella, '{name}')",
    )


def _above_the_base(lab: Lab, image: Image) -> Outcome:
    """The image begins with the layers of the base: that is what FROM means."""
    base = _image(lab, _BASE)
    wanted = [layer.diff_id for layer in base.layers] if base else []
    found = [layer.diff_id for layer in image.layers][: len(wanted)]
    return expect(
        bool(wanted) and found == wanted,
        f"un'immagine che comincia con gli strati di {_BASE}",
        "altri strati in fondo" if wanted else f"{_BASE} non c'è: esegui la sezione 1",
        f"La prima riga è FROM {_BASE}",
    )


def _said(lab: Lab, name: str, command: list[str] | None = None) -> str:
    """What the image writes; without a command, its own."""
    return lab.run(name, command, quiet=True, network="none").output.strip()


def _sign(lab: Lab) -> Outcome:
    word, name = parameter("es-08-1"), "esercizio/insegna:1"

    def steps() -> Iterator[Outcome]:
        image = _image(lab, name)
        yield _there(image, name)
        if image is None:
            return
        yield _above_the_base(lab, image)
        given = bool(image.config.get("Cmd") or image.config.get("Entrypoint"))
        yield expect(given, "un CMD nella configurazione", "nessun CMD", "CMD dice che cosa parte da solo")
        found = _said(lab, name)
        yield expect(
            found == word,
            f"«{word}» scritto dall'immagine",
            f"«{found[:60]}» scritto dall'immagine",
            f"CMD echo {word}",
        )

    return first_failure(steps())


def _kitchen(lab: Lab) -> Outcome:
    name = "esercizio/cucina:1"

    def steps() -> Iterator[Outcome]:
        image = _image(lab, name)
        yield _there(image, name)
        there = lab.run(name, ["test", "-e", "/forno", "-a", "-s", "/menu.txt"], quiet=True, network="none")
        yield expect(
            there.ok, "/forno e /menu.txt nell'immagine", "ne manca uno", "Le righe restano tutte: cambia solo l'ordine"
        )
        if image is None:
            return
        found = _rebuilt(lab, image)
        yield expect(
            found == "cached",
            "con un menu diverso, il RUN dalla cache",
            {"": "nessun RUN", "failed": "una costruzione fallita"}.get(found, "il RUN rifatto da capo"),
            "La cache si rompe alla prima riga cambiata: il RUN deve venire prima di COPY.",
        )
        yield expect(True, "", "con un menu diverso, il RUN dalla cache")

    return first_failure(steps())


class _Watch(Printer):
    """The states of the steps whose text has ``sleep``."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.slow = ""

    def step(self, step: Step) -> None:
        if "sleep" in step.text and step.state != "running":
            self.slow = step.state


def _rebuilt(lab: Lab, image: Image) -> str:
    """What becomes of the slow step in a copy of the kitchen, first as it is, then with another menu."""
    folder = next((made for made in _folders(lab, "cucina") if (made / "Containerfile").is_file()), None)
    if folder is None:
        return ""
    watch = _Watch()
    with tempfile.TemporaryDirectory(prefix="verifica-") as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        for menu in ("lasagne\n", f"gnocchi {image.id}\n"):
            Path(copy, "menu.txt").write_text(menu)
            try:
                build(lab, lambda store: LabWorkshop(store, lambda: lab), watch, copy)
            except LabError:
                return "failed"
    return watch.slow


def _folders(lab: Lab, name: str) -> Iterator[Path]:
    """The folder of an exercise: beside the images of the lesson."""
    yield Path(lab.store.root).parent / name


def _factory(lab: Lab) -> Outcome:
    word, name = parameter("es-08-3"), "esercizio/fabbrica:1"

    def steps() -> Iterator[Outcome]:
        image = _image(lab, name)
        yield _there(image, name)
        if image is None:
            return
        yield _above_the_base(lab, image)
        found = _said(lab, name, ["cat", "/prodotto"])
        yield expect(found == word, f"«{word}» in /prodotto", f"«{found[:60]}»", "Il primo stadio scrive /prodotto")
        gone = lab.run(name, ["test", "-e", "/scarti"], quiet=True, network="none").exit_code != 0
        yield expect(gone, "nessun /scarti nell'immagine", "/scarti è ancora lì", "COPY --from prende solo /prodotto")
        extra = image.size - lab.image(_BASE).size
        yield expect(
            extra < 1 << 16,
            "un'immagine che pesa quasi come la base",
            f"{extra} byte in più: gli scarti sono in uno strato",
            "Cancellare non basta: gli scarti devono restare nel primo stadio.",
        )
        yield expect(True, "", f"«{word}» in /prodotto, e niente degli scarti")

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-08-1",
        title="La tua prima ricetta",
        goal="L'immagine esercizio/insegna:1, avviata senza comando, scrive {parametro}.",
        hints=(
            "Servono due righe: da che cosa si parte, e che cosa parte.",
            "La seconda è CMD. Un comando che scrive un testo è echo.",
            "(insegna / 'Containerfile').write_text('FROM corso/minima:1\\nCMD echo {parametro}\\n'), "
            "poi lab.build(insegna, 'esercizio/insegna:1')",
        ),
        check=_sign,
        parameter=animal,
    ),
    Exercise(
        key="es-08-2",
        title="La cucina lenta",
        goal="Nella cucina, cambiando menu.txt, il RUN deve venire dalla cache.",
        hints=(
            "Rileggi la sezione 5: in che ordine stanno le righe?",
            "In alto ciò che cambia di rado: il passo lento non guarda il menu.",
            "FROM, poi RUN sleep 0.3 && touch /forno, e per ultima COPY menu.txt /menu.txt.",
        ),
        check=_kitchen,
    ),
    Exercise(
        key="es-08-3",
        title="Solo il prodotto",
        goal="In esercizio/fabbrica:1 c'è /prodotto con {parametro}, e degli scarti non resta un byte.",
        hints=(
            "Due FROM nello stesso file: il primo stadio ha un nome, con AS.",
            "Nel primo: RUN dd if=/dev/urandom of=/scarti bs=1M count=1 && echo … > /prodotto. Poi COPY --from.",
            "FROM corso/minima:1 AS officina · RUN … · FROM corso/minima:1 · COPY --from=officina /prodotto /",
        ),
        check=_factory,
        parameter=lambda random: f"bullone-{random.randint(100, 999)}",
    ),
)

"""Lezione 07, il registro: tre esercizi, verificati in ciò che il registro tiene davvero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import animal, expect, first_failure, parameter
from labkit.errors import NotFoundError
from labkit.limits import show_bytes
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.client.lab import Lab
    from labkit.client.registry import CourseRegistry


def _kept(registry: CourseRegistry, image: str) -> str:
    """The digest that a name leads to in the registry, or an empty text."""
    try:
        return registry.digest(image)
    except NotFoundError:
        return ""


def _published(lab: Lab, registry: CourseRegistry) -> Outcome:
    name = f"corso/sito:{parameter('es-07-1')}"
    wanted = lab.image("corso/sito:1").digest

    def steps() -> Iterator[Outcome]:
        found = _kept(registry, name)
        tags = ", ".join(registry.tags("corso/sito")) or "nessuno"
        yield expect(
            bool(found),
            f"nel registro «{name}»",
            f"nel deposito corso/sito questi tag: {tags}",
            "Prima si dà all'immagine un nome che comincia con il registro (lab.tag), poi si manda (push).",
        )
        yield expect(
            found == wanted,
            f"«{name}» con l'impronta di corso/sito:1",
            "con quel nome un'altra immagine",
            "L'immagine da mandare è corso/sito:1.",
        )
        yield expect(True, "", f"«{name}» nel registro, con la stessa impronta di corso/sito:1")

    return first_failure(steps())


def _back(lab: Lab, registry: CourseRegistry, digest: str) -> Outcome:
    def steps() -> Iterator[Outcome]:
        found = _kept(registry, "corso/menu:oggi")
        yield expect(
            bool(found),
            "nel registro «corso/menu:oggi»",
            "nessun «corso/menu:oggi»",
            "Il tag deve restare: non si cancella, si sposta. Riesegui la cella che lo prepara.",
        )
        yield expect(
            found == digest,
            "«oggi» sull'impronta buona",
            "«oggi» sull'impronta sbagliata",
            "Prendi l'immagine con la sua impronta, come nella sezione 6. Poi mandala con il tag «oggi».",
        )
        yield expect(True, "", "«oggi» di nuovo sull'impronta buona")

    return first_failure(steps())


def _room(lab: Lab, registry: CourseRegistry) -> Outcome:
    def steps() -> Iterator[Outcome]:
        weight = registry.weight("corso/vecchia")
        tags = registry.tags("corso/vecchia")
        yield expect(
            not tags,
            "nessun tag in corso/vecchia",
            f"ancora corso/vecchia:{tags[0]}" if tags else "nessun tag",
            "Si cancella dal registro, non da qui: registro.delete(…). lab.rmi toglie soltanto la tua copia.",
        )
        yield expect(
            not weight,
            "corso/vecchia che non occupa niente",
            f"ancora {show_bytes(weight)} in corso/vecchia",
            "Togliere il tag non basta: va tolto il manifesto. Lo fa registro.delete.",
        )
        yield expect(
            bool(registry.tags("corso/sito")),
            "le altre immagini al loro posto",
            "il deposito corso/sito vuoto",
            "Hai tolto troppo: rimanda corso/sito:2.",
        )
        yield expect(True, "", "lo spazio di corso/vecchia libero, e il resto al suo posto")

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-07-1",
        title="La tua versione",
        goal="Manda corso/sito:1 al registro, con il tag {parametro}.",
        hints=(
            "Un'immagine può avere tanti nomi. Quello che le dà il registro lo scegli tu, quando la mandi.",
            "Il nome lo fa registro.name, con il tag che ti è stato dato; poi lab.tag, e push.",
            "lab.tag('corso/sito:1', registro.name(f'corso/sito:{mio_tag}')).push()",
        ),
        check=_published,
        parameter=animal,
    ),
    Exercise(
        key="es-07-2",
        title="Torna indietro",
        goal="Riporta il tag «oggi» di corso/menu sull'impronta buona.",
        hints=(
            "Un tag si sposta mandando un'altra immagine con lo stesso nome. Quella buona è ancora nel registro.",
            "Con lab.pull si prende anche per impronta: deposito@impronta. Poi le dai il nome, e la mandi.",
            "lab.pull(registro.name(f'corso/menu@{buona}')).tag(registro.name('corso/menu:oggi')).push()",
        ),
        check=_back,
    ),
    Exercise(
        key="es-07-3",
        title="Fai posto",
        goal="Cancella corso/vecchia:1 dal registro, e libera il suo spazio. Le altre immagini restano.",
        hints=(
            "lab.rmi toglie un'immagine da questa macchina. Il registro è un altro posto.",
            "Il registro ha un suo comando per cancellare, e dice quanti byte ha liberato.",
            "registro.delete('corso/vecchia:1')",
        ),
        check=_room,
    ),
)

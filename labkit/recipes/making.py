"""Le immagini del corso fra quelle dello studente: quali mancano, e come si fanno.

Un'immagine ha il suo nome solo quando è intera. Si fa da pacchetti della distribuzione; dove non si può, si
prende da un registro pubblico, e si dice perché.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from labkit.backends.packages import Package, Progress, closure, download, silent
from labkit.errors import BackendError, NotFoundError
from labkit.images.archive import add_layer
from labkit.images.config import History, timestamp
from labkit.images.image import Image
from labkit.images.reference import parse
from labkit.images.store import Store
from labkit.recipes.book import RECIPES, SKIPPED, Recipe
from labkit.recipes.layer import newest, tar

#: The label that says which packages are in the image: whoever builds on it does not bring them again.
PACKAGES = "corso.pacchetti"


def missing(store: Store, names: Collection[str] = ()) -> list[str]:
    """Quali di queste immagini (tutte, se non se ne dice nessuna) qui non ci sono."""
    return [name for name in recipes(names) if not _present(store, name)]


def recipes(names: Collection[str] = ()) -> list[str]:
    """I nomi interi di queste ricette, nell'ordine in cui si fanno; «nginx» vuol dire «corso/nginx»."""
    wanted = {name if "/" in name else f"corso/{name}" for name in names}
    for name in sorted(wanted - set(RECIPES)):
        raise NotFoundError(f"«{name}» non è un'immagine del corso: ci sono {', '.join(RECIPES)}.",
                            "labkit course-images")  # fmt: skip
    return [name for name in RECIPES if name in wanted or not wanted]


def make(store: Store, names: Collection[str] = (), *, again: bool = False, say: Progress = silent) -> list[str]:
    """Fa le immagini che mancano (tutte, con ``again``) e quelle su cui stanno; torna i nomi di quelle fatte.

    ``say`` riceve una riga per ogni passo. Errori: :class:`~labkit.errors.LabError` se un'immagine non si può né
    fare né scaricare; quelle fatte prima restano.
    """
    chosen = recipes(names)
    wanted = [
        name
        for name in RECIPES
        if (name in chosen and again) or (any(_needs(other, name) for other in chosen) and not _present(store, name))
    ]
    kitchen = Kitchen(store, say)
    for name in wanted:
        try:
            kitchen.make(RECIPES[name])
        except BackendError as problem:
            say(f"{name}: {problem.message} La prendo da un registro pubblico.")
            kitchen.pull(RECIPES[name])
    return wanted


def _needs(name: str, other: str) -> bool:
    return bool(name) and (name == other or _needs(RECIPES[name].base, other))


def _present(store: Store, name: str) -> bool:
    try:
        return bool(store.find(name))
    except NotFoundError:
        return False


@dataclass
class Kitchen:
    """Chi fa le immagini in ``store``: ricorda che cosa ha già chiesto ad apt."""

    store: Store
    say: Progress
    index: dict[str, Package] = field(default_factory=dict)

    def make(self, recipe: Recipe) -> Image:
        """Fa l'immagine e le dà i suoi nomi: quello con la versione, e ``latest``."""
        base = self.store.image(recipe.base) if recipe.base else Image.empty()
        inside = set(_packages(base))
        if not self.index:
            self.say("cerco i pacchetti…")
            every = [name for one in RECIPES.values() for step in one.steps for name in step.packages]
            closure(every, SKIPPED, self.index)  # asked together, for the recipes to come too
        plan = list(self._plan(recipe, inside))
        everything = [package for packages in plan for package in packages]
        with tempfile.TemporaryDirectory(prefix="labkit-pacchetti-") as folder, self.store.writing():
            archives = dict(zip(everything, download(everything, Path(folder), self._told(recipe)), strict=True))
            moment = max(newest(archives.values()), _moment(base))
            image = base
            for step, packages in zip(recipe.steps, plan, strict=True):
                self.say(f"{recipe.name}: {step.title}…")
                pieces = tar(step, packages, [archives[package] for package in packages], moment)
                history = History(f"corso: {step.title}", _written(moment))
                image = image.append(add_layer(self.store, pieces), history)
            image = self._configured(recipe, image, [*_listed(base), *map(_line, everything)], moment)
            for tag in (self._tag(recipe), "latest"):
                self.store.put(image, parse(f"{recipe.name}:{tag}"))
        return image

    def pull(self, recipe: Recipe) -> Image:
        """Prende da un registro pubblico l'immagine più vicina alla ricetta, ci mette il nostro, le dà il suo nome."""
        from labkit.images.registry_pull import pull

        self.say(f"{recipe.name}: scarico {recipe.public}…")
        with self.store.writing():
            image = self.store.image(pull(self.store, parse(recipe.public)))
            if recipe.over:
                moment = _moment(image)
                for step in recipe.over:
                    history = History(f"corso: {step.title}", _written(moment))
                    image = image.append(add_layer(self.store, tar(step, (), (), moment)), history)
                image = self._configured(recipe, image, (), moment)
            self.store.put(image, parse(recipe.name))
        return image

    def _plan(self, recipe: Recipe, inside: set[str]) -> Iterator[list[Package]]:
        """I pacchetti di ogni passo, con quelli di cui hanno bisogno: ognuno una volta sola, dal basso."""
        for step in recipe.steps:
            found = closure(step.packages, SKIPPED | inside, self.index)
            packages = [package for package in found if package.name not in step.later]
            inside |= {package.name for package in packages}
            yield packages

    def _told(self, recipe: Recipe) -> Progress:
        return lambda line: self.say(f"{recipe.name}: {line}")

    def _tag(self, recipe: Recipe) -> str:
        package = self.index.get(recipe.version)
        version = package.version if package else recipe.version
        found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)?)", version)
        return found[1] if found else "corso"

    def _configured(self, recipe: Recipe, image: Image, packages: Sequence[str], moment: int) -> Image:
        fields = dict(recipe.process)
        fields["Env"] = [*(image.config.process.get("Env") or ()), *fields.get("Env", ())]
        labels = {"org.opencontainers.image.title": recipe.name, "org.opencontainers.image.description": recipe.about}
        fields["Labels"] = {**labels, PACKAGES: " ".join(packages)}
        step = History("corso: come parte", _written(moment), empty_layer=True)
        return image.with_process(replace(step, comment=recipe.about), **fields)


def _packages(image: Image) -> Iterator[str]:
    return (line.partition("=")[0] for line in _listed(image))


def _listed(image: Image) -> list[str]:
    labels = image.config.process.get("Labels") or {}
    return str(labels.get(PACKAGES, "")).split()


def _line(package: Package) -> str:
    return f"{package.name}={package.version}"


def _moment(image: Image) -> int:
    created = image.config.created
    return int(datetime.fromisoformat(created).timestamp()) if created else 0


def _written(moment: int) -> str:
    return timestamp(datetime.fromtimestamp(moment, UTC))

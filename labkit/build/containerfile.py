"""Un Containerfile intero: gli argomenti in cima, gli stadi, e quali servono per arrivare a quello voluto."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labkit.build.instructions import KINDS, Instruction, instruction
from labkit.build.lines import Source, read
from labkit.build.words import Word
from labkit.errors import NotFoundError


@dataclass(frozen=True)
class Stage:
    """Uno stadio: un ``FROM`` e ciò che lo segue, fino al prossimo."""

    index: int
    start: Instruction
    steps: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Il nome dato con ``AS``, minuscolo come per Docker; vuoto se non ne ha."""
        return self.start.texts[2].lower() if len(self.start.words) == 3 else ""

    @property
    def base(self) -> Word:
        """L'immagine, o lo stadio, da cui parte; con le variabili ancora da sostituire."""
        return self.start.words[0]


@dataclass(frozen=True)
class Containerfile:
    """Il file letto: ``args`` sono gli ``ARG`` prima del primo ``FROM``."""

    source: Source
    args: tuple[Instruction, ...]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage | None:
        """Lo stadio con quel nome o quel numero (il primo è 0)."""
        for one in reversed(self.stages):
            if name and name.lower() == one.name:
                return one
        return self.stages[int(name)] if name.isdecimal() and int(name) < len(self.stages) else None

    def target(self, name: str) -> Stage:
        """Lo stadio a cui fermarsi: l'ultimo, o quello chiesto con ``target``."""
        if not name:
            return self.stages[-1]
        found = self.stage(name)
        if found is None:
            known = ", ".join(stage.name or str(stage.index) for stage in self.stages)
            raise NotFoundError(f"In {self.source.name} non c'è lo stadio «{name}».", f"uno di questi: {known}")
        return found

    def before(self, name: str, stage: Stage) -> Stage | None:
        """Lo stadio con quel nome (o numero), fra quelli scritti prima di ``stage``."""
        found = self.stage(name)
        return found if found and found.index < stage.index else None

    def needed(self, target: Stage, values: Mapping[str, str]) -> tuple[Stage, ...]:
        """Gli stadi che servono a ``target``, nell'ordine in cui sono scritti. ``values`` sono gli ``ARG`` in cima."""
        wanted = {target.index}
        for stage in reversed(self.stages[: target.index + 1]):
            if stage.index in wanted:
                wanted |= {other.index for other in self._uses(stage, values)}
        return tuple(stage for stage in self.stages if stage.index in wanted)

    def _uses(self, stage: Stage, values: Mapping[str, str]) -> Iterator[Stage]:
        names = [stage.start.expand(stage.base, values)]
        # The value of --from is known only when its turn comes: a variable there may name any stage.
        origins = [step.flags["from"].text for step in stage.steps if "from" in step.flags]
        for name in (*names, *origins):
            if "$" in name:
                yield from self.stages[: stage.index]
            elif found := self.before(name, stage):
                yield found


def parse(name: str, data: bytes | str) -> Containerfile:
    """Legge un Containerfile; ``name`` è il nome che gli errori mostrano.

    >>> [stage.name for stage in parse("Containerfile", "FROM a AS uno\\nFROM b\\n").stages]
    ['uno', '']
    """
    source, lines = read(name, data)
    args: list[Instruction] = []
    stages: list[tuple[Instruction, list[Instruction]]] = []
    for step in map(instruction, lines):
        if step.keyword == "FROM":
            stages.append((step, []))
        elif stages:
            stages[-1][1].append(step)
        elif step.keyword == "ARG":
            args.append(step)
        else:
            raise step.error(f"Prima di {step.keyword} ci vuole un FROM.", KINDS["FROM"].example)
    if not stages:
        raise source.error("Non c'è nessun FROM: da quale immagine si parte?", KINDS["FROM"].example)
    found = tuple(Stage(index, start, tuple(steps)) for index, (start, steps) in enumerate(stages))
    names: dict[str, Stage] = {}
    for stage in found:
        if stage.name and names.setdefault(stage.name, stage) is not stage:
            raise stage.start.error(f"Lo stadio «{stage.name}» c'è già.", "un altro nome", stage.start.words[2])
    return Containerfile(source, tuple(args), found)

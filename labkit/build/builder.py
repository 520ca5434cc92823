"""La costruzione: un'immagine fatta un passo alla volta, e ogni passo già fatto preso dalla cache.

Un passo prende un'immagine e ne dà un'altra; se fallisce non resta niente di lui, e quelli di prima restano nella
cache. Si eseguono solo gli stadi che servono. Chi esegue un RUN è un :class:`Workshop`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from labkit.build import cache, changes, copying, scope
from labkit.build.containerfile import Containerfile, Stage
from labkit.build.instructions import Instruction, instruction
from labkit.build.lines import heredoc, read
from labkit.build.sources import Context
from labkit.build.steps import Run, Step, Telling, Watcher, Workshop
from labkit.build.view import View
from labkit.images.archive import add_layer
from labkit.images.config import History, timestamp
from labkit.images.image import Image, Layer
from labkit.images.store import Store


@dataclass(frozen=True)
class Options:
    """Come si costruisce: quello che si scrive dopo ``labkit build``."""

    args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    network: str = "none"
    #: Seconds since 1970 (SOURCE_DATE_EPOCH), or nobody asked.
    epoch: int | None = None


@dataclass
class _Work:
    """Uno stadio mentre si fa: l'immagine di adesso, e ciò che non è ancora nella sua configurazione."""

    image: Image
    scope: scope.Scope
    stage: str
    #: What FROM changes: it goes with the next step, as in Docker.
    pending: dict[str, Any] = field(default_factory=dict)
    author: str = ""
    cmd_given: bool = False

    @property
    def process(self) -> dict[str, Any]:
        return {key: value for key, value in {**self.image.config.process, **self.pending}.items() if value is not None}

    @property
    def env(self) -> list[tuple[str, str]]:
        return [(name, value) for name, _, value in (one.partition("=") for one in self.process.get("Env") or ())]

    @property
    def values(self) -> dict[str, str]:
        return self.scope.values(self.env)


class Builder:
    """Costruisce ``file`` dal contesto; ``resolve`` dà l'immagine di un FROM (nome e piattaforma)."""

    def __init__(
        self,
        file: Containerfile,
        context: Context,
        store: Store,
        workshop: Workshop,
        resolve: Callable[[str, str], Image],
        watcher: Watcher,
        options: Options,
    ) -> None:
        self._file, self._context, self._store = file, context, store
        self._workshop, self._resolve, self._watcher, self._options = workshop, resolve, watcher, options
        self._cache = cache.Cache(store)
        self._done: dict[int, Image] = {}
        self._views: dict[tuple[Any, ...], View] = {}
        self._number = self._total = 0

    def build(self) -> Image:
        """Esegue i passi che servono; torna l'immagine. Errori: :class:`BuildError`, o il Containerfile è sbagliato."""
        target = self._file.target(self._options.target)
        top = scope.top(self._file.args, self._options.args)
        stages = self._file.needed(target, top)
        self._total = sum(1 + len(stage.steps) for stage in stages)
        for stage in stages:
            self._done[stage.index] = self._stage(stage, top)
        return self._done[target.index]

    def _stage(self, stage: Stage, top: Mapping[str, str]) -> Image:
        name = stage.name or (str(stage.index) if len(self._file.stages) > 1 else "")
        with self._step(stage.start, name):
            work = self._from(stage, top, name)
        triggers = list(self._triggers(stage, work))
        self._total += len(triggers)
        for one in (*triggers, *stage.steps):
            with self._step(one, name) as finish:
                before = work.image
                hit = self._apply(one, work, stage)
                layers = work.image.layers[len(before.layers) :]
                finish(hit, sum(layer.descriptor.size for layer in layers), bool(layers))
        return work.image

    def _from(self, stage: Stage, top: Mapping[str, str], name: str) -> _Work:
        wanted = stage.start.expand(stage.base, top)
        if not wanted:
            raise stage.start.error("Il nome dell'immagine è vuoto.", "dai un valore a ogni ARG", stage.base)
        flag = stage.start.flags.get("platform")
        platform = stage.start.expand(flag, top) if flag else ""
        other = self._file.before(wanted, stage)
        if wanted == "scratch":
            image = Image.empty()
        else:
            image = self._done[other.index] if other else self._resolve(wanted, platform)
        work = _Work(image, scope.Scope(self._options.args, top), name)
        if not any(key == "PATH" for key, _ in work.env):
            work.pending["Env"] = [f"PATH={changes.DEFAULT_PATH}", *(work.process.get("Env") or ())]
        return work

    def _triggers(self, stage: Stage, work: _Work) -> Iterator[Instruction]:
        """Gli ``ONBUILD`` dell'immagine di partenza: si eseguono qui, una volta sola."""
        texts = work.process.get("OnBuild") or ()
        if texts:
            work.pending["OnBuild"] = None
        for text in texts:
            yield from map(instruction, read(f"ONBUILD di {stage.base.text}", str(text))[1])

    # ------------------------------------------------------------ one step

    def _step(self, one: Instruction, stage: str) -> Telling:
        self._number += 1
        return Telling(self._watcher, Step(self._number, self._total, str(one), stage), one)

    def _apply(self, one: Instruction, work: _Work, stage: Stage) -> bool:
        """Esegue un'istruzione; ``True`` se era già fatta."""
        if one.keyword == "RUN":
            return self._run(one, work)
        if one.keyword in ("COPY", "ADD"):
            return self._copy(one, work, stage)
        if one.keyword == "ARG":
            return self._commit(work, self._nop(work, work.scope.declare(one, work.env)), {})
        found = changes.change(one, work.values, work.process, work.cmd_given)
        work.cmd_given |= one.keyword == "CMD"
        work.author = found.author or work.author
        if one.keyword == "WORKDIR":
            path = str(found.fields["WorkingDir"]).lstrip("/")
            return self._commit(
                work, self._nop(work, found.text, found.fields), found.fields, lambda: self._folder(work, path)
            )
        return self._commit(work, self._nop(work, found.text, found.fields), found.fields)

    @staticmethod
    def _nop(work: _Work, text: str, fields: Mapping[str, Any] | None = None) -> str:
        """Ciò che Docker scrive nella storia per chi non è un RUN: con due spazi, se non tocca i file."""
        space = " " if text.startswith(("COPY", "ADD", "WORKDIR")) else "  "
        return f"{' '.join(changes.shell({**work.process, **(fields or {})}))} #(nop){space}{text}"

    def _run(self, one: Instruction, work: _Work) -> bool:
        command, stdin = _command(one, work.process)
        args = work.scope.for_run(work.env)
        text = " ".join(command)
        if args:  # as Docker writes them: how many, and their values
            text = f"|{len(args)} {' '.join(f'{name}={value}' for name, value in args.items())} {text}"
        network = self._options.network
        if (flag := one.flags.get("network")) and flag.text == "none":
            network = "none"
        env = {**work.scope.proxies(), **args}

        def layer() -> Layer:
            image = work.image
            if work.pending:  # the program must find what the image will say
                image = image.with_process(History(empty_layer=True), **work.pending)
            return self._workshop.run(
                Run(image, command, env, network, stdin, self._options.epoch), self._watcher.output
            )

        script = stdin.decode("utf-8", "replace") if stdin else ""
        return self._commit(work, text, {}, layer, script, network if one.flags else "")

    def _copy(self, one: Instruction, work: _Work, stage: Stage) -> bool:
        asked = copying.asked(
            one, work.values, work.process, self._origin(one, work, stage), self._context, self._now()
        )
        text = self._nop(work, f"{one.keyword} {asked.summary} in {asked.written} ")
        facts = [asked.mode]

        def layer() -> Layer | None:
            tar = copying.layer(asked, self._view(work.image), self._now(), self._options.epoch)
            return add_layer(self._store, tar)

        return self._commit(work, text, {}, layer, *facts)

    def _origin(self, one: Instruction, work: _Work, stage: Stage) -> View | None:
        flag = one.flags.get("from")
        if flag is None:
            return None
        name = one.expand(flag, work.values)
        other = self._file.before(name, stage)
        if other is None and (mine := self._file.stage(name)):
            what = "sé stesso" if mine.index == stage.index else "uno stadio che viene dopo"
            raise one.error(f"Uno stadio non può copiare da {what}.", "uno stadio scritto prima", flag)
        if other is not None and other.index not in self._done:  # a name that only a variable gave
            self._done[other.index] = self._stage(other, work.scope.top)
        return self._view(self._done[other.index] if other else self._resolve(name, ""))

    def _folder(self, work: _Work, path: str) -> Layer | None:
        view = self._view(work.image)
        if view.is_folder(view.resolve(path)):
            return None
        return add_layer(self._store, copying.folder(view, path, self._now(), self._options.epoch))

    def _commit(
        self,
        work: _Work,
        text: str,
        fields: Mapping[str, Any],
        layer: Callable[[], Layer | None] | None = None,
        *facts: Any,
    ) -> bool:
        """L'immagine dopo un passo: quella che la cache ricorda, o una nuova. ``True`` se era ricordata."""
        asked = {**work.pending, **fields}
        made = cache.key(work.image.id, text, asked, work.author, self._options.epoch, *facts)
        found = None if self._options.no_cache else self._cache.find(made)
        if found is None:
            added = layer() if layer else None
            step = History(text, timestamp(datetime.fromtimestamp(self._now(), UTC)), author=work.author)
            if added:
                image = work.image.append(added, step, **asked)
            else:
                image = work.image.with_process(replace(step, empty_layer=True), **asked)
            self._cache.keep(made, image)
        work.image = found or image
        work.pending.clear()
        return found is not None

    # ------------------------------------------------------------ what it knows

    def _now(self) -> int:
        return int(time.time()) if self._options.epoch is None else self._options.epoch

    def _view(self, image: Image) -> View:
        """I file di un'immagine; di uno strato già letto non si rilegge niente."""
        chain = image.config.diff_ids
        if chain in self._views:
            return self._views[chain]
        view = View()
        for count in range(len(chain), 0, -1):
            if chain[:count] in self._views:
                view = self._views[chain[:count]]
                break
        for layer in image.layers[len(view.layers) :]:
            view = view.above(layer)
        self._views[chain] = view
        return view


def _command(one: Instruction, process: Mapping[str, Any]) -> tuple[tuple[str, ...], bytes | None]:
    """Il comando di un RUN, e ciò che legge: un here-document è il programma, o sta dentro la riga."""
    if one.exec_form:
        return one.texts, None
    (text,) = one.texts
    shell = changes.shell(process)
    if len(one.heredocs) == 1 and heredoc(one.words[0], one.line.source.escape):
        script = one.heredocs[0].text
        if script.startswith("#!"):  # another interpreter: it reads the script from its input
            return (*script.partition("\n")[0][2:].split(), "/dev/stdin"), script.encode()
        return (*shell, script), None
    for other in one.heredocs:
        text += f"\n{other.content}{other.name}"
    return (*shell, text), None

"""Una costruzione senza laboratorio: chi esegue i RUN è finto, il resto è quello vero."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labkit.build.building import build
from labkit.build.steps import Failed, Run, Step
from labkit.build.view import View
from labkit.client.image import Image
from labkit.client.images import Images
from labkit.images import image as oci
from labkit.images.archive import add_layer
from labkit.images.image import Layer
from labkit.images.store import Store
from tests.unit.images.tars import entry, folder, link, tar


@dataclass
class FakeWorkshop:
    """Ogni RUN scrive un file con il suo comando; ``false`` fallisce."""

    store: Store
    ran: list[Run] = field(default_factory=list)

    def run(self, wanted: Run, say: Callable[[str], None]) -> Layer:
        self.ran.append(wanted)
        if wanted.command[-1] == "false":
            raise Failed(3, "prima riga\nultima riga\n")
        say("fatto\n")
        return add_layer(self.store, [tar(entry(f"run-{len(self.ran)}", " ".join(wanted.command).encode(), mtime=1))])


@dataclass
class Seen:
    """Ciò che chi guarda ha visto."""

    steps: list[Step] = field(default_factory=list)
    said: str = ""

    def step(self, step: Step) -> None:
        if step.state != "running":
            self.steps.append(step)

    def output(self, text: str) -> None:
        self.said += text

    def warn(self, text: str) -> None:
        self.said += text

    def end(self, name: str) -> None:
        self.said += f"[{name}]"

    @property
    def states(self) -> list[str]:
        return [step.state for step in self.steps]


class Here(Images):
    """Le immagini di una prova, in una cartella sua."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    @property
    def store(self) -> Store:
        return Store(self._root)


@dataclass
class Bench:
    """Il banco: una cartella da cui si costruisce, un deposito, e ciò che è successo l'ultima volta."""

    context: Path
    images: Here
    seen: Seen = field(default_factory=Seen)
    ran: list[Run] = field(default_factory=list)

    def build(self, text: str, tag: str = "prova", **options: object) -> oci.Image:
        return self.image(self.handle(text, tag, **options))

    def handle(self, text: str, tag: str = "prova", **options: object) -> Image:
        (self.context / "Containerfile").write_text(text)
        self.seen, self.ran = Seen(), []
        return build(self.images, lambda store: FakeWorkshop(store, self.ran), self.seen, self.context, tag, **options)

    def image(self, handle: Image) -> oci.Image:
        return self.images.store.image(handle.digest)

    def files(self, image: oci.Image) -> dict[str, str]:
        """Ogni percorso dell'immagine: ``d`` e i permessi, il contenuto di un file, ``->`` e dove porta un link."""
        view = View.of(image)
        paths = [path for path, node in view.nodes.items() if node.kind == b"0"]
        texts = {path: b"".join(data).decode() for path, _, data in view.contents(paths)}
        found = {}
        for path, node in view.nodes.items():
            if path:
                found[path] = texts.get(path, f"->{node.link}" if node.kind == b"2" else f"d{node.mode:o}")
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (tmp_path / "contesto").mkdir()
    return Bench(tmp_path / "contesto", Here(tmp_path / "immagini"))


#: A small system: a link between folders, a folder for everybody, two users.
BASE = tar(
    folder("usr"), folder("usr/lib"), link("lib", "usr/lib"), folder("tmp", mode=0o1777), folder("etc"),
    entry("etc/passwd", b"root:x:0:0::/:/bin/sh\nwww:x:33:34::/:/bin/sh\n"), entry("etc/group", b"dati:x:44:\n"),
    link("fuori", "/../../../etc"),
)  # fmt: skip


@pytest.fixture
def base(bench: Bench) -> oci.Image:
    """L'immagine ``base``, nel deposito del banco."""
    bench.images.import_image(io.BytesIO(BASE), "base")
    return bench.images.store.image("base")

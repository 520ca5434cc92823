"""Un laboratorio vero per modulo, vuotato dopo ogni prova."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labkit import Lab
from labkit.client.process import Process


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    with Lab(backend="direct") as lab:
        yield lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """Il laboratorio del modulo, che dopo ogni prova deve essere vivo, e torna vuoto."""
    yield shared
    for container in shared.ps(all=True):
        container.rm(force=True)
    assert shared.run("busybox", ["echo", "vivo"], quiet=True).output == "vivo\n"


@pytest.fixture
def process(lab: Lab) -> Iterator[Callable[..., Process]]:
    """Fa processi a mano, chiusi alla fine della prova."""
    with contextlib.ExitStack() as stack:
        yield lambda label="": stack.enter_context(lab.process(label))


@dataclass
class Inside:
    """Che cosa c'è nel laboratorio, visto da root là dentro: quello che un container può lasciare."""

    lab: Lab
    spy: Process
    ignored: frozenset[str] = field(default_factory=frozenset)

    @property
    def home(self) -> str:
        return f"{self.lab.wire.hello['folder']}/lab"

    def sees(self, expression: str) -> str:
        """Il valore di un'espressione Python nel processo spia."""
        result = self.spy.run(["cat", "/dev/null"], quiet=True)
        assert result.ok
        channel = self.lab.wire.open(
            "process_ask", label=self.spy.label, verb="cell", args={"source": f"import os\nprint({expression})"}
        )
        text = b"".join(data for _, data in channel).decode()
        assert channel.result is None
        return text.strip()

    def left(self) -> dict[str, object]:
        """Strati, cavi, mount, container, porte e descrittori che non c'erano quando il laboratorio è nato."""
        layers = self.sees(f"sorted(os.listdir({self.home + '/layers'!r}))")
        return {
            "strati": layers,
            "cavi": sorted(name for name in self.spy.links() if name.startswith("veth")),
            "mount": self.sees("len(open('/proc/1/mountinfo').readlines())"),
            "container": [container.name for container in self.lab.ps(all=True)],
        }


@pytest.fixture
def nothing_half_made(lab: Lab) -> Iterator[None]:
    """Quello che nel laboratorio c'era prima della prova c'è anche dopo, e niente di più."""
    with lab.process("spia") as spy:
        inside = Inside(lab, spy)
        before = inside.left()
        yield
        end = time.monotonic() + 2
        while (after := inside.left()) != before and time.monotonic() < end:
            time.sleep(0.02)
        assert after == before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Una cartella con dentro una radice: un busybox e poco altro."""
    folder = tmp_path / "radice"
    (folder / "bin").mkdir(parents=True)
    busybox = next(path for name in ("busybox", "busybox-static") if (path := shutil.which(name)))
    shutil.copy(busybox, folder / "bin" / "busybox")
    for name in ("sh", "cat", "ls", "rm", "mkdir", "echo", "sleep", "touch", "true", "mv", "id", "stat", "chmod", "ln"):
        (folder / "bin" / name).symlink_to("busybox")
    for path in (tmp_path, folder, folder / "bin"):
        path.chmod(0o755)
    return folder

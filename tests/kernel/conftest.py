"""Un laboratorio vero per modulo, vuotato dopo ogni prova."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


def counted(lab: Lab, spy: Process) -> dict[str, int]:
    """Quello che c'è nel laboratorio visto da root là dentro: strati, cavi, mount, descrittori, processi, nomi."""
    home = f"{lab.wire.hello['folder']}/lab"
    counts = (
        f"len(os.listdir('{home}/layers')), len(open('/proc/1/mountinfo').readlines()), len(os.listdir('/proc/1/fd')),"
        "sum(name.isdecimal() for name in os.listdir('/proc'))"
    )
    channel = lab.wire.open("process_ask", label=spy.label, verb="cell", args={"source": f"import os; print({counts})"})
    layers, mounts, descriptors, processes = map(int, b"".join(data for _, data in channel).split())
    return {
        "strati": layers,
        "mount": mounts,
        "descrittori": descriptors,
        "processi": processes,
        "cavi": sum(name.startswith("veth") for name in spy.links()),
        "container": len(lab.ps(all=True)),
    }


def excess(found: dict[str, int], usual: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Quello che c'è in più. In meno va bene: il cavo di un container finito da poco può sparire più tardi."""
    return {what: (usual[what], count) for what, count in found.items() if count > usual[what]}


@dataclass(frozen=True)
class Rest:
    """Il laboratorio del modulo a riposo: chi lo guarda, e che cosa ci ha trovato all'inizio."""

    spy: Process
    usual: dict[str, int]


@pytest.fixture(scope="module")
def rest(shared: Lab) -> Iterator[Rest]:
    with shared.process("spia") as spy:
        shared.run("busybox", "true", quiet=True)  # from here on whoever is awaited is awaited like this one
        last: list[dict[str, int]] = []
        end = time.monotonic() + 3
        while time.monotonic() < end and not (len(last) == 5 and all(seen == last[0] for seen in last)):
            time.sleep(0.07)
            last = [*last[-4:], counted(shared, spy)]
        yield Rest(spy, last[-1])


@pytest.fixture
def nothing_half_made(lab: Lab, rest: Rest) -> Iterator[None]:
    """Dopo la prova nel laboratorio non c'è niente di più di quando è nato."""
    yield
    lab.run("busybox", "true", quiet=True)
    end = time.monotonic() + 20
    while (more := excess(counted(lab, rest.spy), rest.usual)) and time.monotonic() < end:
        time.sleep(0.03)
    assert not more, "prima e dopo"


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

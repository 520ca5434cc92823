"""Che cosa vede dell'host chi sta in una macchina virtuale: i programmi, in sola lettura, e nient'altro.

Chi è root nella macchina, cioè chi la accende, può rimontare il resto (ARCHITECTURE.md); un container là dentro no.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Lab
from labkit.errors import BackendError
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.kernel.stored import base

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="i kernel del corso sono per x86-64"),
]

#: What a container could try, to reach the rest of the host: the two filesystems that come from it.
REMOUNTS = {
    "uml": "mount -t hostfs -o / none /mnt",
    "qemu": "mount -t 9p -o trans=virtio,version=9p2000.L host /mnt",
}


@pytest.fixture(scope="module")
def secret() -> Iterator[Path]:
    """Un file che solo chi esegue le prove può leggere, dove una macchina non deve arrivare."""
    with tempfile.TemporaryDirectory(prefix="lk-segreto-") as folder:
        path = Path(folder, "chiave")
        path.write_text("il mio segreto")
        path.chmod(0o600)
        yield path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """La cartella delle immagini di chi accende la macchina: è la sola cosa sua che deve vedere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_IMAGES", str(tmp_path_factory.mktemp("immagini")))
        store = Store()
        store.put(base(), parse("prova:1"))
        yield store


@pytest.fixture(scope="module", params=["uml", "qemu"])
def machine(request: pytest.FixtureRequest, secret: Path, store: Store) -> Iterator[Lab]:
    try:
        lab = Lab(request.param)
    except BackendError as problem:
        pytest.skip(str(problem))
    with lab:
        yield lab


def _ask(lab: Lab, script: str) -> tuple[int, str]:
    with lab.process(label="curioso") as process:
        done = process.run(["sh", "-c", f"{script} 2>&1"], quiet=True)
        return done.exit_code, done.output


def test_the_machine_does_not_see_the_files_of_who_has_switched_it_on(machine: Lab, secret: Path) -> None:
    code, said = _ask(machine, f"cat {secret}")
    assert code != 0
    assert "segreto" not in said.replace(str(secret), "")
    assert _ask(machine, "ls -A /home")[1] == ""


def test_a_container_of_the_machine_is_born_from_an_image_of_the_host(machine: Lab) -> None:
    assert machine.run("prova:1", network="none", quiet=True).output == "nuovo"


def test_what_the_machine_sees_of_the_host_cannot_be_written(machine: Lab, store: Store) -> None:
    for folder in ("/usr", "/etc", store.root):
        code, said = _ask(machine, f"touch {folder}/labkit-prova")
        assert code != 0, said
        assert not Path(folder, "labkit-prova").exists()


def test_a_container_of_the_machine_cannot_mount_the_host(machine: Lab, secret: Path) -> None:
    done = machine.run("busybox", ["sh", "-c", f"{REMOUNTS[machine.backend]} 2>&1; cat /mnt{secret}"], quiet=True)
    assert done.exit_code != 0
    assert "segreto" not in done.output.replace(str(secret), "")

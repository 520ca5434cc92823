"""Una macchina si accende ovunque siano le sue cartelle, o dice perché no e come si ripara."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Lab
from labkit.backends import kernels, qemu
from labkit.errors import BackendError

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="i kernel del corso sono per x86-64"),
]

#: What a kernel's command line and QEMU's options use for themselves.
AWKWARD = "casa, di=Anna: è qui"


def _given(kernel: kernels.UmlKernel | kernels.LinuxKernel, image: str, home: Path) -> dict[str, str]:
    """Lo stesso kernel, dato a mano da una cartella di ``home``."""
    name = "LABKIT_UML" if isinstance(kernel, kernels.UmlKernel) else "LABKIT_KERNEL"
    shutil.copytree(kernel.modules, home / "moduli" / kernel.version)
    return {name: str(shutil.copy(image, home)), "LABKIT_MODULES": str(home / "moduli")}


def _everything_in(home: Path, backend: str) -> dict[str, str]:
    """L'ambiente di chi ha una casa con quel nome, e lì ogni cosa."""
    home.mkdir()
    try:
        if backend == "uml":
            uml = kernels.uml()
            given = _given(uml, uml.binary, home)
        else:
            qemu.program()
            linux = kernels.linux()
            given = _given(linux, linux.image, home)
    except BackendError as problem:
        pytest.skip(str(problem))
    return given | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "LABKIT_RUN": str(home / "lab")}


@pytest.fixture
def place() -> Iterator[Path]:
    """Una cartella dal nome corto: quello di una presa ha poco posto."""
    with tempfile.TemporaryDirectory(prefix="lk-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("backend", ["uml", "qemu"])
def test_a_machine_boots_from_folders_with_awkward_names(
    backend: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _everything_in(place / AWKWARD, backend).items():
        monkeypatch.setenv(name, value)
    with Lab(backend) as lab:
        assert lab.run("busybox", ["echo", "ciao"], quiet=True).output == "ciao\n"
        assert Path(lab.disk) in map(Path, lab.boot_files())
        disk = "/dev/ubda" if backend == "uml" else "/dev/vda"
        with lab.process(label="disco") as process:
            process.write(disk, "sono il disco")
            process.run("sync")
        assert Path(lab.disk).read_bytes().startswith(b"sono il disco")


@pytest.mark.parametrize("backend", ["uml", "qemu"])
@pytest.mark.parametrize("name", ['le "mie" cose', "due\nrighe"])
def test_a_folder_that_no_kernel_can_be_told_is_refused(
    backend: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_RUN", str(tmp_path / name))
    with pytest.raises(BackendError, match=r"non sa portare il percorso .* Rimedio: export LABKIT_RUN="):
        Lab(backend)
    assert not (tmp_path / name).exists()

"""Quello che fa girare le slide nel browser, preso una volta da npm e tenuto nella cache.

Ogni pacchetto ha una versione fissa e un'impronta: quello che arriva diverso è rifiutato. Con la
cache piena non serve più né npm né la rete.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from labkit import rundir
from labkit.errors import LabError, NotFoundError


@dataclass(frozen=True)
class Package:
    """Un pacchetto di npm: nome, versione, impronta dell'archivio, e i file che servono di esso."""

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]

    @property
    def folder(self) -> str:
        return f"{self.name.rpartition('/')[2]}-{self.version}"


REVEAL = Package(
    "reveal.js",
    "5.2.1",
    "sha512-r7//6mIM5p34hFiDMvYfXgyjXqGRta+/psd9YtytsgRlrpRzFv4RbH76TXd2qD+7ZPZEbpBDhdRhJaFgfQ7zNQ==",
    ("dist/reveal.js", "dist/reveal.css", "dist/reset.css"),
)
REQUIRE = Package(
    "requirejs",
    "2.3.8",
    "sha512-7/cTSLOdYkNBNJcDMWf+luFvMriVm7eYxp4BcFCsAX0wF421Vyce5SXP17c+Jd5otXKGNehIonFlyQXSowL6Mw==",
    ("require.js",),
)
WIDGETS = Package(
    "@jupyter-widgets/html-manager",
    "1.0.15",
    "sha512-5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA==",
    ("dist/embed-amd.js",),
)


def cache_folder() -> Path:
    """La cache delle slide: ``LABKIT_CACHE``, o ``labkit`` nella cache dell'utente (XDG)."""
    chosen = os.environ.get("LABKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(rundir.cache())


def text(package: Package, name: str) -> str:
    """Il testo del file ``name`` di ``package``, dalla cache o da npm."""
    folder = cache_folder() / package.folder
    if not all((folder / file).is_file() for file in package.files):
        _fetch(package, folder)
    return (folder / name).read_text(encoding="utf-8")


def _fetch(package: Package, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise NotFoundError(
            f"Per costruire le slide la prima volta serve npm: da lì viene {package.name} {package.version}.",
            "sudo apt install npm",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        archive = _download(package, Path(work))
        _check(package, archive)
        new = Path(work, "new")
        with tarfile.open(archive) as tar:
            for name in package.files:
                # npm puts everything under «package/»; only the files named here leave the archive.
                member = tar.extractfile(f"package/{name}")
                if member is None:
                    raise LabError(f"In {package.name} {package.version} manca il file {name}.")
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(member.read())
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def _download(package: Package, work: Path) -> Path:
    wanted = f"{package.name}@{package.version}"
    result = subprocess.run(
        ["npm", "pack", "--ignore-scripts", "--silent", wanted],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    archives = list(work.glob("*.tgz"))
    if result.returncode or len(archives) != 1:
        reason = result.stderr.strip().split("\n")[-1] or f"npm è uscito con {result.returncode}"
        raise LabError(f"npm non riesce a prendere {wanted}: {reason}", f"npm pack {wanted}, con la rete accesa")
    return archives[0]


def _check(package: Package, archive: Path) -> None:
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise LabError(
            f"{package.name} {package.version} è arrivato diverso da quello atteso: non lo uso.",
            "npm cache clean --force, poi riprova",
        )

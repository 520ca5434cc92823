"""Prende pacchetti dalla distribuzione senza essere root; quelli dei kernel li tiene in ``~/.cache/labkit/kernels``.

Invariante: un pacchetto si apre solo se la sua impronta SHA-256 è quella dell'indice di apt. Una cartella della
cache o è completa o non c'è (si prepara accanto e si rinomina), porta nel nome l'impronta del pacchetto, e due
laboratori insieme ne scaricano uno solo (flock(2)).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from labkit import rundir
from labkit.backends.deb import unpack
from labkit.errors import BackendError

_LOCK = ".lock"

#: Riceve una riga in italiano su quello che sta succedendo.
Progress = Callable[[str], None]


def silent(line: str) -> None:
    """Non racconta niente."""


@dataclass(frozen=True)
class Package:
    """Un pacchetto come lo descrive l'indice di apt: ``size`` è in byte."""

    name: str
    version: str
    size: int
    sha256: str
    depends: str = ""


def cache() -> Path:
    """La cartella dei kernel scaricati da questo utente."""
    return Path(rundir.cache(), "kernels")


def occupied() -> int:
    """I byte che i kernel scaricati occupano sul disco."""
    return sum(path.lstat().st_blocks * 512 for path in cache().rglob("*"))


def empty() -> None:
    """Toglie tutto quello che c'è nella cache dei kernel; ciò che non si può togliere resta."""
    with alone(silent):
        for path in cache().iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:  # someone may be waiting on it
                with suppress(OSError):
                    path.unlink()


def cached(kind: str) -> Path | None:
    """La cartella più recente di quel tipo (``uml``, ``linux``), se un laboratorio l'ha già preparata."""
    try:
        found = [path for path in cache().glob(f"{kind}_*") if path.is_dir()]
    except PermissionError:  # HOME is another user's: whatever is there is not for us
        return None
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def describe(name: str) -> Package:
    """Quello che l'indice di apt sa di un pacchetto (apt-cache(8)); non usa la rete."""
    return describe_all([name])[0]


def describe_all(names: Iterable[str]) -> list[Package]:
    """Lo stesso per più pacchetti, chiesti insieme, nello stesso ordine."""
    wanted = list(dict.fromkeys(names))
    answer = _apt("apt-cache", "show", "--no-all-versions", *wanted)
    found: dict[str, Package] = {}
    for record in answer.stdout.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in record.splitlines() if ": " in line and line[0] != " ")
        if "Package" in fields:
            depends = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
            one = Package(fields["Package"], fields["Version"], int(fields["Size"]), fields["SHA256"].lower(), depends)
            found.setdefault(one.name, one)  # the machine's own architecture comes first
    for name in wanted:
        if name not in found:
            raise BackendError(
                f"Il pacchetto «{name}» non è nell'indice di apt di questa macchina.",
                "sudo apt-get update, oppure dai un kernel a mano con LABKIT_UML o LABKIT_KERNEL",
            )
    return [found[name] for name in wanted]


def closure(names: Iterable[str], without: Collection[str], index: dict[str, Package]) -> list[Package]:
    """I pacchetti ``names`` e quelli di cui hanno bisogno, in ordine di nome; di ``without`` si fa a meno.

    Fra più alternative vale quella che c'è già, se no la prima (deb-control(5)). ``index`` ricorda ciò che apt
    ha già detto: ogni domanda ad apt costa mezzo secondo.
    """
    found: dict[str, Package] = {}
    waiting = [name for name in names if name not in without]
    while waiting:
        unknown = [name for name in waiting if name not in index]
        if unknown:
            index |= {package.name: package for package in describe_all(unknown)}
        found |= {name: index[name] for name in waiting}
        needed: list[str] = []
        for name in waiting:
            for group in filter(None, index[name].depends.split(",")):
                choices = [re.split(r"[ (:\[]", choice.strip())[0] for choice in group.split("|")]
                if not any(choice in found or choice in without or choice in needed for choice in choices):
                    needed.append(choices[0])
        waiting = needed
    return [found[name] for name in sorted(found)]


def obtain(
    kind: str, packages: Sequence[Package], keep: Callable[[str], bool], finish: Callable[[Path], None], say: Progress
) -> Path:
    """La cartella ``kind_versione_impronta`` con i file scelti da ``keep``; se non c'è, scarica i pacchetti.

    ``finish`` riceve la cartella prima che diventi visibile agli altri, per completarla.
    """
    first = packages[0]
    target = cache() / f"{kind}_{first.version.replace(':', '%3a')}_{first.sha256[:12]}"
    if target.is_dir():
        return target
    with alone(say):
        if target.is_dir():  # someone else made it while we were waiting
            return target
        with tempfile.TemporaryDirectory(prefix=".nuovo-", dir=cache()) as folder:
            content = Path(folder, "content")
            content.mkdir(mode=0o755)
            for package in packages:
                [archive] = download([package], Path(folder), say)
                say(f"apro il pacchetto {package.name}…")
                unpack(archive, content, keep)
                archive.unlink()
            finish(content)
            content.rename(target)
    return target


def download(packages: Sequence[Package], folder: Path, say: Progress) -> list[Path]:
    """Scarica i pacchetti in ``folder``; torna i loro file, nello stesso ordine, tutti controllati."""
    size = sum(package.size for package in packages) / 1e6
    what = f"il pacchetto {packages[0].name}" if len(packages) == 1 else f"{len(packages)} pacchetti"
    say(f"scarico {what} ({size:.0f} MB)…")
    wanted = [f"{package.name}={package.version}" for package in packages]
    answer = _apt("apt-get", "download", "-q", *wanted, cwd=folder)
    found: dict[str, Path] = {}
    for path in folder.glob("*.deb"):
        with path.open("rb") as file:
            found[hashlib.file_digest(file, "sha256").hexdigest()] = path
    lines = [line for line in answer.stderr.splitlines() if line.startswith("E:")]
    if answer.returncode != 0 or len(found) < len(packages):
        raise BackendError(
            f"Non si può scaricare {what}: {lines[0][3:] if lines else 'apt-get non riesce'}",
            f"controlla la rete, poi sudo apt-get update; oppure sudo apt-get install {packages[0].name}",
        )
    for package in packages:
        if package.sha256 not in found:
            raise BackendError(
                f"Il pacchetto «{package.name}» scaricato non è quello dell'indice di apt: non lo apro.",
                "sudo apt-get update",
            )
    return [found[package.sha256] for package in packages]


def _apt(program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    if shutil.which(program) is None:
        raise BackendError(
            "Qui non c'è apt: labkit non sa dove prendere un kernel da avviare.",
            "installalo con gli strumenti della tua distribuzione, poi export LABKIT_UML=/percorso/linux "
            "oppure export LABKIT_KERNEL=/percorso/vmlinuz",
        )
    # In English and without asking: the answers are read by a program.
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        [program, *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@contextmanager
def alone(say: Progress) -> Iterator[None]:
    """Un lavoro alla volta nella cache di questo utente; il blocco finisce con il processo che lo tiene."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("un altro laboratorio sta scaricando lo stesso kernel: lo aspetto…")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for forgotten in cache().glob(".nuovo-*"):  # of someone killed: whoever makes one holds this lock
            shutil.rmtree(forgotten, ignore_errors=True)
        yield

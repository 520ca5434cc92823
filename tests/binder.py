"""Un posto come quello che Binder dà a chi apre un link, costruito davvero e senza Docker.

Un utente qualunque con ``no_new_privs``, senza capability, dietro un filtro seccomp che rifiuta namespace e
mount come quello di Docker (``clone3`` non esiste, il resto è EPERM); un ``/dev`` con i soli dispositivi
innocui, senza kvm, e un ``/dev/shm`` piccolo e noexec; due gigabyte di memoria, contati da un cgroup.

Come programma, da root, entra nel posto e lì diventa il comando: ``python -m tests.binder UID GID CGROUP COMANDO…``
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labkit.backends import kernels
from labkit.client import weight
from labkit.kernel import libc, mounts, seccomp
from tests.users import ROOT, User

MEMORY = 2 << 30
#: What Docker puts in /dev, and how big its /dev/shm is.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SHM = "size=64m,mode=1777"
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Un cgroup di memoria fatto per le prove; ``folder`` è la sua cartella."""

    folder: Path
    version: int

    @property
    def peak(self) -> int:
        """La memoria più alta raggiunta, in byte, con la cache dei file."""
        return int((self.folder / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")).read_text())

    @property
    def used(self) -> int:
        """I byte di memoria dei processi di adesso (la somma delle PSS): anche quella che è un file, come in UML."""
        return weight.pss([int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()])

    @property
    def kills(self) -> int:
        """Quanti processi il kernel ha ucciso perché la memoria era finita."""
        text = (self.folder / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])


@contextmanager
def memory(limit: int = MEMORY) -> Iterator[Memory]:
    """Un cgroup che concede ``limit`` byte, fatto e tolto da noi; LookupError se qui nessuno può contarli."""
    v2 = _V2 / "cgroup.subtree_control"
    if _V1.is_dir():
        counted = Memory(_V1 / f"prova-binder-{os.getpid()}", 1)
    elif v2.exists() and "memory" in v2.read_text().split():
        counted = Memory(_V2 / f"prova-binder-{os.getpid()}", 2)
    else:
        raise LookupError("qui nessun cgroup conta la memoria")
    counted.folder.mkdir()
    try:
        (counted.folder / ("memory.limit_in_bytes" if counted.version == 1 else "memory.max")).write_text(f"{limit}\n")
        yield counted
    finally:
        _remove(counted.folder)


def _remove(folder: Path) -> None:
    """Just after the last process has ended the kernel may still say EBUSY."""
    end = time.monotonic() + 5
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


@contextmanager
def uml() -> Iterator[Path]:
    """Una cartella con User Mode Linux dentro, com'è quando lo installa il pacchetto: ``bin`` e ``lib``."""
    folder = Path(tempfile.mkdtemp(prefix="lk-uml-"))
    try:
        kernel = kernels.uml(print)
        (folder / "bin").mkdir()
        shutil.copy(kernel.binary, folder / "bin" / "linux.uml")
        shutil.copytree(kernel.modules, folder / "lib" / "uml" / "modules" / kernel.version)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.name == "linux.uml" else 0o644)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def variables(kernel: Path) -> dict[str, str]:
    """Le variabili di chi sta nel posto: il PATH di ``binder/Dockerfile``, con il kernel che sta in ``kernel``."""
    path = f"{kernel}/bin:{ROOT}/binder/bin:{ROOT}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    # An empty name is no kernel given by hand: the one of the package must be found.
    return {"PATH": path, "LABKIT_UML": "", "LABKIT_MODULES": ""}


def become(counted: Memory) -> Callable[[User], list[str]]:
    """Il prefisso che entra nel posto come un utente: per :class:`tests.users.RunAs`."""
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tests.binder import main; main(sys.argv[1:])"
    python = [sys.executable, "-c", start, str(ROOT)]
    return lambda user: [*python, str(user.uid), str(user.gid), str(counted.folder)]


def main(arguments: list[str]) -> None:
    """Entra nel posto e diventa il comando."""
    uid, gid, cgroup, *command = arguments
    Path(cgroup, "cgroup.procs").write_text(f"{os.getpid()}\n")
    libc.unshare(libc.CLONE_NEWNS)
    mounts.mount("", "/", "", "rprivate")
    private_dev()
    os.setgroups([])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.load()
    os.execvp(command[0], command)


def private_dev() -> None:
    """Un /dev come quello di un container di Docker, in questo namespace mount soltanto."""
    side = tempfile.mkdtemp()
    mounts.mount("tmpfs", side, "tmpfs", "nosuid", data="mode=755")
    for name in DEVICES:
        Path(side, name).touch()
        mounts.mount(f"/dev/{name}", f"{side}/{name}", "", "bind")
    for name in ("pts", "shm"):
        os.mkdir(f"{side}/{name}")
    mounts.mount("devpts", f"{side}/pts", "devpts", "nosuid", "noexec", data="newinstance,ptmxmode=666,mode=620")
    mounts.mount("tmpfs", f"{side}/shm", "tmpfs", "nosuid", "nodev", "noexec", data=SHM)
    for name, target in LINKS.items():
        os.symlink(target, f"{side}/{name}")
    mounts.mount(side, "/dev", "", "move")
    os.rmdir(side)

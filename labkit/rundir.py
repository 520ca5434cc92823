"""La cartella di un laboratorio sull'host: il suo segno, la sua presa, e la pulizia di quelle rimaste.

Ogni laboratorio ha ``BASE/ID/`` con ``lab.json`` (il segno) e ``sock`` (la presa per chi si collega
da un altro processo). È il solo oggetto del laboratorio che sta fuori dai suoi namespace: chi lo ha
fatto lo toglie, e se è stato ucciso lo toglie il prossimo che passa, ma solo se porta il segno e il
processo che lo custodiva non c'è più.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from labkit.errors import BackendError

MARK = "labkit"

_LONGEST = 107  # sys/un.h: sun_path, without its final NUL


@dataclass(frozen=True)
class LabRecord:
    """Che cosa c'è scritto in ``lab.json``: il laboratorio, i processi che lo tengono vivo, le sue cose sul disco.

    ``scratch`` è la cartella degli strati, che esiste solo se non possono stare in memoria; ``cgroups`` sono
    le cartelle del suo gruppo di processi, una per gerarchia.
    """

    id: str
    guard_pid: int
    guard_starttime: int
    client_pid: int
    backend: str
    mode: str
    created: float
    scratch: str = ""
    cgroups: tuple[str, ...] = ()
    mark: str = MARK


def base() -> str:
    """La cartella che contiene tutti i laboratori di questo utente."""
    if chosen := os.environ.get("LABKIT_RUN"):
        if not os.path.isabs(chosen):  # it would be another one in every folder
            raise BackendError(
                f"LABKIT_RUN è «{chosen}», che non è un percorso assoluto.", "export LABKIT_RUN=~/.labkit"
            )
        return chosen
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime) and os.access(runtime, os.W_OK):
        return f"{runtime}/labkit"
    return f"/tmp/labkit-{os.getuid()}"


def start_time(pid: int) -> int:
    """L'istante di nascita di un processo (campo 22 di ``/proc/PID/stat``), 0 se non c'è o è finito (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def create(record: LabRecord) -> str:
    """Fa la cartella di un laboratorio, tutta o niente: compare con il segno già dentro."""
    root = base()
    if len(os.fsencode(f"{root}/{record.id}/sock")) > _LONGEST:
        raise BackendError(
            f"Il percorso «{root}» è troppo lungo: il nome di una presa ha al massimo {_LONGEST} byte (unix(7)).",
            "export LABKIT_RUN=~/.labkit",
        )
    os.makedirs(root, mode=0o700, exist_ok=True)
    info = os.lstat(root)  # in /tmp anyone may have left a link under our name
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise BackendError(
            f"«{root}» non è una cartella di questo utente: non ci metto il laboratorio.", "export LABKIT_RUN=~/.labkit"
        )
    # The temporary name carries who is making it, so that reap() can judge it without a mark.
    temporary = f"{root}/.{record.guard_pid}.{record.guard_starttime}"
    os.mkdir(temporary, 0o700)
    with open(f"{temporary}/lab.json", "w", encoding="utf-8") as file:
        json.dump(asdict(record), file)
    os.rename(temporary, f"{root}/{record.id}")
    return f"{root}/{record.id}"


def read(folder: str) -> LabRecord | None:
    """Il segno di una cartella, o ``None`` se non è di labkit."""
    try:
        with open(f"{folder}/lab.json", encoding="utf-8") as file:
            data = json.load(file)
        record = LabRecord(**{**data, "cgroups": tuple(data.get("cgroups", ()))})
    except (OSError, ValueError, TypeError):
        return None
    return record if record.mark == MARK else None


def alive(record: LabRecord) -> bool:
    """Se il guardiano di quel laboratorio è ancora lo stesso processo di allora."""
    return record.guard_starttime != 0 and start_time(record.guard_pid) == record.guard_starttime


def records() -> Iterator[tuple[str, LabRecord]]:
    """Le cartelle con il segno e il loro contenuto, dalla più vecchia."""
    root = base()
    try:
        names = os.listdir(root)
    except OSError:
        return
    found = [(f"{root}/{name}", read(f"{root}/{name}")) for name in names]
    marked = [(folder, record) for folder, record in found if record]
    yield from sorted(marked, key=lambda item: item[1].created)


def live() -> list[tuple[str, LabRecord]]:
    """I laboratori vivi di questo utente, dal più vecchio al più nuovo."""
    return [(folder, record) for folder, record in records() if alive(record)]


def dead() -> list[tuple[str, LabRecord]]:
    """Quello che è rimasto di laboratori morti."""
    return [(folder, record) for folder, record in records() if not alive(record)]


def cache() -> str:
    """La cartella di labkit nella cache di questo utente: ciò che resta da un laboratorio all'altro."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "labkit")


def scratch(lab_id: str) -> str:
    """Dove un laboratorio mette i suoi strati quando il tmpfs non li può tenere."""
    return f"{cache()}/layers/{lab_id}"


def remove(folder: str) -> None:
    """Toglie la cartella di un laboratorio finito, e i suoi strati sul disco.

    Gli strati hanno file di altri utenti (i subuid): li può togliere chi è root in quel namespace
    utente, cioè un guardiano.
    """
    import shutil  # slow to import, and only needed at the end

    record = read(folder)
    if record and record.scratch:
        shutil.rmtree(record.scratch, ignore_errors=True)
    if record:
        ours = cgroup_name(record.guard_pid, record.guard_starttime)
        for group in record.cgroups:
            if os.path.basename(group).startswith(ours):
                remove_cgroup(group)
    shutil.rmtree(folder, ignore_errors=True)


def cgroup_name(pid: int, starttime: int) -> str:
    """Il nome del cgroup di un laboratorio: il suo guardiano, e il namespace pid in cui quel numero vale."""
    return f"labkit-{pid}-{starttime}-{os.stat('/proc/self/ns/pid').st_ino}"


def remove_cgroup(folder: str, patience: float = 1.0) -> None:
    """Toglie un cgroup vuoto e quelli che ha dentro; aspetta un poco chi sta finendo (rmdir(2), EBUSY)."""
    deadline = time.monotonic() + patience
    for path, _, _ in sorted(os.walk(folder), reverse=True):
        while True:
            try:
                os.rmdir(path)
            except OSError as problem:
                if problem.errno == errno.EBUSY and time.monotonic() < deadline:
                    time.sleep(0.001)
                    continue
            break


def reap_cgroups(parent: str) -> None:
    """Toglie da ``parent`` i cgroup dei laboratori morti, anche di chi ha un'altra base: il nome basta a giudicarli."""
    here = str(os.stat("/proc/self/ns/pid").st_ino)
    for name in os.listdir(parent) if os.path.isdir(parent) else ():
        parts = name.removesuffix("-guard").split("-")
        ours = len(parts) == 4 and parts[0] == MARK and parts[3] == here
        if ours and parts[1].isdecimal() and parts[2].isdecimal() and start_time(int(parts[1])) != int(parts[2]):
            remove_cgroup(f"{parent}/{name}", patience=0)


def _unfinished() -> Iterator[str]:
    """Le cartelle temporanee di :func:`create` il cui autore non c'è più."""
    root = base()
    for name in os.listdir(root) if os.path.isdir(root) else ():
        parts = name.split(".")
        ours = len(parts) == 3 and parts[0] == "" and parts[1].isdecimal() and parts[2].isdecimal()
        if ours and start_time(int(parts[1])) != int(parts[2]):
            yield f"{root}/{name}"


def reap(layers: bool = True) -> list[str]:
    """Toglie le cartelle dei laboratori morti; torna gli id tolti.

    Con ``layers=False``, per chi non è root nel namespace utente, restano quelli che hanno strati sul disco.
    """
    removed = []
    for folder in _unfinished():
        remove(folder)
    for folder, record in dead():
        if not layers and record.scratch and os.path.lexists(record.scratch):
            continue
        remove(folder)
        if not os.path.exists(folder):
            removed.append(record.id)
    return removed

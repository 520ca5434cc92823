"""I cgroup: un gruppo di processi, il suo conto e i suoi limiti, nelle due versioni che esistono (cgroups(7)).

Un cgroup è una cartella: la si fa con mkdir, ci si mette un processo scrivendo il suo PID in
``cgroup.procs``, si limita scrivendo in un file. La versione 2 ha una cartella sola; la 1 una per ogni
controllore, ciascuna nella sua gerarchia; molte macchine hanno tutte e due. Qui i file si chiamano con il
nome della versione 2, e dove il controllore sta nella 1 si usa il suo gemello (:data:`FILES`).

Nessun percorso è scritto qui: dove sono le gerarchie lo dicono ``/proc/PID/cgroup`` e ``mountinfo``.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from dataclasses import dataclass

from labkit.errors import InvalidError, NotFoundError
from labkit.kernel import procfs
from labkit.kernel.explain import error, from_os_error

#: I controllori che il corso usa, con il nome della versione 2; ``""`` sono i file ``cgroup.*`` della 2.
CONTROLLERS = ("memory", "cpu", "cpuset", "pids", "io")

#: Nome nella versione 2 → nome nella versione 1; vuoto se la 1 non ce l'ha.
FILES = {
    "memory.max": "memory.limit_in_bytes",
    "memory.current": "memory.usage_in_bytes",
    "memory.peak": "memory.max_usage_in_bytes",
    "memory.swap.max": "memory.memsw.limit_in_bytes",
    "memory.events": "memory.oom_control",
    "memory.oom.group": "",
    "memory.pressure": "",
    "cpu.max": "cpu.cfs_quota_us",
    "cpu.weight": "cpu.shares",
    "cpu.stat": "cpu.stat",
    "cpuset.cpus": "cpuset.cpus",
    "pids.max": "pids.max",
    "pids.current": "pids.current",
    "pids.events": "pids.events",
    "io.max": "blkio.throttle.read_bps_device",
    "io.stat": "blkio.throttle.io_service_bytes",
    "cgroup.procs": "cgroup.procs",
    "cgroup.freeze": "",
    "cgroup.kill": "",
}

#: La foglia in cui sta chi governa un gruppo della versione 2: chi ha figli con dei limiti non tiene processi.
LEAF = "supervisor"

#: Quelli della versione 1 hanno altri nomi; lì il tempo di CPU lo conta un controllore a parte.
_V1_NAMES = {"blkio": "io"}
KNOWN = (*CONTROLLERS, "cpuacct")

#: Nella versione 1 e nella 2, il file che c'è solo se il kernel tiene il conto dello swap; come si segna che c'è.
_SWAP_FILES = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}
SWAP = "swap"


@dataclass(frozen=True)
class Hierarchy:
    """Un cgroup visto in una gerarchia: la versione, i controllori che ci sono, la cartella."""

    version: int
    controllers: tuple[str, ...]
    folder: str

    def child(self, name: str) -> Hierarchy:
        return Hierarchy(self.version, self.controllers, f"{self.folder}/{name}")


def hierarchies(pid: int | str = "self") -> tuple[Hierarchy, ...]:
    """I cgroup di un processo, uno per ogni gerarchia che serve al corso, la versione 2 per ultima.

    Una gerarchia montata fuori dalla vista del processo non c'è.
    """
    mounts = mounted()
    found = []
    for line in procfs.read(pid, "cgroup").splitlines():
        number, names, path = line.split(":", 2)
        wanted = set(names.split(",")) if names else set()
        for version, options, root, target in mounts:
            same = version == 2 if number == "0" and not names else version == 1 and wanted <= options
            if not same or not (path == root or path.startswith(root.rstrip("/") + "/")):
                continue
            folder = target + path[len(root.rstrip("/")) :].rstrip("/")
            if version == 2:
                found.append(Hierarchy(2, offered(folder), folder))
            else:
                known = tuple(sorted(_V1_NAMES.get(name, name) for name in wanted))
                if set(known) & set(KNOWN):
                    found.append(Hierarchy(1, known, folder))
            break
    return tuple(sorted(found, key=lambda part: (part.version, part.folder)))


def mounted() -> list[tuple[int, set[str], str, str]]:
    """Le gerarchie montate: versione, opzioni, radice, punto di mount (proc_pid_mountinfo(5)); vince l'ultima."""
    found = []
    for line in procfs.read("self", "mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, (fstype, _, options) = left.split(), right.split(" ", 2)
        if fstype in ("cgroup", "cgroup2"):
            version = 2 if fstype == "cgroup2" else 1
            found.append((version, set(options.split(",")), _plain(fields[3]), _plain(fields[4])))
    return found[::-1]


def _plain(path: str) -> str:
    """Un percorso di mountinfo senza le sue sequenze ottali."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, letter)
    return path


def offered(folder: str) -> tuple[str, ...]:
    """I controllori che un gruppo della versione 2 ha."""
    try:
        with open(f"{folder}/cgroup.controllers", encoding="ascii") as file:
            return tuple(name for name in file.read().split() if name in CONTROLLERS)
    except OSError:
        return ()


def weight(shares: int) -> int:
    """Da ``cpu.shares`` (2–262144, di solito 1024) a ``cpu.weight`` (1–10000, di solito 100), come runc e crun.

    >>> weight(2), weight(1024), weight(262144)
    (1, 100, 10000)
    """
    bits = math.log2(shares)
    return math.ceil(round(10 ** ((bits * bits + 125 * bits) / 612 - 7 / 34), 6))


def shares(weight: int) -> int:
    """Il contrario di :func:`weight`.

    >>> shares(1), shares(100), shares(10000)
    (2, 1024, 262144)
    """
    return round(2 ** ((math.sqrt(125**2 + 4 * 612 * (math.log10(weight) + 7 / 34)) - 125) / 2))


def spell(file: str, value: str) -> tuple[tuple[str, str], ...]:
    """Come si scrive ``value`` nel ``file`` della versione 2, detto ai file della versione 1.

    >>> spell("cpu.max", "50000 100000")
    (('cpu.cfs_period_us', '100000'), ('cpu.cfs_quota_us', '50000'))
    """
    if file == "cpu.max":
        quota, period = [*value.split(), "100000"][:2]
        return ("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", "-1" if quota == "max" else quota)
    if file == "cpu.weight":
        return (("cpu.shares", str(shares(int(value)))),)
    if file == "io.max":
        device, *rates = value.split()
        files = {"rbps": "blkio.throttle.read_bps_device", "wbps": "blkio.throttle.write_bps_device"}
        pairs = [rate.split("=") for rate in rates]
        return tuple((files[key], f"{device} {'0' if rate == 'max' else rate}") for key, rate in pairs)
    name = FILES.get(file, "")
    if not name:
        raise NotFoundError(f"La versione 1 dei cgroup non ha «{file}».", "Lab(backend='uml') ha la versione 2")
    return ((name, "-1" if value == "max" and name.startswith("memory.") else value),)


@dataclass(frozen=True)
class Cgroup:
    """Un cgroup: la stessa cartella in ogni gerarchia in cui esiste.

    >>> Cgroup((Hierarchy(2, ("memory",), "/sys/fs/cgroup/prova"),)).path("memory.max")
    '/sys/fs/cgroup/prova/memory.max'
    """

    parts: tuple[Hierarchy, ...]

    @property
    def name(self) -> str:
        return os.path.basename(self.parts[0].folder) if self.parts else ""

    @property
    def controllers(self) -> tuple[str, ...]:
        """I controllori che questo gruppo ha, fra quelli del corso."""
        return tuple(name for name in CONTROLLERS if any(name in part.controllers for part in self.parts))

    def version(self, controller: str = "memory") -> int:
        """In quale versione sta un controllore; 0 se non c'è. Per ``cgroup`` la 2, se c'è."""
        part = self._part(controller)
        return part.version if part else 0

    def _part(self, controller: str) -> Hierarchy | None:
        if controller == "cgroup":
            return next((part for part in reversed(self.parts)), None)
        # Pressure is kept for every cgroup of version 2, with or without the controller.
        return next((part for part in self.parts if controller in part.controllers), None)

    def path(self, file: str) -> str:
        """Il percorso vero di un file, detto con il nome della versione 2 (o con il suo, se è della 1).

        Alza :class:`~labkit.errors.NotFoundError` se qui quel controllore non c'è.
        """
        controller = file.partition(".")[0]
        if file.endswith(".pressure"):
            part = next((part for part in self.parts if part.version == 2), None)
        else:
            part = self._part("io" if controller == "blkio" else controller)
        if part is None or (part.version == 1 and not FILES.get(file, file)):
            raise NotFoundError(f"Qui il file «{file}» non c'è: manca il suo controllore.", "kernel.cgroup()")
        return f"{part.folder}/{file if part.version == 2 else FILES.get(file, file)}"

    def child(self, name: str) -> Cgroup:
        """Il gruppo di nome ``name`` dentro questo; non è detto che ci sia già."""
        if not name or "/" in name or name.startswith(".") or "\0" in name:
            raise InvalidError(f"«{name}» non può essere il nome di un cgroup: niente barre né punti all'inizio.")
        return Cgroup(tuple(part.child(name) for part in self.parts))

    def create(self) -> Cgroup:
        """Fa le cartelle; quelle che ci sono già restano come sono. Torna il gruppo."""
        for part in self.parts:
            try:
                os.mkdir(part.folder, 0o755)
            except FileExistsError:
                continue
            except OSError as problem:
                raise error("mkdir", problem.errno or 0, part.folder) from None
            if part.version == 1 and "cpuset" in part.controllers:
                # An empty cpuset takes no process: version 1 does not inherit (cpuset(7)).
                parent = os.path.dirname(part.folder)
                for file in ("cpuset.mems", "cpuset.cpus"):
                    write(f"{part.folder}/{file}", read(f"{parent}/{file}").strip())
        return self

    def remove(self) -> bool:
        """Toglie le cartelle vuote; ``False`` se qualcuna ha ancora processi che stanno finendo."""
        gone = True
        for part in self.parts:
            try:
                os.rmdir(part.folder)
            except FileNotFoundError:
                continue
            except OSError as problem:
                if problem.errno != errno.EBUSY:
                    raise error("rmdir", problem.errno or 0, part.folder) from None
                gone = False
        return gone

    def offers(self, file: str) -> bool:
        """Se i gruppi come questo hanno quel file: lo swap si conta solo se il kernel è avviato così."""
        try:
            self.path(file)
        except NotFoundError:
            return False
        return file != "memory.swap.max" or any(SWAP in part.controllers for part in self.parts)

    def add(self, pid: int = 0) -> None:
        """Mette un processo nel gruppo, e i figli che farà da ora; 0 è chi chiama."""
        for part in self.parts:
            write(f"{part.folder}/cgroup.procs", str(pid))

    def leave(self) -> None:
        """Chi chiama torna nel gruppo che contiene questo, o nella sua foglia (:data:`LEAF`), se ne ha una."""
        for part in self.parts:
            above = os.path.dirname(part.folder)
            leaf = f"{above}/{LEAF}"
            write(f"{leaf if os.path.isdir(leaf) else above}/cgroup.procs", "0")

    def pids(self) -> list[int]:
        """I processi del gruppo, con i PID visti da chi chiama."""
        return [int(line) for line in read(f"{self.parts[-1].folder}/cgroup.procs").split()] if self.parts else []

    def read(self, file: str) -> str:
        """Il testo di un file del gruppo, senza l'ultimo a capo."""
        return read(self.path(file)).rstrip("\n")

    def write(self, file: str, value: str | int) -> None:
        """Scrive un limite, detto come nella versione 2: ``write("cpu.max", "50000 100000")``.

        In ``io.max`` un disco si può dire per nome: ``write("io.max", "/dev/sda rbps=1048576")``.
        """
        text = _with_number(str(value)) if file == "io.max" and str(value).startswith("/") else str(value)
        path = self.path(file)
        folder = os.path.dirname(path)
        if self.version("io" if file.startswith("blkio") else file.partition(".")[0]) == 2 or file not in FILES:
            write(path, text or "\n")
        elif file == "cpuset.cpus" and not text:  # here empty does not mean "those of the parent"
            write(path, read(f"{os.path.dirname(folder)}/cpuset.cpus").strip())
        elif file == "memory.swap.max":
            total = -1 if text == "max" else int(self.read("memory.max")) + int(text)
            write(path, str(total))
        else:
            for name, spelled in spell(file, text):
                if name == "memory.limit_in_bytes":
                    self._make_room(spelled)
                write(f"{folder}/{name}", spelled)

    def _make_room(self, limit: str) -> None:
        """Nella versione 1 il limite della memoria non supera mai quello di memoria e swap insieme: prima si alza."""
        path = self.path("memory.swap.max")
        if os.path.exists(path) and (limit == "-1" or int(read(path)) < int(limit)):
            write(path, "-1")


def cgroup(pid: int | str = "self") -> Cgroup:
    """Il cgroup di un processo."""
    return Cgroup(hierarchies(pid))


def top() -> Cgroup:
    """Il gruppo più in alto che si vede da qui: in un laboratorio è quello del laboratorio.

    Dei controllori della versione 2 ci sono quelli concessi ai suoi figli (``cgroup.subtree_control``).
    """
    seen: dict[str, Hierarchy] = {}
    for version, options, root, target in mounted():
        names = tuple(sorted(name for name in (_V1_NAMES.get(o, o) for o in options) if name in KNOWN))
        if root != "/" or (version == 1 and not names):
            continue
        given = granted(target) if version == 2 else names
        if os.path.exists(f"{target}/{_SWAP_FILES[version]}"):
            given = (*given, SWAP)
        seen.setdefault(",".join(names) if version == 1 else "", Hierarchy(version, given, target))
    return Cgroup(tuple(sorted(seen.values(), key=lambda part: (part.version, part.folder))))


def granted(folder: str) -> tuple[str, ...]:
    """I controllori che un gruppo della versione 2 concede ai suoi figli."""
    try:
        return tuple(name for name in read(f"{folder}/cgroup.subtree_control").split() if name in CONTROLLERS)
    except OSError:
        return ()


def grant(folder: str, controllers: tuple[str, ...]) -> tuple[str, ...]:
    """Concede ai figli di un gruppo della versione 2 quei controllori; torna quelli che il kernel ha accettato."""
    for name in controllers:
        try:
            write(f"{folder}/cgroup.subtree_control", f"+{name}")
        except OSError:
            continue
    return granted(folder)


def _with_number(value: str) -> str:
    """Il dispositivo di ``io.max`` con i suoi numeri al posto del nome: ``/dev/sda`` diventa ``8:0``."""
    device, _, rest = value.partition(" ")
    try:
        info = os.stat(device)
    except OSError as problem:
        raise NotFoundError(
            f"Il dispositivo «{device}» non c'è ({os.strerror(problem.errno or 0)}).", "lsblk"
        ) from None
    if not stat.S_ISBLK(info.st_mode):
        raise InvalidError(f"«{device}» non è un disco: i limiti di io valgono per i dispositivi a blocchi.", "lsblk")
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)} {rest}"


def read(path: str) -> str:
    """Il testo di un file."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError as problem:
        raise from_os_error(problem, "open") from None


def write(path: str, value: str) -> None:
    """Scrive ``value`` con una sola write(2), come vuole il kernel."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as problem:
        raise error("write", problem.errno or 0, path) from None

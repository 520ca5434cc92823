"""Il cgroup del laboratorio: dove il guardiano lo può fare, come il supervisore ci entra, che cosa manca.

Il gruppo si chiama ``labkit-PID-NASCITA``, dove PID e NASCITA sono del guardiano che lo ha fatto (in una
macchina virtuale soltanto ``labkit``), ed è scritto in ``lab.json`` prima che esista. Quando il laboratorio
finisce lo toglie il guardiano; se è stato ucciso, il prossimo laboratorio (:mod:`labkit.rundir`). Una
cartella che labkit non ha fatto non si tocca mai.

Dove può stare: nella versione 1, nel gruppo di chi ha aperto il laboratorio. Nella 2 chi ha figli con dei
limiti non può tenere processi; perciò si prova, nell'ordine: la radice vera, se siamo lì; uno *scope*
delegato chiesto a systemd; fra i gruppi che contengono il nostro e che si possono scrivere, quello con più
controllori (a parità, il più vicino).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from labkit.engine.limits import reason
from labkit.errors import LabError
from labkit.kernel import cgroups, libc, mounts
from labkit.kernel.cgroups import CONTROLLERS, LEAF, Cgroup, Hierarchy
from labkit.kernel.explain import from_os_error
from labkit.model import Feature

#: Quanti processi e thread può avere al massimo un laboratorio intero: una fork bomb si ferma qui.
PIDS_CEILING = 4096


@dataclass
class LabGroup:
    """Il gruppo del laboratorio, e perché manca quello che manca.

    ``reasons`` va dal nome del controllore alla frase; ``""`` vale per tutti gli altri, ``cgroup`` per la versione 2.
    ``guard_leaf`` è la foglia in cui si sposta il guardiano, se il gruppo nasce accanto a lui: serve solo a lui, e sul
    filo non viaggia.
    """

    group: Cgroup = field(default_factory=lambda: Cgroup(()))
    reasons: dict[str, str] = field(default_factory=dict)
    guard_leaf: str = ""

    def to_json(self) -> dict[str, Any]:
        parts = [list(vars(part).values()) for part in self.group.parts]
        return {"name": self.group.name, "parts": parts, "reasons": self.reasons}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabGroup:
        parts = tuple(Hierarchy(version, tuple(names), folder) for version, names, folder in data["parts"])
        return cls(Cgroup(parts), dict(data["reasons"]))

    @property
    def folders(self) -> tuple[str, ...]:
        """Le cartelle da togliere alla fine."""
        return (*(part.folder for part in self.group.parts), *([self.guard_leaf] if self.guard_leaf else []))


def choose(name: str) -> LabGroup:
    """Dove può stare il gruppo ``name``. Non fa ancora niente, tranne chiedere a systemd uno scope se serve."""
    lab = LabGroup()
    try:
        parts = cgroups.hierarchies()
    except LabError as problem:
        lab.reasons[""] = problem.message
        return lab
    chosen = [part.child(name) for part in parts if part.version == 1 and _writable(part.folder)]
    refused = [part for part in parts if part.version == 1 and not _writable(part.folder)]
    for part in refused:
        for controller in part.controllers:
            lab.reasons[controller] = "nella versione 1 dei cgroup può scriverlo solo root"
    if not parts:
        lab.reasons[""] = "questa macchina non ha cgroup montati"
    elif parts[-1].version == 1:
        lab.reasons["cgroup"] = "questa macchina non ha montata la versione 2 dei cgroup"
    else:
        home, why = _home_in_version_2(parts[-1].folder, name)
        given = cgroups.offered(home) if home else ()
        if home:
            chosen.append(Hierarchy(2, given, f"{home}/{name}"))
        if given and not _is_root(home) and home == _own_folder():
            lab.guard_leaf = f"{home}/{name}-guard"
        for controller in (*CONTROLLERS, "cgroup"):
            if why and controller not in lab.reasons:
                lab.reasons[controller] = why
    lab.group = Cgroup(tuple(chosen))
    return lab


def _own_folder() -> str:
    return next((part.folder for part in cgroups.hierarchies() if part.version == 2), "")


def _home_in_version_2(own: str, name: str) -> tuple[str, str]:
    """La cartella della versione 2 in cui fare il gruppo, o perché non c'è."""
    above = [own]
    while os.path.exists(f"{os.path.dirname(above[-1])}/cgroup.procs"):
        above.append(os.path.dirname(above[-1]))
    if not cgroups.offered(above[-1]):  # a hybrid machine: no limits here, and any writable folder will do
        return (own, "") if _writable(own) else ("", "nei cgroup può scrivere solo root")
    if _is_root(own) and _writable(own):
        return own, ""
    unusable = "lo scope dato da systemd non si può usare"
    why = _ask_systemd(name)
    if not why and (given := _own_folder()) and _writable(given) and not _others(given):
        return given, ""
    usable = [folder for folder in above if _writable(folder) and (_is_root(folder) or not _others(folder))]
    best = max(usable, key=lambda folder: len(cgroups.offered(folder)), default="")  # the nearest of equals
    return (best, "") if best else ("", f"serve un cgroup delegato a questo utente, e {why or unusable}")


def _writable(folder: str) -> bool:
    """Se qui si può fare un gruppo e concedergli dei controllori."""
    files = [folder, f"{folder}/cgroup.procs", f"{folder}/cgroup.subtree_control"]
    return all(os.access(path, os.W_OK) for path in files if os.path.exists(path))


def _is_root(folder: str) -> bool:
    """La radice vera della versione 2 è la sola senza ``cgroup.type``, e la sola che può tenere processi e figli
    con dei limiti."""
    return not os.path.exists(f"{folder}/cgroup.type")


def _others(folder: str) -> list[int]:
    """I processi del gruppo, tranne chi chiama; ``[0]`` se non si può leggere: nel dubbio c'è qualcuno."""
    try:
        with open(f"{folder}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file if int(line) != os.getpid()]
    except OSError:
        return [0]


def _ask_systemd(name: str) -> str:
    """Chiede a systemd uno scope delegato per questo processo; torna perché non l'ha avuto, o ""."""
    if not os.path.isdir("/run/systemd/system"):
        return "qui non c'è systemd a concederlo"
    import subprocess  # only where it serves: the guard stays small

    before = _own_folder()
    words = [
        "busctl", *([] if os.geteuid() == 0 else ["--user"]), "--quiet", "call", "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
        f"{name}.scope", "fail", "3", "Delegate", "b", "true", "PIDs", "au", "1", str(os.getpid()),
        "CollectMode", "s", "inactive-or-failed", "0",
    ]  # fmt: skip
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError) as problem:
        return f"systemd non risponde: {problem}"
    if done.returncode:
        return f"systemd ha detto di no: {' '.join(done.stderr.split())[:200]}"
    deadline = time.monotonic() + 2
    while _own_folder() == before:
        if time.monotonic() > deadline:
            return "systemd ha detto di sì ma non ha dato lo scope"
        time.sleep(0.005)
    return ""


def make(lab: LabGroup) -> None:
    """Nel guardiano: fa il gruppo, gli fa concedere i controllori, mette il tetto dei processi."""
    parts = []
    for part in lab.group.parts:
        try:
            wanted = part.controllers
            Cgroup((part,)).create()
            if part.version == 2 and wanted:
                home = os.path.dirname(part.folder)
                if lab.guard_leaf:
                    Cgroup((Hierarchy(2, (), lab.guard_leaf),)).create().add()
                given = cgroups.grant(home, wanted)
                for controller in set(wanted) - set(given):
                    lab.reasons[controller] = "il gruppo in cui vive il notebook non lo concede"
                part = Hierarchy(2, tuple(name for name in wanted if name in given), part.folder)
            parts.append(part)
        except OSError as problem:
            why = from_os_error(problem).message
            lab.reasons |= dict.fromkeys(part.controllers or ("cgroup",), why)
    lab.group = Cgroup(tuple(parts))
    if lab.group.version("pids"):
        lab.group.write("pids.max", _ceiling())


def _ceiling() -> int:
    with open("/proc/sys/kernel/threads-max", encoding="ascii") as file:
        return min(PIDS_CEILING, int(file.read()) // 2)


def kernel_log() -> int:
    """Il diario del kernel da adesso in poi, o -1 se questo utente non lo può leggere (syslog(2), dmesg_restrict)."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(fd, 0, os.SEEK_END)
        return fd
    except OSError:
        return -1


def leave(lab: LabGroup) -> None:
    """Nel guardiano, alla fine: esce dalla sua foglia e restituisce i controllori, perché si possa togliere."""
    if not lab.guard_leaf:
        return
    home = os.path.dirname(lab.guard_leaf)
    try:
        for controller in cgroups.granted(home):
            cgroups.write(f"{home}/cgroup.subtree_control", f"-{controller}")
        cgroups.write(f"{home}/cgroup.procs", "0")
    except OSError:
        return  # systemd removes a scope that has ended, and what is in it


def enter(lab: LabGroup) -> None:
    """Nel supervisore appena nato: entra nel gruppo, e da qui in poi il gruppo è la radice che vede.

    Dove il kernel non lo lascia entrare il laboratorio nasce lo stesso, senza quei limiti.
    """
    entered = []
    for part in lab.group.parts:
        try:
            Cgroup((part,)).add()
            entered.append(part)
        except OSError as problem:
            lab.reasons |= dict.fromkeys(part.controllers or ("cgroup",), from_os_error(problem).message)
    lab.group = Cgroup(tuple(entered))
    if entered:
        libc.unshare(libc.CLONE_NEWCGROUP)


def settle(lab: LabGroup) -> None:
    """Nel mondo del laboratorio: sopra ogni gerarchia monta la sua parte, e rende le altre di sola lettura.

    Così chi vive nel laboratorio vede solo i suoi cgroup, e ``/proc/PID/cgroup`` e i percorsi dicono la stessa cosa.
    """
    covers = {}
    for _, _, _, target in cgroups.mounted():
        part = next((part for part in lab.group.parts if part.folder.startswith(f"{target}/")), None)
        if part:
            covers[target] = part.folder
        else:
            mounts.read_only(target)
    for target, folder in covers.items():
        libc.mount(folder, target, None, libc.MS_BIND)
    for part in _mine(covers).parts:
        if part.version == 2:
            Cgroup((part.child(LEAF),)).create().add()
            cgroups.grant(part.folder, cgroups.offered(part.folder))
    lab.group = _mine(covers)  # again: what its children may have has just changed


def _mine(covers: Collection[str]) -> Cgroup:
    """Di quello che si vede, solo ciò che è del laboratorio."""
    return Cgroup(tuple(part for part in cgroups.top().parts if part.folder in covers))


#: Che cosa un laboratorio può limitare: chiave, titolo, il file che lo fa (lo stesso di ``engine.limits.NEEDS``).
_FEATURES = (
    ("memory", "limite di memoria", "memory.max"),
    ("memory_swap", "limite di swap", "memory.swap.max"),
    ("cpus", "quota di CPU", "cpu.max"),
    ("cpuset_cpus", "scelta delle CPU", "cpuset.cpus"),
    ("pids_limit", "limite di processi", "pids.max"),
    ("device_bps", "limite di banda dei dischi", "io.max"),
    ("pause", "pausa di un container", "cgroup.freeze"),
    ("pressure", "pressione (PSI)", "cpu.pressure"),
)


def limit_features(group: Cgroup, reasons: dict[str, str]) -> list[Feature]:
    """Quali limiti si possono avere, e per gli altri perché no."""
    found = []
    for key, title, file in _FEATURES:
        ok = group.offers(file) and (key != "pressure" or os.path.exists(group.path(file)))
        found.append(Feature(key, title, ok, *(("", "") if ok else reason(file, reasons))))
    return found

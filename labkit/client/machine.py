"""I fatti della macchina: letti da ``/proc``, ``/sys`` e ``PATH``, o provati davvero da ``backends/probe``.

Niente qui giudica e niente qui fallisce: un file che manca, un programma che non c'è o una prova
scaduta sono fatti anche loro. I giudizi stanno in :mod:`labkit.client.diagnosis`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit import rundir
from labkit.backends import kernels
from labkit.elf import is_static

#: The program that tries the kernel: run, never imported (it talks to the kernel through ctypes).
PROBE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "backends", "probe.py")

#: Seconds granted to the whole probe process; its experiments end before.
PROBE_DEADLINE = 1.1

SYSCTLS = (
    "user.max_user_namespaces",
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
)

PROGRAMS = ("busybox", "linux.uml", "newgidmap", "newuidmap", "nft", "nginx", "sudo")

#: Families of distributions, by what /etc/os-release says in ID and ID_LIKE.
FAMILIES = ("debian", "ubuntu", "fedora", "rhel", "arch", "suse")


@dataclass(frozen=True)
class Disk:
    """Una cartella e il disco su cui sta: ``free`` in byte, ``None`` se non si può sapere."""

    path: str
    free: int | None
    writable: bool


@dataclass(frozen=True)
class Cgroups:
    """I cgroup di chi chiama: ``version`` è ``v2``, ``ibrida``, ``v1`` o vuota; ``usable`` i controller scrivibili."""

    version: str = ""
    usable: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Machine:
    """Tutto quello che il dottore sa di una macchina prima di giudicarla."""

    uid: int = 1000
    user: str = "studente"
    ids: int = 1 << 32
    release: str = ""
    arch: str = "x86_64"
    family: str = ""
    where: tuple[str, ...] = ()
    chroot: bool = False
    seccomp: int = 0
    no_new_privs: bool = False
    systemd: bool = False
    masked: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    static_busybox: bool = False
    free_subid: int = 100000
    cgroups: Cgroups = Cgroups()
    memory: tuple[int, int] = (0, 0)
    run: Disk = Disk("", None, False)
    home: Disk = Disk("", None, False)
    python: tuple[int, ...] = (0, 0, 0)
    executable: str = ""
    jupyterlab: str = ""

    @property
    def kernel(self) -> tuple[int, int]:
        """Versione maggiore e minore del kernel, ``(0, 0)`` se non si legge.

        >>> Machine(release="6.1.0-28-amd64").kernel
        (6, 1)
        """
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)


def examine() -> Machine:
    """Guarda questa macchina, in poco più di un secondo anche se una prova resta appesa."""
    running = _start_probe()  # tries the kernel while we read files
    release, arch = os.uname().release, os.uname().machine
    status = _fields("/proc/self/status")
    mounts = _mounts()
    programs = {name: found for name in (*PROGRAMS, f"qemu-system-{arch}") if (found := which(name))}
    if "linux.uml" not in programs and (uml := kernels.found_uml()):
        programs["linux.uml"] = uml
    return Machine(
        uid=os.getuid(),
        user=_user_name(),
        ids=_mapped_ids(),
        release=release,
        arch=arch,
        family=_family(),
        where=_where(release, arch),
        chroot=bool(mounts) and not any(point == "/" for point, _ in mounts),
        seccomp=int(status.get("Seccomp", "0") or 0),
        no_new_privs=status.get("NoNewPrivs", "0") == "1",
        systemd=os.path.isdir("/run/systemd/system"),
        masked=tuple(sorted({point for point, _ in mounts if point.startswith("/proc/")})),
        sysctls={name: value for name in SYSCTLS if (value := _read(f"/proc/sys/{name.replace('.', '/')}").strip())},
        programs=programs,
        static_busybox=is_static(programs.get("busybox", "")),
        free_subid=_free_subid(),
        cgroups=_cgroups(mounts),
        memory=_memory(),
        run=_disk(rundir.base()),
        home=_disk(os.path.expanduser("~")),
        python=tuple(sys.version_info[:3]),
        executable=os.path.realpath(sys.executable) if sys.executable else "",
        jupyterlab=_package("jupyterlab"),
        probes=_finish_probe(running),
    )


def which(name: str) -> str:
    """Il percorso di un programma, anche nelle cartelle ``sbin`` che un utente normale non ha in PATH."""
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(name, path=path) or ""


def _start_probe() -> subprocess.Popen[bytes] | None:
    if not sys.executable:
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    except OSError:
        return None


def _finish_probe(running: subprocess.Popen[bytes] | None) -> dict[str, Mapping[str, Any]]:
    """The answers that came in time, by name; a probe that hangs is killed and what it said is kept."""
    if running is None:
        return {}
    try:
        output, _ = running.communicate(timeout=PROBE_DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        output, _ = running.communicate()
    answers: dict[str, Mapping[str, Any]] = {}
    for line in output.splitlines():
        try:
            answer = json.loads(line)
            answers[answer["name"]] = answer
        except (ValueError, KeyError, TypeError):
            continue  # half a line: the probe was killed while it wrote
    return answers


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _fields(path: str) -> dict[str, str]:
    """``Key:\\tvalue`` files of /proc, as a dict."""
    pairs = (line.partition(":") for line in _read(path).splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, OSError):
        return ""


def _mapped_ids() -> int:
    """How many users exist in the user namespace we live in (a rootless container has few)."""
    rows = [line.split() for line in _read("/proc/self/uid_map").splitlines()]
    return sum(int(row[2]) for row in rows if len(row) == 3 and row[2].isdecimal()) or 1 << 32


def _family() -> str:
    pairs = (line.partition("=") for line in _read("/etc/os-release").splitlines())
    release = {key: value.strip().strip("\"'") for key, _, value in pairs}
    words = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".replace("-", " ").lower().split()
    found = next((word for word in words if word in FAMILIES), "")
    return {"ubuntu": "debian", "rhel": "fedora"}.get(found, found)


def _where(release: str, arch: str) -> tuple[str, ...]:
    """In which boxes we are, from the innermost."""
    boxes = []
    if os.path.exists("/run/.containerenv"):
        boxes.append("Podman")
    elif os.path.exists("/.dockerenv"):
        boxes.append("Docker")
    elif name := _read("/run/systemd/container").strip() or os.environ.get("container", ""):  # noqa: SIM112
        boxes.append(name)
    elif "KUBERNETES_SERVICE_HOST" in os.environ:
        boxes.append("Kubernetes")
    if "microsoft" in release.lower():
        boxes.append("WSL 2" if "wsl2" in release.lower() or not release.startswith("4.4.") else "WSL 1")
        return tuple(boxes)
    cpu = _read("/proc/cpuinfo")
    product = " ".join(_read(f"/sys/class/dmi/id/{name}").strip() for name in ("sys_vendor", "product_name")).strip()
    if "User Mode Linux" in cpu:
        boxes.append("User Mode Linux")
    elif re.search(r"^flags\s*:.*\bhypervisor\b", cpu, re.MULTILINE) or (arch == "aarch64" and "QEMU" in product):
        boxes.append(f"una macchina virtuale ({product})" if product else "una macchina virtuale")
    return tuple(boxes)


def _mounts() -> list[tuple[str, str]]:
    """``(mount point, filesystem)`` of everything visible (proc_pid_mountinfo(5))."""
    found = []
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) > 4 and kind:
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
            found.append((point, kind[0]))
    return found


def _cgroups(mounts: list[tuple[str, str]]) -> Cgroups:
    own = {names: path for _, names, path in (line.split(":", 2) for line in _lines_of_cgroup())}
    usable: set[str] = set()
    seen = [(point, kind) for point, kind in mounts if os.path.isdir(point)]  # what another mount hides is not there
    v1 = [point for point, kind in seen if kind == "cgroup"]
    v2 = [point for point, kind in seen if kind == "cgroup2"]
    for names, path in own.items():
        for point in v1:
            if names and os.path.basename(point) in (names, *names.split(",")) and _may_write(point, path):
                usable.update(names.split(","))
    for point in v2:
        for path in (own.get("", "/"), f"/user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service"):
            if _may_write(point, path):
                usable.update(_read(f"{point}{path}/cgroup.controllers").split())
    controllers = any(not names.startswith("name=") for names in own if names)
    if v2 and (v1 or controllers):
        return Cgroups("ibrida", frozenset(usable))
    return Cgroups("v2" if v2 else "v1" if v1 else "", frozenset(usable))


def _lines_of_cgroup() -> list[str]:
    return [line for line in _read("/proc/self/cgroup").splitlines() if line.count(":") >= 2]


def _may_write(point: str, path: str) -> bool:
    """Our own branch of a tree, or its root where a container shows us only that one."""
    folder = next((f for f in (f"{point}{path}".rstrip("/"), point) if os.path.isdir(f)), point)
    return os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK)


def _free_subid() -> int:
    """The first id after every range already given in /etc/subuid and /etc/subgid."""
    first = 100000
    for kind in ("uid", "gid"):
        for line in _read(f"/etc/sub{kind}").splitlines():
            fields = line.split(":")
            if len(fields) == 3 and fields[1].isdecimal() and fields[2].strip().isdecimal():
                first = max(first, int(fields[1]) + int(fields[2]))
    return first


def _memory() -> tuple[int, int]:
    """Bytes of memory: in all, and available now. Without /proc, what sysinfo(2) says."""
    info = _fields("/proc/meminfo")
    try:
        total, available = int(info["MemTotal"].split()[0]) << 10, int(info["MemAvailable"].split()[0]) << 10
    except (KeyError, ValueError, IndexError):
        page = os.sysconf("SC_PAGE_SIZE")
        total, available = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # a container or a class server may give less
        if (given := _read(f"/sys/fs/cgroup/{limit}").strip()).isdecimal():
            total, available = min(total, int(given)), min(available, int(given))
    return total, available


def _disk(path: str) -> Disk:
    """The disk under a folder that may not exist yet: what counts is its nearest ancestor."""
    folder = os.path.abspath(path)
    while not os.path.exists(folder) and folder != "/":
        folder = os.path.dirname(folder)
    try:
        info = os.statvfs(folder)
    except OSError:
        return Disk(path, None, False)
    return Disk(path, info.f_bavail * info.f_frsize, os.access(folder, os.W_OK | os.X_OK))


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""

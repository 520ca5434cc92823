"""Quello che toglie potere al processo prima che il programma parta: l'ultima parte del piano.

Nessuno di questi passi si può annullare: è il senso della cosa. Si annulla finendo il processo.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import ClassVar

from labkit.engine import init
from labkit.engine.operation import Context, Operation
from labkit.errors import CommandError, InvalidError, NotFoundError
from labkit.kernel import capabilities, libc, mounts, procfs, seccomp

#: I percorsi di Docker: quelli nascosti e quelli in sola lettura (runtime-spec, config-linux.md).
MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

#: Un /etc/passwd più grande non è un elenco di utenti: è un attacco.
_MAX_USER_FILE = 1 << 20


@dataclass(frozen=True)
class MaskPaths(Operation):
    """Nasconde le finestre del kernel che dicono troppo, e blocca le manopole."""

    masked: tuple[str, ...] = MASKED
    read_only: tuple[str, ...] = READ_ONLY

    syscall: ClassVar[str] = "mount, mount_setattr"
    man: ClassVar[str] = "proc(5), mount(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return "copre i file di /proc e /sys che dicono troppo e rende di sola lettura le manopole del kernel"

    def execute(self, context: Context) -> None:
        for path in self.masked:
            mounts.mask(path)
        for path in self.read_only:
            mounts.bind_read_only(path)


@dataclass(frozen=True)
class DropBoundingSet(Operation):
    """Il *bounding set*: le capability che nessun programma del container potrà mai avere, neanche con un setuid."""

    capabilities: tuple[str, ...]

    syscall: ClassVar[str] = "prctl"
    man: ClassVar[str] = "capabilities(7), prctl(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"toglie dal bounding set tutte le capability tranne {len(self.capabilities)}: nessuno qui potrà averle"

    def execute(self, context: Context) -> None:
        capabilities.bound(self.capabilities)


@dataclass(frozen=True)
class SetHostname(Operation):
    """Il nome host del container, nel suo namespace UTS."""

    hostname: str

    syscall: ClassVar[str] = "sethostname"
    man: ClassVar[str] = "sethostname(2)"

    def describe(self) -> str:
        return f"si chiama «{self.hostname}», nel suo namespace uts"

    def execute(self, context: Context) -> None:
        context.undo["hostname"] = os.uname().nodename
        libc.sethostname(self.hostname)

    def undo(self, context: Context) -> None:
        libc.sethostname(context.undo["hostname"])


@dataclass(frozen=True)
class NewSession(Operation):
    """Una sessione propria: nessun terminale in comune con chi l'ha creato; con ``tty`` uno nuovo, suo.

    ``window`` sono le sue righe e colonne.
    """

    tty: bool = False
    window: tuple[int, ...] = ()

    syscall: ClassVar[str] = "setsid"
    man: ClassVar[str] = "setsid(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        if self.tty:
            return "apre una sessione nuova con un terminale (pty) tutto suo"
        return "apre una sessione nuova: nessun terminale in comune con chi l'ha creato"

    def execute(self, context: Context) -> None:
        os.setsid()
        if self.tty and context.terminal:
            context.terminal(self.window)


@dataclass(frozen=True)
class Identity:
    """Chi sarà il programma: utente, gruppo, gruppi in più, casa."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _user_file(path: str, root: int) -> list[list[str]]:
    """Le righe di /etc/passwd o /etc/group del container, lette senza fidarsi: mai un FIFO, mai senza fine."""
    try:
        fd = libc.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = os.read(fd, _MAX_USER_FILE).decode("utf-8", "replace")
    finally:
        os.close(fd)
    return [line.split(":") for line in text.splitlines() if line.count(":") >= 3]


def _mapped(number: int, which: str) -> bool:
    for line in procfs.read("self", f"{which}_map").splitlines():
        inside, _, count = map(int, line.split())
        if inside <= number < inside + count:
            return True
    return False


def identify(user: str, root: int = libc.AT_FDCWD) -> Identity:
    """Da ``utente[:gruppo]`` (nomi o numeri, come ``docker run -u``) all'identità, letta nella radice ``root``."""
    if not user:  # root, as almost always: nothing to look up
        return Identity(0, 0, (), "/root")
    name, _, group = user.partition(":")
    rows = _user_file("etc/passwd", root)
    passwd = [row for row in rows if len(row) >= 6 and row[2].isdecimal() and row[3].isdecimal()]
    row = next((row for row in passwd if name in (row[0], row[2])), None)
    if row:
        uid, gid, home = int(row[2]), int(row[3]), row[5] or "/"
    elif name.isdecimal():
        uid, gid, home = int(name), 0, "/" if int(name) else "/root"
    else:
        raise NotFoundError(f"L'utente «{name}» non c'è in /etc/passwd dell'immagine.", "user='0' oppure user='1000'")
    groups: tuple[int, ...] = ()
    if group:
        rows = [row for row in _user_file("etc/group", root) if row[2].isdecimal()]
        found = next((int(row[2]) for row in rows if group in (row[0], row[2])), None)
        if found is None and not group.isdecimal():
            raise NotFoundError(f"Il gruppo «{group}» non c'è in /etc/group dell'immagine.", "user='1000:1000'")
        gid = int(group) if found is None else found
    elif row:
        members = (row for row in _user_file("etc/group", root) if row[2].isdecimal())
        groups = tuple(int(entry[2]) for entry in members if name and row[0] in entry[3].split(","))
    for number, which in ((uid, "uid"), (gid, "gid")):
        if not _mapped(number, which):
            raise InvalidError(
                f"Il numero {number} non esiste in questo laboratorio: la mappa degli utenti non lo comprende.",
                "sudo apt install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
            )
    return Identity(uid, gid, tuple(n for n in groups if _mapped(n, "gid")), home)


@dataclass(frozen=True)
class DropPrivileges(Operation):
    """Utente, capability, no_new_privs: da qui in poi il processo può solo perdere, mai guadagnare.

    Viene dopo :class:`DropBoundingSet`: un utente che non è root non potrebbe più farlo.
    """

    user: str
    capabilities: tuple[str, ...]

    syscall: ClassVar[str] = "setgroups, setgid, setuid, capset, prctl"
    man: ClassVar[str] = "capabilities(7), prctl(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        who = f"diventa l'utente {self.user}" if self.user else "resta root, ma solo qui dentro"
        return f"{who}; tiene {len(self.capabilities)} capability e rinuncia a guadagnarne (no_new_privs)"

    def execute(self, context: Context) -> None:
        identity = identify(self.user)
        context.undo["identity"] = identity
        try:
            os.setgroups(identity.groups)
        except PermissionError:
            # Plain user without subuid: the kernel forbids setgroups for ever (user_namespaces(7)).
            if procfs.read("self", "setgroups").strip() != "deny":
                raise
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        capabilities.keep(self.capabilities if identity.uid == 0 else ())
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class LoadSeccomp(Operation):
    """Il filtro delle chiamate di sistema: quelle pericolose rispondono EPERM."""

    capabilities: tuple[str, ...]

    syscall: ClassVar[str] = "seccomp"
    man: ClassVar[str] = "seccomp(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return "carica il filtro seccomp: le chiamate di sistema pericolose risponderanno «permesso negato»"

    def execute(self, context: Context) -> None:
        libc.seccomp_load(seccomp.program(frozenset(self.capabilities)))


@dataclass(frozen=True)
class Execute(Operation):
    """Il programma prende il posto del processo: da qui il container è lui."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    workdir: str = ""
    init: bool = False

    syscall: ClassVar[str] = "execve"
    man: ClassVar[str] = "execve(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        program = " ".join(self.command)
        return (
            f"resta come init (PID 1) e lancia il programma: {program}"
            if self.init
            else f"diventa il programma: {program}"
        )

    def execute(self, context: Context) -> None:
        identity = context.undo.get("identity")
        env = {"HOME": identity.home if identity else "/", **dict(self.env)}
        enter_workdir(self.workdir)
        if self.init:
            init.stay(context.release)
        replace(self.command, env)


def enter_workdir(workdir: str) -> None:
    """Entra nella cartella di lavoro (creata se manca, come Docker) e controlla di essere dentro la radice."""
    if workdir:
        try:
            os.makedirs(workdir, exist_ok=True)
            os.chdir(workdir)
        except OSError as problem:
            raise NotFoundError(
                f"Non posso entrare nella cartella di lavoro «{workdir}»: {os.strerror(problem.errno or 0)}."
            ) from None
    # getcwd(2) answers "(unreachable)…" when the directory is outside the root (CVE-2024-21626).
    if not os.getcwd().startswith("/"):
        raise InvalidError("La cartella di lavoro è fuori dalla radice del container: non parto.")


def replace(command: tuple[str, ...], env: dict[str, str]) -> None:
    """``execvpe`` con gli esiti di una shell: 127 se il comando non c'è, 126 se non si può eseguire."""
    name = command[0] if command else ""
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in env.get("PATH", "/bin").split(":")]
    denied: OSError | None = None
    for candidate in candidates if name else ():
        try:
            os.execve(candidate, list(command), env)
        except (FileNotFoundError, NotADirectoryError):
            # A script whose interpreter is missing is ENOENT too: Docker says 127 for both.
            continue
        except OSError as problem:
            denied = problem
    if denied is None:
        raise CommandError(
            f"Il comando «{name}» non c'è in questa immagine.",
            "controlla il nome, o guarda che cosa c'è: lab.run('busybox', 'ls /bin')",
            exit_code=127,
        )
    if denied.errno == errno.E2BIG:
        raise CommandError(
            "Una variabile o un argomento è troppo lungo, o tutti insieme sono troppo grandi: execve risponde E2BIG.",
            "meno variabili, o più corte: un testo lungo va in un file",
            exit_code=126,
        )
    unknown = denied.errno == errno.ENOEXEC
    why = "non è un programma che questa macchina sappia eseguire" if unknown else "non ha il permesso"
    raise CommandError(
        f"Il comando «{name}» c'è ma non si può eseguire: {why} ({os.strerror(denied.errno or 0)}).",
        "chmod +x, oppure sh FILE se è uno script senza la riga «#!»",
        exit_code=126,
    )


def isolation_operations(
    *,
    hostname: str,
    tty: bool,
    window: tuple[int, ...],
    user: str,
    caps: tuple[str, ...],
    command: tuple[str, ...],
    env: tuple[tuple[str, str], ...],
    workdir: str,
    with_init: bool,
) -> list[Operation]:
    """Le operazioni che fanno del processo questo container, nell'ordine: l'ultima è il programma."""
    return [
        SetHostname(hostname),
        DropPrivileges(user, caps),
        NewSession(tty, window),
        LoadSeccomp(caps),
        Execute(command, env, workdir, with_init),
    ]

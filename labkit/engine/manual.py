"""Le operazioni che lo studente fa a mano, una alla volta, su un processo del laboratorio.

La tabella :data:`OPERATIONS` è chiusa: dal filo arriva un nome, mai del codice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from labkit.engine.operation import Context, Operation
from labkit.errors import InvalidError
from labkit.kernel import capabilities, libc, mounts, namespaces, seccomp
from labkit.kernel import rtnetlink as rt
from labkit.kernel.explain import from_os_error
from labkit.model import IdMap


@dataclass(frozen=True)
class Unshare(Operation):
    """Namespace nuovi per chi chiama."""

    kinds: tuple[str, ...]

    syscall: ClassVar[str] = "unshare"
    man: ClassVar[str] = "unshare(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"si stacca in namespace nuovi: {', '.join(self.kinds)}"

    def execute(self, context: Context) -> None:
        namespaces.unshare(*self.kinds)


@dataclass(frozen=True)
class SetNs(Operation):
    """Entra nei namespace di un altro processo del laboratorio."""

    pid: int
    kinds: tuple[str, ...] = ()

    syscall: ClassVar[str] = "setns"
    man: ClassVar[str] = "setns(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"entra nei namespace di un altro processo: {', '.join(self.kinds) or 'tutti'}"

    def execute(self, context: Context) -> None:
        namespaces.setns(self.pid, *self.kinds)


@dataclass(frozen=True)
class SetNsHeld(Operation):
    """Entra in un namespace che il laboratorio tiene aperto anche senza processi."""

    descriptor: int
    kind: str

    syscall: ClassVar[str] = "setns"
    man: ClassVar[str] = "setns(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"entra nel namespace {self.kind} tenuto aperto dal laboratorio"

    def execute(self, context: Context) -> None:
        try:
            fd = os.open(f"/proc/1/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            raise from_os_error(problem, "open") from None
        try:
            libc.setns(fd, namespaces.FLAGS[self.kind])
        finally:
            os.close(fd)


@dataclass(frozen=True)
class SetHostname(Operation):
    """Cambia il nome host."""

    hostname: str

    syscall: ClassVar[str] = "sethostname"
    man: ClassVar[str] = "sethostname(2)"

    def describe(self) -> str:
        return f"cambia il nome host in «{self.hostname}»"

    def execute(self, context: Context) -> None:
        context.undo.setdefault("hostnames", []).append(os.uname().nodename)
        libc.sethostname(self.hostname)

    def undo(self, context: Context) -> None:
        libc.sethostname(context.undo["hostnames"].pop())


@dataclass(frozen=True)
class Mount(Operation):
    """Monta qualcosa."""

    source: str
    target: str
    fstype: str = ""
    options: tuple[str, ...] = ()
    data: str = ""

    syscall: ClassVar[str] = "mount"
    man: ClassVar[str] = "mount(2)"

    def describe(self) -> str:
        if "remount" in self.options:
            return f"cambia le opzioni del mount {self.target}: {', '.join(self.options[1:])}"
        if not self.fstype and not self.source:
            return f"cambia la propagazione di {self.target}: {', '.join(self.options)}"
        return f"monta {self.fstype or self.source} su {self.target}"

    def execute(self, context: Context) -> None:
        mounts.mount(self.source, self.target, self.fstype, *self.options, data=self.data)

    def undo(self, context: Context) -> None:
        if "remount" in self.options or "move" in self.options or not (self.fstype or self.source):
            super().undo(context)  # nothing was put on top: taking it off would take away something else
        mounts.umount(self.target)


@dataclass(frozen=True)
class Overlay(Operation):
    """Sovrappone cartelle: sotto in sola lettura, sopra una scrivibile."""

    target: str
    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""

    syscall: ClassVar[str] = "mount"
    man: ClassVar[str] = "mount(2)"

    def describe(self) -> str:
        return f"sovrappone {len(self.lowers)} strati in {self.target} (overlay)"

    def execute(self, context: Context) -> None:
        mounts.overlay(self.target, self.lowers, self.upper, self.work)

    def undo(self, context: Context) -> None:
        mounts.umount(self.target)


@dataclass(frozen=True)
class Umount(Operation):
    """Smonta."""

    target: str

    syscall: ClassVar[str] = "umount2"
    man: ClassVar[str] = "umount(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"smonta {self.target}"

    def execute(self, context: Context) -> None:
        mounts.umount(self.target)


@dataclass(frozen=True)
class PivotRoot(Operation):
    """Cambia la radice; con ``put_old`` vuoto la vecchia viene staccata subito."""

    new_root: str
    put_old: str = ""

    syscall: ClassVar[str] = "pivot_root"
    man: ClassVar[str] = "pivot_root(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"{self.new_root} diventa la radice"

    def execute(self, context: Context) -> None:
        if self.put_old:
            libc.pivot_root(self.new_root, self.put_old)
            os.chdir("/")
            return
        os.chdir(self.new_root)
        libc.pivot_root(".", ".")
        libc.umount2(".", libc.MNT_DETACH)
        os.chdir("/")


@dataclass(frozen=True)
class Chdir(Operation):
    """Cambia cartella."""

    path: str

    syscall: ClassVar[str] = "chdir"
    man: ClassVar[str] = "chdir(2)"

    def describe(self) -> str:
        return f"va nella cartella {self.path}"

    def execute(self, context: Context) -> None:
        context.undo.setdefault("folders", []).append(os.getcwd())
        os.chdir(self.path)

    def undo(self, context: Context) -> None:
        os.chdir(context.undo["folders"].pop())


@dataclass(frozen=True)
class MakeDirectory(Operation):
    """Fa una cartella."""

    path: str

    syscall: ClassVar[str] = "mkdir"
    man: ClassVar[str] = "mkdir(2)"

    def describe(self) -> str:
        return f"fa la cartella {self.path}"

    def execute(self, context: Context) -> None:
        os.mkdir(self.path, 0o755)

    def undo(self, context: Context) -> None:
        os.rmdir(self.path)


@dataclass(frozen=True)
class WriteFile(Operation):
    """Scrive un file."""

    path: str
    text: str

    syscall: ClassVar[str] = "open, write"
    man: ClassVar[str] = "open(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"scrive {self.path}"

    def execute(self, context: Context) -> None:
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(self.text)


@dataclass(frozen=True)
class MapIds(Operation):
    """Scrive la mappa di utenti e gruppi del namespace utente appena fatto."""

    inside: int
    outside: int
    count: int = 1

    syscall: ClassVar[str] = "write (/proc/self/uid_map, gid_map)"
    man: ClassVar[str] = "user_namespaces(7)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"scrive la mappa: {IdMap(self.inside, self.outside, self.count).explain()}"

    def execute(self, context: Context) -> None:
        namespaces.id_map(self.inside, self.outside, self.count)


@dataclass(frozen=True)
class SetTimeOffset(Operation):
    """Sposta gli orologi del namespace time appena fatto."""

    monotonic: int = 0
    boottime: int = 0

    syscall: ClassVar[str] = "write (/proc/self/timens_offsets)"
    man: ClassVar[str] = "time_namespaces(7)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"sposta l'orologio: monotonic {self.monotonic:+d} s, boottime {self.boottime:+d} s"

    def execute(self, context: Context) -> None:
        namespaces.time_offset(self.monotonic, self.boottime)


@dataclass(frozen=True)
class LinkUp(Operation):
    """Accende un'interfaccia di rete."""

    link: str

    syscall: ClassVar[str] = "sendmsg (RTM_NEWLINK)"
    man: ClassVar[str] = "rtnetlink(7)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"accende l'interfaccia {self.link}"

    def execute(self, context: Context) -> None:
        # Not pyroute2: it is slow to import, and after pivot_root it is out of reach.
        netlink = rt.Netlink()
        try:
            netlink.talk(rt.up_message(rt.index_of(self.link)))
        finally:
            netlink.close()


@dataclass(frozen=True)
class DropCapabilities(Operation):
    """Tiene solo le capability dette, per sempre."""

    keep: tuple[str, ...] = ()

    syscall: ClassVar[str] = "capset, prctl"
    man: ClassVar[str] = "capabilities(7)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"tiene solo {len(self.keep)} capability e rinuncia a guadagnarne (no_new_privs)"

    def execute(self, context: Context) -> None:
        names = [name for text in self.keep for name in capabilities.parse(text)]
        capabilities.limit_to(names)
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class LoadSeccomp(Operation):
    """Carica il filtro delle chiamate di sistema."""

    syscall: ClassVar[str] = "seccomp"
    man: ClassVar[str] = "seccomp(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return "carica il filtro seccomp dei container"

    def execute(self, context: Context) -> None:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.load()


#: Dal nome del metodo di ``Process`` all'operazione.
OPERATIONS: dict[str, type[Operation]] = {
    "unshare": Unshare,
    "setns": SetNs,
    "setns_held": SetNsHeld,
    "sethostname": SetHostname,
    "mount": Mount,
    "overlay": Overlay,
    "umount": Umount,
    "pivot_root": PivotRoot,
    "chdir": Chdir,
    "mkdir": MakeDirectory,
    "write": WriteFile,
    "id_map": MapIds,
    "time_offset": SetTimeOffset,
    "link_up": LinkUp,
    "drop_capabilities": DropCapabilities,
    "seccomp": LoadSeccomp,
}


def make(name: str, arguments: dict[str, Any]) -> Operation:
    """L'operazione ``name`` con quegli argomenti (liste JSON diventano tuple)."""
    if name not in OPERATIONS:
        raise InvalidError(f"«{name}» non è un'operazione: ci sono {', '.join(sorted(OPERATIONS))}.")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    try:
        return OPERATIONS[name](**values)
    except TypeError:
        raise InvalidError(f"Argomenti sbagliati per {name}: {', '.join(arguments) or 'nessuno'}.") from None

"""La radice del container: strati di sola lettura sotto, uno scrivibile sopra, i filesystem del kernel dentro.

Un'immagine è un insieme di :class:`Tree`: un bersaglio nella radice e le cartelle da sovrapporre. Di
ciascuno il container vede l'unione; quello che scrive finisce solo nel suo strato.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from labkit.engine.operation import Context, Operation
from labkit.errors import InvalidError
from labkit.kernel import libc, mounts
from labkit.policy import HealthCheck

#: Dove si cercano i programmi se l'immagine non lo dice: il PATH di Docker.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Tree:
    """Un pezzo della radice: ``lowers`` dall'alto in basso, sovrapposte in ``target`` ("" è la radice)."""

    target: str
    lowers: tuple[str, ...]


@dataclass(frozen=True)
class ImageRoot:
    """Un'immagine pronta in questo laboratorio: alberi, e come parte chi non chiede altro.

    ``id`` e ``digest`` sono quelli di un'immagine conservata (configurazione e manifesto), vuoti per le altre;
    ``losses`` una frase per ciò che qui non si è potuto avere. Gli altri campi sono quelli della configurazione OCI.
    """

    name: str
    trees: tuple[Tree, ...]
    command: tuple[str, ...] = ("/bin/sh",)
    env: tuple[tuple[str, str], ...] = (("PATH", DEFAULT_PATH),)
    entrypoint: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    stop_signal: str = ""
    health: HealthCheck | None = None
    labels: tuple[tuple[str, str], ...] = ()
    exposed: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    id: str = ""
    digest: str = ""
    losses: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageRoot:
        """Dai dati di :func:`labkit.model.to_json`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        values["trees"] = tuple(Tree(tree["target"], tuple(tree["lowers"])) for tree in data["trees"])
        values |= {key: tuple((name, text) for name, text in data[key]) for key in ("env", "labels")}
        values["health"] = HealthCheck.from_json(data["health"]) if data["health"] else None
        return cls(**values)


@dataclass(frozen=True)
class MakeLayer(Operation):
    """Lo strato scrivibile del container: una cartella per quello che scriverà, una per overlay."""

    folder: str
    trees: tuple[str, ...]

    syscall: ClassVar[str] = "mkdir"
    man: ClassVar[str] = "mkdir(2)"
    where: ClassVar[Literal["lab", "container"]] = "lab"
    lasting: ClassVar[bool] = True

    def describe(self) -> str:
        return "prepara lo strato scrivibile, vuoto, che sarà solo di questo container"

    def execute(self, context: Context) -> None:
        os.mkdir(self.folder, 0o711)
        try:
            for tree in self.trees:
                os.mkdir(f"{self.folder}/{tree}.upper", 0o755)
                os.mkdir(f"{self.folder}/{tree}.work", 0o755)
        except OSError:
            remove_tree(self.folder)
            raise

    def undo(self, context: Context) -> None:
        remove_tree(self.folder)


def remove_tree(folder: str, budget: int = 1 << 62) -> int:
    """Toglie una cartella con quello che contiene, al massimo ``budget`` cose; torna quante poteva toglierne ancora.

    Come shutil.rmtree, che però costa più da importare che un container da avviare: un link si toglie e
    non si segue, ciò che non si può togliere resta.
    """
    budget -= 1  # counted before going down: a small budget is also a small depth
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return budget
    for entry in found:
        if budget <= 0:
            return 0
        if entry.is_dir(follow_symlinks=False):
            budget = remove_tree(entry.path, budget)
            continue
        budget -= 1
        try:
            os.unlink(entry.path)
        except OSError:
            pass
    try:
        os.rmdir(folder)
    except OSError:
        pass
    return budget


def layer_name(target: str) -> str:
    """Il nome della cartella dello strato per un albero: «root» per la radice."""
    return target.replace("/", "-") or "root"


@dataclass(frozen=True)
class MountOverlay(Operation):
    """Sovrappone gli strati dell'immagine e quello scrivibile."""

    tree: Tree
    folder: str

    syscall: ClassVar[str] = "mount"
    man: ClassVar[str] = "mount(2)"

    def describe(self) -> str:
        where = f"/{self.tree.target}"
        return f"monta {where}: gli strati dell'immagine in sola lettura, lo strato scrivibile sopra (overlay)"

    def execute(self, context: Context) -> None:
        base = f"{self.folder}/{layer_name(self.tree.target)}"
        target = f"{context.mountpoint}/{self.tree.target}".rstrip("/")
        mounts.overlay(target, self.tree.lowers, f"{base}.upper", f"{base}.work", context.userxattr)
        if not self.tree.target:
            context.root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def undo(self, context: Context) -> None:
        if not self.tree.target and context.root >= 0:
            os.close(context.root)
            context.root = -1
        mounts.umount(f"{context.mountpoint}/{self.tree.target}".rstrip("/"))


@dataclass(frozen=True)
class MountFilesystem(Operation):
    """Un filesystem del kernel montato dentro la radice."""

    target: str
    fstype: str
    options: tuple[tuple[str, str | None], ...] = ()
    attributes: tuple[str, ...] = ("nosuid", "nodev", "noexec")

    syscall: ClassVar[str] = "fsmount, move_mount"
    man: ClassVar[str] = "fsopen(2), move_mount(2)"

    _WHAT: ClassVar[dict[str, str]] = {
        "proc": "/proc: i processi del suo namespace pid, e solo quelli",
        "devpts": "/dev/pts: i terminali del container",
        "tmpfs": "{target}: memoria condivisa, vuota",
        "mqueue": "/dev/mqueue: le code di messaggi del suo namespace ipc",
        "sysfs": "/sys in sola lettura: i dispositivi e la rete del suo namespace",
    }

    @property
    def name(self) -> str:
        return "Mount" + self.target.strip("/").replace("/", " ").title().replace(" ", "")

    def describe(self) -> str:
        return "monta " + self._WHAT[self.fstype].format(target=self.target)

    def execute(self, context: Context) -> None:
        mounts.attach(context.root, self.target.lstrip("/"), self.fstype, dict(self.options), *self.attributes)

    def undo(self, context: Context) -> None:
        mounts.umount(context.mountpoint + self.target)


@dataclass(frozen=True)
class MountDev(Operation):
    """I dispositivi innocui: una copia dell'albero preparato una volta per il laboratorio."""

    syscall: ClassVar[str] = "open_tree, move_mount"
    man: ClassVar[str] = "open_tree(2), move_mount(2)"

    def describe(self) -> str:
        return "monta /dev con i soli dispositivi innocui: null, zero, full, random, urandom, tty"

    def execute(self, context: Context) -> None:
        mounts.attach_copy(context.root, "dev", context.dev_template)

    def undo(self, context: Context) -> None:
        mounts.umount(f"{context.mountpoint}/dev")


@dataclass(frozen=True)
class WriteIdentity(Operation):
    """I file che dicono al container chi è e a chi chiedere i nomi: come Docker, li scrive chi lo crea.

    ``ip`` e ``others`` sono i suoi indirizzi, ``names`` quello del servizio di nomi.
    """

    hostname: str
    ip: str
    others: tuple[str, ...] = ()
    names: str = ""

    syscall: ClassVar[str] = "openat2, write"
    man: ClassVar[str] = "openat2(2)"

    def describe(self) -> str:
        return "scrive /etc/hostname, /etc/hosts e /etc/resolv.conf del container"

    def files(self) -> dict[str, str]:
        """I file e il loro contenuto."""
        hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        hosts += "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        hosts += "".join(f"{ip}\t{self.hostname}\n" for ip in (self.ip or "127.0.1.1", *self.others))
        resolv = "# Senza rete non c'è un servizio di nomi.\n"
        if self.names:
            resolv = f"# Il servizio di nomi del laboratorio.\nnameserver {self.names}\noptions ndots:0\n"
        return {"hostname": f"{self.hostname}\n", "hosts": hosts, "resolv.conf": resolv}

    def execute(self, context: Context) -> None:
        where = mounts.open_directory(context.root, "etc")
        try:
            for name, text in self.files().items():
                _write_new(where, name, text)
        finally:
            os.close(where)

    def undo(self, context: Context) -> None:
        """Niente da fare: i file stanno nello strato del container, e spariscono con lui."""


def put(root: int, path: str, text: str) -> None:
    """Scrive un file nuovo dentro ``root``, al posto di quello che c'era, con le cartelle che mancano."""
    parent, _, name = path.rpartition("/")
    where = mounts.open_directory(root, parent or ".")
    try:
        _write_new(where, name, text)
    finally:
        os.close(where)


def _write_new(where: int, name: str, text: str) -> None:
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(name, new, 0o644, dir_fd=where)
    except FileExistsError:  # never write through it: the image may have a symlink or a FIFO there
        os.unlink(name, dir_fd=where)
        fd = os.open(name, new, 0o644, dir_fd=where)
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


#: Perché in un'immagine un percorso non può diventare un file.
_NO_FILE = {
    errno.EISDIR: "quella è una cartella",
    errno.ELOOP: "il percorso passa per un link simbolico",
    errno.ENOTDIR: "il percorso passa per un file",
}


@dataclass(frozen=True)
class WriteTemplate(Operation):
    """Un file di configurazione nato da un modello, con i valori dell'ambiente già al loro posto."""

    target: str
    text: str
    variables: tuple[str, ...]

    syscall: ClassVar[str] = "openat2, write"
    man: ClassVar[str] = "openat2(2)"

    def describe(self) -> str:
        values = f"con i valori di {', '.join(self.variables)}" if self.variables else "senza variabili"
        return f"scrive {self.target} dal suo modello, {values}"

    def execute(self, context: Context) -> None:
        try:
            put(context.root, self.target[1:], self.text)
        except OSError as problem:
            why = _NO_FILE.get(problem.errno or 0)
            if why is None:
                raise
            raise InvalidError(
                f"Il modello non può diventare «{self.target}»: nell'immagine {why}.", "un altro percorso in templates="
            ) from None

    def undo(self, context: Context) -> None:
        """Niente da fare: il file sta nello strato del container, e sparisce con lui."""


@dataclass(frozen=True)
class ReadOnlyRoot(Operation):
    """La radice diventa di sola lettura anche nello strato del container (``--read-only``)."""

    trees: tuple[str, ...]

    syscall: ClassVar[str] = "mount_setattr"
    man: ClassVar[str] = "mount_setattr(2)"

    def describe(self) -> str:
        return "rende la radice di sola lettura, strato del container compreso"

    def execute(self, context: Context) -> None:
        for target in self.trees:
            mounts.read_only(f"{context.mountpoint}/{target}")

    def undo(self, context: Context) -> None:
        for target in self.trees:
            fd = os.open(f"{context.mountpoint}/{target}", os.O_PATH | os.O_CLOEXEC)
            try:
                libc.mount_setattr(fd, 0, libc.MOUNT_ATTR_RDONLY)
            finally:
                os.close(fd)


@dataclass(frozen=True)
class PivotRoot(Operation):
    """La radice del processo diventa quella del container; la vecchia sparisce."""

    syscall: ClassVar[str] = "pivot_root, umount2"
    man: ClassVar[str] = "pivot_root(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return "scambia la radice con quella del container e stacca la vecchia: fuori non si vede più niente"

    def execute(self, context: Context) -> None:
        os.fchdir(context.root)
        libc.pivot_root(".", ".")
        libc.umount2(".", libc.MNT_DETACH)
        os.chdir("/")
        context.mountpoint = ""  # and context.root is still the same directory, by its descriptor


def root_operations(image: ImageRoot, folder: str) -> list[Operation]:
    """Le operazioni che fanno la radice di un container da un'immagine e ci entrano, nell'ordine."""
    return [
        *(MountOverlay(tree, folder) for tree in image.trees),
        MountFilesystem("/proc", "proc"),
        MountDev(),
        MountFilesystem(
            "/dev/pts", "devpts", (("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620")), ("nosuid", "noexec")
        ),
        MountFilesystem("/dev/shm", "tmpfs", (("mode", "1777"), ("size", "64m"))),
        MountFilesystem("/dev/mqueue", "mqueue"),
        MountFilesystem("/sys", "sysfs", (), ("ro", "nosuid", "nodev", "noexec")),
        PivotRoot(),
    ]


def own_files(image: ImageRoot, files: Sequence[Operation], *, read_only: bool) -> list[Operation]:
    """Le operazioni che mettono nella radice i file di questo container, e di nessun altro; poi la chiudono."""
    return [*files, *([ReadOnlyRoot(tuple(tree.target for tree in image.trees))] if read_only else [])]

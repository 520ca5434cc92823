"""Il motore che recita: stessi piani, stessi verbi, nessun oggetto del kernel. Solo per le prove.

Ogni operazione del piano diventa la sua gemella che non fa niente; il programma è uno dei pochi che
:func:`perform` sa imitare, in un figlio che muore con il supervisore.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from labkit.engine.container import CloneProcess, Placement
from labkit.engine.exec import CloneInside
from labkit.engine.isolation import Execute, NewSession
from labkit.engine.operation import Context, Operation, Plan
from labkit.engine.rootfs import ImageRoot, Tree
from labkit.engine.userland import directory, names, unknown
from labkit.errors import BackendError, CommandError
from labkit.kernel import libc
from labkit.kernel.cgroups import CONTROLLERS, SWAP, Cgroup, Hierarchy
from labkit.model import ContainerSpec, Feature
from labkit.networks import Attachment
from labkit.supervisor import unpacking
from labkit.supervisor.errand import Work
from labkit.supervisor.launcher import Child
from labkit.supervisor.networks import Networks
from labkit.supervisor.sandbox import Sandbox
from labkit.supervisor.unpacking import Stored
from labkit.supervisor.zygote import Stdio, become, clean_child

if TYPE_CHECKING:
    from labkit.engine.contents import View

#: Le operazioni che restano vere: la nascita (senza namespace) e la sessione, che non toccano la macchina.
_REAL = (CloneInside, NewSession)

#: Una gemella per ogni operazione: due piani uguali restano uguali.
_TWINS: dict[type[Operation], type[Operation]] = {}

#: I programmi che :func:`perform` sa imitare.
_PROGRAMS = ("true", "false", "echo", "sleep", "cat", "sh")


def recorded(plan: Plan) -> Plan:
    """Lo stesso piano fatto di operazioni che si raccontano ma non fanno niente."""
    return Plan(tuple(map(_twin, plan.operations)), plan.first_index)


def _twin(operation: Operation) -> Operation:
    if isinstance(operation, _REAL):
        return operation
    twin: Operation = object.__new__(_twin_of(type(operation)))
    twin.__dict__.update(operation.__dict__)
    return twin


def _twin_of(kind: type[Operation]) -> type[Operation]:
    if kind in _TWINS:
        return _TWINS[kind]
    methods: dict[str, Any] = {"execute": lambda self, context: None}
    if issubclass(kind, CloneProcess):
        methods["execute"] = _clone
    elif issubclass(kind, Execute):
        methods["execute"] = lambda self, context: perform(self.command)
    if kind.reversible:
        methods["undo"] = lambda self, context: None
    return _TWINS.setdefault(kind, type(kind.__name__, (kind,), methods))


def _clone(operation: Operation, context: Context) -> None:
    context.pid, context.pidfd = libc.clone3(0)


def perform(command: tuple[str, ...]) -> NoReturn:
    """Imita il programma e finisce con il suo codice di uscita; quello che non conosce non c'è."""
    name, *arguments = command
    if name not in _PROGRAMS:
        raise CommandError(f"Il comando «{name}» non c'è in questa immagine.", "controlla il nome", exit_code=127)
    libc.close_range(3)  # what execve would do
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = 0
    if name == "false":
        code = 1
    elif name == "echo":
        os.write(1, (" ".join(arguments) + "\n").encode())
    elif name == "sleep":
        time.sleep(float(arguments[0]))
    elif name == "cat":
        while data := os.read(0, 65536):
            os.write(1, data)
    elif name == "sh" and arguments[:1] == ["-c"] and arguments[1].startswith("exit "):
        code = int(arguments[1].split()[1])
    os._exit(code)


class FakeLauncher:
    """Un :class:`~labkit.supervisor.launcher.Launcher` che non tocca il kernel."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.group = Cgroup((Hierarchy(2, (*CONTROLLERS, SWAP), "/laboratorio-finto/cgroup"),))
        self.reasons: dict[str, str] = {}
        self.sandbox = Sandbox("/laboratorio-finto", "fake", group=self.group)
        self.networks = Networks(self.sandbox.new_link)

    def features(self) -> list[Feature]:
        return [Feature("fake", "laboratorio finto, per le prove", True)]

    def adapt(self, plan: Plan) -> Plan:
        return recorded(plan)

    def image(self, name: str) -> ImageRoot:
        if "/" in name:
            return directory(name)
        if name not in names():
            raise unknown(name)
        return ImageRoot(name, (Tree("", (f"/{name}",)),))

    def unpack(self, stored: Stored) -> Work:
        return unpacking.pretended(stored)

    def prune(self, store: str) -> Work:
        return lambda tell: (0, -1)  # nothing was unpacked

    def view(self, image: ImageRoot, folder: str, pid: int) -> View:
        raise BackendError("Nel laboratorio finto i container non hanno file.", "Lab(backend='direct')")

    def place(self, spec: ContainerSpec, image: ImageRoot, *, later: bool) -> Placement:
        return self.sandbox.place("bridge" if Attachment("bridge") in spec.networks else "none")

    def renew(self, place: Placement) -> Placement:
        return self.networks.renew(self.sandbox.renew(place))

    def release(self, place: Placement) -> None:
        for end in place.endpoints:
            self.networks.release(end)
        self.sandbox.release(place)

    def context(self) -> Context:
        return Context()

    def discard(self, lab: Plan, context: Context) -> None:
        """Non c'è niente da togliere."""

    def start(
        self, lab: Plan, own: Plan, context: Context, place: Placement, *, stdin: bool, tty: bool, stepped: bool
    ) -> Child:
        stdio = Stdio(stdin=stdin, tty=tty)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lab.run(context)
        if context.pid == 0:
            _die_with_supervisor()
            clean_child(stdio, (theirs.fileno(),))
            become(own, context, theirs, stepped=stepped)
        return _born(context.pid, context.pidfd, stdio, mine, theirs)

    def join(self, plan: Plan, pidfd: int, *, stdin: bool, tty: bool) -> Child:
        stdio = Stdio(stdin=stdin, tty=tty)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, own = libc.clone3(0)
        if pid == 0:
            clean_child(stdio, (theirs.fileno(),))
            become(plan, Context(), theirs)
        return _born(pid, own, stdio, mine, theirs)

    def rest(self) -> bool:
        """Nessuno nasce prima del tempo."""
        return False

    def sweep(self, keep: set[str]) -> bool:
        """Non c'è niente da togliere."""
        return True

    def worker(self) -> Child:
        raise BackendError("Il laboratorio finto non ha processi da guidare a mano.", "Lab(backend='direct')")

    def wirer(self) -> tuple[int, socket.socket]:
        """Dice di sì a ogni piano, senza farlo."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            _die_with_supervisor()
            clean_child(Stdio(stdin=False, tty=True), (theirs.fileno(),))
            try:
                while theirs.recv(1 << 17):
                    theirs.send(pickle.dumps(None))
            finally:
                os._exit(0)
        theirs.close()
        os.close(pidfd)
        return pid, mine

    def resolver(self) -> socket.socket | None:
        """Nessuno chiede nomi a un laboratorio finto."""
        return None

    def index_of(self, bridge: str) -> int:
        return 1

    def leave_bridge(self, place: Placement) -> None:
        self.sandbox.release(place)

    def capture(self, listener: socket.socket, limit: int, seconds: int, snaplen: int) -> Child:
        raise BackendError("Il laboratorio finto non ha una rete da guardare.", "Lab(backend='direct')")

    def forward(self, listener: socket.socket, address: tuple[str, int]) -> int:
        """Tiene aperta la porta, senza rispondere a nessuno."""
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            _die_with_supervisor()
            while True:
                signal.pause()
        os.close(pidfd)
        return pid


def _die_with_supervisor() -> None:
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)


def _born(pid: int, pidfd: int, stdio: Stdio, mine: socket.socket, theirs: socket.socket) -> Child:
    theirs.close()
    stdio.close_child()
    mine.setblocking(False)
    return Child(pid, pidfd, stdio, mine)

"""Chi fa davvero nascere container, exec, processi a mano e porte: l'unico ponte fra i verbi e il motore."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Protocol

from labkit.engine import container as containers
from labkit.engine import exec as execs
from labkit.engine.container import Placement
from labkit.engine.network import NAMES
from labkit.engine.operation import Context, Plan
from labkit.engine.rootfs import ImageRoot, MakeLayer, remove_tree
from labkit.engine.userland import names
from labkit.errors import LabError
from labkit.kernel import libc
from labkit.kernel import rtnetlink as rt
from labkit.kernel.cgroups import Cgroup
from labkit.model import ContainerSpec, Feature
from labkit.networks import Attachment
from labkit.supervisor import sandbox as sandboxes
from labkit.supervisor import unpacking
from labkit.supervisor.errand import Work
from labkit.supervisor.labgroup import LabGroup, limit_features
from labkit.supervisor.networks import Networks
from labkit.supervisor.nursery import Nursery, Unborn
from labkit.supervisor.unpacking import Stored
from labkit.supervisor.zygote import Stdio, become, clean_child

if TYPE_CHECKING:
    from labkit.engine.contents import View

#: Le cose che il supervisore toglie da sé, in meno di un millisecondo.
_SMALL_LAYER = 100


class Child:
    """Un figlio appena nato: il processo, i suoi flussi, il filo del rapporto; ``warm`` se era già pronto."""

    def __init__(self, pid: int, pidfd: int, stdio: Stdio, report: socket.socket, *, warm: bool = False) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.stdio = stdio
        self.report = report
        self.warm = warm


class Launcher(Protocol):
    """Quello che i verbi chiedono a un motore, vero o finto.

    ``group`` è il cgroup del laboratorio, ``reasons`` perché manca quello che manca, ``networks`` le sue reti;
    ``paths`` dove il client ha le sue librerie.
    """

    group: Cgroup
    reasons: dict[str, str]
    networks: Networks
    paths: list[str]

    def features(self) -> list[Feature]: ...
    def adapt(self, plan: Plan) -> Plan: ...
    def image(self, name: str) -> ImageRoot: ...
    def unpack(self, stored: Stored) -> Work: ...
    def prune(self, store: str) -> Work: ...
    def view(self, image: ImageRoot, folder: str, pid: int) -> View: ...
    def place(self, spec: ContainerSpec, image: ImageRoot, *, later: bool) -> Placement: ...
    def renew(self, place: Placement) -> Placement: ...
    def release(self, place: Placement) -> None: ...
    def context(self) -> Context: ...
    def discard(self, lab: Plan, context: Context) -> None: ...
    def start(
        self, lab: Plan, own: Plan, context: Context, place: Placement, *, stdin: bool, tty: bool, stepped: bool
    ) -> Child: ...
    def join(self, plan: Plan, pidfd: int, *, stdin: bool, tty: bool) -> Child: ...
    def worker(self) -> Child: ...
    def capture(self, listener: socket.socket, limit: int, seconds: int, snaplen: int) -> Child: ...
    def forward(self, listener: socket.socket, address: tuple[str, int]) -> int: ...
    def wirer(self) -> tuple[int, socket.socket]: ...
    def resolver(self) -> socket.socket | None: ...
    def index_of(self, bridge: str) -> int: ...
    def leave_bridge(self, place: Placement) -> None: ...
    def rest(self) -> bool: ...
    def sweep(self, keep: set[str]) -> bool: ...


class DirectLauncher:
    """Il motore vero, nei namespace del laboratorio."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.sandbox = sandboxes.build(
            config["folder"], config["mode"], config["scratch"], LabGroup.from_json(config["cgroup"])
        )
        self.sandbox.volumes = config["volumes"]
        self.group, self.reasons, self.paths = self.sandbox.group, self.sandbox.reasons, config["paths"]
        self.networks = Networks(self.sandbox.new_link)
        self.nursery = Nursery(self.context, self.sandbox.place, self.sandbox.new_group, self.sandbox.forget)

    def features(self) -> list[Feature]:
        mode = self.sandbox.mode
        several = mode != "nosub"
        time = os.path.exists("/proc/self/ns/time")
        subid = "sudo apt install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
        return [
            Feature("root", "potere di root sull'host", mode == "root", "" if mode == "root" else "non serve"),
            Feature(
                "subuid",
                "più utenti dentro i container",
                several,
                "" if several else "senza subuid dentro esiste solo root (uid 0)",
                "" if several else subid,
            ),
            Feature(
                "time",
                "namespace time",
                time,
                "" if time else "il kernel del laboratorio è compilato senza il namespace time (CONFIG_TIME_NS)",
                "" if time else "Lab(backend='qemu')" if mode == "vm" else "usa il kernel della tua distribuzione",
            ),
            Feature("images", "immagini che non si scaricano", True, ", ".join(names())),
            _volumes_feature(self.config.get("no_volumes", "")),
            *limit_features(self.group, self.reasons),
        ]

    def adapt(self, plan: Plan) -> Plan:
        return plan

    def image(self, name: str) -> ImageRoot:
        return self.sandbox.image(name)

    def unpack(self, stored: Stored) -> Work:
        """Il lavoro di chi prepara un'immagine conservata."""
        return unpacking.direct(stored, self.sandbox.mode, f"{self.sandbox.home}/images")

    def prune(self, store: str) -> Work:
        """Il lavoro di chi toglie gli strati spacchettati che non servono più."""
        return unpacking.pruning(store, self.sandbox.mode, f"{self.sandbox.home}/images")

    def view(self, image: ImageRoot, folder: str, pid: int) -> View:
        """Un container come lo guarda chi ne legge o scrive i file: da chiamare nel figlio che lo fa."""
        from labkit.engine.contents import View

        home, mode = self.sandbox.home, self.sandbox.mode
        return View(image, folder, self.sandbox.mountpoint, f"{home}/empty", mode != "vm", mode != "nosub", pid)

    def place(self, spec: ContainerSpec, image: ImageRoot, *, later: bool) -> Placement:
        """Il posto di un container nuovo: quello di chi è atteso, se è uguale e se deve partire subito."""
        usual = "bridge" if Attachment("bridge") in spec.networks else "none"
        if later:
            self.nursery.clear()
        elif spec.network == usual and not spec.attachments:
            return self.nursery.reserve(spec, image)
        elif spec.networks:
            return self.nursery.promise(self.sandbox.place(usual))
        return self.sandbox.place(usual)

    def renew(self, place: Placement) -> Placement:
        return self.networks.renew(self.sandbox.renew(place))

    def release(self, place: Placement) -> None:
        for end in place.endpoints:
            self.networks.release(end)
        if not self.nursery.give_up(place):
            self.sandbox.release(place)

    def context(self) -> Context:
        return Context(
            mountpoint=self.sandbox.mountpoint,
            bridge=self.sandbox.bridge,
            dev_template=self.sandbox.devices,
            userxattr=self.sandbox.mode != "vm",
        )

    def discard(self, lab: Plan, context: Context) -> None:
        """Toglie lo strato di un container finito; se è grande in un figlio, perché il ciclo non aspetti il disco."""
        done = lab.operations[: lab.position]
        layer = next((operation for operation in done if isinstance(operation, MakeLayer)), None)
        if layer is None or remove_tree(layer.folder, _SMALL_LAYER) > 0:
            return
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            try:
                layer.undo(context)
            finally:
                os._exit(0)
        os.close(pidfd)

    def start(
        self, lab: Plan, own: Plan, context: Context, place: Placement, *, stdin: bool, tty: bool, stepped: bool
    ) -> Child:
        """Fa la parte del laboratorio (l'ultima operazione è la nascita) e nel figlio il resto."""
        stdio = Stdio(stdin=stdin, tty=tty)
        unborn = None if stepped else self.nursery.take(place)
        if unborn and (child := self._adopt(unborn, lab, own, context, stdio)):
            return child
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Born in the lab's network namespace, used from the container's: the lab end of the cable.
        context.netlink = rt.Netlink()
        try:
            lab.run(context)
            if context.pid == 0:
                held = [fd for fd in (context.secrets, context.network) if fd >= 0]
                held += [fd for mount in context.mounts.values() for fd in mount.fds]
                clean_child(stdio, (theirs.fileno(), context.netlink.fileno(), *held))
                become(own, context, theirs, stepped=stepped)
        except BaseException:
            stdio.close()
            mine.close()
            raise
        finally:
            theirs.close()
            context.netlink.close()
            _close_mounts(context)
        stdio.close_child()
        mine.setblocking(False)
        return Child(context.pid, context.pidfd, stdio, mine)

    def _adopt(self, unborn: Unborn, lab: Plan, own: Plan, context: Context, stdio: Stdio) -> Child | None:
        """Fa di un nascituro questo container; ``None`` se era morto."""
        newborn = unborn.newborn
        context.pid, context.pidfd = newborn.pid, newborn.pidfd
        if lab.position == 0:  # else the plan was begun step by step
            lab.inherit(unborn.lab)
        try:
            lab.run(context)
        except BaseException:
            newborn.drop()
            stdio.close()
            raise
        told = unborn.send(own, stdio, context)
        _close_mounts(context)
        if not told:
            newborn.drop()
            lab.rollback(context)
            context.pid = context.pidfd = -1
            if unborn.place:
                self.sandbox.unplug(unborn.place)
            return None
        lab.charge(newborn.microseconds)
        stdio.close_child()
        newborn.channel.setblocking(False)
        return Child(newborn.pid, newborn.pidfd, stdio, newborn.channel, warm=unborn.place is not None)

    def rest(self) -> bool:
        """Quando non c'è altro da fare, prepara chi nascerà; ``True`` se è nato qualcuno, e forse non basta."""
        return self.nursery.fill()

    def sweep(self, keep: set[str]) -> bool:
        """Toglie i cgroup dei container che non ci sono più, tranne ``keep``; ``False`` se ne resta qualcuno."""
        return self.sandbox.sweep(keep | self.nursery.groups())

    def join(self, plan: Plan, pidfd: int, *, stdin: bool, tty: bool) -> Child:
        """Un figlio che entra nel container ``pidfd``; il processo vero è un suo fratello, detto dal rapporto."""
        stdio = Stdio(stdin=stdin, tty=tty)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, own_pidfd = libc.clone3(0)
        if pid == 0:
            clean_child(stdio, (theirs.fileno(), pidfd))
            become(plan, Context(pidfd=pidfd), theirs)
        theirs.close()
        stdio.close_child()
        mine.setblocking(False)
        return Child(pid, own_pidfd, stdio, mine)

    def worker(self) -> Child:
        from labkit.supervisor.worker import become_worker

        stdio = Stdio(stdin=False, tty=False)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            clean_child(stdio, (theirs.fileno(),))
            become_worker(theirs, self.config["paths"], self.sandbox.temporary)
        theirs.close()
        stdio.close_child()
        mine.setblocking(False)
        return Child(pid, pidfd, stdio, mine)

    def wirer(self) -> tuple[int, socket.socket]:
        """Il processo delle reti, con il suo filo."""
        from labkit.supervisor.wirer import become_wirer

        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            clean_child(Stdio(stdin=False, tty=True), (theirs.fileno(),))
            become_wirer(theirs, self.config["paths"])
        theirs.close()
        os.close(pidfd)
        return pid, mine

    def resolver(self) -> socket.socket | None:
        """Il processo del servizio di nomi: torna il filo su cui chiede chi è chi."""
        from labkit.supervisor.resolver import become_resolver

        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            clean_child(Stdio(stdin=False, tty=True), (theirs.fileno(),))
            become_resolver(NAMES, theirs)
        theirs.close()
        os.close(pidfd)
        return mine

    def index_of(self, bridge: str) -> int:
        return rt.index_of(bridge)

    def leave_bridge(self, place: Placement) -> None:
        """Quel posto non è più sulla rete di tutti: il suo indirizzo torna libero."""
        self.sandbox.release(place)

    def capture(self, listener: socket.socket, limit: int, seconds: int, snaplen: int) -> Child:
        from labkit.supervisor.capture import collect

        stdio = Stdio(stdin=False, tty=False)
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            clean_child(stdio, (listener.fileno(),))
            collect(listener, limit, seconds, snaplen)
        stdio.close_child()
        return Child(pid, pidfd, stdio, listener)

    def forward(self, listener: socket.socket, address: tuple[str, int]) -> int:
        from labkit.supervisor.forward import Forwarder, PacketForwarder

        pid, pidfd = libc.clone3(0)
        if pid == 0:
            clean_child(Stdio(stdin=False, tty=True), (listener.fileno(),))
            try:
                kind = Forwarder if listener.type == socket.SOCK_STREAM else PacketForwarder
                kind(listener, address).serve()
            finally:
                os._exit(1)
        os.close(pidfd)
        return pid


def _volumes_feature(reason: str) -> Feature:
    remedy = "sudo apt install e2fsprogs" if "mke2fs" in reason else "chiudi l'altro laboratorio, e riapri questo"
    return Feature("volumes", "volumi che restano", not reason, reason, remedy if reason else "")


def _close_mounts(context: Context) -> None:
    """Il figlio ha i suoi descrittori di ciò che monterà: qui non servono più."""
    while context.mounts:
        context.mounts.popitem()[1].close()


def container_plan(
    launcher: Launcher, spec: ContainerSpec, image: ImageRoot, *, later: bool
) -> tuple[Placement, Plan, Plan]:
    """Il posto e le due metà del piano di un container nuovo."""
    place = launcher.place(spec, image, later=later)
    try:
        place = launcher.networks.join(place, spec.networks)
        return place, *halves(launcher, spec, image, place)
    except LabError:  # a template without its variable, no program: nothing is born, and the place is free again
        launcher.release(place)
        raise


def halves(launcher: Launcher, spec: ContainerSpec, image: ImageRoot, place: Placement) -> tuple[Plan, Plan]:
    """Le due metà del piano di un container in quel posto."""
    return containers.split(launcher.adapt(containers.plan(spec, image, place)))


def exec_plan(launcher: Launcher, pid: int, command: tuple[str, ...], **options: Any) -> Plan:
    """Il piano di un exec."""
    return launcher.adapt(execs.plan(pid, command, **options))

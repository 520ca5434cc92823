"""Da una descrizione pura al piano che fa un container: che cosa, in che ordine, con che valori.

:func:`plan` non tocca niente: lo stesso ingresso dà lo stesso piano, che si può confrontare,
raccontare, percorrere e disegnare prima che esista un solo oggetto del kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from labkit.engine.isolation import DropBoundingSet, MaskPaths, isolation_operations
from labkit.engine.limits import JoinCgroup, MakeCgroup, limit_operations
from labkit.engine.network import NAMES, Endpoint, network_operations
from labkit.engine.operation import Context, Operation, Plan
from labkit.engine.rootfs import (
    DEFAULT_PATH,
    ImageRoot,
    MakeLayer,
    WriteIdentity,
    WriteTemplate,
    layer_name,
    own_files,
    root_operations,
)
from labkit.engine.secrets import MountSecrets
from labkit.engine.volumes import mount_operations, open_operations
from labkit.environment import Setting, Variable, merge
from labkit.errors import InvalidError
from labkit.kernel import capabilities, libc, namespaces
from labkit.kernel.cgroups import Cgroup
from labkit.model import ContainerSpec

#: I namespace nuovi di ogni container. Quello utente è del laboratorio, l'orologio della macchina.
CONTAINER_NAMESPACES = ("uts", "mount", "pid", "ipc", "net", "cgroup")


@dataclass(frozen=True)
class Placement:
    """Dove il supervisore ha deciso di mettere il container: cose scelte, non ancora fatte.

    ``folder`` è la cartella del suo strato, ``link`` il nome del capo del cavo sul bridge, ``group`` il suo
    cgroup, se qui si possono fare; ``volumes`` la cartella dei volumi; ``endpoints`` le reti del laboratorio su cui
    sta, oltre a quella di tutti.
    """

    id: str
    folder: str
    link: str = ""
    ip: str = ""
    prefix: int = 16
    gateway: str = ""
    group: Cgroup | None = None
    volumes: str = ""
    endpoints: tuple[Endpoint, ...] = ()

    @property
    def address(self) -> str:
        """L'indirizzo con cui dal laboratorio si raggiunge il container; vuoto se non ne ha."""
        return self.ip or (self.endpoints[0].ip if self.endpoints else "")


@dataclass(frozen=True)
class CloneProcess(Operation):
    """Il processo che diventerà il container, in namespace tutti nuovi."""

    kinds: tuple[str, ...] = CONTAINER_NAMESPACES

    syscall: ClassVar[str] = "clone3"
    man: ClassVar[str] = "clone(2), namespaces(7)"
    where: ClassVar[Literal["lab", "container"]] = "lab"

    def describe(self) -> str:
        return f"crea il processo in namespace nuovi: {', '.join(self.kinds)}"

    def execute(self, context: Context) -> None:
        if context.pid < 0:  # else it was born before, while the lab had nothing to do
            context.pid, context.pidfd = libc.clone3(namespaces.flags(self.kinds))

    def undo(self, context: Context) -> None:
        """Niente da fare: il supervisore finisce il processo e con lui i namespace."""


def environment(spec: ContainerSpec, image: ImageRoot, more: tuple[Setting, ...] = ()) -> tuple[Variable, ...]:
    """L'ambiente del programma: quello dell'immagine, poi gli ``--env-file``, poi i ``-e``.

    ``more`` sono i ``-e`` di exec. Di quello di chi lo lancia non entra niente.
    """
    own: list[Setting] = [("PATH", DEFAULT_PATH), ("HOSTNAME", hostname(spec))]
    if spec.tty:
        own.append(("TERM", "xterm"))
    return merge(("lab", own), ("image", image.env), ("file", spec.env_file), ("option", (*spec.env, *more)))


def argv(spec: ContainerSpec, image: ImageRoot) -> tuple[str, ...]:
    """Il programma e i suoi argomenti: prima ``entrypoint``, poi il comando.

    Come in Docker, chi dà un ``entrypoint`` rinuncia al comando dell'immagine, che era pensato per il suo.
    """
    if spec.entrypoint is None:
        words = (*image.entrypoint, *(spec.command or image.command))
    else:
        words = (*spec.entrypoint, *spec.command)
    if not words:
        raise InvalidError("Non c'è nessun programma da eseguire: l'entrypoint è vuoto, e manca il comando.",
                           "lab.run('busybox', 'hostname')")  # fmt: skip
    return words


def complete(spec: ContainerSpec, image: ImageRoot, **changes: Any) -> ContainerSpec:
    """La descrizione con ciò che non dice preso dall'immagine (come Docker), e con ``changes``."""
    return replace(
        spec,
        user=spec.user or image.user,
        workdir=spec.workdir or image.workdir,
        stop_signal=spec.stop_signal or image.stop_signal or "SIGTERM",
        health=spec.health or image.health,
        labels=tuple({**dict(image.labels), **dict(spec.labels)}.items()),
        **changes,
    )


def hostname(spec: ContainerSpec) -> str:
    return spec.hostname or spec.name.replace("_", "-").replace(".", "-")[:63] or "container"


def capability_names(spec: ContainerSpec) -> tuple[str, ...]:
    """Le capability che avrà, in ordine."""
    return tuple(sorted(capabilities.compute(spec.cap_add, spec.cap_drop)))


def plan(spec: ContainerSpec, image: ImageRoot, place: Placement) -> Plan:
    """Il piano completo: prima la parte del laboratorio, poi quella del processo che diventa container.

    Quello che vale per ogni container della stessa immagine viene prima di quello che lo distingue
    (:func:`common`): così si può fare prima che qualcuno lo chieda.
    """
    name, caps = hostname(spec), capability_names(spec)
    operations: list[Operation] = [MakeCgroup(place.group)] if place.group else []
    operations.append(MakeLayer(place.folder, tuple(layer_name(tree.target) for tree in image.trees)))
    if place.group:
        operations += limit_operations(place.group, spec.limits)
    operations += open_operations(spec.mounts, place.volumes)
    own = spec.network != "host" and not spec.network.startswith("container:")
    operations.append(CloneProcess() if own else CloneProcess(tuple(k for k in CONTAINER_NAMESPACES if k != "net")))
    if place.group:
        operations.append(JoinCgroup(place.group))
    operations += network_operations(spec.network, place.link, place.ip, place.prefix, place.gateway, place.endpoints)
    env = environment(spec, image)
    operations += [*root_operations(image, place.folder), MaskPaths(), DropBoundingSet(caps)]
    operations += own_files(
        image,
        [
            *mount_operations(spec.mounts),
            identity(spec, name, place),
            *given_files(spec, {variable.name: variable.value for variable in env}),
        ],
        read_only=spec.read_only,
    )
    operations += isolation_operations(
        hostname=name,
        tty=spec.tty,
        window=spec.window,
        user=spec.user,
        caps=caps,
        command=argv(spec, image),
        env=tuple((variable.name, variable.value) for variable in env),
        workdir=spec.workdir,
        with_init=spec.init,
    )
    return Plan(tuple(operations))


def identity(spec: ContainerSpec, name: str, place: Placement) -> WriteIdentity:
    """Che cosa sa il container di sé: il nome, gli indirizzi, a chi chiedere i nomi degli altri."""
    addresses = [ip for ip in (place.ip, *(ip for end in place.endpoints for ip in (end.ip, end.ip6))) if ip]
    return WriteIdentity(name, place.address, tuple(addresses[1:]), "" if spec.network == "none" else NAMES)


def given_files(spec: ContainerSpec, env: Mapping[str, str]) -> list[Operation]:
    """I file che il container riceve da chi lo chiede: i modelli, già riempiti con ``env``, e i segreti."""
    files: list[Operation] = [
        WriteTemplate(template.target, template.render(env), template.variables) for template in spec.templates
    ]
    return [*files, MountSecrets(spec.secrets, spec.user)] if spec.secrets else files


def split(whole: Plan) -> tuple[Plan, Plan]:
    """Le due metà del piano: quella che fa il supervisore e quella che fa il processo nuovo."""
    border = sum(1 for operation in whole.operations if operation.where == "lab")
    return Plan(whole.operations[:border]), Plan(whole.operations[border:], first_index=border + 1)


def common(own: Plan) -> Plan:
    """L'inizio della parte del processo nuovo: i passi che non dipendono da chi sarà il container."""
    border = [isinstance(operation, WriteIdentity) for operation in own.operations].index(True)
    return Plan(own.operations[:border], own.first_index)

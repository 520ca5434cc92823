"""Quello che il supervisore ricorda: i container, i processi a mano, i namespace tenuti aperti, gli eventi.

Invariante: un container è in :class:`State` dal momento in cui ha un nome fino a ``rm``; niente altro
tiene un suo riferimento.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from labkit.engine.container import Placement, argv, environment, hostname
from labkit.engine.network import INTERFACE
from labkit.engine.operation import Context, Plan
from labkit.engine.rootfs import ImageRoot
from labkit.errors import ConflictError, NotFoundError
from labkit.kernel.rtnetlink import hardware_address
from labkit.limits import Limits
from labkit.model import ContainerInfo, ContainerSpec, ContainerState, Event, Port, Step
from labkit.networks import Member
from labkit.supervisor.log import Log
from labkit.supervisor.restarts import Restarts

if TYPE_CHECKING:
    from labkit.supervisor.errand import Errand
    from labkit.supervisor.health import Monitor
    from labkit.supervisor.lifecycle import Birth
    from labkit.supervisor.loop import Timer
    from labkit.supervisor.task import Listener, Task

#: Quanti eventi si ricordano.
EVENT_LIMIT = 1000


@dataclass
class Container:
    """Un container del laboratorio.

    ``task`` è il suo PID 1; ``program`` il PID del programma, che con ``init`` è un altro: in init non si
    può guardare, e dei suoi namespace si chiede al programma. ``secrets`` è il memfd dei suoi segreti, -1 se non
    ne ha; ``volumes`` i lucchetti dei suoi volumi, per nome, e con ``purge`` quelli senza nome spariscono con lui.
    ``started`` è l'ora monotona di questo giro, 0 finché il programma non parte; ``kept`` di chi resta
    anche se un avvio non riesce; ``manual`` di chi è stato fermato da qualcuno, e perciò non riparte da solo;
    ``pending`` la ripartenza che aspetta; ``audience`` chi ascolta le uscite, giro dopo giro; ``errands`` chi ne sta
    leggendo o scrivendo i file. Ogni ``waiter``
    riceve il codice di uscita quando il container resta fermo (``None`` se il programma non è mai partito), ogni
    ``next_exit`` alla prossima fine del programma, ogni ``removal`` quando il container non c'è più. ``warnings``
    sono i limiti chiesti che qui non valgono; ``oom_kills`` quanti suoi processi il kernel ha ucciso per la
    memoria in questo giro, ``oom_seen`` in tutti.
    """

    id: str
    name: str
    spec: ContainerSpec
    image: ImageRoot
    place: Placement
    lab_plan: Plan
    own_plan: Plan
    context: Context
    secrets: int = -1
    volumes: dict[str, int] = field(default_factory=dict)
    purge: bool = False
    state: ContainerState = "created"
    exit_code: int | None = None
    steps: list[Step] = field(default_factory=list)
    ports: tuple[Port, ...] = ()
    forwarders: list[int] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)
    requested: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_instruction_ms: float = 0.0
    warm: bool = False
    started_at: float = 0.0
    finished_at: float = 0.0
    error: str = ""
    kept: bool = False
    manual: bool = False
    pending: Timer | None = None
    monitor: Monitor | None = None
    task: Task | None = None
    program: int = 0
    birth: Birth | None = None
    audience: list[Listener] = field(default_factory=list)
    errands: list[Errand] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    oom_seen: int = 0
    oom_kills: int = 0
    oom_killed: bool = False
    waiters: list[Callable[[int | None], Any]] = field(default_factory=list)
    next_exit: list[Callable[[int | None], Any]] = field(default_factory=list)
    removal: list[Callable[[int | None], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = Log(self.spec.log)
        self.restarts = Restarts(self.spec.restart)

    @property
    def alive(self) -> bool:
        """Se il suo programma c'è: gira, o è in pausa."""
        return self.state in ("running", "paused")

    def limit(self, limits: Limits) -> None:
        """D'ora in poi i suoi limiti sono questi, anche se riparte."""
        self.spec = replace(self.spec, limits=limits)

    def info(self) -> ContainerInfo:
        return ContainerInfo(
            id=self.id,
            name=self.name,
            image=self.spec.image,
            command=argv(self.spec, self.image),
            entrypoint=self.image.entrypoint if self.spec.entrypoint is None else self.spec.entrypoint,
            state=self.state,
            pid=self.program if self.alive else 0,
            exit_code=None if self.alive else self.exit_code,
            hostname=hostname(self.spec),
            user=self.spec.user or "0",
            network=self.spec.network,
            ip=self.place.address,
            networks=members(self),
            ports=self.ports,
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            uptime=time.monotonic() - self.started if self.alive else 0.0,
            restart=self.spec.restart,
            restart_count=self.restarts.count,
            health=self.monitor.health() if self.monitor else None,
            limits=self.spec.limits,
            warnings=self.warnings,
            oom_killed=self.oom_killed,
            error=self.error,
            first_instruction_ms=self.first_instruction_ms,
            warm=self.warm,
        )

    def whole(self) -> ContainerInfo:
        """Anche le cose lunghe: i passi, l'ambiente, l'immagine."""
        return replace(
            self.info(),
            steps=self.all_steps(),
            env=environment(self.spec, self.image),
            image_id=self.image.id,
            image_digest=self.image.digest,
            labels=self.spec.labels,
            exposed=self.image.exposed,
            workdir=self.spec.workdir,
            mounts=self.spec.mounts,
        )

    def all_steps(self) -> tuple[Step, ...]:
        """I passi come li vede chi guarda: quelli raccontati dal figlio coprono quelli del piano."""
        known = {step.index: step for step in self.steps}
        whole = self.lab_plan.steps() + self.own_plan.steps()
        return tuple(known.get(step.index, step) for step in whole)

    def record_step(self, step: Step) -> None:
        """Un passo raccontato dal figlio."""
        self.steps = [known for known in self.steps if known.index != step.index] + [step]
        self.steps.sort(key=lambda known: known.index)

    def record_failure(self, index: int, message: str) -> None:
        """Il passo ``index`` della parte del figlio ha detto di no."""
        own = self.own_plan.steps()
        self.record_step(replace(own[min(index, len(own) - 1)], state="failed", error=message))

    def record_times(self, microseconds: list[float], ahead: int) -> None:
        """Il rapporto finale del figlio: i passi fatti, in questi tempi; i primi ``ahead`` prima del tempo."""
        own = self.own_plan.steps()
        done = [
            replace(step, state="done", microseconds=cost, ahead=number < ahead)
            for number, (step, cost) in enumerate(zip(own, microseconds, strict=False))
        ]
        self.steps = [*self.lab_plan.steps(), *done, replace(own[-1], state="done")]


def members(container: Container) -> tuple[Member, ...]:
    """Le reti su cui sta un container, con che scheda e che indirizzi."""
    place, name = container.place, container.name
    found = []
    if place.ip:
        mac = hardware_address(place.ip).hex(":")
        found.append(Member(name, "bridge", INTERFACE, place.ip, mac=mac, link=place.link))
    found += [
        Member(name, end.network, end.interface, end.ip, end.ip6, end.mac, end.link, end.aliases)
        for end in place.endpoints
    ]
    return tuple(found)


class State:
    """Tutto quello che c'è nel laboratorio, per nome."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.events: deque[Event] = deque(maxlen=EVENT_LIMIT)
        self.held: dict[int, str] = {}
        self.counter = 0
        #: Chiamato per ogni evento, appena successo.
        self.on_event: Callable[[Event], None] = lambda event: None

    def new_number(self) -> int:
        self.counter += 1
        return self.counter

    def choose_name(self, wanted: str, number: int) -> str:
        """Il nome chiesto, se è libero, o uno nuovo che non cambia da una volta all'altra."""
        name = wanted or f"container-{number}"
        if name in self.containers:
            raise ConflictError(
                f"C'è già un container di nome «{name}».",
                f"lab.container({name!r}).rm(force=True), oppure un altro nome",
            )
        return name

    def container(self, name: str) -> Container:
        """Il container con quel nome, o con quell'id (anche solo l'inizio, se basta)."""
        if name in self.containers:
            return self.containers[name]
        matches = [c for c in self.containers.values() if name and c.id.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        known = ", ".join(self.containers) or "nessuno"
        raise NotFoundError(f"Il container «{name}» non c'è. Quelli che ci sono: {known}.", "lab.ps(all=True)")

    def add(self, container: Container) -> None:
        self.containers[container.name] = container
        self.note("create", container, image=container.spec.image)

    def remove(self, container: Container) -> None:
        del self.containers[container.name]
        self.note("destroy", container)

    def rename(self, container: Container, name: str) -> None:
        """Cambia nome a un container, che resta al suo posto fra gli altri; il suo hostname non cambia."""
        spec = replace(container.spec, name=self.choose_name(name, 0), hostname=hostname(container.spec))
        old, container.name, container.spec = container.name, name, spec
        self.containers = {c.name: c for c in self.containers.values()}
        self.note("rename", container, old_name=old)

    def note(self, action: str, container: Container, **details: Any) -> None:
        """È successo ``action`` a un container: si ricorda, e si dice a chi segue."""
        event = Event(time.time(), action, container.name, details, container.id)
        self.events.append(event)
        self.on_event(event)

    def hold(self, kind: str, path: str) -> int:
        """Tiene aperto un namespace: torna il descrittore, che è anche il suo nome."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.held[fd] = kind
        return fd

    def release(self, fd: int) -> None:
        if fd not in self.held:
            raise NotFoundError("Questo namespace non è più tenuto aperto.")
        del self.held[fd]
        os.close(fd)

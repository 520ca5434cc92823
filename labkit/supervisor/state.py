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
from labkit.engine.operation import Context, Plan
from labkit.engine.rootfs import ImageRoot
from labkit.errors import ConflictError, NotFoundError
from labkit.model import ContainerInfo, ContainerSpec, ContainerState, Event, Port, Step

if TYPE_CHECKING:
    from labkit.supervisor.lifecycle import Birth
    from labkit.supervisor.task import Task

#: Quanto si tiene delle uscite di un container, in byte: le ultime.
LOG_LIMIT = 1 << 20

#: Quanti eventi si ricordano.
EVENT_LIMIT = 1000


# A program that writes one byte at a time must not cost a hundred times its log.
_SMALL = 4096
_PIECE_COST = 128


class Log:
    """Le ultime uscite di un processo, in ordine, entro un limite di byte."""

    def __init__(self, limit: int = LOG_LIMIT) -> None:
        self.limit = limit
        self.size = 0
        self.pieces: deque[tuple[int, bytes]] = deque()

    def append(self, stream: int, data: bytes) -> None:
        if self.pieces and self.pieces[-1][0] == stream and len(self.pieces[-1][1]) < _SMALL:
            data = self._take(-1)[1] + data
        self.pieces.append((stream, data))
        self.size += len(data) + _PIECE_COST
        while self.size > self.limit and len(self.pieces) > 1:
            self._take(0)

    def _take(self, index: int) -> tuple[int, bytes]:
        piece = self.pieces[index]
        del self.pieces[index]
        self.size -= len(piece[1]) + _PIECE_COST
        return piece


@dataclass
class Container:
    """Un container del laboratorio.

    ``task`` è il suo PID 1; ``program`` il PID del programma, che con ``init`` è un altro: in init non si
    può guardare, e dei suoi namespace si chiede al programma. Ogni ``waiter`` riceve il codice di uscita,
    ``None`` se il programma non è mai partito.
    """

    id: str
    name: str
    spec: ContainerSpec
    image: ImageRoot
    place: Placement
    lab_plan: Plan
    own_plan: Plan
    context: Context
    state: ContainerState = "created"
    exit_code: int | None = None
    steps: list[Step] = field(default_factory=list)
    ports: tuple[Port, ...] = ()
    forwarders: list[int] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)
    requested: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_instruction_ms: float = 0.0
    task: Task | None = None
    program: int = 0
    birth: Birth | None = None
    waiters: list[Callable[[int | None], Any]] = field(default_factory=list)
    log: Log = field(default_factory=Log)

    def info(self) -> ContainerInfo:
        return ContainerInfo(
            id=self.id,
            name=self.name,
            image=self.spec.image,
            command=argv(self.spec, self.image),
            entrypoint=self.image.entrypoint if self.spec.entrypoint is None else self.spec.entrypoint,
            state=self.state,
            pid=self.program if self.state == "running" else 0,
            exit_code=self.exit_code,
            hostname=hostname(self.spec),
            user=self.spec.user or "0",
            network=self.spec.network,
            ip=self.place.ip,
            ports=self.ports,
            created_at=self.created_at,
            uptime=time.monotonic() - self.started if self.state == "running" else 0.0,
            first_instruction_ms=self.first_instruction_ms,
        )

    def whole(self) -> ContainerInfo:
        """Anche le cose lunghe: i passi e l'ambiente."""
        return replace(self.info(), steps=self.all_steps(), env=environment(self.spec, self.image))

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

    def record_times(self, microseconds: list[float]) -> None:
        """Il rapporto finale del figlio: tutti i suoi passi sono fatti, in questi tempi."""
        own = self.own_plan.steps()
        done = [replace(step, state="done", microseconds=cost) for step, cost in zip(own, microseconds, strict=False)]
        self.steps = [*self.lab_plan.steps(), *done, replace(own[-1], state="done")]


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
        self.note("create", container.name, image=container.spec.image)

    def remove(self, container: Container) -> None:
        del self.containers[container.name]
        self.note("destroy", container.name)

    def note(self, action: str, name: str, **details: Any) -> None:
        event = Event(time.time(), action, name, details)
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

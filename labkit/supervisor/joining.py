"""Un exec che nasce: il figlio che entra nel container, il fratello che resta, il suo codice di uscita."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from labkit.engine import container as containers
from labkit.engine.operation import Plan
from labkit.environment import Setting
from labkit.errors import ConflictError, LabError, from_dict
from labkit.kernel import capabilities, namespaces
from labkit.supervisor.launcher import exec_plan
from labkit.supervisor.report import ReportReader
from labkit.supervisor.task import Task

if TYPE_CHECKING:
    from labkit.supervisor.server import Server
    from labkit.supervisor.state import Container


class Visitor(Protocol):
    """Chi vuole un exec: gli si attacca il processo quando nasce, e alla fine riceve il codice o l'errore."""

    early: list[bytes] | None

    def attach(self, task: Task) -> None: ...
    def answer(self, value: Any = None) -> None: ...
    def fail(self, problem: LabError) -> None: ...


class Join:
    """Segue un exec fino alla risposta. Il processo vero è un fratello di quello che è entrato (CLONE_PARENT)."""

    def __init__(self, server: Server, visitor: Visitor, plan: Plan, pidfd: int, *, stdin: bool, tty: bool) -> None:
        self.server = server
        self.visitor = visitor
        self.problem: LabError | None = None
        self.task: Task | None = None
        #: Chiamato quando il processo nasce (senza codice) e quando finisce.
        self.told: Callable[[int | None], None] = lambda code: None
        child = server.launcher.join(plan, pidfd, stdin=stdin, tty=tty)
        os.close(child.pidfd)
        self.stdio = child.stdio
        self.master = -1
        visitor.early = []
        self.report = ReportReader(server.loop, child.report, self._message, self._terminal, self._ended)

    def _message(self, message: dict[str, Any]) -> None:
        if "pid" in message:
            self._born(message["pid"])
        elif "error" in message:
            self.problem = from_dict(message["error"])

    def _born(self, pid: int) -> None:
        # It may have ended, and been reaped, before this message is read: the loop kept its exit code.
        task = self.task = Task(self.server.loop, pid)
        task.on_exit.append(self._exited)
        task.attach_streams(self.stdio.stdin, self.stdio.stdout, self.stdio.stderr)
        if self.master >= 0:
            task.attach_terminal(self.master)
            self.master = -1
        self.told(None)
        self.visitor.attach(task)

    def _terminal(self, master: int) -> None:
        if self.task:
            self.task.attach_terminal(master)
        else:  # the newborn was quicker than its brother, who tells its pid: closing this would hang it up
            self.master = master

    def _ended(self) -> None:
        if self.problem:
            self.visitor.fail(self.problem)
        if self.task is None:
            for fd in (self.stdio.stdin, self.stdio.stdout, self.stdio.stderr, self.master):
                if fd >= 0:
                    os.close(fd)
            self.visitor.fail(ConflictError("Il container è finito mentre exec entrava.", "lab.ps(all=True)"))

    def _exited(self, code: int) -> None:
        self.report.drain()
        self.told(code)
        self.visitor.answer({"exit_code": code})


def enter(
    server: Server,
    container: Container,
    visitor: Visitor,
    command: Sequence[str],
    *,
    env: Sequence[Setting] = (),
    user: str | None = None,
    workdir: str | None = None,
    tty: bool = False,
    window: Sequence[int] = (),
    stdin: bool = False,
) -> Join:
    """Un programma in più in un container che gira, con le sue stesse regole (utente, ambiente, capability)."""
    spec = container.spec
    spec = replace(spec, tty=tty, window=tuple(window), workdir=spec.workdir if workdir is None else workdir)
    environment = containers.environment(spec, container.image, tuple(env))
    plan = exec_plan(
        server.launcher,
        container.program,
        tuple(command),
        env=tuple((variable.name, variable.value) for variable in environment),
        user=spec.user if user is None else user,
        workdir=spec.workdir,
        tty=tty,
        window=spec.window,
        caps=tuple(sorted(capabilities.compute(spec.cap_add, spec.cap_drop))),
        group=container.place.group,
    )
    pidfd = namespaces.open_process(container.program)
    try:
        return Join(server, visitor, plan, pidfd, stdin=stdin, tty=tty)
    finally:
        os.close(pidfd)

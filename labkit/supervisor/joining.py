"""Un exec che nasce: il figlio che entra nel container, il fratello che resta, il suo codice di uscita."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from labkit.engine.operation import Plan
from labkit.errors import ConflictError, LabError, from_dict
from labkit.supervisor.connection import Call
from labkit.supervisor.report import ReportReader
from labkit.supervisor.task import Task

if TYPE_CHECKING:
    from labkit.supervisor.server import Server


class Join:
    """Segue un exec fino alla risposta. Il processo vero è un fratello di quello che è entrato (CLONE_PARENT)."""

    def __init__(self, server: Server, call: Call, plan: Plan, pidfd: int, *, stdin: bool, tty: bool) -> None:
        self.server = server
        self.call = call
        self.problem: LabError | None = None
        self.task: Task | None = None
        child = server.launcher.join(plan, pidfd, stdin=stdin, tty=tty)
        os.close(child.pidfd)
        self.stdio = child.stdio
        self.master = -1
        call.early = []
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
        self.call.attach(task)

    def _terminal(self, master: int) -> None:
        if self.task:
            self.task.attach_terminal(master)
        else:  # the newborn was quicker than its brother, who tells its pid: closing this would hang it up
            self.master = master

    def _ended(self) -> None:
        if self.problem:
            self.call.fail(self.problem)
        if self.task is None:
            for fd in (self.stdio.stdin, self.stdio.stdout, self.stdio.stderr, self.master):
                if fd >= 0:
                    os.close(fd)
            self.call.fail(ConflictError("Il container è finito mentre exec entrava.", "lab.ps(all=True)"))

    def _exited(self, code: int) -> None:
        self.report.drain()
        self.call.answer({"exit_code": code})

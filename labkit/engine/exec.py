"""Un programma in più in un container che gira già: si entra nei suoi namespace, poi valgono le sue regole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from labkit.engine.container import CONTAINER_NAMESPACES
from labkit.engine.isolation import DropBoundingSet, DropPrivileges, Execute, LoadSeccomp, NewSession
from labkit.engine.limits import JoinCgroup
from labkit.engine.operation import Context, Operation, Plan
from labkit.errors import ConflictError, KernelError
from labkit.kernel import libc, namespaces
from labkit.kernel.cgroups import Cgroup


def _ended(problem: KernelError) -> Exception:
    """Entrare in un container che sta finendo dà ESRCH da setns, ENOMEM da clone3 (pid_namespaces(7))."""
    if problem.name in ("ESRCH", "ENOMEM"):
        return ConflictError("Il container è finito mentre exec entrava.", "lab.ps(all=True)")
    return problem


@dataclass(frozen=True)
class JoinContainer(Operation):
    """Entra in tutti i namespace del container in una volta sola, per pidfd."""

    pid: int
    kinds: tuple[str, ...] = CONTAINER_NAMESPACES

    syscall: ClassVar[str] = "setns"
    man: ClassVar[str] = "setns(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return f"entra nei namespace del container: {', '.join(self.kinds)}"

    def execute(self, context: Context) -> None:
        # Not dumpable: the container must not reach us through /proc/PID while we still hold the host's binary.
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        libc.set_title("labkit-exec")
        try:
            libc.setns(context.pidfd, namespaces.flags(self.kinds))
        except KernelError as problem:
            raise _ended(problem) from None


@dataclass(frozen=True)
class CloneInside(Operation):
    """Nel namespace pid si entra solo nascendo: un figlio, che resta figlio del supervisore."""

    syscall: ClassVar[str] = "clone3"
    man: ClassVar[str] = "clone(2)"
    reversible: ClassVar[bool] = False

    def describe(self) -> str:
        return "nasce nel namespace pid del container"

    def execute(self, context: Context) -> None:
        try:
            context.pid, _ = libc.clone3(libc.CLONE_PARENT)
        except KernelError as problem:
            raise _ended(problem) from None
        if context.pid:
            context.announce(context.pid)


def plan(
    pid: int,
    command: tuple[str, ...],
    env: tuple[tuple[str, str], ...],
    *,
    user: str,
    workdir: str,
    tty: bool,
    window: tuple[int, ...] = (),
    caps: tuple[str, ...],
    group: Cgroup | None = None,
) -> Plan:
    """Il piano di ``exec``: entra nel gruppo e nei namespace, nasce, perde potere, diventa il programma."""
    return Plan(
        (
            *([JoinCgroup(group, view=False)] if group else []),
            JoinContainer(pid),
            CloneInside(),
            DropBoundingSet(caps),
            DropPrivileges(user, caps),
            NewSession(tty, window),
            LoadSeccomp(caps),
            Execute(command, env, workdir),
        )
    )

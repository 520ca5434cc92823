"""Il sorvegliante di una macchina: il suo programma non sopravvive al guardiano, né gli aiutanti al programma.

Un kernel User Mode Linux è fatto di più processi. Se muore il primo gli altri restano, e quelli che eseguivano i
programmi della macchina, senza più chi li fermi a ogni chiamata di sistema, andrebbero avanti sull'host.
PR_SET_PDEATHSIG vale per un processo solo: perciò il sorvegliante adotta gli orfani (PR_SET_CHILD_SUBREAPER), e quando
muore il guardiano, il client o il programma uccide tutti i suoi. Se uccidono lui, il kernel uccide il programma, e
gli altri li adotta e li uccide il guardiano.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Collection

from labkit.kernel import libc, procfs


def start(command: list[str], env: dict[str, str], folder: str, channel: int, console: int, client: int) -> int:
    """Fa nascere il sorvegliante, e lui la macchina; torna il PID del sorvegliante.

    Il programma gira in ``folder``. ``channel`` è il descrittore che eredita, ``console`` quello su cui scrive,
    ``client`` un pidfd.
    """
    guard = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.close(guard)
        return pid
    try:
        os.setsid()  # a signal to the group of the guard is not for us
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        program = _become(command, env, folder, channel, console)
        for polite in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # at a logout all of us are told: we go last
            signal.signal(polite, signal.SIG_IGN)
        pidfd = os.pidfd_open(program)
        # The ends of the wire and of the channel must be of who uses them: the others have to hear when they are gone.
        close_others((0, 1, 2, guard, client, pidfd))
        select.select([guard, client, pidfd], [], [])
        end_children()
    finally:
        os._exit(0)


def _become(command: list[str], env: dict[str, str], folder: str, channel: int, console: int) -> int:
    """Il programma della macchina, legato alla vita di chi lo fa nascere."""
    warden = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != warden:  # it was killed before the line above
            os._exit(1)
        os.setsid()
        os.chdir(folder)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(console, 1)
        os.dup2(console, 2)
        os.set_inheritable(channel, True)
        close_others((0, 1, 2, channel))
        os.execvpe(command[0], command, {**os.environ, **env})
    finally:
        os._exit(127)


def close_others(kept: Collection[int]) -> None:
    """Chiude tutti i descrittori tranne quelli (close_range(2))."""
    first = 0
    for fd in sorted(kept):
        if fd > first:
            libc.close_range(first, fd - 1)
        first = fd + 1
    libc.close_range(first)


def end_children() -> None:
    """Uccide e seppellisce i figli di chi chiama, e quelli che loro gli lasciano, finché non ne ha più."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in procfs.children(os.getpid()):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)

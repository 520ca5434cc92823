"""Far nascere processi dal supervisore: figli puliti, che tengono solo i descrittori che servono.

Il supervisore è piccolo e con un thread solo: sdoppiarlo costa poco e non copia lucchetti a metà.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from labkit.engine.operation import Context, Plan
from labkit.errors import InvalidError, LabError
from labkit.kernel import libc
from labkit.kernel.explain import from_os_error
from labkit.model import to_json

# asm-generic/ioctls.h
TIOCSCTTY = 0x540E
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441


class Stdio:
    """I tre flussi di un processo: i capi che restano al supervisore e quelli del figlio.

    Con ``tty`` i flussi veri arrivano dopo, quando il figlio apre il suo terminale.
    """

    def __init__(self, *, stdin: bool, tty: bool) -> None:
        self.stdin = self.stdout = self.stderr = -1
        self.child = [-1, -1, -1]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if tty:
            self.child = [null, os.dup(null), os.dup(null)]
            return
        self.child[0] = null
        if stdin:
            os.close(null)
            self.child[0], self.stdin = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.stdin, False)
        self.stdout, self.child[1] = os.pipe2(os.O_CLOEXEC)
        self.stderr, self.child[2] = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.stdout, False)
        os.set_blocking(self.stderr, False)

    def close_child(self) -> None:
        """Nel supervisore, dopo la nascita: i capi del figlio non servono più."""
        for fd in self.child:
            os.close(fd)

    def close(self) -> None:
        """Il figlio non è nato: chiude tutto."""
        self.close_child()
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)


def clean_child(stdio: Stdio, keep: Iterable[int]) -> None:
    """Nel figlio: mette a posto 0, 1 e 2, chiude ogni altro descrittore, toglie i gestori di segnale."""
    for number, fd in enumerate(stdio.child):
        os.dup2(fd, number)
    close_others(keep)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_others(keep: Iterable[int]) -> None:
    """Chiude ogni descrittore tranne 0, 1, 2 e quelli di ``keep``."""
    first = 3
    for fd in sorted(set(keep)):
        if fd > first:
            libc.close_range(first, fd - 1)
        first = fd + 1
    libc.close_range(first)


class Report:
    """Il filo del figlio verso il supervisore: passi fatti, terminale, errore; la sua fine è l'execve."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel

    def send(self, **message: Any) -> None:
        self.channel.send(json.dumps(message).encode())

    def announce(self, pid: int) -> NoReturn:
        """Il processo vero è ``pid``: chi lo ha fatto nascere ha finito."""
        self.send(pid=pid)
        os._exit(0)

    def open_terminal(self, window: tuple[int, ...]) -> None:
        """Un terminale nuovo nel devpts del container: al supervisore il capo master, al processo lo slave.

        Nasce già di ``window`` righe e colonne: chi le chiede subito le trova (ioctl_tty(2)).
        """
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        fcntl.ioctl(master, TIOCSPTLCK, b"\0\0\0\0")
        # By descriptor, not by name: nothing in the image can stand in the way.
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(slave, TIOCSCTTY, 0)
        if window:
            fcntl.ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", *window, 0, 0))
        for number in (0, 1, 2):
            os.dup2(slave, number)
        os.close(slave)
        socket.send_fds(self.channel, [b'{"terminal":true}'], [master])
        os.close(master)


def forget_imports() -> None:
    """Dopo il cambio di radice un import caricherebbe codice dell'immagine: da qui in poi non può più."""
    sys.path.clear()
    sys.path_importer_cache.clear()


def become(plan: Plan, context: Context, channel: socket.socket, *, stepped: bool = False) -> NoReturn:
    """Nel figlio: fa la sua parte del piano e diventa il programma; se un passo fallisce lo dice e finisce."""
    report = Report(channel)
    context.terminal = report.open_terminal
    context.release = channel.close
    context.announce = report.announce
    forget_imports()
    code = 125
    try:
        if stepped:
            obey(plan, context, report)
        run(plan, context, report)
    except LabError as problem:
        code = problem.exit_code
        report.send(error=problem.to_dict(), index=plan.position)
    except OSError as problem:
        report.send(error=from_os_error(problem).to_dict(), index=plan.position)
    except Exception as problem:  # noqa: BLE001  nothing may unwind into the supervisor's loop
        report.send(error=InvalidError(f"Il container non è partito: {problem!r}.").to_dict(), index=plan.position)
    finally:
        os._exit(code)


def run(plan: Plan, context: Context, report: Report) -> None:
    """Tutti i passi fino all'ultimo, poi il rapporto, poi l'ultimo: l'execve che non torna."""
    last = len(plan.operations) - 1
    while plan.position < last:
        plan.advance(context)
    report.send(steps=plan.times()[:last], ahead=plan.ahead)
    plan.advance(context)


def obey(plan: Plan, context: Context, report: Report) -> None:
    """Un passo per ogni ordine del supervisore; torna quando l'ordine è «tutto il resto»."""
    last = len(plan.operations) - 1
    while True:
        order = report.channel.recv(64)
        if order == b"run" or (order == b"step" and plan.position == last):
            return
        if order not in (b"step", b"undo"):
            os._exit(0)
        try:
            step = plan.step(context) if order == b"step" else plan.undo(context)
            report.send(step=to_json(step))
        except LabError as problem:
            report.send(refused=problem.to_dict(), step=to_json(plan.describe(plan.position)))

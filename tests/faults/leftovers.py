"""Un programma che usa un laboratorio, visto da fuori: chi sono i suoi processi, e che cosa ne resta.

Ogni programma ha una cartella di laboratori sua (``LABKIT_RUN``), che sta nell'ambiente di tutto ciò
che ne nasce: è il segno con cui si riconoscono i suoi processi, anche quando il padre è morto.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import leaks

CLIENTS = Path(__file__).parent / "clients"

_numbers = itertools.count(1)


class Client:
    """Un processo che esegue ``clients/NOME.py``; parla scrivendo una riga per volta."""

    def __init__(self, name: str, *args: str, run: Path) -> None:
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, str(CLIENTS / f"{name}.py"), *args],
            env=os.environ | {"LABKIT_RUN": str(run), "PYTHONPATH": str(CLIENTS.parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def says(self) -> str:
        """La prossima riga; vuota quando non ne dirà più."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def guard(self) -> int:
        """Il guardiano, 0 se non è ancora nato."""
        return next(iter(children(self.pid)), 0)

    def supervisor(self) -> int:
        """Il supervisore, 0 se non è ancora nato."""
        return next(iter(self._inner(self.guard())), 0)

    def containers(self) -> list[int]:
        """I PID 1 dei container, anche di quelli che stanno nascendo."""
        return self._inner(self.supervisor())

    @staticmethod
    def _inner(parent: int) -> list[int]:
        """I figli nati in un namespace pid loro: non gli aiutanti, che vivono un attimo (newuidmap, busybox)."""
        return [pid for pid in children(parent) if pid_namespace(pid) not in ("", pid_namespace(parent))]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def client(name: str, *args: str, run: Path) -> Iterator[Client]:
    """Un programma che, comunque vada, alla fine è finito."""
    program = Client(name, *args, run=run)
    try:
        yield program
    finally:
        program.close()


def new_run() -> Path:
    """Una cartella di laboratori nuova, dentro quella di questo processo di prova."""
    return Path(os.environ["LABKIT_RUN"]) / f"prova-{next(_numbers)}"


def children(pid: int) -> list[int]:
    """I figli di un processo, dal più vecchio; nessuno se il processo non c'è."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def pid_namespace(pid: int) -> str:
    """Il namespace pid di un processo; vuoto se il processo non c'è."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def send(pid: int, number: signal.Signals) -> bool:
    """Manda un segnale; ``False`` se nel frattempo il processo è finito."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def processes(run: Path) -> list[str]:
    """I processi vivi nati da un programma con quella cartella."""
    return [str(process) for process in leaks.processes(str(run)).values() if process.marked]


def folders(run: Path) -> list[str]:
    """Le cartelle di laboratorio rimaste."""
    return sorted(path.name for path in run.iterdir()) if run.exists() else []


def gone(run: Path, *, folder: bool = True, within: float = 10.0) -> float:
    """Aspetta che non resti niente e torna i secondi passati; oltre ``within`` dice che cosa resta."""
    begin = time.monotonic()
    while left := processes(run) + (folders(run) if folder else []):
        if time.monotonic() - begin > within:
            raise AssertionError(f"dopo {within} secondi restano:\n  " + "\n  ".join(left))
        time.sleep(0.005)
    return time.monotonic() - begin

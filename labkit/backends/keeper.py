"""Avvia un programma sotto un custode (:mod:`labkit.supervisor.keeper`): finisce quando finisce questo processo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.backends.base import SOURCE
from labkit.errors import BackendError

_BOOT = "import sys; sys.path.insert(0, {source!r}); from labkit.supervisor.keeper import main; main()"


@dataclass
class Kept:
    """Un programma custodito: il suo PID, e il custode che finisce con lui."""

    pid: int
    keeper: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.keeper.poll() is None

    def end(self, grace: float) -> None:
        """Aspetta la fine del programma per ``grace`` secondi; poi non aspetta più e lo uccide."""
        try:
            self.keeper.wait(grace)
        except subprocess.TimeoutExpired:
            self.keeper.kill()  # the kernel kills the program with its keeper
            self.keeper.wait()


def keep(command: Sequence[str], fds: Sequence[int], stdout: int, stderr: int) -> Kept:
    """Avvia ``command``, che eredita ``fds`` e scrive su ``stdout`` e ``stderr`` (descrittori di chi chiama)."""
    client = os.pidfd_open(os.getpid())
    config = {"client": client, "command": list(command), "fds": list(fds), "stdout": stdout, "stderr": stderr}
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT.format(source=SOURCE), json.dumps(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(client, stdout, stderr, *fds),
            cwd="/",
            start_new_session=True,
        )
    except OSError as problem:
        raise BackendError(f"Il custode della macchina non parte: {problem}.", "labkit doctor") from None
    finally:
        os.close(client)
    assert process.stdout is not None
    with process.stdout as pipe:
        told = pipe.readline()
    if not told:
        process.wait()
        raise BackendError("Il custode della macchina è finito prima di avviarla.", "labkit doctor")
    return Kept(int(told), process)

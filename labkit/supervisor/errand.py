"""Una commissione: un figlio che fa un lavoro lungo al posto del supervisore, racconta, e torna con qualcosa.

Il ciclo intanto gira. Il lavoro ha i suoi flussi (i byte che legge e scrive sono il suo stdin e il suo stdout) e un
filo su cui dice a che punto è; alla fine un valore e, se serve, un descrittore.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from labkit.errors import LabError, from_dict
from labkit.kernel import libc
from labkit.kernel.explain import from_os_error
from labkit.supervisor.loop import Loop
from labkit.supervisor.report import ReportReader
from labkit.supervisor.task import Task
from labkit.supervisor.zygote import Stdio, clean_child

#: What to do in the child, given how to tell how far it is: a value for JSON, and a descriptor or -1.
Work = Callable[[Callable[..., None]], tuple[Any, int]]


class Errand:
    """La commissione vista dal supervisore: ``task`` è il figlio.

    ``writes`` se cambia ciò che guarda; ``told`` sente ogni messaggio; ``done`` alla fine riceve il valore, o l'errore,
    e il descrittore (-1 se non c'è).
    """

    def __init__(
        self,
        loop: Loop,
        work: Work,
        paths: list[str],
        told: Callable[[dict[str, Any]], None],
        done: Callable[[Any, int], None],
        *,
        stdio: Stdio | None = None,
        writes: bool = False,
    ) -> None:
        self.writes = writes
        self._told, self._done = told, done
        self._fds: list[int] = []
        self._problem = LabError("Chi lavorava per questa richiesta è finito senza dire perché: forse non bastava la "
                                 "memoria.", "free -h")  # fmt: skip
        streams = stdio or Stdio(stdin=False, tty=True)  # by default three times /dev/null
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, pidfd = libc.clone3(0)
        if pid == 0:
            _become(work, paths, theirs, streams)
        theirs.close()
        streams.close_child()
        mine.setblocking(False)
        self.task = Task(loop, pid, pidfd)
        if stdio:
            self.task.attach_streams(stdio.stdin, stdio.stdout, stdio.stderr)
        self.task.on_exit.append(self._exited)
        self._report = ReportReader(loop, mine, self._message, self._fds.append, lambda: None)

    def _message(self, message: dict[str, Any]) -> None:
        if "error" in message:
            self._problem = from_dict(message["error"])
        else:
            self._told(message)

    def _exited(self, code: int) -> None:
        self._report.drain()
        if not self._fds:
            self._done(self._problem, -1)
            return
        with open(self._fds[0], "rb") as file:
            file.seek(0)
            value = json.loads(file.read())
        self._done(value, self._fds[1] if len(self._fds) > 1 else -1)


def _become(work: Work, paths: list[str], channel: socket.socket, stdio: Stdio) -> NoReturn:
    try:
        clean_child(stdio, (channel.fileno(),))
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        gc.enable()  # the supervisor does without, but an image may have a hundred thousand files
        sys.path += [path for path in paths if path not in sys.path]

        def tell(**message: Any) -> None:
            channel.send(json.dumps(message).encode())

        try:
            value, fd = work(tell)
            record = os.memfd_create("labkit-errand", os.MFD_CLOEXEC)
            with open(record, "wb", closefd=False) as file:
                file.write(json.dumps(value).encode())
            for one in (record, *([fd] if fd >= 0 else ())):
                socket.send_fds(channel, [b"{}"], [one])
        except LabError as problem:
            tell(error=problem.to_dict())
        except OSError as problem:
            tell(error=from_os_error(problem).to_dict())
        except Exception as problem:  # noqa: BLE001  nothing may unwind into the supervisor's loop
            tell(error=LabError(f"Errore interno del laboratorio: {problem!r}.").to_dict())
    finally:
        os._exit(0)

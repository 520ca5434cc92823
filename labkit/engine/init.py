"""Il PID 1 di un container nato con ``init=True``: lancia il programma, gli passa i segnali, raccoglie gli orfani.

È un processo Python, ma dal container non si può aprire: non è *dumpable*, quindi ``/proc/1/exe`` è
vietato (ptrace(2), controllo degli accessi).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from labkit.kernel import libc


def stay(release: Callable[[], None]) -> None:
    """Sdoppia il processo: il figlio torna al chiamante, il padre resta init e non torna mai.

    ``release`` chiude nel padre il filo con il supervisore. init esce con il codice del figlio,
    128+n se l'ha ucciso il segnale n.
    """
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    handled = set(signal.valid_signals()) - {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    main = os.fork()
    if main == 0:
        lead()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        return
    release()
    libc.close_range(3)
    libc.set_title("labkit-init")  # the arguments it was born with tell of the host
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number in handled:
            try:
                os.kill(main, number)
            except ProcessLookupError:
                pass
        code = reap(main)
        if code is not None:
            os._exit(code)


def lead() -> None:
    """Il programma ha un gruppo suo, quello in primo piano: un Ctrl-C arriva a lui, e init non glielo passa di nuovo.

    Si chiama con i segnali bloccati: SIGTTOU fermerebbe chi prende il terminale da dietro (tcsetpgrp(3)).
    """
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # no terminal here
        os.tcsetpgrp(0, os.getpgrp())


def reap(main: int) -> int | None:
    """Raccoglie tutti i figli finiti; torna il codice di ``main`` se è fra loro."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == main:
            result = os.waitstatus_to_exitcode(status)
            code = result if result >= 0 else 128 - result

"""Il custode di un programma: lo avvia, e lo fa finire quando finisce il client, comunque finisca.

Se muore il client, il custode uccide il programma; se muore il custode, lo uccide il kernel
(PR_SET_PDEATHSIG, prctl(2)). Il custode ha un thread solo: quel segnale guarda la morte del *thread* che ha
fatto la fork, e un notebook ne ha molti.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any

from labkit.kernel import libc


def main() -> None:
    """``python -I -S -c … CONFIG``: scrive su stdout il PID del programma, e resta finché quello vive."""
    config = json.loads(sys.argv[1])
    client = config["client"]
    pid = start(config)
    pidfd = os.pidfd_open(pid)
    os.write(1, b"%d\n" % pid)
    # The ends of the program must be its own: whoever holds the other side has to hear when it is gone.
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    for fd in {*config["fds"], config["stdout"], config["stderr"], null} - {1, client, pidfd}:
        os.close(fd)
    ready, _, _ = select.select([client, pidfd], [], [])
    if pidfd not in ready:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)


def start(config: dict[str, Any]) -> int:
    """Il figlio diventa il programma ``command``: eredita ``fds``, scrive su ``stdout`` e ``stderr``."""
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it was killed before the line above
            os._exit(1)
        os.dup2(config["stdout"], 1)
        os.dup2(config["stderr"], 2)
        for fd in (config["client"], config["stdout"], config["stderr"]):
            os.set_inheritable(fd, False)
        os.execvp(config["command"][0], config["command"])
    finally:
        os._exit(127)

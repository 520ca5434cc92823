"""Il livello basso del corso: le chiamate di sistema con il loro nome, una funzione ciascuna.

Si usa dentro le celle ``%%lab``, in un processo del laboratorio con un solo thread::

    from labkit import kernel
    kernel.unshare("uts")
    kernel.sethostname("prova")

Importare questo pacchetto non cambia niente della macchina.
"""

from __future__ import annotations

import os
import sys
from socket import gethostname

from labkit.errors import CommandError
from labkit.kernel.accounts import account
from labkit.kernel.cgroups import FILES as CGROUP_FILES
from labkit.kernel.cgroups import Cgroup, cgroup
from labkit.kernel.cgroups import top as cgroup_top
from labkit.kernel.libc import pivot_root, sethostname
from labkit.kernel.mounts import mask, mount, overlay, umount
from labkit.kernel.namespaces import (
    Namespace,
    id_map,
    id_maps,
    namespace_id,
    namespace_ids,
    setns,
    time_offset,
    unshare,
)
from labkit.kernel.procfs import comm, command, mount_points, pids, status

__all__ = [
    "CGROUP_FILES",
    "Cgroup",
    "Namespace",
    "account",
    "addresses",
    "cgroup",
    "cgroup_top",
    "comm",
    "command",
    "fork",
    "gethostname",
    "id_map",
    "id_maps",
    "link_up",
    "links",
    "mask",
    "mount",
    "mount_points",
    "namespace_id",
    "namespace_ids",
    "overlay",
    "pids",
    "pivot_root",
    "run",
    "sethostname",
    "setns",
    "status",
    "time_offset",
    "umount",
    "unshare",
]


def run(*command: str) -> int:
    """Esegue un programma in un processo figlio e torna il suo codice di uscita (fork(2), execve(2))."""
    sys.stdout.flush()
    try:
        pid = os.posix_spawnp(command[0], command, os.environ)
    except OSError:
        raise CommandError(
            f"Il programma «{command[0]}» non c'è.", "controlla il nome, o usa il percorso intero"
        ) from None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork() -> int:
    """Un figlio uguale al padre: torna 0 nel figlio e il PID del figlio nel padre (fork(2))."""
    return os.fork()


def __getattr__(name: str) -> object:
    # pyroute2 takes a fifth of a second to import: only when a cell speaks of the network.
    if name in ("links", "addresses", "link_up"):
        from labkit.kernel import netlink

        return getattr(netlink, name)
    raise AttributeError(name)

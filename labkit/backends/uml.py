"""Il laboratorio dentro User Mode Linux: un kernel intero come processo normale, senza root e senza KVM.

Serve dove i namespace utente sono vietati o i cgroup sono della versione 1. Pronto in circa un secondo.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from typing import Any

from labkit.backends import kernels
from labkit.backends.base import SOURCE, Started, start_guard
from labkit.backends.packages import Progress, silent
from labkit.errors import BackendError

#: Quanta memoria ha la macchina.
MEMORY = "512M"

#: Byte che l'host tiene in volo verso la console: la metà della coda di una tty (n_tty, 4096).
WINDOW = 2048

#: Il giro a vuoto di calibrazione e la prova delle RAID6 costano un secondo e non servono.
_FAST = ("lpj=35037184", "initcall_blacklist=raid6_select_algo")


class UmlBackend:
    """Un kernel Linux compilato come programma."""

    name = "uml"

    def __init__(self, say: Progress = silent) -> None:
        self.say = say

    def start(self, lab_id: str) -> Started:
        if platform.machine() != "x86_64":
            raise BackendError("User Mode Linux esiste solo per x86_64.", "Lab(backend='qemu')")
        kernel = kernels.uml(self.say)
        return start_guard(self.name, lab_id, vm=machine(str(kernel.binary), str(kernel.modules)))


def machine(binary: str, modules: str, memory: str = MEMORY) -> dict[str, Any]:
    """Quello che il guardiano deve sapere per accendere la macchina; ``{channel}`` e ``{folder}`` li mette lui.

    I nomi senza ``/`` sono della cartella del laboratorio, dove il programma gira: UML non sa portare tutti i percorsi.
    """
    return {
        "command": [
            binary,
            f"mem={memory}",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            'init="{folder}/init"',
            "con=null",
            "con0=null,fd:1",
            "ssl=null",
            "ssl0=fd:{channel}",
            "umid=lab",
            "uml_dir=./",
            "ubd0=disk",
            *_FAST,
        ],
        "env": {"TMPDIR": executable_folder()},
        "volumes": ["ubd1=volumes"],
        "window": WINDOW,
        "channel": "/dev/ttyS0",
        "modules": modules,
        "visible": visible([modules, images_folder()]),
        "python": os.path.realpath(sys.executable),
        "source": SOURCE,
    }


def visible(extra: list[str]) -> list[str]:
    """I percorsi dell'host che la macchina si tiene: i programmi, l'interprete, le librerie, le immagini.

    Mai la casa di nessuno: se le immagini stanno lì, c'è solo quella cartella.

    Vale per chi là dentro non è root, e per ogni container senza ``cap_add``. Il root della macchina può rimontare la
    radice: con UML (hostfs) legge e scrive tutto quello che può chi l'ha accesa, con QEMU (9p) al più legge.
    """
    system = ["/usr", "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]
    python = [sys.base_prefix, sys.prefix, f"{SOURCE}/labkit"]
    chosen: list[str] = []
    for path in sorted({*system, *python, *extra}):
        inside = any(path == known or path.startswith(known + "/") for known in chosen)
        if os.path.exists(path) and not inside:
            chosen.append(path)
    return chosen


def images_folder() -> str:
    """La cartella delle immagini di questo utente: la macchina la legge, e gli strati li apre in casa sua."""
    from labkit.images.store import default_root  # only who starts a machine pays for it

    folder = os.path.realpath(default_root())
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:  # the store says why, and how to have it, to whoever asks for an image
        pass
    return folder


def executable_folder() -> str:
    """Una cartella in cui si può eseguire: la memoria di UML è un file mappato con PROT_EXEC.

    In un container /dev/shm è spesso noexec, e piccola.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for folder in ("/dev/shm", tempfile.gettempdir(), cache):
        try:
            status = os.statvfs(folder)
        except OSError:
            continue
        if (
            os.access(folder, os.W_OK)
            and not status.f_flag & os.ST_NOEXEC
            and status.f_bavail * status.f_frsize > 600 << 20
        ):
            return folder
    raise BackendError("Nessuna cartella temporanea permette di eseguire programmi e ha 600 MB liberi.", "TMPDIR=…")

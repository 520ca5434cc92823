"""La prima radice di una macchina QEMU: busybox, i moduli, e uno script che monta quella vera e le cede il posto.

Un initramfs è un archivio cpio nel formato «newc» (Documentation/driver-api/early-userspace/buffer-format.rst):
i dispositivi e i proprietari sono solo numeri in un'intestazione, perciò lo può scrivere chiunque.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.backends.busybox import busybox
from labkit.backends.kernels import BOOT, ENGINE, LinuxKernel
from labkit.backends.modules import Modules, content, stem
from labkit.backends.packages import Progress, cache, silent

#: Il nome con cui QEMU offre la cartella radice (``mount_tag``).
TAG = "host"

#: La variabile della riga di comando del kernel con il programma a cui cedere il posto: il kernel la dà
#: nell'ambiente del suo primo processo, come tutte quelle che non conosce.
INIT = "labkit_init"

#: Il canale con l'host, visto dalla macchina: la prima porta di virtio-serial.
PORT = "/dev/vport0p1"

#: Il valore di :data:`INIT` che dice soltanto «READY» nel canale e spegne: serve a provare se la macchina parte.
READY = "READY"

_APPLETS = ("sh", "mount", "insmod", "switch_root", "echo", "poweroff", "sleep")

# insmod prints why it cannot; a module may well be built into the kernel, and then it is not here at all.
# A root that cannot be mounted ends the machine: what it said on the console reaches the student.
_SCRIPT = """#!/bin/sh
for module in {modules}; do insmod /lib/$module.ko; done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 {tag} /new || poweroff -f
mount -t devtmpfs dev /new/dev
if [ "${init}" = READY ]; then echo READY > /new{port}; poweroff -f; fi
exec switch_root /new "${init}"
"""


@dataclass(frozen=True)
class Entry:
    """Un oggetto dell'archivio: ``mode`` è quello di inode(7); ``device`` il numero maggiore e minore."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def newc(entries: Iterable[Entry]) -> bytes:
    """L'archivio cpio con quegli oggetti, tutti di root e con la data a zero: gli stessi oggetti, gli stessi byte.

    >>> newc([])[:6]
    b'070701'
    """
    out = bytearray()
    for number, entry in enumerate((*entries, Entry("TRAILER!!!", 0)), start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4)
        out += entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def build(kernel: LinuxKernel, names: Iterable[str] = (), say: Progress = silent) -> Path:
    """L'initramfs per quel kernel, che carica i moduli della partenza, del motore e ``names``; tenuto nella cache."""
    available = Modules(kernel.modules)
    # Not every kernel has every transport; without 9p there is no root, and order() says so.
    wanted = (*available.available(BOOT), "9p", "9pnet_virtio", "virtio_console", *ENGINE, *names)
    files = available.order(wanted)
    loaded = [(stem(path.name), content(path)) for path in files]
    script = _SCRIPT.format(modules=" ".join(name for name, _ in loaded), tag=TAG, init=INIT, port=PORT)
    archive = newc(_entries(busybox(say).read_bytes(), loaded, script))
    target = cache() / f"initramfs-{hashlib.sha256(archive).hexdigest()[:12]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".initramfs-", dir=target.parent, delete=False) as file:
            file.write(archive)
        os.rename(file.name, target)
    return target


def _entries(program: bytes, modules: list[tuple[str, bytes]], script: str) -> Iterable[Entry]:
    for name in ("bin", "dev", "lib", "new"):
        yield Entry(name, stat.S_IFDIR | 0o755)
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))  # the kernel opens it for its first process
    yield Entry("bin/busybox", stat.S_IFREG | 0o755, program)
    for applet in _APPLETS:
        yield Entry(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for name, data in modules:
        yield Entry(f"lib/{name}.ko", stat.S_IFREG | 0o644, data)
    yield Entry("init", stat.S_IFREG | 0o755, script.encode())

"""La riga di comando di una macchina QEMU «microvm»: radice dell'host in 9p, canale su virtio-serial, niente rete.

Il canale e la console sono descrittori ereditati: nessun file, nessuna porta, e finiscono con chi li tiene.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from labkit.backends import tsc
from labkit.backends.initramfs import INIT, TAG
from labkit.backends.kernels import LinuxKernel
from labkit.errors import BackendError

#: MiB di memoria della macchina, se non si dice altro.
MEMORY = 512

#: MiB per il codice tradotto da TCG: senza un limite QEMU se ne prende un quinto della memoria dell'host.
_TRANSLATED = 64


def program() -> str:
    """Il percorso di QEMU; BackendError se non c'è."""
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise BackendError("QEMU non è installato.", "sudo apt-get install qemu-system-x86")
    return found


@functools.cache
def version() -> str:
    """La prima riga di ``qemu-system-x86_64 --version``."""
    done = subprocess.run([program(), "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stdout.partition("\n")[0]


def command(
    kernel: LinuxKernel,
    initrd: Path,
    init: str,
    channel: int | str,
    *,
    console: int | None = None,
    memory: int = MEMORY,
    accel: str = "tcg",
    append: Sequence[str] = (),
) -> list[str]:
    """Gli argomenti di QEMU per una macchina che cede il posto a ``init`` (un percorso dell'host).

    ``channel`` e ``console`` sono prese ereditate (unix(7)); senza ``console`` la console va su stdout.
    ``accel`` è ``kvm`` o ``tcg``; ``append`` si aggiunge alla riga di comando del kernel.
    """
    hardware = {
        "kvm": ("-accel", "kvm", "-cpu", "host"),
        "tcg": ("-accel", f"tcg,tb-size={_TRANSLATED}", "-cpu", "max"),
    }
    screen = ("stdio", "signal=off") if console is None else ("socket", f"fd={console}")
    return [
        program(), "-M", "microvm", *hardware[accel], "-m", str(memory),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", kernel.image, "-initrd", str(initrd),
        "-append", " ".join(kernel_arguments(init, accel, append)),
        "-chardev", ",".join((screen[0], "id=console", screen[1])), "-serial", "chardev:console",
        "-chardev", f"socket,id=lab,fd={channel}", "-device", "virtio-serial-device",
        "-device", "virtserialport,chardev=lab,name=lab,nr=1",
        "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", f"virtio-9p-device,fsdev=root,mount_tag={TAG}",
    ]  # fmt: skip


def kernel_arguments(init: str, accel: str, append: Sequence[str] = ()) -> list[str]:
    """La riga di comando del kernel.

    >>> kernel_arguments("/run/lab/init", "kvm")[:3]
    ['console=ttyS0', 'panic=-1', 'random.trust_cpu=on']
    """
    # panic=-1 reboots at once, and -no-reboot turns that into an end. Python asks for random numbers at its start.
    words = ["console=ttyS0", "panic=-1", "random.trust_cpu=on", "cryptomgr.notests", f'{INIT}="{init}"']
    frequency = tsc.khz() if accel == "tcg" else None
    if frequency:
        # On a busy host the guest's watchdog takes a late tick for a broken TSC, and falls back on a clock of 4 ms.
        words += [f"tsc_early_khz={frequency}", "tsc=reliable"]
    return [*words, *append]

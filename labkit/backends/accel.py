"""KVM o TCG: si decide accendendo davvero una macchina, perché ``/dev/kvm`` che si apre non basta.

Dentro un'altra macchina virtuale QEMU può aprire ``/dev/kvm`` e morire subito dopo, o non partire mai.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from labkit.backends import qemu
from labkit.backends.initramfs import READY
from labkit.backends.keeper import keep
from labkit.backends.kernels import LinuxKernel
from labkit.backends.packages import Progress, cache, silent

#: Secondi che una macchina con KVM ha per dire che è pronta: di solito ne basta uno.
DEADLINE = 3.0


def accelerator(kernel: LinuxKernel, initrd: Path, say: Progress = silent, deadline: float = DEADLINE) -> str:
    """``kvm`` se una macchina ci parte davvero entro ``deadline`` secondi, altrimenti ``tcg``.

    Il verdetto resta nella cache finché non cambiano il kernel, QEMU o l'avvio di questa macchina.
    """
    if not openable():
        return "tcg"
    file = cache() / "accel.json"
    key = _key(kernel)
    try:
        known = json.loads(file.read_text())
        if known["key"] == key and known["accel"] in ("kvm", "tcg"):
            return str(known["accel"])
    except (OSError, ValueError, LookupError, TypeError):
        say("provo se KVM accende davvero una macchina…")
    accel = "kvm" if boots(kernel, initrd, "kvm", deadline) is not None else "tcg"
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".accel-{os.getpid()}")
    temporary.write_text(json.dumps({"key": key, "accel": accel}))
    temporary.rename(file)
    return accel


def openable() -> bool:
    """Se questo utente può aprire ``/dev/kvm``: non vuol dire ancora che una macchina parta."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def boots(kernel: LinuxKernel, initrd: Path, accel: str, deadline: float) -> float | None:
    """I secondi che una macchina impiega a dirsi pronta; ``None`` se muore o non ci arriva in tempo."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        argv = qemu.command(kernel, initrd, READY, theirs.fileno(), memory=256, accel=accel)
        return _time_to_ready(argv, mine, theirs, deadline)


def _time_to_ready(argv: Sequence[str], mine: socket.socket, theirs: socket.socket, deadline: float) -> float | None:
    start = time.monotonic()
    with open(os.devnull, "wb") as null:
        kept = keep(argv, [theirs.fileno()], null.fileno(), null.fileno())  # a machine that hangs must not outlive us
    theirs.close()  # now the end of QEMU is the end of the stream
    try:
        heard = b""
        while READY.encode() not in heard:
            mine.settimeout(max(0.001, start + deadline - time.monotonic()))
            more = mine.recv(64)
            if not more:
                return None
            heard += more
        return time.monotonic() - start
    except TimeoutError:
        return None
    finally:
        kept.end(0)


def _key(kernel: LinuxKernel) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    status = os.stat(kernel.image)
    facts = f"{kernel.image} {status.st_mtime_ns} {status.st_size} {qemu.version()} {boot}"
    return hashlib.sha256(facts.encode()).hexdigest()

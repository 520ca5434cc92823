"""Il disco dei volumi di una macchina virtuale: un file con dentro un ext4, che resta quando la macchina si spegne.

Nella macchina i file dell'host si possono solo leggere, e i suoi utenti sull'host non esistono: i volumi stanno in un
disco loro. Lo prende una macchina per volta; a un'altra accesa insieme i volumi restano in memoria, e lo si dice.
"""

from __future__ import annotations

import fcntl
import os
import subprocess

from labkit.errors import KernelError
from labkit.kernel import mounts

#: Byte del disco: un file che sull'host occupa solo quello che c'è dentro.
SIZE = 4 << 30
LABEL = "labkit-volumi"

#: Dove un ext4 tiene il suo nome (Documentation/filesystems/ext4/super.rst: superblocco a 1024, s_volume_name a 0x78).
_NAME_AT = 1024 + 0x78


def take(root: str) -> tuple[str, int, str]:
    """Sull'host: il file del disco, il lucchetto che lo tiene, e perché non c'è (uno dei due è vuoto)."""
    path = f"{root}/.disk.ext4"
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        lock = os.open(f"{root}/.disk.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        return "", -1, f"la cartella dei volumi non si può scrivere ({problem.strerror})"
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return "", -1, "il disco dei volumi lo sta usando un'altra macchina virtuale"
    if not os.path.exists(path) and (reason := _format(path)):
        os.close(lock)
        return "", -1, reason
    return path, lock, ""


def _format(path: str) -> str:
    """Fa il disco, accanto e poi al suo posto; torna perché non ci è riuscito."""
    building = f"{path}.new"
    try:
        with open(building, "wb") as disk:
            disk.truncate(SIZE)
        done = subprocess.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-L", LABEL, "-m", "0", "-E", "lazy_itable_init=1,root_owner=0:0",
             building],
            capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
        )  # fmt: skip
        if done.returncode:
            return f"mke2fs non è riuscito: {done.stderr.strip()[:200]}"
        os.rename(building, path)
    except FileNotFoundError:
        return "manca mke2fs"
    except (OSError, subprocess.SubprocessError) as problem:
        return f"il disco dei volumi non si può fare ({problem})"
    finally:
        if os.path.exists(building):
            os.unlink(building)
    return ""


def mount(folder: str) -> str:
    """Nella macchina: monta il disco dei volumi in ``folder``; torna perché non ci è riuscito."""
    device = _find()
    if not device:
        return "la macchina non vede il disco dei volumi"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        mounts.mount(device, folder, "ext4", "nosuid", "nodev")
    except KernelError as problem:
        return problem.message
    os.chmod(folder, 0o700)
    return ""


def _find() -> str:
    """Il dispositivo con quel nome: in che ordine la macchina li trovi, non si sa."""
    for name in sorted(os.listdir("/sys/block")):
        try:
            with open(f"/dev/{name}", "rb") as disk:
                disk.seek(_NAME_AT)
                if disk.read(16).rstrip(b"\0") == LABEL.encode():
                    return f"/dev/{name}"
        except OSError:
            continue
    return ""

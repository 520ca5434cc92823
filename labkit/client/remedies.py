"""I rimedi: il comando esatto che dà a questa macchina quello che le manca, scritto per chi lo deve dare."""

from __future__ import annotations

import shlex

from labkit.client.machine import Machine

MIB = 1 << 20
GIB = 1 << 30

#: The package that holds each program, by family of distributions.
PACKAGES: dict[str, dict[str, str]] = {
    "uidmap": {"debian": "uidmap", "fedora": "shadow-utils", "arch": "shadow", "suse": "shadow"},
    "busybox": {"debian": "busybox-static", "fedora": "busybox", "arch": "busybox", "suse": "busybox-static"},
    "nginx": {"debian": "nginx-light", "fedora": "nginx", "arch": "nginx", "suse": "nginx"},
    "nft": {"debian": "nftables", "fedora": "nftables", "arch": "nftables", "suse": "nftables"},
    "qemu-x86_64": {
        "debian": "qemu-system-x86",
        "fedora": "qemu-system-x86-core",
        "arch": "qemu-system-x86",
        "suse": "qemu-x86",
    },
    "qemu-aarch64": {
        "debian": "qemu-system-arm",
        "fedora": "qemu-system-aarch64-core",
        "arch": "qemu-system-aarch64",
        "suse": "qemu-arm",
    },
    "uml": {"debian": "user-mode-linux"},
}
INSTALL = {
    "debian": "apt-get install -y",
    "fedora": "dnf install -y",
    "arch": "pacman -S --needed --noconfirm",
    "suse": "zypper install -y",
}


def as_root(m: Machine, command: str) -> str:
    """Il comando come lo deve scrivere questo utente per averlo da amministratore."""
    compound = any(sign in command for sign in "|>&;")
    if m.uid == 0:
        return command
    if "sudo" not in m.programs:
        return f"su -c {shlex.quote(command)}"
    return f"sudo sh -c {shlex.quote(command)}" if compound else f"sudo {command}"


def install(m: Machine, what: str) -> str:
    """Il comando che installa un programma su questa distribuzione."""
    package = PACKAGES[what].get(m.family)
    if package is None:
        name = PACKAGES[what]["debian"]
        return f"installa il pacchetto che su Debian si chiama {name}, con il gestore della tua distribuzione"
    return as_root(m, f"{INSTALL[m.family]} {package}")


def sysctl(m: Machine, name: str, value: str) -> str:
    """Il comando che cambia un parametro del kernel fino al riavvio (sysctl(8))."""
    return as_root(m, f"sysctl -w {name}={value}")


def size(count: int) -> str:
    """Byte letti da una persona.

    >>> size(3 * 1024**3 + 400 * 1024**2), size(200 * 1024**2)
    ('3,4 GiB', '200 MiB')
    """
    return f"{count / GIB:.1f} GiB".replace(".", ",") if count >= GIB else f"{count // MIB} MiB"

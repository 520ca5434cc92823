"""Da dove viene un kernel da avviare, senza essere root.

Nell'ordine: quello dato a mano (``LABKIT_UML``, ``LABKIT_KERNEL`` con ``LABKIT_MODULES``), quello installato,
quello già nella cache, il pacchetto della distribuzione. Importare questo modulo non scarica niente;
:func:`uml` e :func:`linux` scaricano solo se serve, e lo dicono a ``say``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.backends.modules import Modules
from labkit.backends.packages import Package, Progress, cached, describe, obtain, silent
from labkit.backends.vmlinux import elf, release
from labkit.errors import BackendError

#: I moduli senza i quali il motore non gira, in ogni kernel.
ENGINE = ("overlay", "veth", "bridge")

#: Quelli che fanno partire una macchina QEMU con la radice in 9p e il filo su virtio.
BOOT = ("virtio_mmio", "virtio_pci", "9pnet_virtio", "9p", "virtio_console")

#: Quelli delle lezioni: si tengono se il kernel li ha.
LESSONS = (
    "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_limit", "nft_log",
    "nft_reject_inet", "ip_tables", "iptable_filter", "iptable_nat", "xt_MASQUERADE", "xt_conntrack", "xt_tcpudp",
    "xt_comment", "tun", "dummy", "macvlan", "ipvlan", "vxlan", "loop", "ext4", "fuse", "squashfs",
    "virtio_blk", "virtio_net", "virtio_balloon", "virtio_rng", "ata_piix", "sd_mod", "e1000",
)  # fmt: skip

# The parts of a distribution kernel worth unpacking; drivers for real hardware are four fifths of it.
_PARTS = re.compile(
    r"(usr/)?lib/modules/[^/]+/(modules\.builtin$|"
    r"kernel/(arch/x86/crypto|block|crypto|fs|lib|net|drivers/(ata|block|char|net|scsi|virtio))/)"
)

#: I pacchetti che portano al kernel generico: Debian, Ubuntu.
_META = ("linux-image-amd64", "linux-image-generic")


@dataclass(frozen=True)
class UmlKernel:
    """User Mode Linux: un programma che è un kernel. ``modules`` è la cartella ``…/modules/VERSIONE``."""

    binary: str
    modules: str
    version: str


@dataclass(frozen=True)
class LinuxKernel:
    """Un kernel per QEMU: l'immagine (ELF quando si può: parte prima) e la cartella dei suoi moduli."""

    image: str
    modules: str
    version: str


def uml(say: Progress = silent) -> UmlKernel:
    """Il kernel User Mode Linux, scaricato se non c'è (41 MB); BackendError dice che cosa fare."""
    _only_x86("User Mode Linux")
    if found := _uml_here():
        return found
    folder = obtain("uml", [describe("user-mode-linux")], _uml_part, _keep_needed, say)
    return _uml_in(folder / "usr/bin/linux.uml")


def linux(say: Progress = silent) -> LinuxKernel:
    """Un kernel Linux generico per QEMU, scaricato se non c'è (71 MB); BackendError dice che cosa fare."""
    _only_x86("la macchina virtuale del corso")
    if found := _linux_here(say):
        return found
    packages = _concrete([name for name in _META if _known(name)] or [_META[0]])
    folder = obtain("linux", packages, _linux_part, _keep_needed, say)
    return _linux_in(folder, say)


def available() -> dict[str, bool]:
    """Quali kernel (``uml``, ``linux``) ci sono già, senza scaricare niente."""
    if os.uname().machine != "x86_64":
        return {"uml": False, "linux": False}
    return {"uml": _uml_here() is not None, "linux": _linux_choice() is not None}


def found_uml() -> str:
    """Il programma di User Mode Linux che c'è già su questa macchina, senza avviarlo; vuoto se non c'è."""
    folder = cached("uml")
    choices = (os.environ.get("LABKIT_UML"), shutil.which("linux.uml"), folder and str(folder / "usr/bin/linux.uml"))
    return next((path for path in choices if path and os.access(path, os.X_OK)), "")


def load_order(modules: str, names: Iterable[str] = ENGINE) -> list[str]:
    """I file dei moduli ``names`` e di quelli di cui hanno bisogno, nell'ordine in cui si caricano."""
    return [str(path) for path in Modules(modules).order(names)]


def _only_x86(what: str) -> None:
    machine = os.uname().machine
    if machine != "x86_64":
        raise BackendError(f"{what} esiste solo per processori x86-64, e questo è {machine}.", "labkit doctor")


def _uml_here() -> UmlKernel | None:
    if chosen := os.environ.get("LABKIT_UML"):
        return _uml_in(Path(chosen))
    if installed := shutil.which("linux.uml"):
        return _uml_in(Path(installed))
    folder = cached("uml")
    return _uml_in(folder / "usr/bin/linux.uml") if folder else None


def _uml_in(binary: Path) -> UmlKernel:
    remedy = "unset LABKIT_UML, o XDG_CACHE_HOME=/una/cartella/dove/si/può/eseguire"
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as problem:
        raise BackendError(f"Il kernel «{binary}» non si può eseguire: {problem.strerror}.", remedy) from None
    version = done.stdout.strip()
    if done.returncode != 0 or not re.fullmatch(r"\d+\.\d+\S*", version):
        reason = done.stderr.strip() or "non dice la sua versione"  # an old C library speaks here
        raise BackendError(f"Il kernel «{binary}» non va su questa macchina: {reason}.", remedy)
    beside = binary.resolve().parent.parent / "lib/uml/modules"
    return UmlKernel(str(binary), _modules(version, beside), version)


def _linux_here(say: Progress) -> LinuxKernel | None:
    choice = _linux_choice()
    if choice is None:
        return None
    image, modules = choice
    return LinuxKernel(str(elf(image, say)), str(modules), release(image))


def _linux_choice() -> tuple[Path, Path] | None:
    """The image and the modules that are here already: by hand, installed, cached."""
    if chosen := os.environ.get("LABKIT_KERNEL"):
        image = Path(chosen)
        return image, Path(_modules(release(image), Path("/lib/modules")))
    images = sorted(Path("/boot").glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for image in images:
        modules = Path("/lib/modules", image.name.removeprefix("vmlinuz-"))
        # Ubuntu keeps its images readable by root only; a cloud kernel has no 9p.
        if os.access(image, os.R_OK) and set(BOOT + ENGINE) <= set(Modules(modules).available(BOOT + ENGINE)):
            return image, modules
    folder = cached("linux")
    return (_image_in(folder), _modules_in(folder)) if folder else None


def _linux_in(folder: Path, say: Progress) -> LinuxKernel:
    image = _image_in(folder)
    return LinuxKernel(str(elf(image, say)), str(_modules_in(folder)), release(image))


def _image_in(folder: Path) -> Path:
    return next(folder.glob("boot/vmlinuz-*"))


def _modules_in(folder: Path) -> Path:
    return next(path for pattern in ("lib/modules/*", "usr/lib/modules/*", "usr/lib/uml/modules/*")
                for path in folder.glob(pattern))  # fmt: skip


def _modules(version: str, beside: Path) -> str:
    """The modules folder of that version: in LABKIT_MODULES, or beside the kernel; a kernel may do without."""
    given = os.environ.get("LABKIT_MODULES")
    for folder in (*((Path(given), Path(given, version)) if given else ()), beside / version):
        if folder.name == version and folder.is_dir():
            return str(folder)
    raise BackendError(
        f"Non trovo i moduli del kernel {version}: non sono in «{given or beside}».",
        f"export LABKIT_MODULES=/percorso/lib/modules/{version}",
    )


def _uml_part(path: str) -> bool:
    return path == "usr/bin/linux.uml" or path.startswith("usr/lib/uml/modules/")


def _linux_part(path: str) -> bool:
    return path.startswith("boot/vmlinuz-") or _PARTS.match(path) is not None


def _keep_needed(folder: Path) -> None:
    modules = Modules(_modules_in(folder))
    needed = modules.available(BOOT + LESSONS)
    modules.prune((*ENGINE, *needed))


def _known(name: str) -> bool:
    try:
        return bool(describe(name))
    except BackendError:
        return False


def _concrete(names: list[str]) -> list[Package]:
    """From a meta-package to the packages with the files: the image, and where Ubuntu keeps its modules."""
    found: dict[str, Package] = {}
    waiting = [describe(names[0])]
    while waiting:
        for name in re.findall(r"\blinux-(?:image|modules|modules-extra)-[0-9][^ ,|]*", waiting.pop(0).depends):
            if name not in found:
                found[name] = describe(name)
                waiting.append(found[name])
    return list(found.values())

"""Il mondo del laboratorio, fatto una volta all'avvio: mount privati, memoria sua, /proc suo, un bridge.

Tutto sta nei namespace del supervisore: sull'host non si vede niente.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from labkit.engine.container import Placement
from labkit.engine.rootfs import ImageRoot
from labkit.engine.userland import resolve
from labkit.errors import BackendError, KernelError
from labkit.kernel import capabilities, libc, mounts, seccomp
from labkit.kernel import rtnetlink as rt
from labkit.kernel.cgroups import Cgroup
from labkit.supervisor import labgroup
from labkit.supervisor.labgroup import LabGroup

BRIDGE = "lab0"
GATEWAY = "10.88.0.1"
PREFIX = 16
_FIRST_ADDRESS = 2
_LAST_ADDRESS = (1 << (32 - PREFIX)) - 2

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}  # fmt: skip


@dataclass
class Sandbox:
    """Il laboratorio: dove stanno le sue cose e chi ha quale indirizzo.

    ``home`` è un tmpfs (o una cartella sul disco, se il kernel non ha attributi su tmpfs) visibile solo
    qui dentro. ``group`` è il cgroup in cui nascono quelli dei container; ``reasons`` dice perché manca quello
    che manca.
    """

    home: str
    mode: str
    bridge: int = 0
    images: dict[str, ImageRoot] = field(default_factory=dict)
    addresses: set[int] = field(default_factory=set)
    next_address: int = _FIRST_ADDRESS
    places: int = 0
    groups: int = 0
    group: Cgroup = field(default_factory=lambda: Cgroup(()))
    reasons: dict[str, str] = field(default_factory=dict)
    volumes: str = ""

    @property
    def mountpoint(self) -> str:
        return f"{self.home}/root"

    @property
    def temporary(self) -> str:
        """Dove i processi a mano mettono i loro file: overlay ci funziona, e sparisce con il laboratorio."""
        return f"{self.home}/tmp"

    @property
    def devices(self) -> str:
        return f"{self.home}/dev"

    def image(self, name: str) -> ImageRoot:
        """L'immagine ``name``, preparata se è la prima volta."""
        if name not in self.images:
            self.images[name] = resolve(name, f"{self.home}/images")
        return self.images[name]

    def place(self, network: str) -> Placement:
        """Sceglie cartella, cavo e indirizzo per un container nuovo."""
        self.places += 1
        number = self.places
        folder = f"{self.home}/layers/{number}"
        group = self.new_group()
        if network != "bridge":
            return Placement(str(number), folder, group=group, volumes=self.volumes)
        address = self._take_address()
        return Placement(str(number), folder, f"veth{number}", address, PREFIX, GATEWAY, group, self.volumes)

    def new_group(self) -> Cgroup | None:
        """Il cgroup di un container nuovo, ancora da fare; ``None`` dove non se ne possono fare."""
        if not self.group.parts:
            return None
        self.groups += 1
        return self.group.child(f"c{self.groups}")

    def sweep(self, keep: set[str]) -> bool:
        """Toglie i cgroup fatti qui, tranne ``keep``; ``False`` se in qualcuno un processo sta ancora finendo."""
        gone = True
        for part in self.group.parts:
            for name in os.listdir(part.folder):
                if name[:1] == "c" and name[1:].isdecimal() and name not in keep:
                    gone = Cgroup((part.child(name),)).remove() and gone
        return gone

    def renew(self, place: Placement) -> Placement:
        """Lo stesso posto per un altro giro: il cavo di prima può esserci ancora, e quello nuovo ha un nome suo."""
        return replace(place, link=self.new_link()) if place.link else place

    def new_link(self) -> str:
        """Il nome di un cavo nuovo."""
        self.places += 1
        return f"veth{self.places}"

    def _take_address(self) -> str:
        for _ in range(_LAST_ADDRESS):
            host = self.next_address
            self.next_address = host + 1 if host < _LAST_ADDRESS else _FIRST_ADDRESS
            if host not in self.addresses:
                self.addresses.add(host)
                return f"10.88.{host >> 8}.{host & 255}"
        raise BackendError(
            "Gli indirizzi della rete del laboratorio sono finiti.", "togli qualche container: labkit rm"
        )

    def release(self, place: Placement) -> None:
        """Rende l'indirizzo di un container che non c'è più."""
        if place.ip:
            self.addresses.discard(_host(place.ip))

    def unplug(self, place: Placement) -> None:
        """Toglie il cavo di chi è morto prima di partire: il kernel lo farebbe dopo, e il suo nome serve adesso."""
        netlink = rt.Netlink()
        try:
            netlink.talk(rt.delete_message(place.link))
        except KernelError:  # no cable, or already gone
            pass
        finally:
            netlink.close()

    def forget(self, places: list[Placement]) -> None:
        """Posti scelti per ultimi e mai usati: è come se non fossero stati scelti, il prossimo li riprende."""
        hosts = [_host(place.ip) for place in places if place.ip]
        self.addresses.difference_update(hosts)
        if hosts:
            self.next_address = min(hosts)


def _host(ip: str) -> int:
    """La parte di un indirizzo del laboratorio che distingue i container."""
    third, fourth = ip.split(".")[2:]
    return int(third) << 8 | int(fourth)


def build(folder: str, mode: str, scratch: str, lab: LabGroup) -> Sandbox:
    """Fa il mondo del laboratorio nel namespace del processo che chiama.

    Gli strati stanno in memoria; in ``scratch``, sul disco, se il tmpfs non accetta gli attributi di
    overlay (prima di Linux 6.6) o se lo chiede ``LABKIT_LAYERS=disk``.
    """
    os.umask(0o022)
    libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
    home = f"{folder}/lab"
    libc.mount("tmpfs", home, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=711")
    # In a machine of its own the lab is root for real: overlay uses trusted.* and any tmpfs will do.
    in_memory = mode == "vm" or mounts.supports_user_xattr(home)
    if os.environ.get("LABKIT_LAYERS") == "disk" or not in_memory:
        libc.umount2(home, libc.MNT_DETACH)
        os.makedirs(scratch, mode=0o711)
        libc.mount(scratch, home, None, libc.MS_BIND)
    for name in ("layers", "images", "root", "dev", "empty", "tmp"):
        os.mkdir(f"{home}/{name}", 0o711)
    sandbox = Sandbox(home, mode)
    _mount_proc()
    labgroup.settle(lab)
    sandbox.group = lab.group
    sandbox.reasons = lab.reasons
    libc.sethostname("laboratorio")
    _make_devices(sandbox.devices)
    sandbox.bridge = _make_bridge()
    _keep_apart()
    # Computed once, inherited by every child.
    seccomp.program(capabilities.DOCKER_DEFAULT)
    capabilities.last()
    return sandbox


def _mount_proc() -> None:
    try:
        libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    except KernelError as problem:
        raise BackendError(
            f"Il kernel non lascia montare /proc ({problem.name}): succede quando Jupyter gira dentro un container "
            "che ha /proc coperto.",
            "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined …",
        ) from None


def _make_devices(folder: str) -> None:
    """L'albero di /dev, copiato poi per ogni container: i nodi veri non si possono creare, si prestano."""
    libc.mount("tmpfs", folder, "tmpfs", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=755,size=64k")
    for name in _DEVICES:
        os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_CLOEXEC, 0o666))
        libc.mount(f"/dev/{name}", f"{folder}/{name}", None, libc.MS_BIND)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"{folder}/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{folder}/{name}", 0o755)
    # The tree is shared by all containers, and the nodes with the host: nobody may add to it, or chmod /dev/null.
    mounts.read_only(folder, recursive=True)


def _keep_apart() -> None:
    """Nessuno porta i pacchetti da una rete all'altra: il valore di partenza il kernel lo prende dalla macchina."""
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as file:
        file.write("0")


def _make_bridge() -> int:
    netlink = rt.Netlink()
    try:
        netlink.talk(rt.up_message(rt.LOOPBACK_INDEX), rt.bridge_message(BRIDGE, rt.hardware_address(GATEWAY)))
        index = rt.index_of(BRIDGE)
        netlink.talk(rt.address_message(index, GATEWAY, PREFIX))
        return index
    finally:
        netlink.close()

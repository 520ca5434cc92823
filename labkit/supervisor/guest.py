"""Il PID 1 della macchina virtuale: prepara il mondo, fa nascere il supervisore, spegne quando ha finito.

La radice arriva dall'host in sola lettura (hostfs o 9p). Prima di tutto se ne tiene solo quello che
serve: i programmi, l'interprete, labkit; la casa di chi ha acceso la macchina sparisce. Poi la vita è
quella del laboratorio diretto, con una differenza: qui si è root davvero, di un kernel tutto proprio. Perciò chi
è root può rimontare l'host con i diritti di chi ha acceso la macchina: il muro è quello dei container.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import termios
import time
import tty
from typing import Any, NoReturn

from labkit.kernel import libc, modules, mounts, namespaces
from labkit.supervisor import disks, labgroup
from labkit.supervisor.guard import LAB_NAMESPACES, become_supervisor
from labkit.supervisor.loop import Loop
from labkit.supervisor.mux import Mux

#: La cartella del laboratorio nella macchina virtuale, in memoria.
FOLDER = "/run/labkit"

#: I moduli che il motore usa: chi non c'è è già nel kernel.
MODULES = ("overlay", "bridge", "veth")

_POWER_OFF = 0x4321FEDC  # linux/reboot.h: LINUX_REBOOT_CMD_POWER_OFF
_MAGIC = (0xFEE1DEAD, 672274793)

_KERNEL_FILESYSTEMS = (
    ("proc", "/proc", "proc", ("nosuid", "nodev", "noexec")),
    ("sysfs", "/sys", "sysfs", ("nosuid", "nodev", "noexec")),
    ("devtmpfs", "/dev", "devtmpfs", ("nosuid",)),
)


def main(config: dict[str, Any]) -> NoReturn:
    """Tutta la vita della macchina virtuale."""
    try:
        keep_only(config["visible"])
        prepare(config)
        channel = open_channel(config["channel"])
        live(config, channel)
    except BaseException:  # noqa: BLE001  the end of a machine: say why on the console and switch off
        import traceback

        traceback.print_exc()
    finally:
        power_off()


def keep_only(visible: list[str]) -> None:
    """Una radice nuova in memoria con i soli percorsi ``visible`` dell'host; il resto dell'host non c'è più."""
    root = "/mnt"
    mounts.mount("tmpfs", root, "tmpfs", data="mode=755")
    for path in visible:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path) and not os.path.lexists(root + path):
            os.makedirs(root + path)
            mounts.mount(path, root + path, "", "bind")
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "home", "var", "mnt", "opt", "srv"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    os.chmod(f"{root}/tmp", 0o1777)
    os.chdir(root)
    libc.pivot_root(".", ".")
    libc.umount2(".", libc.MNT_DETACH)
    os.chdir("/")


def prepare(config: dict[str, Any]) -> None:
    """I filesystem del kernel, i moduli, l'ambiente."""
    for source, target, fstype, options in _KERNEL_FILESYSTEMS:
        mounts.mount(source, target, fstype, *options)
    for folder in ("/dev/pts", "/dev/shm", FOLDER, "/sys/fs/cgroup"):
        os.makedirs(folder, exist_ok=True)
    mounts.mount("devpts", "/dev/pts", "devpts", "nosuid", "noexec", data="ptmxmode=666,mode=620")
    mounts.mount("tmpfs", "/dev/shm", "tmpfs", "nosuid", "nodev")
    mounts.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", "nosuid", "nodev", "noexec")
    os.environ.clear()
    os.environ.update(PATH=config["path"], HOME="/root", LANG="C.UTF-8", TMPDIR="/tmp")
    libc.sethostname("macchina")
    if config["modules"]:
        modules.load(MODULES, config["modules"])


def open_channel(path: str) -> int:
    """Il canale verso l'host: una linea seriale (resa muta e grezza) o una porta virtio."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if os.isatty(fd):
        tty.setraw(fd, termios.TCSANOW)
    return fd


def live(config: dict[str, Any], channel: int) -> None:
    """Fa nascere il supervisore e gli porta le connessioni dell'host, finché non finisce."""
    os.mkdir(f"{FOLDER}/lab", 0o711)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(f"{FOLDER}/sock")
    door.listen(16)
    wire, wire_there = socket.socketpair()
    guard, guard_there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    group = labgroup.choose("labkit")
    labgroup.make(group)
    pid, pidfd = libc.clone3(namespaces.flags(LAB_NAMESPACES))
    if pid == 0:
        for end in (wire, guard):
            end.close()
        os.close(channel)
        # No user namespace: here the lab is root for real, of a kernel of its own.
        world = {**config, "mode": "vm", "folder": FOLDER, "scratch": f"{FOLDER}/scratch"}
        world["volumes"] = f"{FOLDER}/volumes"
        world["no_volumes"] = config["no_volumes"] or disks.mount(world["volumes"])
        world |= {"cgroup": group.to_json(), "kmsg": labgroup.kernel_log()}
        become_supervisor(world, wire_there, door, guard_there)
    for end in (wire_there, guard_there, door):
        end.close()
    Relay(channel, wire, guard, config["window"]).run(pidfd)


class Relay:
    """Il capo del canale dentro la macchina: le connessioni dell'host diventano prese locali."""

    def __init__(self, channel: int, wire: socket.socket, guard: socket.socket, window: int) -> None:
        self.loop = Loop()
        self.wire = wire
        self.guard = guard
        self.mux = Mux(
            self.loop,
            channel,
            acknowledge=window > 0,
            opened=self._opened,
            message=self._message,
            lost=self._stop,
        )
        guard.setblocking(False)
        self.loop.read(guard.fileno(), self._request)
        self.mux.tell(ready=True)

    def run(self, supervisor: int) -> None:
        """Gira finché il supervisore vive e l'host ascolta."""
        self.loop.read(supervisor, lambda fd: self._stop())
        self.loop.run()

    def _stop(self) -> None:
        self.loop.running = False

    def _opened(self, target: str) -> socket.socket | None:
        if target == "wire":
            return self.wire
        path = f"{FOLDER}/sock" if target == "door" else f"{FOLDER}/{target}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            return None
        return sock

    def _request(self, fd: int) -> None:
        """Il supervisore chiede una porta dell'host: la domanda passa di là."""
        data = self.guard.recv(4096)
        if data:
            self.mux.tell(**json.loads(data))
        else:
            self.loop.forget(fd)

    def _message(self, answer: dict[str, Any]) -> None:
        """La risposta dell'host: se la porta è aperta, il supervisore riceve una presa locale da cui accettare."""
        if "now" in answer:  # a machine's clock starts from one that counts whole seconds
            with contextlib.suppress(OSError):
                time.clock_settime(time.CLOCK_REALTIME, answer["now"])
            return
        if "port" not in answer:
            self.guard.send(json.dumps(answer).encode())
            return
        path = f"{FOLDER}/port-{answer['port']}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(128)
            socket.send_fds(self.guard, [json.dumps(answer).encode()], [listener.fileno()])


def power_off() -> NoReturn:
    """Spegne la macchina (reboot(2))."""
    os.sync()
    libc.syscall("reboot", _MAGIC[0], _MAGIC[1], _POWER_OFF, None)
    os._exit(0)

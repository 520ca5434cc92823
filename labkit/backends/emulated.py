"""La macchina della lezione 02: una scheda madre del 1996, e accanto a ogni dispositivo vero il suo parente virtio.

Niente file e niente porte: dischi, canale, monitor e traccia sono descrittori ereditati da QEMU.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.backends import accel, initramfs, tsc
from labkit.backends.busybox import busybox
from labkit.backends.initramfs import PORT, Entry, newc
from labkit.backends.kernels import LinuxKernel, linux
from labkit.backends.modules import Modules, content, stem
from labkit.backends.packages import Progress, silent
from labkit.backends.qemu import program
from labkit.errors import BackendError

#: I driver dei dispositivi; quelli che un kernel ha già in sé non si caricano.
DRIVERS = (
    "virtio_pci", "virtio_console", "ata_piix", "sd_mod", "virtio_blk", "e1000", "virtio_net", "virtio_balloon",
)  # fmt: skip

#: Le opzioni dei moduli. libata: il secondo canale IDE (ata2) senza DMA, come un disco del 1990.
OPTIONS = {"libata": "force=2:pio4"}

#: Dove sta ogni dispositivo sul bus PCI: nome → posto (il controllore IDE ha il suo da sempre).
PLACES = {
    "ide": "0000:00:01.1",
    "virtio-blk": "0000:00:04.0",
    "e1000": "0000:00:05.0",
    "e1000-far": "0000:00:06.0",
    "virtio-net": "0000:00:07.0",
    "virtio-net-far": "0000:00:08.0",
}

#: I dischi, con il nome che hanno dentro la macchina.
DISKS = {"ide-pio": "sdb", "ide-dma": "sda", "virtio-blk": "vda"}

#: Le coppie di schede di rete, con l'inizio dei loro indirizzi: la scheda vicina ha .1, la lontana .2.
CARDS = {"e1000": "10.9.1", "virtio-net": "10.9.2"}

#: MiB per il codice tradotto da TCG: di più non serve, e si confonderebbe con la memoria della macchina.
_TRANSLATED = 32

_APPLETS = (
    "[", "base64", "cat", "cmp", "cut", "date", "dd", "dmesg", "echo", "free", "grep", "head", "hexdump", "insmod",
    "ip", "kill", "ln", "ls", "lsmod", "md5sum", "mkdir", "mount", "nsenter", "ping", "poweroff", "ps", "readlink",
    "rm", "rmmod", "sed", "sh", "sleep", "sort", "sync", "tail", "test", "tr", "true", "umount", "uname", "unshare",
    "uptime", "usleep", "wc",
)  # fmt: skip

# The disks are bound again one at a time: at boot the kernel probes both together, and either may become sda.
# Each pair of cards is one cable inside QEMU: the far end lives in a network namespace of its own, or the
# kernel would answer itself without touching any card.
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o size=90% tmp /tmp
{load}
until [ -e /sys/block/sda ] && [ -e /sys/block/sdb ]; do usleep 10000; done
for order in unbind bind; do
  for disk in 0:0:0:0 1:0:0:0; do echo $disk > /sys/bus/scsi/drivers/sd/$order; done
done
card() {{ ls /sys/bus/pci/devices/$1/net /sys/bus/pci/devices/$1/virtio*/net 2> /dev/null | grep eth; }}
cable() {{
  unshare -n sleep 1000000 &
  far=$!
  until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do usleep 10000; done
  ip addr add $3.1/24 dev $(card $1)
  ip link set $(card $1) up
  other=$(card $2)
  ip link set $other netns $far
  nsenter -t $far -n ip addr add $3.2/24 dev $other
  nsenter -t $far -n ip link set $other up
}}
{cables}
exec 3<>{port}
until read -r number line <&3; do usleep 50000; done
while true; do
  echo "$line" | base64 -d > /tmp/.command
  sh /tmp/.command < /dev/null > /tmp/.output 2>&1
  echo "$number $? $(wc -c < /tmp/.output)" >&3
  cat /tmp/.output >&3
  # The host has gone: a machine without anyone to obey ends.
  read -r number line <&3 || break
done
poweroff -f
"""


@dataclass(frozen=True)
class Parts:
    """Quello che serve per accendere: il programma, il kernel, la prima radice, l'acceleratore."""

    program: str
    kernel: LinuxKernel
    initrd: bytes
    accel: str


@dataclass(frozen=True)
class Wires:
    """I descrittori che QEMU eredita: canale dei comandi, monitor (QMP), initramfs, un disco per nome."""

    channel: int
    monitor: int
    initrd: int
    disks: Mapping[str, int]


def prepare(accelerator: str = "auto", say: Progress = silent) -> Parts:
    """Trova (o scarica) i pezzi; BackendError dice che cosa manca e il comando che lo dà."""
    qemu = program()
    kernel = linux(say)
    modules = Modules(kernel.modules)
    missing = sorted(set(DRIVERS) - set(modules.available(DRIVERS)))
    if missing:
        raise BackendError(
            f"Il kernel {kernel.version} non ha i driver {', '.join(missing)}: qui serve quello generico.",
            "sudo apt-get install linux-image-amd64, oppure export LABKIT_KERNEL=/percorso/vmlinuz",
        )
    if accelerator == "auto":
        openable = os.access("/dev/kvm", os.R_OK | os.W_OK)  # else no need of the initramfs of the trial
        accelerator = accel.accelerator(kernel, initramfs.build(kernel, say=say), say) if openable else "tcg"
    return Parts(qemu, kernel, archive(modules, busybox(say)), accelerator)


def archive(modules: Modules, shell: Path) -> bytes:
    """L'initramfs: busybox, i driver, e un ``/init`` che esegue i comandi che arrivano dal canale."""
    return newc(_entries(shell.read_bytes(), [(stem(path.name), content(path)) for path in modules.order(DRIVERS)]))


def command(parts: Parts, wires: Wires, memory: int) -> list[str]:
    """Gli argomenti di QEMU; ``memory`` in MiB."""
    hardware = {
        "kvm": ("-accel", "kvm", "-cpu", "host"),
        "tcg": ("-accel", f"tcg,tb-size={_TRANSLATED}", "-cpu", "max"),
    }
    return [
        parts.program, "-M", "pc", *hardware[parts.accel], "-m", str(memory), "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot", "-kernel", parts.kernel.image,
        "-initrd", f"/proc/self/fd/{wires.initrd}", "-append", " ".join(_kernel_arguments(parts.accel)),
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
        "-chardev", f"socket,id=monitor,fd={wires.monitor}", "-mon", "chardev=monitor,mode=control",
        "-chardev", f"socket,id=commands,fd={wires.channel}",
        "-device", "virtio-serial-pci,addr=3", "-device", "virtserialport,chardev=commands,name=commands,nr=1",
        "-device", "virtio-balloon-pci,addr=9",
        *_disks(wires.disks), *_cards(),
    ]  # fmt: skip


def _disks(fds: Mapping[str, int]) -> Iterable[str]:
    # ioeventfd=off: the only access of a virtio request would go through an eventfd, and nobody would see it.
    devices = {
        "ide-dma": "ide-hd,bus=ide.0,drive=ide-dma",
        "ide-pio": "ide-hd,bus=ide.1,drive=ide-pio",
        "virtio-blk": "virtio-blk-pci,addr=4,ioeventfd=off,drive=virtio-blk",
    }
    for number, (name, device) in enumerate(devices.items(), start=1):
        yield from ("-add-fd", f"fd={fds[name]},set={number}")
        file = f"file.driver=file,file.filename=/dev/fdset/{number},file.locking=off"
        yield from ("-blockdev", f"driver=raw,node-name={name},{file}", "-device", device)


def _cards() -> Iterable[str]:
    for number, name in enumerate(("e1000", "e1000-far", "virtio-net", "virtio-net-far")):
        model = "e1000" if name.startswith("e1000") else "virtio-net-pci,ioeventfd=off"
        place = PLACES[name].rpartition(":")[2].removesuffix(".0")
        yield from ("-netdev", f"hubport,id={name},hubid={number // 2}")
        yield from ("-device", f"{model},netdev={name},addr={place},romfile=,mac=52:54:00:00:02:0{number + 1}")


def _kernel_arguments(accelerator: str) -> list[str]:
    # tsc=reliable: on a busy host the watchdog would discard the very clock that the lesson compares.
    words = ["console=ttyS0", "quiet", "panic=-1", "random.trust_cpu=on", "tsc=reliable"]
    words += [f"{module}.{option}" for module, option in OPTIONS.items()]  # for a kernel that has it built in
    if accelerator == "tcg" and (frequency := tsc.khz()):
        words.append(f"tsc_early_khz={frequency}")
    return words


def _entries(shell: bytes, modules: list[tuple[str, bytes]]) -> Iterable[Entry]:
    for name in ("bin", "dev", "lib", "proc", "sys", "tmp"):
        yield Entry(name, stat.S_IFDIR | 0o755)
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield Entry("bin/busybox", stat.S_IFREG | 0o755, shell)
    for applet in _APPLETS:
        yield Entry(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for name, data in modules:
        yield Entry(f"lib/{name}.ko", stat.S_IFREG | 0o644, data)
    load = "\n".join(f"insmod /lib/{name}.ko {OPTIONS.get(name, '')}".rstrip() for name, _ in modules)
    cables = "\n".join(f"cable {PLACES[card]} {PLACES[f'{card}-far']} {net}" for card, net in CARDS.items())
    yield Entry("init", stat.S_IFREG | 0o755, _INIT.format(load=load, cables=cables, port=PORT).encode())

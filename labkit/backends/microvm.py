"""Il laboratorio dentro una macchina QEMU: un kernel intero e completo, con KVM dove funziona e senza dove no.

Ha tutti i namespace, nftables e i cgroup v2; senza KVM il codice ci gira una ventina di volte più piano che sull'host.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from labkit.backends import accel, initramfs, kernels, qemu
from labkit.backends.base import SOURCE, Started, start_guard
from labkit.backends.packages import Progress, silent
from labkit.backends.uml import images_folder, visible
from labkit.errors import BackendError

#: Il disco della macchina: un file della cartella del laboratorio, che muore con lei.
DISK = (
    "-blockdev", "driver=raw,node-name=disk,file.driver=file,file.filename=disk,file.locking=off",
    "-device", "virtio-blk-device,drive=disk",
)  # fmt: skip
#: Quello dei volumi, che resta.
VOLUMES = tuple(word.replace("disk", "volumes") for word in DISK)

#: I moduli di nftables: il kernel li chiederebbe da sé a modprobe, che qui dentro non c'è.
FIREWALL = ("nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_reject_inet")


class QemuBackend:
    """Una macchina virtuale «microvm»."""

    name = "qemu"

    def __init__(self, say: Progress = silent, only_kvm: bool = False) -> None:
        self.say = say
        self.only_kvm = only_kvm

    def start(self, lab_id: str) -> Started:
        return start_guard(self.name, lab_id, vm=machine(self.say, self.only_kvm))


def machine(say: Progress = silent, only_kvm: bool = False) -> dict[str, Any]:
    """Quello che il guardiano deve sapere per accendere la macchina; ``{channel}`` e ``{folder}`` li mette lui."""
    qemu.program()  # without it there is no point in downloading a kernel
    kernel = kernels.linux(say)
    initrd = initramfs.build(kernel, ("virtio_blk", "ext4", *FIREWALL), say)
    accelerator = accel.accelerator(kernel, initrd, say)
    if only_kvm and accelerator != "kvm":
        raise BackendError("KVM c'è, ma nessuna macchina ci parte davvero.", "Lab(backend='uml')")
    return {
        "command": [*qemu.command(kernel, initrd, "{folder}/init", "{channel}", accel=accelerator), *DISK],
        "env": {},
        "volumes": list(VOLUMES),
        "window": 0,
        "channel": initramfs.PORT,
        "modules": "",  # the initramfs has loaded them
        "visible": visible([images_folder()]),
        "python": os.path.realpath(sys.executable),
        "source": SOURCE,
    }

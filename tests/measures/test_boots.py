"""Una macchina QEMU senza KVM parte sempre: trenta volte su trenta, anche con l'host occupato."""

from __future__ import annotations

import os

import pytest

from labkit.backends import accel, initramfs, kernels, qemu
from labkit.errors import BackendError

pytestmark = [
    pytest.mark.bench,
    pytest.mark.serial,
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="i kernel del corso sono per x86-64"),
]


def test_thirty_boots_out_of_thirty() -> None:
    try:
        qemu.program()
        kernel = kernels.linux()
    except BackendError as problem:
        pytest.skip(str(problem))
    initrd = initramfs.build(kernel)
    times = [accel.boots(kernel, initrd, "tcg", 30) for _ in range(30)]
    print("secondi:", *(f"{seconds:.1f}" if seconds else "mai" for seconds in times))
    assert None not in times
    assert sorted(seconds for seconds in times if seconds)[15] <= 8

"""I pezzi di una macchina QEMU: l'initramfs, la riga di comando, il TSC, la scelta fra KVM e TCG."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.backends import accel, initramfs, packages, qemu, tsc
from labkit.backends.initramfs import Entry, newc
from labkit.backends.kernels import LinuxKernel
from labkit.elf import is_static
from labkit.errors import BackendError

STATIC = shutil.which("busybox")

needs_busybox = pytest.mark.skipif(not is_static(STATIC or ""), reason="serve un busybox statico")


def unpack(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Rilegge un cpio «newc»: i campi sono 13 numeri esadecimali di otto cifre."""
    found, position = {}, 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        name = archive[position + 110 : position + 110 + fields[11] - 1].decode()
        position += 110 + fields[11]
        position += -position % 4
        data = archive[position : position + fields[6]]
        position += fields[6]
        position += -position % 4
        if name == "TRAILER!!!":
            assert position == len(archive)
            return found
        found[name] = fields[1], data, (fields[9], fields[10])


def test_the_archive_keeps_files_folders_links_and_devices() -> None:
    entries = [
        Entry("dev", stat.S_IFDIR | 0o755),
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry("sh", stat.S_IFLNK | 0o777, b"busybox"),
        *(Entry("f" * size, stat.S_IFREG | 0o644, b"x" * size) for size in range(1, 9)),
    ]
    found = unpack(newc(entries))
    assert found == {entry.name: (entry.mode, entry.data, entry.device) for entry in entries}
    assert newc(entries) == newc(entries)


@pytest.mark.skipif(STATIC is None, reason="serve busybox")
def test_another_program_reads_the_archive(tmp_path: Path) -> None:
    archive = newc([Entry("d", stat.S_IFDIR | 0o755), Entry("d/uno", stat.S_IFREG | 0o640, b"ciao")])
    subprocess.run([str(STATIC), "cpio", "-i"], input=archive, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "d/uno").read_bytes() == b"ciao"


def module(*needs: str) -> bytes:
    return b"\x7fELF..\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinuxKernel:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "6.1"
    folder.mkdir()
    for name in ("virtio_mmio", "9pnet", "virtio_console", "overlay", "veth", "bridge"):
        (folder / f"{name}.ko").write_bytes(module())
    (folder / "9pnet_virtio.ko").write_bytes(module("9pnet"))
    (folder / "9p.ko").write_bytes(module("9pnet"))
    image = tmp_path / "vmlinux"
    image.write_bytes(b"\x7fELF")
    return LinuxKernel(str(image), str(folder), "6.1")


@needs_busybox
def test_the_initramfs_loads_its_modules_in_order_and_is_made_once(kernel: LinuxKernel) -> None:
    built = initramfs.build(kernel)
    content = unpack(built.read_bytes())
    script = content["init"][1].decode()
    loaded = script.split("for module in ")[1].split(";")[0].split()
    assert set(loaded) == {name[4:-3] for name in content if name.startswith("lib/")}
    assert loaded.index("9pnet") < loaded.index("9p")
    assert "switch_root /new" in script
    assert content["bin/sh"][1] == b"busybox"
    before = built.stat().st_mtime_ns
    assert initramfs.build(kernel) == built
    assert built.stat().st_mtime_ns == before
    (Path(kernel.modules) / "veth.ko").write_bytes(module() + b"nuovo")
    assert initramfs.build(kernel) != built


@needs_busybox
def test_a_kernel_without_9p_is_refused_before_booting(kernel: LinuxKernel) -> None:
    (Path(kernel.modules) / "9p.ko").unlink()
    with pytest.raises(BackendError, match="Il modulo «9p» non c'è"):
        initramfs.build(kernel)


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Un QEMU finto; ogni prova gli scrive che cosa fare."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    qemu.version.cache_clear()
    monkeypatch.setattr(tsc, "khz", lambda: 2_500_000)
    program = folder / "qemu-system-x86_64"
    behave(program, "exit 0")
    return program


def behave(program: Path, body: str) -> None:
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo finto 1 && exit\n{body}\n')
    program.chmod(0o755)


def test_under_tcg_the_kernel_is_told_the_frequency(kernel: LinuxKernel, fake_qemu: Path) -> None:
    words = qemu.command(kernel, Path("/i"), "/run/init", 7, append=["a=b"])
    assert {"tsc_early_khz=2500000", "tsc=reliable"} <= set(words[words.index("-append") + 1].split())
    assert words[words.index("-append") + 1].endswith(" a=b")
    assert "socket,id=lab,fd=7" in words
    assert "kvm" not in " ".join(words)
    fast = qemu.command(kernel, Path("/i"), "/run/init", "{channel}", console=9, accel="kvm")
    assert "tsc" not in " ".join(fast)
    assert "socket,id=lab,fd={channel}" in fast
    assert "socket,id=console,fd=9" in fast


def test_a_path_with_a_space_is_between_quotation_marks(kernel: LinuxKernel, fake_qemu: Path) -> None:
    words = qemu.command(kernel, Path("/i"), "/run/con spazio/init", 7)
    assert ' labkit_init="/run/con spazio/init"' in words[words.index("-append") + 1]


def test_without_qemu_the_answer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BackendError, match="sudo apt-get install qemu-system-x86"):
        qemu.program()


# The descriptor of the channel is the number in the argument «socket,id=lab,fd=N».
_SPEAKER = """
import os, sys, time
fd = next(int(word.rpartition("=")[2]) for word in sys.argv if word.startswith("socket,id=lab,fd="))
time.sleep(0.2)
os.write(fd, b"RE")
time.sleep(0.1)
os.write(fd, b"ADY")
time.sleep(60)
"""


def test_a_machine_that_says_it_is_ready_has_booted(kernel: LinuxKernel, fake_qemu: Path) -> None:
    speaker = fake_qemu.with_name("speaker.py")
    speaker.write_text(_SPEAKER)
    behave(fake_qemu, f'exec {sys.executable} -I -S {speaker} "$@"')
    seconds = accel.boots(kernel, Path("/i"), "tcg", 10)
    assert seconds is not None
    assert 0.3 <= seconds < 10


@pytest.mark.parametrize("body", ["exit 134", "exec sleep 60"], ids=["dies", "hangs"])
def test_a_machine_that_dies_or_hangs_has_not(kernel: LinuxKernel, fake_qemu: Path, body: str) -> None:
    behave(fake_qemu, body)
    start = time.monotonic()
    assert accel.boots(kernel, Path("/i"), "kvm", 0.5) is None
    assert time.monotonic() - start < 5


def test_the_verdict_on_kvm_is_kept_until_the_kernel_changes(
    kernel: LinuxKernel, fake_qemu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel.os, "access", lambda path, mode: True)
    tried: list[str] = []

    def boots(kernel: LinuxKernel, initrd: Path, accel: str, deadline: float) -> float | None:
        tried.append(accel)
        return None if len(tried) == 1 else 0.8

    monkeypatch.setattr(accel, "boots", boots)
    assert [accel.accelerator(kernel, Path("/i")) for _ in range(3)] == ["tcg"] * 3
    assert tried == ["kvm"]
    Path(kernel.image).write_bytes(b"\x7fELF nuovo")
    assert [accel.accelerator(kernel, Path("/i")) for _ in range(3)] == ["kvm"] * 3
    assert tried == ["kvm"] * 2
    (packages.cache() / "accel.json").write_text("rovinato")
    assert accel.accelerator(kernel, Path("/i")) == "kvm"


def test_without_the_device_nothing_is_tried(kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel.os, "access", lambda path, mode: False)
    assert accel.accelerator(kernel, Path("/i")) == "tcg"
    assert not packages.cache().exists()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="il TSC è dei processori x86")
def test_the_frequency_agrees_with_itself_and_is_not_measured_by_the_doctor() -> None:
    tsc.khz.cache_clear()
    first = tsc.khz()
    tsc.khz.cache_clear()
    second = tsc.khz()
    assert first is not None
    assert second is not None
    assert 200_000 < first < 10_000_000
    assert abs(first - second) < first * 0.01
    done = subprocess.run([sys.executable, "-I", "-S", str(tsc._PROBE), "userns"], capture_output=True, check=True)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["userns"]

"""I pezzi di una macchina fanno partire davvero un kernel, da utente qualunque, senza KVM e senza root."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.backends import accel, initramfs, kernels, qemu
from labkit.errors import BackendError

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.machine,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="i kernel del corso sono per x86-64"),
]

#: Il primo processo della macchina: dice chi è nel canale, e risponde finché qualcuno ascolta.
INIT = """#!{python} -IS
import os, sys, tty
fd = os.open({channel!r}, os.O_RDWR | os.O_NOCTTY)
if os.isatty(fd):
    tty.setraw(fd)
with open("/proc/self/stat") as file:
    pid = file.read().split()[0]
os.write(fd, f"{{os.uname().release}} {{pid}} {{os.getuid()}}\\n".encode())
while question := os.read(fd, 100):
    os.write(fd, question.upper())
"""


def first_program(folder: Path, channel: str, prologue: str = "") -> Path:
    path = folder / "init"
    text = INIT.format(python=os.path.realpath(sys.executable), channel=channel)
    path.write_text(text.replace("import os, sys, tty\n", "import os, sys, tty\n" + prologue))
    path.chmod(0o755)
    return path


# hostfs is there, /proc is not: mount(2) by hand, this program has no labkit.
MOUNT_PROC = "import ctypes\nctypes.CDLL(None).mount(b'proc', b'/proc', b'proc', 0, None)\n"


def talk(command: list[str], mine: socket.socket, theirs: socket.socket, **environment: str) -> tuple[bytes, bytes]:
    """Accende, legge la prima riga, fa una domanda; alla fine non resta nessuno della sessione."""
    process = subprocess.Popen(
        command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT, start_new_session=True, env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    theirs.close()
    try:
        mine.settimeout(60)
        with mine.makefile("rwb", buffering=0) as stream:
            greeting = stream.readline()
            stream.write(b"ciao\n")
            return greeting, stream.readline()
    finally:
        mine.close()
        os.killpg(process.pid, 9)
        process.wait()


def or_skip(make: object, *arguments: object) -> object:
    """Senza rete e senza pacchetti non c'è un kernel da provare."""
    assert callable(make)
    try:
        return make(*arguments)
    except BackendError as problem:
        pytest.skip(str(problem))


def test_user_mode_linux_boots_on_the_files_of_the_host(tmp_path: Path) -> None:
    kernel = or_skip(kernels.uml)
    assert isinstance(kernel, kernels.UmlKernel)
    program = first_program(tmp_path, "/dev/ttyS0", MOUNT_PROC)
    mine, theirs = socket.socketpair()
    command = [
        kernel.binary, "mem=128M", "rootfstype=hostfs", "rootflags=/", "ro", f"init={program}", "con=null", "ssl=null",
        f"ssl0=fd:{theirs.fileno()}", "quiet", "umid=prova", f"uml_dir={tmp_path}/",
        "initcall_blacklist=raid6_select_algo",
    ]  # fmt: skip
    greeting, answer = talk(command, mine, theirs, TMPDIR=str(tmp_path))
    assert greeting.decode().split() == [kernel.version, "1", "0"]
    assert answer == b"CIAO\n"


def test_qemu_boots_on_the_files_of_the_host(tmp_path: Path) -> None:
    or_skip(qemu.program)
    kernel = or_skip(kernels.linux)
    assert isinstance(kernel, kernels.LinuxKernel)
    program = first_program(tmp_path, initramfs.PORT, MOUNT_PROC)
    mine, theirs = socket.socketpair()
    command = qemu.command(kernel, initramfs.build(kernel), str(program), theirs.fileno(), memory=256)
    greeting, answer = talk(command, mine, theirs)
    assert greeting.decode().split() == [kernel.version, "1", "0"]
    assert answer == b"CIAO\n"


def test_kvm_is_chosen_only_if_a_machine_really_boots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Su questa macchina ``/dev/kvm`` può non esserci, aprirsi e non servire, o andare bene: il verdetto è vero."""
    or_skip(qemu.program)
    kernel = or_skip(kernels.linux)
    assert isinstance(kernel, kernels.LinuxKernel)
    initrd = initramfs.build(kernel)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no verdict of before
    chosen = accel.accelerator(kernel, initrd)
    assert accel.boots(kernel, initrd, chosen, 60) is not None
    if chosen == "tcg" and accel.openable():
        assert accel.boots(kernel, initrd, "kvm", 3) is None

"""Che cosa vede chi, dentro un container, prova ad uscirne: raccolto una volta, guardato da molti test."""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab
from labkit.engine.isolation import MASKED, READ_ONLY
from labkit.kernel import libc
from labkit.kernel.syscalls import number

PROBE = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
SECRET = "LABKIT_TEST_SECRET"
IPC_PRIVATE, IPC_RMID = 0, 0

#: Chiamate che il filtro deve rifiutare, con argomenti che senza filtro le farebbero riuscire (o quasi).
REFUSED = (
    "mount umount2 pivot_root move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr setns bpf "
    "perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key kexec_load "
    "kexec_file_load init_module finit_module delete_module open_by_handle_at reboot swapon swapoff settimeofday "
    "clock_settime acct quotactl quotactl_fd sethostname setdomainname syslog fanotify_init pidfd_getfd kcmp"
)
WITH_ARGUMENTS = {
    "unshare user": ("unshare", libc.CLONE_NEWUSER),
    "unshare mount": ("unshare", libc.CLONE_NEWNS),
    "unshare net": ("unshare", libc.CLONE_NEWNET),
    "clone user": ("clone", libc.CLONE_NEWUSER | 17),
    "ioctl TIOCSTI": ("ioctl", 0, 0x5412),
    "ioctl TIOCLINUX": ("ioctl", 0, 0x541C),
    "personality without randomization": ("personality", 0x0040000),
}
#: Manopole del kernel: si devono poter leggere al massimo.
KNOBS = (
    "/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hostname /proc/sys/vm/overcommit_memory "
    "/proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger /proc/sys/fs/binfmt_misc/register "
    "/sys/kernel/uevent_helper /sys/fs/cgroup/release_agent"
)
SECRETS = "/etc/shadow /etc/gshadow /etc/shadow- /etc/ssl/private /etc/sudoers /etc/docker/key.json"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    # What the notebook's environment holds must not be seen inside.
    os.environ[SECRET] = "segreto"
    try:
        with Lab() as lab:
            yield lab
    finally:
        del os.environ[SECRET]


@pytest.fixture(scope="module")
def question() -> Iterator[dict[str, Any]]:
    """Gli oggetti dell'host da cercare dentro: una presa astratta, una porta, della memoria condivisa."""
    shmget = ctypes.CDLL(None, use_errno=True).shmget
    abstract = f"labkit-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as hidden, socket.create_server(("127.0.0.1", 0)) as port:
        hidden.bind("\0" + abstract)
        hidden.listen()
        memory = shmget(IPC_PRIVATE, 4096, 0o600)
        assert memory >= 0
        try:
            yield {
                "calls": {name: [number(name)] for name in REFUSED.split()}
                | {"clone3": [number("clone3")]}
                | {label: [number(name), *args] for label, (name, *args) in WITH_ARGUMENTS.items()},
                "masked": MASKED,
                "read_only": READ_ONLY,
                "knobs": KNOBS.split(),
                "abstract": abstract,
                "port": port.getsockname()[1],
                "secrets": SECRETS.split(),
                "shm": memory,
            }
        finally:
            ctypes.CDLL(None).shmctl(memory, IPC_RMID, None)


@pytest.fixture(
    scope="module", params=["run", "run --init", "exec", pytest.param("run --user", marks=pytest.mark.subuid)]
)
def inside(request: pytest.FixtureRequest, lab: Lab, question: dict[str, Any]) -> dict[str, Any]:
    """Il racconto di :mod:`probe` da dentro un container dell'immagine ``host``, entrando in ogni modo."""
    command = ["python3", "-I", "-c", PROBE, json.dumps(question)]
    env = {"COLORE": "verde"}
    if request.param == "exec":
        container = lab.run("host", ["sleep", "1000"], detach=True)
        try:
            result = container.exec(command, env=env, quiet=True)
        finally:
            container.rm(force=True)
    elif request.param == "run --user":
        result = lab.run("host", command, env=env, user="1000", quiet=True)
    else:
        result = lab.run("host", command, env=env, init=request.param == "run --init", quiet=True)
    assert result.exit_code == 0, result.stderr
    return {**json.loads(result.output), "how": request.param}

"""Prova davvero ciò che il kernel concede, in processi che durano un istante.

Si lancia come programma (``python -I -S probe.py``) e scrive una riga JSON per esperimento:
``{"name": …, "ok": …, "errno": …, "step": …}``. Che cos'è un esperimento lo dice :mod:`labkit.backends.trial`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from typing import Any

if __name__ == "__main__":  # run as a program, isolated: labkit is not on the path yet
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))

from labkit.backends.trial import (
    DEADLINE,
    Experiment,
    RefusedError,
    attempt,
    finish,
    fork,
    mount,
    run,
    scratch,
    tsc,
    unshare,
    write,
)

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

KINDS = {
    "uts": CLONE_NEWUTS,
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "ipc": CLONE_NEWIPC,
    "net": CLONE_NEWNET,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}

MS_REC = 0x4000
MS_PRIVATE = 0x40000
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01


def _enter_userns() -> None:
    """A user namespace with only our own ids in it: what every plain user may hope for."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    attempt("setgroups", write, "/proc/self/setgroups", "deny")
    attempt("uid_map", write, "/proc/self/uid_map", f"0 {uid} 1")
    attempt("gid_map", write, "/proc/self/gid_map", f"0 {gid} 1")


def _private_tmpfs() -> str:
    """A tmpfs of our own, in a mount namespace of our own, over a directory that surely exists."""
    _enter_userns()
    unshare(CLONE_NEWNS, "unshare mount")
    mount("", "/", "", MS_REC | MS_PRIVATE)
    target = next((d for d in ("/tmp", "/run", "/dev/shm", "/mnt", "/usr") if os.path.isdir(d)), "/proc")
    mount("labkit", target, "tmpfs")
    return target


def _overlay_on(base: str) -> None:
    for name in ("lower", "upper", "work", "merged"):
        attempt("mkdir", os.mkdir, f"{base}/{name}")
    attempt("write", write, f"{base}/lower/sotto", "sotto")
    options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work,userxattr"
    mount("labkit", f"{base}/merged", "overlay", 0, options)
    # Delete and make a directory of the same name: this is what needs user.* extended attributes.
    attempt("whiteout", os.unlink, f"{base}/merged/sotto")
    attempt("opaque", os.mkdir, f"{base}/merged/sotto")


def userns() -> None:
    """Un namespace utente con la mia mappa: la porta di tutto il resto."""
    _enter_userns()


def filtered() -> None:
    """``unshare(0)`` non chiede nulla: se è rifiutato, c'è un filtro seccomp sulla chiamata intera."""
    unshare(0)


def kinds() -> dict[str, Any]:
    """Gli altri sette tipi di namespace, uno per uno."""
    _enter_userns()
    missing = {}
    for kind, flag in KINDS.items():
        try:
            unshare(flag)
        except RefusedError as refused:
            missing[kind] = refused.errno
    return {"ok": not missing, "missing": missing}


def tmpfs_xattr() -> None:
    """Gli attributi ``user.*`` su un tmpfs (kernel ≥ 6.6): l'overlay può scrivere in memoria."""
    attempt("setxattr", os.setxattr, _private_tmpfs(), "user.labkit", b"1")


def overlay() -> None:
    """Un overlay dentro un namespace utente, con lo strato scrivibile in memoria."""
    _overlay_on(_private_tmpfs())


def overlay_disk() -> None:
    """Lo stesso con lo strato scrivibile sul disco, per i kernel in cui il tmpfs non basta."""
    base = scratch(os.getpid())
    attempt("mkdir", os.mkdir, base, 0o700)
    _enter_userns()
    unshare(CLONE_NEWNS, "unshare mount")
    mount("", "/", "", MS_REC | MS_PRIVATE)
    _overlay_on(base)


def proc() -> None:
    """Un ``/proc`` nuovo in un namespace pid nuovo: rifiutato se quello di fuori è mascherato."""
    target = _private_tmpfs()
    attempt("mkdir", os.mkdir, f"{target}/proc")
    unshare(CLONE_NEWPID, "unshare pid")
    pid = fork()
    if pid == 0:  # only a process born inside the new pid namespace may mount its /proc
        finish(lambda: mount("proc", f"{target}/proc", "proc"), None)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        raise RefusedError("mount proc", code if code > 0 else errno.EIO)


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def _message(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack("=LHHLL", 16 + len(payload), kind, flags, 1, 0) + payload


def _netlink(protocol: int, step: str, *messages: bytes) -> None:
    """Send, then read until the acknowledgement (NLMSG_ERROR) that says how it went."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as sock:
            sock.settimeout(DEADLINE)
            sock.bind((0, 0))
            sock.send(b"".join(messages))
            answer = sock.recv(65536)
    except OSError as error:
        raise RefusedError(step, error.errno or errno.ETIMEDOUT) from error
    kind, code = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
    if kind == 2 and code != 0:
        raise RefusedError(step, -code)


def _new_link(name: str, kind: str, data: bytes = b"") -> None:
    info = _attribute(1, kind.encode()) + (_attribute(2, data) if data else b"")
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(3, name.encode() + b"\0") + _attribute(18, info)
    # RTM_NEWLINK with NLM_F_REQUEST | ACK | EXCL | CREATE
    _netlink(0, kind, _message(16, 0x0001 | 0x0004 | 0x0200 | 0x0400, body))


def bridge() -> None:
    """Un ponte (bridge) e un cavo virtuale (veth) in una rete propria."""
    _enter_userns()
    unshare(CLONE_NEWNET, "unshare net")
    _new_link("br0", "bridge")
    peer = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(3, b"cavo1\0")
    _new_link("cavo0", "veth", _attribute(1, peer))


def nft() -> None:
    """Una tabella ``inet`` di nftables in una rete propria."""
    _enter_userns()
    unshare(CLONE_NEWNET, "unshare net")
    header = struct.pack("=BB", 0, 0) + struct.pack("!H", 10)  # NFNL_SUBSYS_NFTABLES
    table = struct.pack("=BBH", 1, 0, 0) + _attribute(1, b"labkit\0")  # NFPROTO_INET, NFTA_TABLE_NAME
    _netlink(
        12,  # NETLINK_NETFILTER
        "nftables",
        _message(0x10, 1, header),  # NFNL_MSG_BATCH_BEGIN
        _message(10 << 8, 0x0001 | 0x0004 | 0x0400, table),  # NFT_MSG_NEWTABLE
        _message(0x11, 1, header),  # NFNL_MSG_BATCH_END
    )


def subuid() -> dict[str, Any]:
    """La mappa con molti utenti, scritta da ``newuidmap`` e ``newgidmap`` (set-uid)."""
    import pwd

    uid, gid = os.getuid(), os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    ranges = {kind: subordinate_range(f"/etc/sub{kind}", name, uid) for kind in ("uid", "gid")}
    for kind, found in ranges.items():
        if found is None:
            raise RefusedError(f"/etc/sub{kind}", errno.ENOENT)
    ready, never = os.pipe(), os.pipe()

    def stand_in() -> None:
        unshare(CLONE_NEWUSER)
        os.write(ready[1], b"r")
        os.read(never[0], 1)

    pid = fork()
    if pid == 0:
        finish(stand_in, None)
    os.close(ready[1])
    try:
        if not os.read(ready[0], 1):
            raise RefusedError("unshare", errno.EPERM)
        for kind, own in (("uid", uid), ("gid", gid)):
            program = f"new{kind}map"
            first, count = ranges[kind] or (0, 0)
            command = [program, str(pid), "0", str(own), "1", "1", str(first), str(count)]
            try:
                done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=DEADLINE)
            except OSError as error:
                raise RefusedError(program, error.errno or errno.ENOENT) from error
            if done.returncode != 0:
                raise RefusedError(program, errno.EPERM)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {"ok": True, "count": min(found[1] for found in ranges.values() if found)}


def subordinate_range(path: str, name: str, uid: int) -> tuple[int, int] | None:
    """La prima fascia (primo id, quanti) dell'utente in ``/etc/subuid`` o ``/etc/subgid`` (subuid(5))."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in (name, str(uid)) and fields[1].isdecimal() and fields[2].isdecimal():
            return int(fields[1]), int(fields[2])
    return None


def kvm() -> None:
    """``/dev/kvm`` si apre e crea davvero una macchina virtuale (vuota)."""
    fd = attempt("open", os.open, "/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    if attempt("KVM_GET_API_VERSION", fcntl.ioctl, fd, KVM_GET_API_VERSION, 0) != 12:
        raise RefusedError("KVM_GET_API_VERSION", errno.EPROTO)
    os.close(attempt("KVM_CREATE_VM", fcntl.ioctl, fd, KVM_CREATE_VM, 0))


def qemu_kvm() -> None:
    """QEMU accende davvero una macchina con KVM: dove ``/dev/kvm`` si apre, non sempre ci riesce."""
    program = shutil.which(f"qemu-system-{os.uname().machine}")
    if program is None:
        raise RefusedError("qemu", errno.ENOENT)
    machine = "microvm" if os.uname().machine == "x86_64" else "virt"
    command = [program, "-accel", "kvm", "-cpu", "host", "-machine", machine, "-nodefaults", "-m", "32"]
    command += ["-display", "none", "-S", "-monitor", "stdio"]
    try:
        done = subprocess.run(command, input=b"quit\n", capture_output=True, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        raise RefusedError("qemu", errno.ETIMEDOUT) from None
    except OSError as error:
        raise RefusedError("qemu", error.errno or errno.EIO) from error
    if done.returncode != 0:
        raise RefusedError("qemu", errno.EIO)


_EXPERIMENTS = (
    userns, filtered, kinds, overlay, overlay_disk, tmpfs_xattr, proc, bridge, nft, subuid, kvm, qemu_kvm, tsc,
)  # fmt: skip
EXPERIMENTS: dict[str, Experiment] = {experiment.__name__: experiment for experiment in _EXPERIMENTS}


def main(argv: list[str]) -> None:
    """``python -I -S probe.py [ESPERIMENTO…]``: una riga JSON per risposta."""
    asked = [name for name in argv if name in EXPERIMENTS]
    chosen = asked or [name for name in EXPERIMENTS if name != "tsc"]  # a measure, for who starts a QEMU
    for answer in run({name: EXPERIMENTS[name] for name in chosen}):
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

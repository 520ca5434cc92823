"""Prova davvero ciò che il kernel concede, in processi che durano un istante.

Si lancia come programma (``python -I -S probe.py``) e scrive una riga JSON per esperimento:
``{"name": …, "ok": …, "errno": …, "step": …}``. Ogni esperimento vive in un figlio suo, in namespace
suoi, con una scadenza: quando il figlio muore il kernel disfa tutto e sulla macchina non resta nulla.
È l'unico modulo fuori da ``kernel`` che chiama ``ctypes``, perché deve funzionare anche dove il
resto di labkit non può nemmeno partire.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

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
PR_SET_PDEATHSIG = 1
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01

#: Seconds that one experiment may take before it is killed and reported as ETIMEDOUT.
DEADLINE = 0.7

Experiment = Callable[[], "dict[str, Any] | None"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]


class RefusedError(Exception):
    """An experiment that stopped: at which step, with which errno."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(step, number)
        self.step = step
        self.errno = number


def _unshare(flags: int, step: str = "unshare") -> None:
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise RefusedError(step, ctypes.get_errno())


def _mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    if _libc.mount(source.encode(), os.fsencode(target), fstype.encode(), flags, data.encode()) != 0:
        raise RefusedError("mount " + (fstype or target), ctypes.get_errno())


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _step(step: str, action: Callable[..., Any], *args: Any) -> Any:
    try:
        return action(*args)
    except OSError as error:
        raise RefusedError(step, error.errno or errno.EIO) from error


def _enter_userns() -> None:
    """A user namespace with only our own ids in it: what every plain user may hope for."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER)
    _step("setgroups", _write, "/proc/self/setgroups", "deny")
    _step("uid_map", _write, "/proc/self/uid_map", f"0 {uid} 1")
    _step("gid_map", _write, "/proc/self/gid_map", f"0 {gid} 1")


def _private_tmpfs() -> str:
    """A tmpfs of our own, in a mount namespace of our own, over a directory that surely exists."""
    _enter_userns()
    _unshare(CLONE_NEWNS, "unshare mount")
    _mount("", "/", "", MS_REC | MS_PRIVATE)
    target = next((d for d in ("/tmp", "/run", "/dev/shm", "/mnt", "/usr") if os.path.isdir(d)), "/proc")
    _mount("labkit", target, "tmpfs")
    return target


def _overlay_on(base: str) -> None:
    for name in ("lower", "upper", "work", "merged"):
        _step("mkdir", os.mkdir, f"{base}/{name}")
    _step("write", _write, f"{base}/lower/sotto", "sotto")
    options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work,userxattr"
    _mount("labkit", f"{base}/merged", "overlay", 0, options)
    # Delete and make a directory of the same name: this is what needs user.* extended attributes.
    _step("whiteout", os.unlink, f"{base}/merged/sotto")
    _step("opaque", os.mkdir, f"{base}/merged/sotto")


def userns() -> None:
    """Un namespace utente con la mia mappa: la porta di tutto il resto."""
    _enter_userns()


def filtered() -> None:
    """``unshare(0)`` non chiede nulla: se è rifiutato, c'è un filtro seccomp sulla chiamata intera."""
    _unshare(0)


def kinds() -> dict[str, Any]:
    """Gli altri sette tipi di namespace, uno per uno."""
    _enter_userns()
    missing = {}
    for kind, flag in KINDS.items():
        try:
            _unshare(flag)
        except RefusedError as refused:
            missing[kind] = refused.errno
    return {"ok": not missing, "missing": missing}


def tmpfs_xattr() -> None:
    """Gli attributi ``user.*`` su un tmpfs (kernel ≥ 6.6): l'overlay può scrivere in memoria."""
    _step("setxattr", os.setxattr, _private_tmpfs(), "user.labkit", b"1")


def overlay() -> None:
    """Un overlay dentro un namespace utente, con lo strato scrivibile in memoria."""
    _overlay_on(_private_tmpfs())


def overlay_disk() -> None:
    """Lo stesso con lo strato scrivibile sul disco, per i kernel in cui il tmpfs non basta."""
    base = _scratch(os.getpid())
    _step("mkdir", os.mkdir, base, 0o700)
    _enter_userns()
    _unshare(CLONE_NEWNS, "unshare mount")
    _mount("", "/", "", MS_REC | MS_PRIVATE)
    _overlay_on(base)


def _scratch(pid: int) -> str:
    """Where the experiment of this pid may write on disk, as a lab would; :func:`run` removes it, whatever happened."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = next(
        (d for d in (cache, os.path.dirname(cache)) if os.access(d, os.W_OK | os.X_OK)), tempfile.gettempdir()
    )
    return f"{folder}/labkit-probe-{pid}"


def _remove(base: str) -> None:
    for folder, names, _ in os.walk(base):
        for name in names:
            os.chmod(f"{folder}/{name}", 0o700)  # overlay's own work/work has mode 000
    shutil.rmtree(base, ignore_errors=True)


def proc() -> None:
    """Un ``/proc`` nuovo in un namespace pid nuovo: rifiutato se quello di fuori è mascherato."""
    target = _private_tmpfs()
    _step("mkdir", os.mkdir, f"{target}/proc")
    _unshare(CLONE_NEWPID, "unshare pid")
    pid = _fork()
    if pid == 0:  # only a process born inside the new pid namespace may mount its /proc
        _finish(lambda: _mount("proc", f"{target}/proc", "proc"), None)
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
    _unshare(CLONE_NEWNET, "unshare net")
    _new_link("br0", "bridge")
    peer = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(3, b"cavo1\0")
    _new_link("cavo0", "veth", _attribute(1, peer))


def nft() -> None:
    """Una tabella ``inet`` di nftables in una rete propria."""
    _enter_userns()
    _unshare(CLONE_NEWNET, "unshare net")
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
        _unshare(CLONE_NEWUSER)
        os.write(ready[1], b"r")
        os.read(never[0], 1)

    pid = _fork()
    if pid == 0:
        _finish(stand_in, None)
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
    fd = _step("open", os.open, "/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    if _step("KVM_GET_API_VERSION", fcntl.ioctl, fd, KVM_GET_API_VERSION, 0) != 12:
        raise RefusedError("KVM_GET_API_VERSION", errno.EPROTO)
    os.close(_step("KVM_CREATE_VM", fcntl.ioctl, fd, KVM_CREATE_VM, 0))


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


def tsc() -> dict[str, Any]:
    """La frequenza del contatore del processore (TSC) in kHz, misurata contro l'orologio della macchina."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl rdx,32; or rax,rdx; ret
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    samples = []
    for _ in range(5):
        start, ticks = time.perf_counter_ns(), counter()
        time.sleep(0.02)
        end, more = time.perf_counter_ns(), counter()
        samples.append((more - ticks) * 1_000_000 // (end - start))
    return {"ok": True, "khz": sorted(samples)[2]}  # the middle one: a sleep may be cut in the wrong place


_EXPERIMENTS = (
    userns, filtered, kinds, overlay, overlay_disk, tmpfs_xattr, proc, bridge, nft, subuid, kvm, qemu_kvm, tsc,
)  # fmt: skip
EXPERIMENTS: dict[str, Experiment] = {experiment.__name__: experiment for experiment in _EXPERIMENTS}


def _finish(experiment: Callable[[], Any], output: int | None) -> NoReturn:
    """The whole life of a child: run, write the answer, never come back to the caller's code."""
    answer: dict[str, Any] | None = None
    try:
        found = experiment()
        answer = found if isinstance(found, dict) else {"ok": True}
    except RefusedError as refused:
        answer = {"ok": False, "step": refused.step, "errno": refused.errno}
    except OSError as error:
        answer = {"ok": False, "step": "", "errno": error.errno or errno.EIO}
    finally:  # even for what nobody foresaw: no answer is read by run() as a dead child
        if output is not None and answer is not None:
            os.write(output, json.dumps(answer).encode())
        os._exit(errno.EIO if answer is None else answer.get("errno", 0))


def _fork() -> int:
    """A child that does not outlive us."""
    pid: int = _step("fork", os.fork)
    if pid == 0:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return pid


def _start(experiment: Experiment) -> tuple[int, int]:
    """Fork a child, leader of its own group, for one experiment: its pid and the pipe with its answer."""
    read, write = os.pipe()
    try:
        pid = _fork()
    except RefusedError:
        os.close(read)
        os.close(write)
        raise
    if pid == 0:
        os.close(read)
        os.setpgid(0, 0)
        _finish(experiment, write)
    os.close(write)
    return pid, read


def _end(pid: int) -> None:
    """Kill the group of an experiment (newuidmap, QEMU, a child in a pid namespace) and forget it."""
    for kill, target in ((os.killpg, pid), (os.kill, pid)):
        try:
            kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(pid, 0)
    _remove(_scratch(pid))


def run(names: list[str], deadline: float = DEADLINE) -> Iterator[dict[str, Any]]:
    """Esegue insieme gli esperimenti nominati e dà le risposte mano a mano che arrivano."""
    children: dict[int, tuple[str, int]] = {}
    for name in names:
        try:
            pid, pipe = _start(EXPERIMENTS[name])
        except (RefusedError, OSError) as error:  # no processes left (ulimit -u, pids cgroup): still an answer
            yield {"name": name, "ok": None, "step": "fork", "errno": error.errno}
        else:
            children[pipe] = (name, pid)
    end = time.monotonic() + deadline
    while children:
        ready, _, _ = select.select(list(children), [], [], max(0.0, end - time.monotonic()))
        for pipe in ready or list(children):
            name, pid = children.pop(pipe)
            if ready:
                data = os.read(pipe, 65536)
                answer = json.loads(data) if data else {"ok": None, "step": "morto", "errno": errno.EIO}
            else:
                answer = {"ok": None, "step": "scadenza", "errno": errno.ETIMEDOUT}
            os.close(pipe)
            _end(pid)
            yield {"name": name, **answer}


def main(argv: list[str]) -> None:
    asked = [name for name in argv if name in EXPERIMENTS]
    for answer in run(asked or [name for name in EXPERIMENTS if name != "tsc"]):  # a measure, for who starts a QEMU
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

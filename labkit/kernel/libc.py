"""Le chiamate di sistema, una funzione ciascuna, con il nome che hanno nel manuale.

È l'unico modulo di labkit che usa ctypes. Tutte le chiamate passano da un solo imbuto
(:func:`_check`): un errno diventa un :class:`~labkit.errors.KernelError` con la spiegazione in
italiano e il rimedio (:mod:`labkit.kernel.explain`). I numeri stanno in :mod:`labkit.kernel.syscalls`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
from collections.abc import Callable
from typing import Any

from labkit.kernel.explain import error
from labkit.kernel.syscalls import number

_libc = ctypes.CDLL(None, use_errno=True)
# PyDLL keeps the GIL: between clone3 and PyOS_AfterFork_Child no Python code may run.
_locked = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_locked.syscall.restype = ctypes.c_long

# sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_VM = 0x00000100
CLONE_PIDFD = 0x00001000
CLONE_VFORK = 0x00004000
CLONE_PARENT = 0x00008000
CLONE_PARENT_SETTID = 0x00100000

# sys/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0x80000
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08

# asm-generic/fcntl.h, asm/signal.h
_F_SETSIG = 10
_SA_NOCLDSTOP = 1

# linux/openat2.h
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

# linux/prctl.h, linux/seccomp.h, linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_SET_MODE_FILTER = 1
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_NR = number
_UINT_MAX = 0xFFFFFFFF


def _b(text: str | bytes | os.PathLike[str] | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _check(result: int, name: str, path: str = "") -> int:
    if result < 0:
        raise error(name, ctypes.get_errno(), path)
    return result


def syscall(name: str, *args: Any, path: str = "") -> int:
    """Chiama la syscall ``name`` con interi, bytes o buffer ctypes; torna il suo risultato (syscall(2))."""
    return _check(_syscall(ctypes.c_long(_NR(name)), *args), name, path)


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """Regola il processo che chiama (prctl(2))."""
    ul = ctypes.c_ulong
    return _check(_libc.prctl(option, ul(a), ul(b), ul(c), ul(d)), "prctl")


def set_title(title: str) -> None:
    """Il nome che ``ps`` mostra: copre quello del programma e i suoi argomenti (proc(5), ``arg_start``)."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    # A last byte that is not NUL tells the kernel that the title was rewritten and ends at the first NUL.
    raw = os.fsencode(title)[: end - start - 2].ljust(end - start - 1, b"\0") + b"."
    ctypes.memmove(start, raw, len(raw))
    name = ctypes.create_string_buffer(os.fsencode(title)[:15])
    prctl(PR_SET_NAME, ctypes.addressof(name))


def heed_signals(*deaf: int) -> None:
    """Toglie l'ordine di ignorare un segnale, ereditato da chi ci ha avviato, tranne per ``deaf`` (sigaction(2)).

    Sopravvive a execve: make lascia ignorati 32 e 33, una shell in secondo piano SIGINT, nohup SIGHUP, e
    un container se li troverebbe così. Quei due la libreria C non li lascia toccare: si chiama il kernel.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        ignored = next(int(line.split()[1], 16) for line in file if line.startswith("SigIgn:"))
    for signum in range(1, 65):
        if ignored >> (signum - 1) & 1 and signum not in deaf:
            syscall("rt_sigaction", signum, bytes(32), None, 8)  # a struct of zeros: SIG_DFL, no flags, empty mask


def ignore_stops() -> None:
    """SIGCHLD, che ha già un gestore, arriva per un figlio che finisce, non per uno che si ferma (sigaction(2))."""
    action = ctypes.create_string_buffer(32)  # handler, flags, restorer, mask
    syscall("rt_sigaction", int(signal.SIGCHLD), None, action, 8)
    handler, flags, rest = struct.unpack("=QQ16s", action)
    syscall("rt_sigaction", int(signal.SIGCHLD), struct.pack("=QQ16s", handler, flags | _SA_NOCLDSTOP, rest), None, 8)


def unshare(flags: int) -> None:
    """Stacca il processo che chiama dai namespace indicati dai ``CLONE_NEW*`` (unshare(2))."""
    _check(_libc.unshare(ctypes.c_uint(flags)), "unshare")


def setns(fd: int, flags: int = 0) -> None:
    """Entra nel namespace aperto come ``fd``, o in quelli di un pidfd (setns(2))."""
    _check(_libc.setns(fd, ctypes.c_uint(flags)), "setns")


def sethostname(name: str) -> None:
    """Cambia il nome host del namespace UTS di chi chiama (sethostname(2))."""
    raw = os.fsencode(name)
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


def mount(source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """Monta ``source`` su ``target`` (mount(2))."""
    _check(_libc.mount(_b(source), _b(target), _b(fstype), ctypes.c_ulong(flags), _b(data)), "mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """Smonta ``target`` (umount2(2))."""
    _check(_libc.umount2(_b(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Fa di ``new_root`` la radice e mette la vecchia in ``put_old`` (pivot_root(2))."""
    syscall("pivot_root", _b(new_root), _b(put_old), path=new_root)


def open_tree(path: str, flags: int = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE, dirfd: int = AT_FDCWD) -> int:
    """Un descrittore dell'albero montato in ``path``, o di una sua copia (open_tree(2))."""
    return syscall("open_tree", dirfd, _b(path), ctypes.c_uint(flags), path=path)


def move_mount(mount_fd: int, target_fd: int, path: str = "") -> None:
    """Attacca il mount ``mount_fd`` sulla cartella aperta come ``target_fd`` (move_mount(2))."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall("move_mount", mount_fd, b"", target_fd, b"", ctypes.c_uint(flags), path=path)


def mount_setattr(
    fd: int, set_attr: int, clear_attr: int = 0, flags: int = AT_EMPTY_PATH, propagation: int = 0
) -> None:
    """Cambia attributi (sola lettura, nosuid…) e propagazione del mount aperto come ``fd`` (mount_setattr(2))."""
    raw = struct.pack("=QQQQ", set_attr, clear_attr, propagation, 0)
    syscall("mount_setattr", fd, b"", ctypes.c_uint(flags), raw, len(raw))


def fsmount(fstype: str, options: dict[str, str | None], attributes: int = 0) -> int:
    """Prepara un filesystem e torna il descrittore del mount, non ancora attaccato (fsopen(2), fsmount(2))."""
    fs = syscall("fsopen", _b(fstype), ctypes.c_uint(FSOPEN_CLOEXEC), path=fstype)
    try:
        for key, value in options.items():
            command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
            syscall("fsconfig", fs, ctypes.c_uint(command), _b(key), _b(value), 0, path=f"{fstype}: {key}={value}")
        syscall("fsconfig", fs, ctypes.c_uint(FSCONFIG_CMD_CREATE), None, None, 0, path=fstype)
        return syscall("fsmount", fs, ctypes.c_uint(FSMOUNT_CLOEXEC), ctypes.c_uint(attributes), path=fstype)
    finally:
        os.close(fs)


def openat2(dirfd: int, path: str, flags: int, resolve: int = RESOLVE_IN_ROOT, mode: int = 0) -> int:
    """Apre ``path`` senza mai uscire da ``dirfd``, neanche per un link simbolico (openat2(2))."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return syscall("openat2", dirfd, _b(path), how, len(how), path=path)


def close_range(first: int, last: int = _UINT_MAX) -> None:
    """Chiude tutti i descrittori da ``first`` a ``last`` (close_range(2))."""
    syscall("close_range", ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Le tre maschere di capability del processo che chiama (capset(2))."""
    low, high = _UINT_MAX, 32
    data = struct.pack(
        "=6I",
        effective & low, permitted & low, inheritable & low,
        effective >> high, permitted >> high, inheritable >> high,
    )  # fmt: skip
    syscall("capset", struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0), data)


def seccomp_load(program: bytes) -> None:
    """Carica un filtro seccomp: ``program`` è un vettore di ``struct sock_filter`` (seccomp(2))."""
    code = ctypes.c_char_p(program)  # not a copy: the kernel reads these very bytes
    fprog = struct.pack("@HP", len(program) // 8, ctypes.cast(code, ctypes.c_void_p).value)
    syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, fprog)


_before: Callable[[], None] = ctypes.pythonapi.PyOS_BeforeFork
_in_child: Callable[[], None] = ctypes.pythonapi.PyOS_AfterFork_Child
_in_parent: Callable[[], None] = ctypes.pythonapi.PyOS_AfterFork_Parent
for _hook in (_before, _in_child, _in_parent):
    _hook.restype = None  # type: ignore[attr-defined]


def clone3(flags: int) -> tuple[int, int]:
    """Un figlio nei namespace nuovi indicati da ``flags``: torna ``(pid, pidfd)``, nel figlio ``(0, -1)``.

    Come ``fork``, ma solo per processi con un solo thread (clone(2)).
    """
    exit_signal = 0 if flags & CLONE_PARENT else 17  # with CLONE_PARENT the kernel uses the parent's own
    pidfd = ctypes.c_int(-1)
    args = (ctypes.c_uint64 * 8)(flags | CLONE_PIDFD, ctypes.addressof(pidfd), 0, 0, exit_signal, 0, 0, 0)
    nr, size = ctypes.c_long(_NR("clone3")), ctypes.c_size_t(64)
    _before()
    pid = _locked.syscall(nr, ctypes.byref(args), size)
    if pid == 0:
        _in_child()
        return 0, -1
    failure = ctypes.get_errno()
    _in_parent()
    if pid < 0:
        raise error("clone3", failure)
    return int(pid), pidfd.value


def hatch(flags: int) -> int:
    """Un figlio nei namespace nuovi indicati da ``flags`` esce da chi chiama, che resta indietro come un guscio vuoto.

    Torna solo il figlio, con il suo PID nel namespace di chi chiama, ed è figlio del padre di quello. La memoria è una
    sola: è il guscio a tenerla (vfork(2)), e così l'execve del figlio non si ferma a liberarla. Il guscio non si
    risveglia più: quando il figlio fa execve o finisce, resta fermo (SIGSTOP) finché qualcuno non lo uccide. Solo per
    processi con un solo thread.
    """
    tid = ctypes.c_int(0)
    args = (ctypes.c_uint64 * 8)(
        flags | CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID, 0, 0, ctypes.addressof(tid)
    )
    nr, size = ctypes.c_long(_NR("clone3")), ctypes.c_size_t(64)
    # A byte in this pipe is a SIGSTOP for who is here now, whatever PID namespace it is written from (fcntl(2)).
    heard, told = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(heard, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(heard, _F_SETSIG, int(signal.SIGSTOP))
    fcntl.fcntl(heard, fcntl.F_SETFL, os.O_ASYNC)
    pid = _locked.syscall(nr, ctypes.byref(args), size)
    if pid == 0:
        # First of all, because the shell must not run again on a stack that is now ours. It hears it when it wakes.
        os.write(told, b"!")
    elif pid > 0:  # it woke up before it could hear: the child was killed at birth
        os._exit(125)
    os.close(told)
    os.close(heard)
    if pid < 0:
        raise error("clone3", ctypes.get_errno())
    return tid.value

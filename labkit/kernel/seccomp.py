"""Il filtro delle chiamate di sistema: che cosa un programma in un container può chiedere al kernel.

È un elenco di ciò che si può, nello spirito del profilo di Docker: quello che è nell'elenco passa,
quello che è pericoloso dà EPERM, tutto il resto (chiamate antiche, o più nuove di questo elenco) dà
ENOSYS, così i programmi ripiegano su quelle che conoscono. Poche chiamate si guardano anche negli
argomenti (:data:`CHECKED`). Certe capability, se il container le ha, aprono le chiamate che
servono a usarle (:data:`GRANTED`). Fonti: seccomp(2), bpf(4), il profilo «default.json» di moby/profiles.

Il filtro è un programma BPF classico, fatto qui senza librerie: prima l'architettura, poi una
ricerca binaria sul numero, così una chiamata costa una decina di confronti. Si calcola una volta
per insieme di capability: chi genera container lo chiede prima di fare figli.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from labkit.kernel import libc
from labkit.kernel.capabilities import DOCKER_DEFAULT
from labkit.kernel.syscalls import AUDIT_ARCHES, MACHINE, TABLES, number


class Instruction(NamedTuple):
    """Una ``struct sock_filter``: codice, salti in avanti se vero e se falso, operando (linux/filter.h)."""

    code: int
    jt: int
    jf: int
    k: int


# linux/bpf_common.h
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER_EQUAL = 0x35  # BPF_JMP | BPF_JGE | BPF_K
JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

# linux/seccomp.h: what a filter answers, and where it finds number, architecture and arguments.
RET_ALLOW = 0x7FFF0000
RET_ERRNO = 0x00050000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

# linux/sched.h: CLONE_NEW* without CLONE_NEWTIME, whose bit means an exit signal in clone(2).
_NEW_NAMESPACES = (
    libc.CLONE_NEWNS
    | libc.CLONE_NEWCGROUP
    | libc.CLONE_NEWUTS
    | libc.CLONE_NEWIPC
    | libc.CLONE_NEWUSER
    | libc.CLONE_NEWPID
    | libc.CLONE_NEWNET
)
# asm-generic/ioctls.h: both push input into a terminal as if its user had typed it.
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
# linux/socket.h: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET.
_FAMILIES = (1, 2, 10, 16, 17)
# linux/personality.h: PER_LINUX, PER_LINUX32, the same two with UNAME26, and the question «which one am I?».
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

Block = tuple[Instruction, ...]


def _answer(value: int) -> Block:
    return (Instruction(RETURN, 0, 0, value),)


def _error(number: int) -> Block:
    return _answer(RET_ERRNO | number)


_ALLOW = _answer(RET_ALLOW)
_REFUSE = _error(errno.EPERM)
_UNKNOWN = _error(errno.ENOSYS)


def _load_argument(index: int) -> Instruction:
    # Little endian: the low 32 bits, the only ones the kernel reads for these calls.
    return Instruction(LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _if_any_bit(index: int, bits: int, then: Block, otherwise: Block) -> Block:
    return (_load_argument(index), Instruction(JUMP_ANY_BIT, 0, len(then), bits), *then, *otherwise)


def _if_one_of(index: int, values: tuple[int, ...], then: Block, otherwise: Block) -> Block:
    tests = tuple(Instruction(JUMP_EQUAL, len(values) - 1 - n, 0, value) for n, value in enumerate(values[:-1]))
    last = Instruction(JUMP_EQUAL, 0, len(then), values[-1])
    return (_load_argument(index), *tests, last, *then, *otherwise)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Sempre permesse (se l'architettura le ha).
ALLOWED = _words(
    """
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_adjtime
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod
    fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr file_getattr file_setattr flistxattr flock fork
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage
    getsid getsockname getsockopt gettid gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioprio_get
    ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat
    listen listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap modify_ldt mprotect
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd
    msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64
    process_mrelease process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg
    sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr setxattrat shmat
    shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 splice stat statfs statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat
    uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write writev
    """
)

#: Permesse solo a chi ha la capability: senza, EPERM.
GRANTED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        f"CAP_{capability}": _words(names)
        for capability, names in {
            "BPF": "bpf",
            "DAC_READ_SEARCH": "open_by_handle_at",
            "PERFMON": "perf_event_open",
            "SYS_ADMIN": "bpf fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount "
            "mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname "
            "sethostname setns statmount syslog umount2",
            "SYS_BOOT": "reboot",
            "SYS_CHROOT": "chroot",
            "SYS_MODULE": "delete_module finit_module init_module",
            "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
            "SYS_PACCT": "acct",
            "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
            "SYS_RAWIO": "ioperm iopl",
            "SYS_TIME": "clock_settime settimeofday",
            "SYS_TTY_CONFIG": "vhangup",
            "SYSLOG": "syslog",
        }.items()
    }
)

#: Mai permesse, qualunque capability ci sia: EPERM.
REFUSED = _words(
    """
    _sysctl add_key create_module get_kernel_syms io_uring_enter io_uring_register io_uring_setup kexec_file_load
    kexec_load keyctl migrate_pages move_pages nfsservctl pivot_root query_module request_key swapoff swapon sysfs
    uselib userfaultfd ustat
    """
)

#: Quelle che dipendono dagli argomenti, per nome.
CHECKED: Mapping[str, Block] = MappingProxyType(
    {
        # A namespace of one's own is the door to mount and to half of the kernel's past bugs.
        "clone": _if_any_bit(0, _NEW_NAMESPACES, _REFUSE, _ALLOW),
        "unshare": _if_any_bit(0, _NEW_NAMESPACES | libc.CLONE_NEWTIME, _REFUSE, _ALLOW),
        # The flags of clone3 are in memory, where a filter cannot look: libc falls back on clone.
        "clone3": _UNKNOWN,
        "ioctl": _if_one_of(1, (_TIOCSTI, _TIOCLINUX), _REFUSE, _ALLOW),
        # No AF_VSOCK (it reaches the hypervisor), no AF_ALG, no family whose module would be loaded on demand.
        "socket": _if_one_of(0, _FAMILIES, _ALLOW, _error(errno.EAFNOSUPPORT)),
        "socketpair": _if_one_of(0, _FAMILIES, _ALLOW, _error(errno.EAFNOSUPPORT)),
        "personality": _if_one_of(0, _PERSONALITIES, _ALLOW, _REFUSE),
    }
)


def rules(capabilities: Iterable[str] = DOCKER_DEFAULT) -> dict[str, Block]:
    """Che cosa risponde il filtro a ogni chiamata di cui sa il nome, per chi ha queste capability."""
    held = frozenset(capabilities)
    blocks = {name: _REFUSE for names in GRANTED.values() for name in names}
    blocks |= dict.fromkeys(REFUSED, _REFUSE) | dict.fromkeys(ALLOWED, _ALLOW) | dict(CHECKED)
    for capability, names in GRANTED.items():
        if capability in held:
            blocks |= dict.fromkeys(names, _ALLOW)
    if "CAP_SYS_ADMIN" in held:
        blocks |= dict.fromkeys(("clone", "clone3", "unshare"), _ALLOW)
    return blocks


def _search(ranges: list[tuple[int, Block]]) -> Block:
    """Ricerca binaria sul numero nell'accumulatore: ``ranges`` dice da quale numero in su vale quale blocco."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) < 256:
        return (Instruction(JUMP_GREATER_EQUAL, len(below), 0, pivot), *below, *above)
    # A conditional jump has 8 bits of distance, an unconditional one has 32.
    return (Instruction(JUMP_GREATER_EQUAL, 0, 1, pivot), Instruction(JUMP, 0, 0, len(below)), *below, *above)


@lru_cache(maxsize=32)
def assemble(capabilities: frozenset[str] = DOCKER_DEFAULT, machine: str = MACHINE) -> Block:
    """Il filtro come istruzioni, per un'architettura.

    Un'altra ABI (un programma a 32 bit, o x32, i cui numeri hanno il bit 30 acceso) trova solo ENOSYS.
    """
    table = TABLES[machine]
    blocks = {table[name]: block for name, block in rules(capabilities).items() if name in table}
    ranges: list[tuple[int, Block]] = []
    for nr in range(max(blocks) + 2):
        block = blocks.get(nr, _UNKNOWN)
        if not ranges or ranges[-1][1] != block:
            ranges.append((nr, block))
    return (
        Instruction(LOAD, 0, 0, _ARCH),
        Instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCHES[machine]),
        *_UNKNOWN,
        Instruction(LOAD, 0, 0, _NUMBER),
        *_search(ranges),
    )


@lru_cache(maxsize=32)
def program(capabilities: frozenset[str] = DOCKER_DEFAULT) -> bytes:
    """Il filtro pronto per il kernel, per chi ha queste capability: un vettore di ``struct sock_filter``.

    >>> len(program()) % 8
    0
    """
    number("seccomp")  # says in Italian that this processor is not known, if it is not
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in assemble(capabilities))


def load(capabilities: frozenset[str] = DOCKER_DEFAULT) -> None:
    """Chiude il processo dietro il filtro, per sempre e per tutti i suoi figli (seccomp(2)).

    Chiede ``no_new_privs`` già acceso, oppure ``CAP_SYS_ADMIN``.
    """
    libc.seccomp_load(program(capabilities))

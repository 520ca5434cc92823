"""Il filtro seccomp, regola per regola: prima da un interprete BPF, poi dal kernel vero."""

import ctypes
import errno
import os
import struct
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.kernel import libc, seccomp
from labkit.kernel.capabilities import ALL, DOCKER_DEFAULT, compute
from labkit.kernel.syscalls import AUDIT_ARCH, AUDIT_ARCHES, MACHINE, TABLES

MACHINES = sorted(TABLES)
ALLOW = "allow"
I386 = 0x40000003
X32_BIT = 0x40000000


def evaluate(block: seccomp.Block, nr: int, args: tuple[int, ...] = (), arch: int = AUDIT_ARCH) -> str:
    """Che cosa risponde il filtro: «allow» o il nome dell'errno. Un interprete BPF in venti righe."""
    full = (*args, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *(a & 0xFFFFFFFFFFFFFFFF for a in full))
    accumulator, pc = 0, 0
    while True:
        code, jt, jf, k = block[pc]
        pc += 1
        if code == seccomp.RETURN:
            if k == seccomp.RET_ALLOW:
                return ALLOW
            assert k & 0xFFFF0000 == seccomp.RET_ERRNO
            return errno.errorcode[k & 0xFFFF]
        if code == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == seccomp.JUMP:
            pc += k
        elif code == seccomp.JUMP_EQUAL:
            pc += jt if accumulator == k else jf
        elif code == seccomp.JUMP_GREATER_EQUAL:
            pc += jt if accumulator >= k else jf
        elif code == seccomp.JUMP_ANY_BIT:
            pc += jt if accumulator & k else jf
        else:
            raise AssertionError(f"istruzione {code:#x}")


def ask(name: str, *args: int, caps: frozenset[str] = DOCKER_DEFAULT, machine: str = "x86_64") -> str:
    block = seccomp.assemble(caps, machine)
    return evaluate(block, TABLES[machine][name], args, AUDIT_ARCHES[machine])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("caps", [DOCKER_DEFAULT, frozenset(), ALL], ids=["docker", "none", "all"])
def test_the_binary_search_answers_as_the_table_for_every_number(machine: str, caps: frozenset[str]) -> None:
    table, rules, program = TABLES[machine], seccomp.rules(caps), seccomp.assemble(caps, machine)
    names = {nr: name for name, nr in table.items()}
    for nr in range(1024):
        found = evaluate(program, nr, (), AUDIT_ARCHES[machine])
        block = rules.get(names.get(nr, ""), seccomp._UNKNOWN)
        assert found == evaluate(block, nr), names.get(nr, nr)


@pytest.mark.parametrize("machine", MACHINES)
def test_programs_read_and_write_files_processes_and_the_network(machine: str) -> None:
    common = "read write openat close mmap execve exit_group wait4 futex connect bind sendmsg kill"
    assert {name: ask(name, machine=machine) for name in common.split()} == dict.fromkeys(common.split(), ALLOW)


DANGEROUS = """
mount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick mount_setattr setns bpf
perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key kexec_load
kexec_file_load init_module finit_module delete_module open_by_handle_at reboot swapon swapoff settimeofday
clock_settime acct quotactl quotactl_fd nfsservctl lookup_dcookie sethostname setdomainname syslog fanotify_init
vhangup pidfd_getfd kcmp process_madvise migrate_pages move_pages
"""


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", sorted(DANGEROUS.split()))
def test_a_dangerous_call_is_refused(name: str, machine: str) -> None:
    assert ask(name, machine=machine) == "EPERM"


@pytest.mark.parametrize("name", ["iopl", "ioperm", "create_module", "uselib", "_sysctl", "ustat"])
def test_the_dangerous_calls_only_x86_has_are_refused(name: str) -> None:
    assert ask(name) == "EPERM"


@given(st.integers(0, 2**64 - 1))
def test_no_flag_of_clone_makes_a_namespace(flags: int) -> None:
    namespaces = flags & 0x7E020000
    assert ask("clone", flags) == ("EPERM" if namespaces else ALLOW)
    assert ask("unshare", flags) == ("EPERM" if namespaces or flags & libc.CLONE_NEWTIME else ALLOW)


def test_threads_and_forks_still_work() -> None:
    pthread_create, fork = 0x3D0F00, 0x1200011  # what glibc passes
    assert ask("clone", pthread_create) == ask("clone", fork) == ALLOW
    assert ask("unshare", 0x400) == ALLOW  # CLONE_FILES


@pytest.mark.parametrize("machine", MACHINES)
def test_clone3_seems_not_to_exist(machine: str) -> None:
    assert ask("clone3", machine=machine) == "ENOSYS"


@given(st.integers(0, 2**64 - 1))
def test_only_the_two_ioctls_that_type_for_others_are_refused(request: int) -> None:
    low = request & 0xFFFFFFFF
    assert ask("ioctl", 0, request) == ("EPERM" if low in (0x5412, 0x541C) else ALLOW)


@pytest.mark.parametrize("high", [0, 1, 0xFFFFFFFF])
@pytest.mark.parametrize("request_number", [0x5412, 0x541C])
def test_a_high_half_does_not_hide_an_ioctl(request_number: int, high: int) -> None:
    assert ask("ioctl", 0, high << 32 | request_number) == "EPERM"


@given(st.one_of(st.integers(0, 60), st.integers(0, 2**64 - 1)))
def test_only_ordinary_sockets(family: int) -> None:
    expected = ALLOW if family & 0xFFFFFFFF in (1, 2, 10, 16, 17) else "EAFNOSUPPORT"
    assert ask("socket", family) == ask("socketpair", family) == expected


@pytest.mark.parametrize("family", [38, 40], ids=["AF_ALG", "AF_VSOCK"])
def test_vsock_and_alg_are_closed_even_to_who_has_every_capability(family: int) -> None:
    assert ask("socket", family, caps=ALL) == "EAFNOSUPPORT"


@given(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000])))
def test_personality_cannot_weaken_the_process(persona: int) -> None:
    expected = ALLOW if persona & 0xFFFFFFFF in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF) else "EPERM"
    assert ask("personality", persona) == expected


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_foreign_architecture_finds_nothing(nr: int, arch: int) -> None:
    for machine in MACHINES:
        if arch != AUDIT_ARCHES[machine]:
            assert evaluate(seccomp.assemble(ALL, machine), nr, (), arch) == "ENOSYS"


@given(st.integers(0, 2**30 - 1))
def test_x32_and_negative_numbers_find_nothing(nr: int) -> None:
    program, arch = seccomp.assemble(ALL, "x86_64"), AUDIT_ARCHES["x86_64"]
    assert evaluate(program, X32_BIT | nr, (), arch) == "ENOSYS"
    assert evaluate(program, -1 - nr, (), arch) == "ENOSYS"


@given(st.integers(480, 2**30 - 1))
def test_calls_newer_than_the_profile_seem_not_to_exist(nr: int) -> None:
    for machine in MACHINES:
        assert evaluate(seccomp.assemble(ALL, machine), nr, (), AUDIT_ARCHES[machine]) == "ENOSYS"


@pytest.mark.parametrize("capability", sorted(seccomp.GRANTED))
def test_a_capability_opens_its_calls_and_no_other(capability: str) -> None:
    without, held = frozenset[str](), frozenset({capability})
    for name in TABLES["x86_64"]:
        if name in seccomp.GRANTED[capability]:
            assert (ask(name, caps=without), ask(name, caps=held)) == ("EPERM", ALLOW)
        elif name != "clone3":
            assert ask(name, caps=without) == ask(name, caps=held), name


def test_sys_admin_may_make_namespaces_but_pivot_root_keys_and_io_uring_stay_closed() -> None:
    caps = compute(["SYS_ADMIN"])
    assert ask("unshare", 0x10000000, caps=caps) == ask("clone", 0x20000011, caps=caps) == ALLOW
    assert ask("clone3", caps=caps) == ask("mount", caps=caps) == ALLOW
    assert {ask(name, caps=ALL) for name in ("pivot_root", "keyctl", "io_uring_setup", "kexec_load")} == {"EPERM"}


def test_the_profile_names_only_calls_that_exist() -> None:
    known = TABLES["x86_64"].keys() | TABLES["aarch64"].keys()
    assert seccomp.rules().keys() <= known
    groups = [
        seccomp.ALLOWED,
        seccomp.REFUSED,
        frozenset(seccomp.CHECKED),
        frozenset().union(*seccomp.GRANTED.values()),
    ]
    assert sum(len(group) for group in groups) == len(frozenset().union(*groups))


@settings(deadline=None, max_examples=30)
@given(st.frozensets(st.sampled_from(sorted(ALL))))
def test_every_program_is_one_the_kernel_accepts(caps: frozenset[str]) -> None:
    for machine in MACHINES:
        block = seccomp.assemble(caps, machine)
        assert 0 < len(block) <= 4096  # BPF_MAXINSNS
        for index, (code, jt, jf, k) in enumerate(block):
            assert max(jt, jf) < 256
            jumps = (k,) if code == seccomp.JUMP else (jt, jf)
            assert code == seccomp.RETURN or all(index + 1 + jump < len(block) for jump in jumps)
        assert block[-1].code == seccomp.RETURN


def test_an_answer_costs_a_dozen_instructions_and_the_program_is_kept() -> None:
    program = seccomp.assemble(DOCKER_DEFAULT, "x86_64")
    assert len(program) < 256
    assert seccomp.program(DOCKER_DEFAULT) is seccomp.program(DOCKER_DEFAULT)
    steps = [0]

    class Counted(tuple[seccomp.Instruction, ...]):
        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            steps[0] += 1
            return super().__getitem__(index)

    for nr in range(470):
        steps[0] = 0
        evaluate(Counted(program), nr, (), AUDIT_ARCHES["x86_64"])
        assert steps[0] <= 20, nr


def under_filter(action: Callable[[], None], caps: frozenset[str] = DOCKER_DEFAULT) -> str:
    """Esegue ``action`` in un figlio chiuso nel filtro vero; torna il suo errore («» se è andata bene)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load(caps)
            action()
        except BaseException:  # noqa: BLE001 - the child reports whatever happened and ends
            os.write(writer, traceback.format_exc().encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        report = stream.read()
    os.waitpid(pid, 0)
    return report


def refused(name: str, *args: int) -> str:
    raw = ctypes.CDLL(None, use_errno=True).syscall
    result = raw(ctypes.c_long(TABLES[MACHINE][name]), *(ctypes.c_long(a) for a in args))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "ok"


def test_the_real_kernel_gives_the_same_answers() -> None:
    def child() -> None:
        assert {name: refused(name, 0, 0, 0, 0, 0) for name in DANGEROUS.split()} == dict.fromkeys(
            DANGEROUS.split(), "EPERM"
        )
        assert refused("clone3", 0, 0) == "ENOSYS"
        assert refused("unshare", libc.CLONE_NEWUSER) == refused("unshare", libc.CLONE_NEWNS) == "EPERM"
        assert refused("socket", 40, 1, 0) == refused("socket", 38, 5, 0) == "EAFNOSUPPORT"
        assert refused("ioctl", 0, 0x5412, 0) == refused("personality", 0x40000) == "EPERM"
        assert refused("getpid") == "ok"

    assert under_filter(child) == ""


def test_a_filter_cannot_be_shed_and_reaches_the_children() -> None:
    def child() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if refused("mount", 0, 0, 0, 0, 0) == "EPERM" else 1)
        assert os.waitpid(pid, 0)[1] == 0
        with open("/proc/self/status") as status:
            text = status.read()
        assert "Seccomp:\t2\n" in text
        assert "NoNewPrivs:\t1\n" in text

    assert under_filter(child) == ""


def test_ordinary_programs_run_behind_the_filter() -> None:
    def child() -> None:
        script = "echo ciao | cat >/dev/null && ls / >/dev/null && date >/dev/null && sleep 0.01"
        assert os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", script]) == 0

    assert under_filter(child) == ""


@pytest.mark.skipif(MACHINE != "x86_64", reason="int 0x80 is an x86 instruction")
def test_the_32_bit_door_of_x86_is_closed() -> None:
    # mov eax,20 (getpid of i386); int 0x80; ret
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"

    def child() -> None:
        import mmap

        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        assert call() == -errno.ENOSYS

    assert under_filter(child) == ""
    assert evaluate(seccomp.assemble(ALL, "x86_64"), 20, (), I386) == "ENOSYS"

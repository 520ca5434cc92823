"""La tabella dei numeri di syscall è quella del kernel, su ogni architettura."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from labkit.errors import KernelError
from labkit.kernel import syscalls

GENERIC = Path("/usr/include/asm-generic/unistd.h")
# What arch/arm64/include/asm/unistd.h asks of the generic header.
ARM64 = (
    "__BITS_PER_LONG=64",
    "__ARCH_WANT_RENAMEAT",
    "__ARCH_WANT_NEW_STAT",
    "__ARCH_WANT_SET_GET_RLIMIT",
    "__ARCH_WANT_TIME32_SYSCALLS",
    "__ARCH_WANT_SYS_CLONE3",
    "__ARCH_WANT_MEMFD_SECRET",
)


def x86_64_header() -> Path | None:
    return next(Path("/usr/include").glob("**/asm/unistd_64.h"), None)


def headers_agree(real: dict[str, int], ours: dict[str, int]) -> None:
    assert len(real) > 250
    assert {name: ours.get(name) for name in real} == real
    # What we have beyond the header is newer than the header, never a slip.
    assert all(ours[name] > max(real.values()) or 334 < ours[name] < 424 for name in ours.keys() - real.keys())


def test_x86_64_numbers_are_those_of_the_kernel_headers() -> None:
    header = x86_64_header()
    if header is None:
        pytest.skip("linux-libc-dev is not installed")
    real = {n: int(v) for n, v in re.findall(r"^#define __NR_(\w+) (\d+)$", header.read_text(), re.MULTILINE)}
    headers_agree(real, dict(syscalls.TABLES["x86_64"]))


def test_aarch64_numbers_are_those_of_the_generic_header() -> None:
    if not GENERIC.exists() or shutil.which("cpp") is None:
        pytest.skip("linux-libc-dev or cpp is not installed")
    command = ["cpp", "-dM", *(f"-D{name}" for name in ARM64), str(GENERIC)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    defined = dict(re.findall(r"#define (__NR\w+) (\w+)", text))

    def value(word: str) -> str:
        return value(defined[word]) if word in defined else word

    real = {n[5:]: int(value(n)) for n in defined if n.startswith("__NR_") and value(n).isdecimal()}
    for not_a_call in ("arch_specific_syscall", "syscalls"):
        real.pop(not_a_call, None)
    headers_agree(real, dict(syscalls.TABLES["aarch64"]))


@pytest.mark.parametrize("machine", sorted(syscalls.TABLES))
def test_a_number_has_one_name_and_a_name_one_number(machine: str) -> None:
    table = syscalls.TABLES[machine]
    assert len(set(table.values())) == len(table)
    text = f"{syscalls._X86_64 if machine == 'x86_64' else syscalls._AARCH64} {syscalls._COMMON}"
    words = [word for word in text.split() if not word.isdecimal()]
    assert len(words) == len(set(words)) == len(table)


def test_new_calls_have_the_same_number_everywhere() -> None:
    x86, arm = syscalls.TABLES["x86_64"], syscalls.TABLES["aarch64"]
    assert {n: v for n, v in x86.items() if v >= 424} == {n: v for n, v in arm.items() if v >= 424}


def test_the_real_kernel_answers_to_our_number() -> None:
    from labkit.kernel import libc

    assert libc.syscall("getpid") == os.getpid()
    assert libc.syscall("getppid") == os.getppid()


def test_an_unknown_name_is_an_italian_sentence() -> None:
    with pytest.raises(KernelError, match="non esiste su") as problem:
        syscalls.number("apri_sesamo")
    assert problem.value.syscall == "apri_sesamo"
    assert problem.value.remedy


def test_an_unknown_machine_is_an_italian_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "NUMBERS", {})
    monkeypatch.setattr(syscalls, "MACHINE", "riscv64")
    with pytest.raises(KernelError, match="processore riscv64: conosce aarch64 e x86_64"):
        syscalls.number("mount")

"""In un posto come Binder, dove il kernel non concede niente, il corso comincia lo stesso: in un kernel suo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.course import notebook
from tests import binder, users
from tests.notebooks.gates import NOTEBOOKS, lesson_number
from tests.notebooks.running import RunAs, environment, nbval

pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="User Mode Linux è per x86-64"),
]

#: What each lesson says differently when the laboratory has a kernel of its own: the line under the first
#: cell, the namespaces in common with the notebook, and what asks a namespace time, that User Mode Linux has not.
DIFFERENT = {
    "00": ["preparazione"],
    "03": [
        *("preparazione", "chi-foto", "uts-mappa", "time-esperimento", "time-confronta", "costo-figura"),
        *("confronto-mappa", "es-3-verifica"),
    ],
    "09": ["preparazione"],
}
LESSONS = [path for path in NOTEBOOKS if lesson_number(path) in DIFFERENT]
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)

#: Tries everything that the place must refuse, and says what the kernel answered.
ATTEMPTS = """
import ctypes, json, os
from labkit.kernel.syscalls import number
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, *arguments):
    done = libc.syscall(number(name), *arguments)
    return "ok" if done == 0 else os.strerror(ctypes.get_errno())
fields = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
zero = ctypes.create_string_buffer(64)
print(json.dumps({
    "answers": {
        "unshare": attempt("unshare", 0x10000000),
        "clone": attempt("clone", 0x10000011, 0, 0, 0, 0),
        "clone3": attempt("clone3", zero, 64),
        "mount": attempt("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
        "setns": attempt("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0),
        "pivot_root": attempt("pivot_root", b"/", b"/"),
    },
    "status": {name: fields[name].strip() for name in ("NoNewPrivs", "Seccomp", "CapEff", "Groups")},
    "uid": os.getuid(),
    "kvm": os.path.exists("/dev/kvm"),
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
}))
"""

DOCTOR = """
import json
from labkit.client.doctor import doctor
report = doctor()
print(json.dumps({"guest": report.guest, **report.to_json()}))
"""

LABORATORY = """
from labkit import Lab
with Lab() as lab:
    print(lab.backend, lab.mode, lab.run("busybox", ["hostname"], hostname="primo", quiet=True).output.strip())
"""


@pytest.fixture(scope="module")
def memory() -> Iterator[binder.Memory]:
    try:
        with binder.memory() as counted:
            yield counted
    except LookupError as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def place(run_as: users.RunAs, memory: binder.Memory) -> Iterator[RunAs]:
    """Come ``run_as``, ma chi esegue è in un posto come Binder, con User Mode Linux installato."""
    inside = users.RunAs(run_as.people, become=binder.become(memory))
    with binder.uml() as folder:

        def run(who: str, argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            return inside("nosub", argv, env={**options.pop("env", {}), **binder.variables(folder)}, **options)

        yield run


def ask(place: RunAs, program: str) -> str:
    done = place("nosub", [sys.executable, "-c", program], env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_place_refuses_what_binder_refuses(place: RunAs) -> None:
    found = json.loads(ask(place, ATTEMPTS))
    refused = os.strerror(1)
    assert found["answers"] == {
        "unshare": refused,
        "clone": refused,
        "clone3": os.strerror(38),
        "mount": refused,
        "setns": refused,
        "pivot_root": refused,
    }
    assert found["status"] == {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "Groups": ""}
    assert found["uid"] > 0
    assert not found["kvm"]
    assert found["shm"] == 64 << 20


def test_the_doctor_says_what_is_missing_and_where_the_laboratory_will_live(place: RunAs) -> None:
    found = json.loads(ask(place, DOCTOR))
    features = {feature["key"]: feature for feature in found["features"]}
    assert features["userns"]["ok"] is False
    assert "seccomp" in features["userns"]["reason"]
    assert "seccomp=unconfined" in features["userns"]["remedy"]
    assert features["uml"]["ok"] is True
    assert features["kvm"]["ok"] is None
    assert found["ok"]
    assert found["guest"]
    assert "kernel suo, User Mode Linux" in found["summary"]
    assert "Namespace utente" in found["summary"]


def test_auto_takes_user_mode_linux_and_says_why(place: RunAs) -> None:
    done = place("nosub", [sys.executable, "-c", LABORATORY], env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "uml vm primo\n"
    assert done.stderr.startswith("Il laboratorio vive in un kernel suo, User Mode Linux. Questa macchina ")


@lessons
def test_a_lesson_says_the_same_things_but_for_its_kernel(place: RunAs, memory: binder.Memory, path: Path) -> None:
    """Fino in fondo, senza errori; e le soluzioni riescono, tranne quella che lì non si può fare, e lo dice."""
    cells = [cell["id"] for cell in notebook.code_cells(notebook.read(path))]
    verdict = nbval(place, "nosub", path)
    assert [cells[number] for number in verdict.failed] == DIFFERENT[lesson_number(path)], verdict.log
    assert verdict.tried == tuple(range(len(cells)))
    assert "caused an exception" not in verdict.log
    assert ("non si può fare" in verdict.log) == ("es-3-verifica" in DIFFERENT[lesson_number(path)]), verdict.log
    assert memory.kills == 0
    print(f"{path.name}: al massimo {memory.peak >> 20} MiB, con i file tenuti in memoria")

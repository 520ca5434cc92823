"""Il dottore su macchine a cui manca davvero qualcosa: fatte con namespace, mount, seccomp e chroot.

Ogni macchina è un processo in un namespace utente e di mount suoi: quando finisce non resta nulla.
``MACHINE`` fa i guasti come root di quel namespace; poi, se chiesto, diventa un utente normale in un
secondo namespace utente e lancia il dottore vero.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.path.realpath(sys.executable)
UNSHARE = shutil.which("unshare")
CHROOT = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.outside("il medico guarda la macchina di chi studia, non un kernel"),
    pytest.mark.skipif(UNSHARE is None, reason="manca unshare (util-linux)"),
]

DOCTOR = """
import json, sys, time
sys.path[:0] = {path!r}
start = time.monotonic()
from labkit.client.doctor import doctor
report = doctor()
text = str(report)
print(json.dumps({{"seconds": time.monotonic() - start, "text": text, **report.to_json()}}))
"""

#: What Docker's default profile answers to unshare(2) without CAP_SYS_ADMIN, as a BPF program.
SECCOMP = """
import ctypes, os, struct, sys
number = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, header, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"""


def packages() -> list[str]:
    """The project and what it needs, for an interpreter that knows nothing of our venv."""
    return [str(ROOT), *(p for p in sys.path if p.endswith("-packages"))]


def visit(*before: str, env: dict[str, str] | None = None, python: str = PYTHON) -> dict[str, Any]:
    """The doctor's answer behind some commands that change the machine; a traceback fails the test."""
    command = [*before, python, "-I", "-c", DOCTOR.format(path=packages())]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, cwd="/", env=env
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    found["by_key"] = {feature["key"]: feature for feature in found["features"]}
    assert found["summary"] in found["text"]
    return found


def broken(script: str, *, plain: bool = False) -> list[str]:
    """A machine where a shell script, root in its own namespaces, has broken something."""
    assert UNSHARE
    then = f'exec {UNSHARE} --user --map-user=1000 --map-group=1000 -- "$@"' if plain else 'exec "$@"'
    return [UNSHARE, "--user", "--map-root-user", "--mount", "--", "sh", "-ec", f"{script}\n{then}", "sh"]


def test_the_healthy_machine_finds_a_laboratory_possible_and_is_quick() -> None:
    times = []
    for _ in range(3):
        found = visit()
        times.append(found["seconds"])
    assert found["ok"], found["text"]
    assert min(times) < 1.5
    for key in ("userns", "namespaces", "overlay", "proc", "bridge"):
        assert found["by_key"][key]["ok"] is True, found["by_key"][key]


def test_the_doctor_leaves_nothing_behind() -> None:
    def things() -> tuple[int, set[str], set[str]]:
        mounts = len(Path("/proc/self/mountinfo").read_text().splitlines())
        links = set(os.listdir("/sys/class/net"))
        return mounts, links, {name for name in os.listdir("/tmp") if name.startswith("labkit-probe")}

    before = things()
    visit()
    assert things() == before


def test_no_user_namespaces_because_the_maximum_is_zero() -> None:
    found = visit(*broken("echo 0 > /proc/sys/user/max_user_namespaces"))
    feature = found["by_key"]["userns"]
    assert feature["ok"] is False
    assert "max_user_namespaces vale 0" in feature["reason"]
    assert "sysctl -w user.max_user_namespaces=" in feature["remedy"]
    assert found["ok"] == (found["by_key"]["uml"]["ok"] is True), "only a kernel of its own saves it"
    assert found["by_key"]["overlay"]["ok"] is None


def test_a_docker_like_filter_on_unshare_is_recognised(tmp_path: Path) -> None:
    loader = tmp_path / "loader.py"
    loader.write_text(SECCOMP)
    found = visit(PYTHON, "-I", str(loader))
    feature = found["by_key"]["userns"]
    assert feature["ok"] is False
    assert "seccomp" in feature["reason"]
    assert "seccomp=unconfined" in feature["remedy"]


def test_a_chroot_is_recognised(tmp_path: Path) -> None:
    # A root that is no mount point: this is what debootstrap and a rescue system give.
    script = f"""
mount -t tmpfs none {tmp_path}
mkdir {tmp_path}/r
for d in /*; do
  if [ -L "$d" ]; then cp -P "$d" {tmp_path}/r/
  elif [ -d "$d" ]; then mkdir {tmp_path}/r/$d; mount --rbind "$d" {tmp_path}/r/$d; fi
done
set -- {CHROOT} {tmp_path}/r "$@"
"""
    feature = visit(*broken(script))["by_key"]["userns"]
    assert feature["ok"] is False
    assert "chroot" in feature["reason"]
    assert "systemd-nspawn" in feature["remedy"]


def test_a_chroot_on_a_mount_point_is_at_least_suspected(tmp_path: Path) -> None:
    script = f'mount --rbind / {tmp_path}\nset -- {CHROOT} {tmp_path} "$@"'
    feature = visit(*broken(script))["by_key"]["userns"]
    assert feature["ok"] is False
    assert "chroot" in feature["reason"]


def test_a_masked_proc_is_recognised() -> None:
    found = visit(*broken("mount --bind /dev/null /proc/uptime"))
    feature = found["by_key"]["proc"]
    assert feature["ok"] is False
    assert "/proc/uptime" in feature["reason"]
    assert "systempaths=unconfined" in feature["remedy"]


def test_a_machine_without_proc_gets_a_report_all_the_same() -> None:
    found = visit(*broken("mount -t tmpfs none /proc"))
    feature = found["by_key"]["userns"]
    assert feature["ok"] is False
    assert "/proc" in feature["reason"]
    assert "mount -t proc" in feature["remedy"]
    assert found["by_key"]["memory"]["ok"] is True, "sysinfo(2) needs no /proc"


def test_a_machine_without_sys_gets_a_report_all_the_same() -> None:
    found = visit(*broken("mount -t tmpfs none /sys"))
    assert found["by_key"]["cgroup"]["ok"] is False
    assert "mount -t cgroup2" in found["by_key"]["cgroup"]["remedy"]


def test_a_machine_without_programs_says_which_and_how_to_have_them() -> None:
    hide = "\n".join(
        f"[ ! -d {d} ] || [ -L {d} ] || mount -t tmpfs none {d}" for d in ("/usr/sbin", "/usr/local/sbin", "/sbin")
    )
    assert UNSHARE
    found = visit(*broken(f"{hide}\nexport PATH=/nessuna"))
    missing = {key for key, feature in found["by_key"].items() if feature["ok"] is False}
    assert {"busybox", "nginx", "nft"} <= missing
    for key in ("busybox", "nginx", "nft"):
        assert found["by_key"][key]["remedy"], key


#: The machine may have no user 1000, or one of any name: this one has.
SUBIDS = """
(grep -v '^[^:]*:[^:]*:1000:' /etc/passwd; echo mille:x:1000:1000::/:/bin/sh) > {tmp}/passwd
chmod 644 {tmp}/passwd
mount --bind {tmp}/passwd /etc/passwd
printf '{who}:{first}:65536\\n' > {tmp}/subid
mount --bind {tmp}/subid /etc/subuid
mount --bind {tmp}/subid /etc/subgid
"""


@pytest.fixture
def newuidmap() -> str:
    found = shutil.which("newuidmap")
    if found is None or not os.path.exists("/etc/subuid") or not os.path.exists("/etc/subgid"):
        pytest.skip("servono newuidmap, /etc/subuid e /etc/subgid (pacchetto uidmap)")
    return found


def test_without_a_range_the_remedy_gives_one_that_is_free(tmp_path: Path, newuidmap: str) -> None:
    found = visit(*broken(SUBIDS.format(tmp=tmp_path, who="un-altro", first=500000), plain=True))
    feature = found["by_key"]["subuid"]
    assert feature["ok"] is False
    assert "/etc/subuid" in feature["reason"]
    assert "--add-subuids 565536-631071" in feature["remedy"]
    assert found["ok"] == visit()["ok"], "a lab is possible all the same"


def test_a_hidden_newuidmap_is_a_package_to_install(tmp_path: Path, newuidmap: str) -> None:
    script = SUBIDS.format(tmp=tmp_path, who=1000, first=100000) + f"mount --bind /dev/null {newuidmap}"
    feature = visit(*broken(script, plain=True))["by_key"]["subuid"]
    assert feature["ok"] is False
    assert "mancano newuidmap" in feature["reason"]
    assert "uidmap" in feature["remedy"] or "shadow" in feature["remedy"]


def test_a_newuidmap_without_its_privileges_is_recognised(tmp_path: Path, newuidmap: str) -> None:
    # In a namespace where root of the host does not exist, the set-uid bit counts for nothing.
    feature = visit(*broken(SUBIDS.format(tmp=tmp_path, who=1000, first=100000), plain=True))["by_key"]["subuid"]
    assert feature["ok"] is False
    assert "privilegi" in feature["reason"]
    assert f"chmod u+s {newuidmap}" in feature["remedy"]


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="solo root può diventare un altro utente")


def as_user(tmp_path: Path, *options: str) -> list[str]:
    """A real plain user (uid 12345) with a range of subuid, in a mount namespace of its own."""
    assert UNSHARE
    script = SUBIDS.format(tmp=tmp_path, who=12345, first=1000000) + (
        f"echo studente:x:12345:12345::/:/bin/sh >> {tmp_path}/passwd\n"
        f'exec setpriv --reuid=12345 --regid=12345 --clear-groups {" ".join(options)} "$@"'
    )
    return [UNSHARE, "--mount", "--", "sh", "-ec", script, "sh"]


@pytest.mark.root
@needs_root
def test_a_plain_user_with_a_range_has_many_users(tmp_path: Path, newuidmap: str) -> None:
    found = visit(*as_user(tmp_path))
    assert found["by_key"]["subuid"]["ok"] is True, found["by_key"]["subuid"]
    assert "65536" in found["by_key"]["subuid"]["reason"]
    assert "studente (uid 12345)" in found["by_key"]["user"]["reason"]


@pytest.mark.root
@needs_root
def test_a_user_without_a_name_is_told_so() -> None:
    feature = visit("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")["by_key"]["subuid"]
    assert feature["ok"] is False
    assert "12345 non ha un nome in /etc/passwd" in feature["reason"]
    assert "/etc/passwd" in feature["remedy"]


@pytest.mark.root
@needs_root
def test_no_new_privs_makes_newuidmap_useless_and_is_named(tmp_path: Path, newuidmap: str) -> None:
    feature = visit(*as_user(tmp_path, "--no-new-privs"))["by_key"]["subuid"]
    assert feature["ok"] is False
    assert "no_new_privs" in feature["reason"]


@pytest.mark.root
@needs_root
def test_a_user_with_no_processes_left_gets_a_report(tmp_path: Path, newuidmap: str) -> None:
    limit = ["prlimit", "--nproc=1:1"]
    if shutil.which("prlimit") is None:
        pytest.skip("manca prlimit (util-linux)")
    command = as_user(tmp_path)
    command[5] = command[5].replace("exec setpriv", f"exec {' '.join(limit)} setpriv")
    found = visit(*command)
    assert found["by_key"]["userns"]["ok"] is not True
    assert "tutto il corso" not in found["summary"]


def test_the_probe_ends_its_children_at_the_deadline(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        f"""
import sys, time, os, json
sys.path.insert(0, {str(ROOT)!r})
from labkit.backends import probe, trial
def slow():
    if os.fork() == 0:
        time.sleep(60)  # a grandchild, in the group of the experiment
    time.sleep(60)
def broken():
    raise ValueError("imprevisto")
experiments = {{"slow": slow, "broken": broken, "userns": probe.userns}}
start = time.monotonic()
answers = list(trial.run(experiments, deadline=0.3))
print(json.dumps([time.monotonic() - start, answers]))
"""
    )
    before = set(os.listdir("/proc"))
    done = subprocess.run([PYTHON, "-I", "-S", str(script)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    seconds, answers = json.loads(done.stdout)
    by_name = {answer["name"]: answer for answer in answers}
    assert seconds < 2
    assert by_name["slow"]["ok"] is None
    assert by_name["slow"]["step"] == "scadenza"
    assert by_name["broken"]["ok"] is None
    assert by_name["userns"]["ok"] is True
    time.sleep(0.05)
    left = [pid for pid in set(os.listdir("/proc")) - before if pid.isdecimal() and str(script) in command_line(pid)]
    assert left == []


def command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""

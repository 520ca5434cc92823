"""Un'immagine cattiva non fa uscire niente, e l'immagine ``host`` non mostra ciò che non è di tutti."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from labkit import Lab, LabError

pytestmark = pytest.mark.kernel

#: Le cartelle della macchina che non contengono solo programmi.
LIST = "find /etc /usr/local /home /root /srv /opt /var /run /mnt"


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """Una radice minima: busybox e basta."""
    busybox = next(Path(p) for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p))
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "cat", "ls", "id", "echo", "touch", "stat", "readlink"):
        (root / "bin" / name).symlink_to("busybox")
    for folder in (tmp_path, *tmp_path.parents):  # a plain user's lab must be able to reach it
        if folder.stat().st_uid == os.geteuid() and str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)
    return root


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc", "dev/pts", "dev/shm"])
@pytest.mark.parametrize("absolute", [True, False], ids=["assoluto", "relativo"])
def test_a_symlink_in_place_of_a_mount_target_leads_nowhere(
    lab: Lab, rootfs: Path, tmp_path: Path, name: str, absolute: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    link = rootfs / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside if absolute else "../" * 12 + str(outside).lstrip("/"))
    with suppress(LabError):  # to refuse is as good as to stay inside
        lab.run(str(rootfs), ["echo", "dentro"], quiet=True)
    assert list(outside.iterdir()) == []
    assert link.is_symlink()
    assert not any(str(outside) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())


@pytest.mark.parametrize("name", ["hostname", "hosts", "resolv.conf"])
@pytest.mark.parametrize("kind", ["symlink", "fifo", "hardlink", "directory"])
def test_the_files_written_into_etc_are_never_written_elsewhere(
    lab: Lab, rootfs: Path, tmp_path: Path, name: str, kind: str
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("intatto")
    outside.chmod(0o666)
    (rootfs / "etc").mkdir()
    target = rootfs / "etc" / name
    if kind == "symlink":
        target.symlink_to(outside)
    elif kind == "hardlink":
        os.link(outside, target)
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.mkdir()
    with suppress(LabError):  # to refuse is as good as to stay inside
        lab.run(str(rootfs), ["cat", f"/etc/{name}"], quiet=True)
    assert outside.read_text() == "intatto"


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("kind", ["fifo", "infinite", "symlink to /proc", "garbage"])
def test_a_poisoned_list_of_users_does_not_hang(lab: Lab, rootfs: Path, name: str, kind: str) -> None:
    (rootfs / "etc").mkdir()
    target = rootfs / "etc" / name
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "infinite":
        target.symlink_to("/dev/zero")
    elif kind == "symlink to /proc":
        target.symlink_to("/proc/self/environ")
    else:
        target.write_bytes(b"\xff\0:::\n" * 100_000 + b"root:x:" + b"9" * 5000 + b":0::/:\n")
    result = lab.run(str(rootfs), ["echo", "vivo"], user="0", quiet=True)
    assert result.output == "vivo\n"


def test_a_directory_image_is_never_written(lab: Lab, rootfs: Path) -> None:
    before = sorted(path.relative_to(rootfs) for path in rootfs.rglob("*"))
    result = lab.run(str(rootfs), ["sh", "-c", "echo x > /nuovo; rm -f /bin/ls; cat /nuovo"], quiet=True)
    assert result.output == "x\n"
    assert sorted(path.relative_to(rootfs) for path in rootfs.rglob("*")) == before


def test_a_workdir_that_is_a_symlink_to_the_outside_stays_inside(lab: Lab, rootfs: Path) -> None:
    (rootfs / "casa").symlink_to("../../../../../../..")
    result = lab.run(str(rootfs), ["sh", "-c", "pwd -P; ls /"], workdir="/casa", quiet=True)
    assert result.output.splitlines()[0] == "/"
    assert set(result.output.split()) >= {"bin", "proc"}


def test_nothing_of_a_python_image_is_run_with_host_rights(lab: Lab, rootfs: Path) -> None:
    """Un ``encodings`` o una libreria avvelenati nell'immagine non girano prima dell'execve."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for place in (f"usr/lib/{version}", "usr/lib/python3/dist-packages", f"usr/local/lib/{version}", ""):
        folder = rootfs / place
        folder.mkdir(parents=True, exist_ok=True)
        for module in ("encodings", "shutil", "difflib", "traceback", "pwd", "grp", "labkit", "sitecustomize"):
            (folder / f"{module}.py").write_text("open('/preso', 'w').close()\n")
    result = lab.run(str(rootfs), ["ls", "/"], user="0", quiet=True)
    assert "preso" not in result.output.split()
    refused = lab.run(str(rootfs), ["non-esiste"], quiet=True)
    assert refused.exit_code == 127


def test_the_host_image_shows_only_what_any_other_user_could_read(lab: Lab) -> None:
    result = lab.run("host", ["sh", "-c", f"{LIST} 2>/dev/null"], quiet=True)
    seen = [Path(line) for line in result.output.splitlines()]
    assert Path("/etc/passwd") in seen
    revealed = []
    for path in seen:
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue  # it is only in the container
        if stat.S_ISREG(mode) and not mode & 0o004:
            revealed.append(str(path))
    assert revealed == []


def test_the_host_image_has_no_homes_and_no_state(lab: Lab) -> None:
    script = "ls -A /home /root /srv /mnt /opt /run; find /var -type f | head"
    lines = [line for line in lab.run("host", ["sh", "-c", script], quiet=True).output.splitlines() if line]
    assert [line for line in lines if not line.endswith(":")] == []


@pytest.mark.root
@pytest.mark.outside("i programmi dell'host, da lì, non si possono scrivere")
def test_a_private_file_planted_among_the_programs_is_hidden(lab: Lab) -> None:
    secret = Path(f"/usr/local/lib/labkit-test-{os.getpid()}")
    secret.write_text("segreto")
    secret.chmod(0o600)
    try:
        with Lab() as fresh:
            result = fresh.run("host", ["cat", str(secret)], quiet=True)
        assert "segreto" not in result.output
    finally:
        secret.unlink()


def test_the_host_machine_is_never_written(lab: Lab) -> None:
    script = "touch /usr/bin/labkit-test; touch /etc/labkit-test && rm /etc/passwd && ls /etc/labkit-test"
    assert lab.run("host", ["sh", "-c", script], quiet=True).output == "/etc/labkit-test\n"
    assert not os.path.exists("/usr/bin/labkit-test")
    assert not os.path.exists("/etc/labkit-test")
    assert os.path.exists("/etc/passwd")

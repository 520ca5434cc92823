"""``binder/`` dice quello che serve: repo2docker lo accetta, i pacchetti ci sono, le righe fanno ciò che dicono."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.backends import kernels
from labkit.course import hub, launch
from tests.unit.test_tools import setup

ROOT = Path(__file__).resolve().parents[2]
BINDER = ROOT / "binder"
DOCKERFILE = (BINDER / "Dockerfile").read_text()
PACKAGES = (BINDER / "apt.txt").read_text().split()


def test_repo2docker_takes_the_dockerfile_as_it_is() -> None:
    command = [
        sys.executable,
        "-m",
        "repo2docker",
        "--no-build",
        "--debug",
        "--user-id",
        "1000",
        "--user-name",
        "jovyan",
    ]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == DOCKERFILE.strip()


def test_the_packages_are_those_of_who_studies_and_a_kernel_that_asks_no_privilege() -> None:
    assert sorted(PACKAGES) == PACKAGES
    assert {need.apt for need in setup.NEEDS if need.goal == "lab"} <= set(PACKAGES)
    assert {"user-mode-linux", "procps", "python3-venv"} <= set(PACKAGES)


@pytest.mark.skipif(
    platform.freedesktop_os_release().get("ID") != "debian" or shutil.which("apt-cache") is None,
    reason="i pacchetti sono quelli di Debian",
)
def test_debian_has_every_package() -> None:
    known = subprocess.run(["apt-cache", "show", "--no-all-versions", *PACKAGES], capture_output=True, text=True).stdout
    assert set(PACKAGES) <= set(re.findall(r"^Package: (\S+)$", known, re.MULTILINE))


def test_what_the_image_copies_and_runs_is_in_the_project() -> None:
    for source in re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE):
        assert (ROOT / source).exists(), source
    assert "RUN python3 tools/setup.py lab" in DOCKERFILE
    # BinderHub runs «jupyter-lab»: ours must come before the real one.
    path = re.findall(r"PATH=(\S+)", DOCKERFILE)[0].split(":")
    assert path[:2] == ["/opt/corso/binder/bin", "/opt/corso/.venv/bin"]
    program = BINDER / "bin" / "jupyter-lab"
    assert os.access(program, os.X_OK)
    assert f"-m {hub.__name__}" in program.read_text()


def test_the_kernel_of_qemu_is_taken_while_the_image_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(kernels, "linux", asked.append)
    exec(re.findall(r'^RUN python3 -c "([^"]*)"', DOCKERFILE, re.MULTILINE)[0])
    assert asked == [print]


def test_nothing_in_the_image_runs_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["${NB_USER}"]
    assert "sudo" not in PACKAGES


def test_who_starts_the_server_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PATH", "JUPYTER_CONFIG_PATH"):  # put back at the end
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(sys, "argv", ["hub"])
    monkeypatch.chdir(tmp_path)
    started: list[list[str]] = []
    monkeypatch.setattr(hub.server, "run", lambda: started.append(sys.argv[1:]))
    hub.main(["--ip=0.0.0.0", "--ServerApp.base_url=/user/prova/"])
    folder = tmp_path / "dentro-i-container"
    assert started == [[*launch.lab_options(folder), "--ip=0.0.0.0", "--ServerApp.base_url=/user/prova/"]]
    assert "--LabApp.default_url=/lab/tree/00-benvenuto.ipynb" in started[0]
    assert Path.cwd() == folder
    assert not any("token" in option or "ip=127" in option for option in launch.lab_options(folder))

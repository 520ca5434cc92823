"""Chi prepara la macchina: che cosa installa, quando rifà l'ambiente."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> Any:
    """Il modulo ``tools/NAME.py``, che è un programma e non sta in un pacchetto."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its own module by name
    spec.loader.exec_module(module)
    return module


setup = tool("setup")


def need(apt: str, present: bool) -> Any:
    return setup.Need(apt, "x-" + apt, "y-" + apt, "serve a " + apt, lambda: present, "lab")


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install uno due"),
        ("dnf", "dnf install x-uno x-due"),
        ("pacman", "pacman -S --needed y-uno y-due"),
        ("nessuno", ""),
    ],
)
def test_every_distribution_is_told_its_own_command(monkeypatch, manager, command):
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/bin/{name}" if name == manager else None)
    assert setup.install_command([need("uno", False), need("due", False), need("due", False)]) == command


def test_what_is_there_is_not_asked_for_and_each_goal_asks_its_own():
    assert {need.goal for need in setup.NEEDS} == {"lab", "test"}
    assert all(need.why and need.apt for need in setup.NEEDS)
    assert {need.goal for need in setup.NEEDS if need.goal in setup.GOALS["lab"]} == {"lab"}
    assert set(setup.GOALS["setup"]) == set(setup.GOALS["test"]) == set(setup.GOALS["bench"])


def test_busybox_must_be_static(tmp_path, monkeypatch):
    busybox = tmp_path / "busybox"
    monkeypatch.setenv("PATH", str(tmp_path))
    for content, good in ((b"\x7fELF....", True), (b"\x7fELF../lib64/ld-linux-x86-64.so.2\0", False)):
        busybox.write_bytes(content)
        busybox.chmod(0o755)
        assert setup.have_static_busybox() is good


def test_without_sudo_nobody_becomes_root_and_without_a_terminal_sudo_does_not_wait(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    assert setup.privileged(["apt-get"]) is None
    monkeypatch.setattr("shutil.which", lambda name, path=None: "/usr/bin/" + name)
    assert setup.privileged(["apt-get"]) == ["sudo", "-n", "apt-get"]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert setup.privileged(["apt-get"]) == ["apt-get"]


def test_the_environment_is_made_again_when_something_that_it_holds_changes(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("pyproject.toml", "requirements/lab.txt", "share/jupyter/labkit.json")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("prima")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    seen = [setup.fingerprint(files[1])]
    assert setup.fingerprint(files[1]) == seen[0]
    for file in files:
        file.write_text("dopo")
        seen.append(setup.fingerprint(files[1]))
    assert len(set(seen)) == len(seen)


def test_a_python_that_others_cannot_reach_is_seen(tmp_path):
    python = tmp_path / "a" / "python3"
    python.parent.mkdir()
    python.write_text("")
    python.chmod(0o755)
    python.parent.chmod(0o700)
    assert not setup.readable_by_all(str(python))
    assert setup.readable_by_all("/bin/sh")


def test_a_wrong_goal_gets_the_instructions():
    done = subprocess.run([sys.executable, ROOT / "tools" / "setup.py", "volare"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "tools/setup.py lab" in done.stdout

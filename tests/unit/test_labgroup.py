"""Dove può stare il gruppo di un laboratorio: nel posto più vicino che lo permette, e se no si sa perché."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labkit.kernel.cgroups import CONTROLLERS, Cgroup, Hierarchy
from labkit.supervisor import labgroup
from labkit.supervisor.labgroup import LabGroup, limit_features

ALL = " ".join(CONTROLLERS)


def group(folder: Path, controllers: str = ALL, pids: str = "", root: bool = False) -> Path:
    """Una cartella che sembra un cgroup della versione 2; la radice vera è la sola senza ``cgroup.type``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text(pids)
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text(controllers)
    if not root:
        (folder / "cgroup.type").write_text("domain\n")
    return folder


@pytest.fixture(autouse=True)
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labgroup, "_ask_systemd", lambda name: "qui non c'è systemd a concederlo")


def home(own: Path) -> tuple[str, str]:
    return labgroup._home_in_version_2(str(own), "labkit-prova")


def test_the_root_of_version_two_is_a_good_place(tmp_path: Path) -> None:
    root = group(tmp_path / "radice", pids="1\n2\n", root=True)
    assert home(root) == (str(root), "")


def test_a_group_with_processes_gives_its_place_to_the_nearest_empty_one_above(tmp_path: Path) -> None:
    group(tmp_path / "radice", pids="1\n", root=True)
    slice_ = group(tmp_path / "radice" / "fetta")
    own = group(slice_ / "sessione", controllers="", pids="7\n8\n")
    assert home(own) == (str(slice_), "")


def test_the_guard_alone_in_its_group_stays_there(tmp_path: Path) -> None:
    group(tmp_path / "radice", pids="1\n", root=True)
    own = group(tmp_path / "radice" / "scope", pids=f"{os.getpid()}\n")
    assert home(own) == (str(own), "")


def test_where_everything_is_busy_the_reason_is_a_sentence(tmp_path: Path) -> None:
    top = group(tmp_path / "radice", pids="1\n")
    own = group(top / "sessione", pids="7\n")
    assert home(own) == ("", "serve un cgroup delegato a questo utente, e qui non c'è systemd a concederlo")


def test_without_controllers_any_folder_will_do(tmp_path: Path) -> None:
    own = group(tmp_path / "ibrida", controllers="", pids="1\n2\n")
    assert home(own) == (str(own), "")


# ---- what is asked of systemd


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Una macchina che dice di avere systemd; il suo ``busctl`` è da scrivere."""
    monkeypatch.undo()
    monkeypatch.setattr(labgroup.os.path, "isdir", lambda path: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "busctl"


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_machine_without_busctl_is_told(systemd: Path) -> None:
    assert labgroup._ask_systemd("labkit-prova").startswith("systemd non risponde: ")


def test_a_refusal_of_systemd_is_repeated_on_one_line(systemd: Path) -> None:
    script(systemd, "echo 'Access denied' >&2; echo 'no bus' >&2; exit 1")
    assert labgroup._ask_systemd("labkit-prova") == "systemd ha detto di no: Access denied no bus"


def test_the_scope_is_asked_for_this_process_and_delegated(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = systemd.with_name("chiesto")
    script(systemd, f'echo "$@" > {asked}')
    folders = iter(["/prima", "/prima", "/dopo"])
    monkeypatch.setattr(labgroup, "_own_folder", lambda: next(folders))
    assert labgroup._ask_systemd("labkit-prova") == ""
    words = asked.read_text().split()
    assert "StartTransientUnit" in words
    assert words[words.index("ssa(sv)a(sa(sv))") + 1 :] == [
        "labkit-prova.scope", "fail", "3", "Delegate", "b", "true", "PIDs", "au", "1", str(os.getpid()),
        "CollectMode", "s", "inactive-or-failed", "0",
    ]  # fmt: skip
    assert ("--user" in words) == (os.geteuid() != 0)


# ---- what crosses to the supervisor


def test_a_group_that_cannot_be_entered_is_given_up_with_its_reason(tmp_path: Path) -> None:
    lab = LabGroup(Cgroup((Hierarchy(2, ("memory",), str(tmp_path / "non-c-è")),)))
    labgroup.enter(lab)
    assert lab.group.parts == ()
    assert "ENOENT" in lab.reasons["memory"]


def test_the_group_crosses_as_data() -> None:
    lab = LabGroup(Cgroup((Hierarchy(2, ("memory",), "/x/labkit-1"),)), {"io": "perché no"})
    again = LabGroup.from_json(lab.to_json())
    assert (again.group, again.reasons) == (lab.group, lab.reasons)
    assert lab.to_json()["name"] == "labkit-1"


def test_what_is_missing_has_its_reason_and_its_remedy() -> None:
    group_ = Cgroup((Hierarchy(1, ("pids",), "/x/labkit-1"),))
    found = {feature.key: feature for feature in limit_features(group_, {"memory": "lo scrive solo root"})}
    assert found["pids_limit"].ok
    assert (found["memory"].ok, found["memory"].reason) == (False, "lo scrive solo root")
    assert "uml" in found["memory"].remedy
    assert (found["cpuset_cpus"].ok, found["cpuset_cpus"].reason) == (False, "questo kernel non lo sa fare")
    assert "qemu" in found["cpuset_cpus"].remedy

"""Il dottore giudica bene ogni macchina, anche quelle che non abbiamo: i fatti sono dati."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labkit.client import diagnosis, machine, remedies
from labkit.client.doctor import LABORATORY, LESSONS, DoctorReport
from labkit.client.machine import Cgroups, Disk, Machine
from labkit.model import Feature

PROBES: dict[str, dict[str, Any]] = {
    name: {"ok": True}
    for name in ("userns", "filtered", "kinds", "overlay", "overlay_disk", "tmpfs_xattr", "proc", "bridge", "nft")
}

#: A machine with everything, used by a plain user.
GOOD = Machine(
    uid=1000,
    user="anna",
    release="6.8.0-45-generic",
    family="debian",
    systemd=True,
    probes={**PROBES, "subuid": {"ok": True, "count": 65536}, "kvm": {"ok": True}, "qemu_kvm": {"ok": True}},
    programs={
        name: f"/usr/bin/{name}"
        for name in ("busybox", "newuidmap", "newgidmap", "nft", "nginx", "qemu-system-x86_64", "sudo", "linux.uml")
    },
    static_busybox=True,
    cgroups=Cgroups("v2", frozenset({"memory", "cpu", "pids"})),
    memory=(8 << 30, 4 << 30),
    run=Disk("/run/user/1000/labkit", 1 << 30, True),
    home=Disk("/home/anna", 50 << 30, True),
    python=(3, 12, 3),
    executable="/usr/bin/python3.12",
    jupyterlab="4.6.6",
)


def with_probe(name: str, *, m: Machine = GOOD, **answer: Any) -> Machine:
    return replace(m, probes={**m.probes, name: answer})


def without_program(name: str) -> Machine:
    return replace(GOOD, programs={k: v for k, v in GOOD.programs.items() if k != name})


def report(m: Machine) -> DoctorReport:
    return DoctorReport(tuple(rule(m) for rule in diagnosis.RULES))


def test_a_good_machine_can_do_the_whole_course() -> None:
    found = report(GOOD)
    assert [feature.key for feature in found if feature.ok is not True] == []
    assert found.ok
    assert found.summary == "Questa macchina può fare tutto il corso."
    assert str(found).endswith(found.summary)


def test_keys_are_unique_and_the_tables_name_existing_keys() -> None:
    keys = [feature.key for feature in report(GOOD)]
    assert len(keys) == len(set(keys))
    assert set(LABORATORY) | set(LESSONS) <= set(keys)


def test_a_machine_of_which_nothing_is_known_gets_no_traceback_and_no_false_promise() -> None:
    found = report(Machine())
    assert not found.ok
    assert "tutto il corso" not in found.summary


def test_what_could_not_be_tried_is_not_promised() -> None:
    found = report(replace(GOOD, probes={}))
    assert found["userns"].ok is None
    assert found.summary.startswith("Non so dire se qui il laboratorio può nascere")


SYSCTL = "kernel.apparmor_restrict_unprivileged_userns"


@pytest.mark.parametrize(
    ("facts", "answer", "words", "remedy"),
    [
        ({"sysctls": {"user.max_user_namespaces": "0"}}, {"errno": errno.ENOSPC}, "vale 0",
         "sudo sysctl -w user.max_user_namespaces=15000"),
        ({"sysctls": {"kernel.unprivileged_userns_clone": "0"}}, {"errno": errno.EPERM}, "solo root",
         "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"sysctls": {SYSCTL: "1"}}, {"errno": errno.EPERM, "step": "uid_map"}, "AppArmor",
         f"sudo sysctl -w {SYSCTL}=0"),
        ({"sysctls": {SYSCTL: "1"}}, {"errno": errno.EACCES}, "AppArmor", "/etc/apparmor.d/labkit"),
        ({"seccomp": 2, "where": ("Docker",)}, {"errno": errno.EPERM}, "Docker li vieta con un filtro seccomp",
         "--security-opt seccomp=unconfined"),
        ({"seccomp": 2, "where": ("Podman",)}, {"errno": errno.EPERM}, "Podman", "podman run --security-opt"),
        ({"chroot": True}, {"errno": errno.EPERM}, "chroot", "systemd-nspawn"),
        ({}, {"errno": errno.EPERM}, "chroot", "esci dal chroot"),
        ({}, {"errno": errno.EINVAL}, "CONFIG_USER_NS", "kernel della tua distribuzione"),
        ({}, {"errno": errno.ENOSPC}, "numero massimo", "labkit clean"),
        ({}, {"errno": errno.EACCES}, "SELinux", "ausearch"),
        ({}, {"errno": errno.ENOENT, "step": "uid_map"}, "/proc", "mount -t proc"),
        ({}, {"errno": errno.EIO, "step": "uid_map"}, "uid_map (EIO", "kernel"),
    ],
)  # fmt: skip
def test_what_blocks_user_namespaces_is_named_with_its_cure(
    facts: dict[str, Any], answer: dict[str, Any], words: str, remedy: str
) -> None:
    m = with_probe("userns", m=without_program("linux.uml"), ok=False, **{"step": "unshare", **answer})
    m = replace(m, **facts)
    if facts.get("seccomp"):
        m = with_probe("filtered", m=m, ok=False, step="unshare", errno=errno.EPERM)
    found = report(m)
    feature = found["userns"]
    assert feature.ok is False
    assert words in feature.reason
    assert remedy in feature.remedy
    assert found["overlay"].ok is None, "what needs a user namespace is not judged without one"
    assert not found.ok
    assert "Namespace utente" in found.summary


def test_a_kernel_of_its_own_saves_the_course_where_this_one_refuses() -> None:
    refused = with_probe("userns", ok=False, step="unshare", errno=errno.EPERM)
    found = report(refused)
    assert found.ok
    assert found.guest
    assert found["userns"].ok is False
    assert found.summary == (
        "Qui il laboratorio vivrà in un kernel suo, User Mode Linux. A questa macchina manca: Namespace utente."
    )
    alone = report(replace(refused, programs=without_program("linux.uml").programs))
    assert not alone.ok
    assert not alone.guest
    assert alone["uml"].ok is False
    assert "qui serve" in alone["uml"].reason
    assert alone["uml"].remedy == "sudo apt-get install -y user-mode-linux"
    assert not report(replace(refused, static_busybox=False)).ok, "a kernel does not bring busybox"
    assert not report(GOOD).guest


def test_the_apparmor_remedy_is_a_line_that_a_shell_understands() -> None:
    m = replace(with_probe("userns", ok=False, step="uid_map", errno=errno.EPERM), sysctls={SYSCTL: "1"})
    remedy = report(m)["userns"].remedy
    sysctl, _, profile = remedy.partition("   # ")
    assert sysctl == f"sudo sysctl -w {SYSCTL}=0"
    for command in (remedy, profile.partition(": ")[2]):
        assert subprocess.run(["sh", "-n", "-c", command], capture_output=True).returncode == 0
    assert 'profile labkit "/usr/bin/python3.12"' in profile


@pytest.mark.parametrize(
    ("m", "key", "ok", "words", "remedy"),
    [
        (without_program("nginx"), "nginx", False, "non è installato", "sudo apt-get install -y nginx-light"),
        (without_program("nft"), "nft", False, "manca il programma", "sudo apt-get install -y nftables"),
        (replace(GOOD, static_busybox=False), "busybox", False, "librerie", "sudo apt-get install -y busybox-static"),
        (
            without_program("qemu-system-x86_64"),
            "qemu",
            False,
            "non è installato",
            "apt-get install -y qemu-system-x86",
        ),
        (without_program("linux.uml"), "uml", None, "non serve", "apt-get install -y user-mode-linux"),
        (replace(GOOD, release="5.4.0"), "kernel", False, "5.11", "aggiorna"),
        (replace(GOOD, release="?"), "kernel", None, "non capisco", ""),
        (
            replace(GOOD, release="4.4.0-19041-Microsoft", where=("WSL 1",)),
            "where",
            False,
            "WSL 2",
            "wsl --set-version",
        ),
        (replace(GOOD, memory=(1 << 30, 1 << 28)), "memory", False, "256 MiB", "chiudi"),
        (replace(GOOD, memory=(0, 0)), "memory", None, "non so", ""),
        (replace(GOOD, run=Disk("/run/x", 1 << 20, True)), "disk_run", False, "restano 1 MiB", "LABKIT_RUN"),
        (replace(GOOD, run=Disk("/" + "x" * 90, 1 << 30, True)), "disk_run", False, "troppo lungo", "LABKIT_RUN"),
        (replace(GOOD, home=Disk("/home/x", None, False)), "disk_home", False, "non posso scrivere", "HOME"),
        (replace(GOOD, python=(3, 9, 2)), "python", False, "3.11", "aggiorna"),
        (replace(GOOD, jupyterlab=""), "jupyterlab", False, "non è installato", "make setup"),
        (replace(GOOD, cgroups=Cgroups()), "cgroup", False, "nessuna", "mount -t cgroup2"),
        (
            replace(GOOD, cgroups=Cgroups("v2", frozenset({"memory", "pids"}))),
            "limits",
            False,
            "delegato: cpu",
            "Delegate=",
        ),
        (replace(GOOD, cgroups=Cgroups("ibrida")), "limits", False, "solo root", "unified_cgroup_hierarchy=1"),
        (replace(GOOD, cgroups=Cgroups("v1"), family="fedora"), "limits", False, "solo root", "grubby"),
        (replace(GOOD, cgroups=Cgroups("v2"), systemd=False, where=("WSL 2",)), "limits", False, "WSL 2", "wsl.conf"),
        (replace(GOOD, cgroups=Cgroups("v2"), uid=0, where=("Docker",)), "limits", False, "scrivere", "--privileged"),
        (with_probe("kvm", ok=False, step="open", errno=errno.EACCES), "kvm", None, "aprirlo", "usermod -aG kvm anna"),
        (with_probe("kvm", ok=False, step="open", errno=errno.ENOENT), "kvm", None, "non c'è", ""),
        (with_probe("qemu_kvm", ok=False, step="qemu", errno=errno.EIO), "kvm", None, "non parte", ""),
        (
            with_probe(
                "proc", ok=False, step="mount proc", errno=errno.EPERM, m=replace(GOOD, masked=("/proc/kcore",))
            ),
            "proc",
            False,
            "/proc/kcore",
            "systempaths=unconfined",
        ),
        (
            with_probe(
                "overlay",
                ok=False,
                step="mount overlay",
                errno=errno.ENODEV,
                m=with_probe("overlay_disk", ok=False, errno=errno.ENODEV),
            ),
            "overlay",
            False,
            "modulo",
            "modprobe overlay",
        ),
        (with_probe("overlay", ok=False, step="opaque", errno=errno.EIO), "overlay", True, "su disco", ""),
        (with_probe("tmpfs_xattr", ok=False, step="setxattr", errno=errno.EOPNOTSUPP), "tmpfs_xattr", None, "6.6", ""),
        (with_probe("kinds", ok=False, missing={"time": errno.EINVAL}), "namespaces", False, "non ha: time", "kernel"),
        (
            with_probe("kinds", ok=False, missing={"mount": errno.ENOSPC}),
            "namespaces",
            False,
            "rifiutati: mount",
            "user.max_mnt_namespaces=15000",
        ),
        (with_probe("bridge", ok=False, step="veth", errno=errno.EOPNOTSUPP), "bridge", False, "veth", "modprobe veth"),
        (
            with_probe("nft", ok=False, step="nftables", errno=errno.EINVAL),
            "nft",
            False,
            "nftables",
            "modprobe nf_tables",
        ),
        (with_probe("nft", ok=None, step="scadenza", errno=errno.ETIMEDOUT), "nft", None, "in tempo", "labkit doctor"),
        (
            with_probe("subuid", ok=False, step="/etc/subuid", errno=errno.ENOENT, m=replace(GOOD, free_subid=165536)),
            "subuid",
            False,
            "anna",
            "usermod --add-subuids 165536-231071 --add-subgids 165536-231071 anna",
        ),
        (
            with_probe("subuid", ok=False, step="newuidmap", errno=errno.ENOENT, m=without_program("newuidmap")),
            "subuid",
            False,
            "newuidmap",
            "apt-get install -y uidmap",
        ),
        (
            with_probe("subuid", ok=False, step="newuidmap", errno=errno.EPERM),
            "subuid",
            False,
            "privilegi",
            "chmod u+s",
        ),
        (
            with_probe("subuid", ok=False, step="newgidmap", errno=errno.EPERM, m=replace(GOOD, no_new_privs=True)),
            "subuid",
            False,
            "no_new_privs",
            "terminale nuovo",
        ),
        (replace(GOOD, uid=0, ids=1), "subuid", False, "solo 1", "fuori"),
        (replace(GOOD, uid=0), "subuid", True, "root", ""),
    ],
)
def test_a_missing_thing_has_its_reason_and_its_remedy(
    m: Machine, key: str, ok: bool | None, words: str, remedy: str
) -> None:
    feature = report(m)[key]
    assert feature.ok is ok
    assert words in feature.reason
    assert remedy in feature.remedy
    assert bool(remedy) or not feature.remedy


def test_every_false_feature_of_any_of_these_machines_has_a_remedy() -> None:
    for m in (Machine(), replace(GOOD, probes={n: {"ok": False, "errno": 22} for n in GOOD.probes}, programs={})):
        for feature in report(m):
            assert feature.ok is not False or feature.remedy, feature


def test_the_remedy_is_written_for_who_must_type_it() -> None:
    assert remedies.install(replace(GOOD, uid=0), "nginx") == "apt-get install -y nginx-light"
    assert remedies.install(replace(GOOD, family="fedora"), "nft") == "sudo dnf install -y nftables"
    assert remedies.install(replace(GOOD, family="arch", programs={}), "nft").startswith("su -c 'pacman -S")
    assert remedies.install(replace(GOOD, family=""), "uidmap").startswith("installa il pacchetto")
    assert remedies.as_root(GOOD, "echo 1 > /x") == "sudo sh -c 'echo 1 > /x'"


def test_the_report_draws_itself_and_serialises() -> None:
    found = report(without_program("nginx"))
    bundle = found._repr_mimebundle_()
    assert bundle["text/plain"] == str(found)
    assert "nginx" in bundle["text/html"]
    assert found.missing == (found["nginx"],)
    assert "nginx" in found
    assert len(found) == len(list(found)) == len(diagnosis.RULES)
    data = json.loads(json.dumps(found.to_json()))
    assert data["ok"] is True
    assert [Feature.from_json(f) for f in data["features"]] == list(found)
    with pytest.raises(KeyError):
        found["ignota"]


def test_the_report_falls_back_to_text_when_the_drawing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "labkit.draw", None)
    monkeypatch.setitem(sys.modules, "labkit.draw.doctor", None)
    found = report(GOOD)
    assert found._repr_mimebundle_() == {"text/plain": str(found)}


def test_a_lab_adds_its_own_features_to_the_report() -> None:
    found = report(GOOD).with_features([Feature("nft", "Rete", False), Feature("lab", "Laboratorio", True)])
    assert found["nft"].ok is False
    assert [f.key for f in found][-1] == "lab"
    assert len(found) == len(diagnosis.RULES) + 1


def test_a_probe_that_hangs_is_killed_and_what_it_said_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "probe.py"
    pid = tmp_path / "pid"
    slow.write_text(
        "import os, time\n"
        f"open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        'print(\'{"name": "userns", "ok": true}\\nnon json\\n{"name": "pro\', end="", flush=True)\n'
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(machine, "PROBE", str(slow))
    start = time.monotonic()
    facts = machine.examine()
    assert time.monotonic() - start < 20
    assert list(facts.probes) == ["userns"]
    assert not os.path.exists(f"/proc/{pid.read_text()}")


def test_a_missing_interpreter_or_probe_is_a_fact_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROBE", "/non/esiste.py")
    assert machine.examine().probes == {}
    monkeypatch.setattr(sys, "executable", "/non/esiste/python")
    assert machine.examine().probes == {}
    monkeypatch.setattr(sys, "executable", "")
    facts = machine.examine()
    assert facts.probes == {}
    assert facts.executable == ""


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("ID=ubuntu\nID_LIKE=debian\n", "debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "fedora"),
        ("ID=manjaro\nID_LIKE=arch\n", "arch"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "suse"),
        ("ID=nixos\n", ""),
        ("", ""),
    ],
)
def test_the_family_of_a_distribution(text: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: text if path == "/etc/os-release" else "")
    assert machine._family() == family


@pytest.mark.parametrize(
    ("files", "release", "boxes"),
    [
        ({"/proc/cpuinfo": "flags\t\t: fpu hypervisor lm\n"}, "6.1.0", ("una macchina virtuale",)),
        ({"/proc/cpuinfo": "flags\t\t: fpu lm\n"}, "6.1.0", ()),
        ({"/proc/cpuinfo": "model name\t: UML\nUser Mode Linux\n"}, "6.1.0", ("User Mode Linux",)),
        ({}, "5.15.153.1-microsoft-standard-WSL2", ("WSL 2",)),
        ({}, "4.4.0-19041-Microsoft", ("WSL 1",)),
        ({"/run/systemd/container": "lxc\n"}, "6.1.0", ("lxc",)),
    ],
)
def test_in_which_box_we_are(
    files: dict[str, str], release: str, boxes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(machine.os.path, "exists", lambda path: False)
    monkeypatch.delenv("container", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert machine._where(release, "x86_64") == boxes

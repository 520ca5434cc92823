"""Da dentro un container non si arriva a niente dell'host: la tabella della fiducia, riga per riga."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab
from labkit.kernel import capabilities

pytestmark = pytest.mark.kernel
WATCHER = Path(__file__).with_name("watcher.py").read_text(encoding="utf-8")
REFUSALS = {"EPERM", "EACCES", "ENOENT", "EROFS", "ENOTDIR", "ENXIO"}


def test_no_new_privileges(inside: dict[str, Any]) -> None:
    assert inside["status"]["NoNewPrivs"] == "1"


def test_the_seccomp_filter_is_loaded(inside: dict[str, Any]) -> None:
    assert inside["status"]["Seccomp"] == "2"


def test_capabilities_are_dockers_or_none(inside: dict[str, Any]) -> None:
    sets = {name: capabilities.names(int(inside["status"][name], 16)) for name in capabilities.read()}
    expected = frozenset[str]() if inside["how"] == "run --user" else capabilities.DOCKER_DEFAULT
    assert sets["CapEff"] == sets["CapPrm"] == expected
    assert sets["CapBnd"] == capabilities.DOCKER_DEFAULT
    assert sets["CapInh"] == sets["CapAmb"] == frozenset()


def test_dangerous_calls_are_refused(inside: dict[str, Any]) -> None:
    calls = dict(inside["calls"])
    assert calls.pop("clone3") == "ENOSYS"
    assert {name: found for name, found in calls.items() if found != "EPERM"} == {}


def test_sockets_to_the_hypervisor_and_to_kernel_crypto_are_refused(inside: dict[str, Any]) -> None:
    assert inside["sockets"] == {"38": "EAFNOSUPPORT", "40": "EAFNOSUPPORT"}


def test_only_the_three_standard_descriptors(inside: dict[str, Any]) -> None:
    assert set(inside["fds"]) == {"0", "1", "2"}
    assert all(target == "/dev/null" or target.startswith("pipe:") for target in inside["fds"].values())


def test_the_working_directory_is_inside(inside: dict[str, Any]) -> None:
    assert inside["cwd"] == "/"


def test_no_process_opens_a_door_to_the_host(inside: dict[str, Any]) -> None:
    """Eseguibile, cartella e radice di ogni processo visibile sono del container, oppure vietati."""
    report = inside["processes"]
    for pid, seen in report["processes"].items():
        for name in ("cwd", "root"):
            assert seen[name] in (report["root"], "EACCES", "EPERM"), (pid, name, seen)
        assert isinstance(seen["exe"], str) or seen["exe"] != list(_identity("/proc/self/exe")), (pid, seen)
        for target in seen["fds"] if isinstance(seen["fds"], list) else ():
            assert target.startswith(("pipe:", "/dev/null", "/dev/pts/", "/proc/")), (pid, target)
    assert len(report["processes"]) <= 2, report["processes"]


def _identity(path: str) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


def test_init_tells_nothing_of_who_started_it(inside: dict[str, Any]) -> None:
    if inside["how"] == "run --init":
        init = inside["processes"]["processes"]["1"]
        assert init["cmdline"].rstrip("\0") == "labkit-init"
        assert init["exe"] == init["cwd"] == init["root"] == init["environ"] == init["mem"] == "EACCES"


def test_no_process_tells_the_environment_of_the_notebook(inside: dict[str, Any]) -> None:
    assert "segreto" not in repr(inside["processes"])
    assert "LABKIT_TEST_SECRET" not in repr(inside["processes"])


def test_the_environment_is_only_what_was_declared(inside: dict[str, Any]) -> None:
    allowed = {"PATH", "HOME", "HOSTNAME", "COLORE", "LC_CTYPE"}  # LC_CTYPE: Python's own, PEP 538
    assert set(inside["environ"]) <= allowed
    assert inside["environ"]["COLORE"] == "verde"


def test_masked_files_say_nothing(inside: dict[str, Any]) -> None:
    assert inside["masked"]["/proc/keys"] == ""
    assert inside["masked"]["/sys/firmware"] == []
    assert {path: found for path, found in inside["masked"].items() if found not in ("", [], "EACCES")} == {}


def test_masks_cannot_be_taken_away(inside: dict[str, Any]) -> None:
    assert set(inside["umount"].values()) == set(inside["remount"].values()) == {"EPERM"}


def test_the_knobs_of_the_kernel_do_not_turn(inside: dict[str, Any]) -> None:
    assert {path: found for path, found in inside["write"].items() if found not in REFUSALS} == {}
    assert inside["writable"] == []


def test_namespaces_are_its_own(inside: dict[str, Any]) -> None:
    for kind in ("uts", "mnt", "pid", "ipc", "net", "cgroup", "user"):
        assert inside["namespaces"][kind] != os.stat(f"/proc/self/ns/{kind}").st_ino, kind


def test_no_terminal_is_shared(inside: dict[str, Any]) -> None:
    assert inside["terminal"] == {"open": "ENXIO", "tty_nr": 0}
    if inside["how"] != "run --init":
        assert inside["session"][0] == inside["session"][1]


def test_abstract_sockets_and_loopback_of_the_host_are_unreachable(inside: dict[str, Any]) -> None:
    assert inside["abstract"] == "ECONNREFUSED"
    assert inside["loopback"] == "ECONNREFUSED"


def test_shared_memory_and_keys_of_the_host_are_unseen(inside: dict[str, Any], question: dict[str, Any]) -> None:
    rows = inside["shm"].splitlines()[1:]
    assert rows == []
    assert inside["dev_shm"] == []
    assert Path("/proc/sysvipc/shm").read_text().count("\n") > 1  # the host's segment does exist


def test_devices_of_the_host_cannot_be_changed_or_made(inside: dict[str, Any]) -> None:
    assert set(inside["chmod_dev"].values()) <= {"EROFS", "EPERM"}
    assert inside["mknod"] == "EPERM"


def test_homes_and_secrets_of_the_machine_are_not_there(inside: dict[str, Any]) -> None:
    assert inside["home"]["/home"] == []
    assert inside["home"]["/root"] in ([], "EACCES")
    present = {path for path, found in inside["secrets"].items() if found not in ("ENOENT", "EACCES")}
    assert present == set()


def test_no_supplementary_group(inside: dict[str, Any], lab: Lab) -> None:
    groups = inside["status"]["Groups"].split()
    if lab.mode == "nosub":
        # The kernel forbids setgroups without subuid; groups that are not mapped show as the overflow one.
        assert set(groups) <= {"0", "65534"}
    else:
        assert groups == []


def test_signals_and_umask_are_those_of_a_fresh_process(inside: dict[str, Any]) -> None:
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25) once it starts: nothing else may be.
    assert int(inside["status"]["SigIgn"], 16) & ~(1 << 12 | 1 << 24) == 0
    assert int(inside["status"]["SigBlk"], 16) == 0
    assert inside["umask"] == 0o022


#: Who may trace sees the sockets of who comes in until its execve: there, that takes long enough to be seen.
TRACER = pytest.mark.outside("chi può tracciare vede le prese di chi entra, per un attimo che là dentro dura molto")


@pytest.mark.parametrize(
    "caps",
    [
        pytest.param([], id="docker"),
        pytest.param(["SYS_PTRACE"], id="ptrace", marks=TRACER),
        pytest.param(["ALL"], id="tutte", marks=TRACER),
    ],
)
def test_who_enters_a_hostile_container_cannot_be_robbed(lab: Lab, caps: list[str]) -> None:
    """Un PID 1 che spia /proc senza sosta non prende niente a chi entra con ``exec``, prima dell'execve."""
    container = lab.run("host", ["python3", "-I", "-c", WATCHER], cap_add=caps, detach=True)
    try:
        for _ in range(40):
            assert container.exec(["true"], quiet=True).exit_code == 0
        assert int(container.exec(["cat", "/visti"], quiet=True).output) > 40
        assert container.exec(["cat", "/spia"], quiet=True).output == ""
    finally:
        container.rm(force=True)

"""Due container dello stesso laboratorio non si toccano, e nessuno guadagna potere strada facendo."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from labkit import Lab, LabError
from labkit.kernel import capabilities

pytestmark = pytest.mark.kernel


def test_signals_are_those_of_a_fresh_process(lab: Lab) -> None:
    for with_init in (False, True):
        lines = lab.run("busybox", ["cat", "/proc/self/status"], init=with_init, quiet=True).output.splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert int(status["SigIgn"], 16) == int(status["SigBlk"], 16) == int(status["SigCgt"], 16) == 0


def test_what_one_container_writes_no_other_sees(lab: Lab) -> None:
    places = ["/", "/dev", "/dev/pts", "/dev/shm", "/tmp", "/run", "/etc", "/dev/mqueue"]
    script = "; ".join(f"touch {place}/traccia 2>/dev/null" for place in places)
    look = "; ".join(f"ls {place}/traccia 2>/dev/null" for place in places)
    writer = lab.run("busybox", ["sh", "-c", f"{script}; sleep 1000"], detach=True)
    try:
        assert writer.exec(["sh", "-c", look], quiet=True).output  # it did write somewhere
        assert lab.run("busybox", ["sh", "-c", look], quiet=True).output == ""
    finally:
        writer.rm(force=True)


def test_two_containers_do_not_see_each_other(lab: Lab) -> None:
    one = lab.run("busybox", ["sleep", "1000"], detach=True)
    try:
        script = "ls -d /proc/[0-9]*; cat /proc/sysvipc/msg; hostname"
        seen = lab.run("busybox", ["sh", "-c", script], quiet=True).output
        assert "sleep" not in seen
        ids = [lab.run("busybox", ["readlink", f"/proc/self/ns/{kind}"], quiet=True).output for kind in ("net", "ipc")]
        theirs = [one.exec(["readlink", f"/proc/self/ns/{kind}"], quiet=True).output for kind in ("net", "ipc")]
        assert not set(ids) & set(theirs)
    finally:
        one.rm(force=True)


@pytest.mark.subuid
def test_a_set_uid_program_gives_nothing(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "1000"], detach=True)
    try:
        prepare = "mkdir /furbo && cp /bin/busybox /furbo && chmod 6755 /furbo/busybox && ls -l /furbo"
        assert "-rwsr-sr-x" in container.exec(["sh", "-c", prepare], quiet=True).output
        # busybox itself drops a set-uid that its applet does not need: ask the kernel.
        status = container.exec(["/furbo/busybox", "cat", "/proc/self/status"], user="1000", quiet=True).output
        assert "Uid:\t1000\t1000\t1000\t1000" in status
        assert "CapEff:\t0000000000000000" in status
    finally:
        container.rm(force=True)


def test_every_capability_of_docker_can_be_given_up(lab: Lab) -> None:
    text = lab.run("busybox", ["grep", "Cap", "/proc/self/status"], cap_drop=["ALL"], quiet=True).output
    assert {line.split()[1] for line in text.splitlines()} == {"0" * 16}


def test_an_added_capability_opens_its_calls_and_the_rest_stays(lab: Lab) -> None:
    script = "hostname altro && grep CapEff /proc/self/status"
    assert lab.run("busybox", ["hostname", "altro"], quiet=True).exit_code != 0
    result = lab.run("busybox", ["sh", "-c", script], cap_add=["SYS_ADMIN"], quiet=True)
    assert result.exit_code == 0, result.stderr
    held = capabilities.names(int(result.output.split()[1], 16))
    assert held == capabilities.DOCKER_DEFAULT | {"CAP_SYS_ADMIN"}


def test_even_with_sys_admin_the_machine_is_out_of_reach(lab: Lab) -> None:
    """I mount nuovi si possono fare, ma l'host non c'è: né i suoi processi, né i suoi dispositivi."""
    script = (
        "mount -t tmpfs x /mnt && echo montato; mount -t ext4 /dev/sda1 /mnt 2>&1; mknod /tmp/d b 8 0 2>&1; ls /proc"
    )
    output = lab.run("busybox", ["sh", "-c", script], cap_add=["ALL"], quiet=True).output
    assert "montato" in output
    assert "mknod: /tmp/d: Operation not permitted" in output
    assert str(os.getpid()) not in output.split()


def test_the_network_of_the_host_is_another_one(lab: Lab) -> None:
    for network, expected in (("bridge", {"lo", "eth0"}), ("none", {"lo"})):
        found = lab.run("busybox", ["ls", "/sys/class/net"], network=network, quiet=True).output.split()
        assert set(found) == expected
    sockets = lab.run("busybox", ["cat", "/proc/net/unix", "/proc/net/tcp"], quiet=True).output.splitlines()
    assert len(sockets) == 2  # only the two headings


def test_the_supervisor_listens_to_no_container(lab: Lab) -> None:
    """Sul bridge il laboratorio ha un indirizzo, ma nessuna porta aperta."""
    if shutil.which("nc") is None and not Path("/bin/busybox").exists():
        pytest.skip("manca nc")
    script = "for p in 22 53 80 111 8080 8888; do nc -w 1 -z 10.88.0.1 $p && echo aperta $p; done; true"
    assert lab.run("busybox", ["sh", "-c", script], quiet=True).output == ""


def test_a_process_made_by_hand_has_nothing_of_the_notebooks_environment(lab: Lab) -> None:
    process = lab.process(label="a-mano")
    try:
        everything = process.run(["sh", "-c", "env; cat /proc/*/environ"], quiet=True).output
        assert "PATH=" in everything
        assert "LABKIT_TEST_SECRET" not in everything
    finally:
        process.close()


def test_a_link_left_by_someone_else_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    short = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's name has at most 107 bytes
    request.addfinalizer(lambda: shutil.rmtree(short))
    elsewhere, trap = short / "altrove", short / "labkit"
    elsewhere.mkdir()
    trap.symlink_to(elsewhere)
    monkeypatch.setenv("LABKIT_RUN", str(trap))
    with pytest.raises(LabError, match="non è una cartella di questo utente"):
        Lab()
    assert list(elsewhere.iterdir()) == []

"""``labkit inspect`` parla come Docker: gli stessi nomi, le stesse forme."""

from __future__ import annotations

from dataclasses import replace

from labkit.client.inspection import docker_form
from labkit.environment import Variable
from labkit.limits import Limits
from labkit.model import ContainerInfo, Port, to_json
from labkit.networks import Member
from labkit.policy import Health, RestartPolicy
from labkit.volumes import read


def test_a_container_is_told_with_docker_s_names() -> None:
    info = ContainerInfo(
        "abc", "web", "busybox", ("sh", "-c", "sleep 1"), "running", pid=7, hostname="web", user="0", ip="10.88.0.2",
        ports=(Port(80, 8080),), created_at=1.0, started_at=2.0, restart=RestartPolicy("on-failure", 3),
        health=Health("healthy"), limits=Limits(memory=64 << 20, cpus=0.5), entrypoint=("sh", "-c"),
        env=(Variable("A", "1", "option"), Variable("B", "", "file")), image_id="sha256:1", workdir="/app",
        labels=(("di", "prova"),), exposed=("80/tcp",),
    )  # fmt: skip
    told = docker_form(info)
    assert told["Config"] == {
        "Hostname": "web", "User": "", "Env": ["A=1", "B="], "Cmd": ["sleep 1"], "Image": "busybox",
        "Entrypoint": ["sh", "-c"], "WorkingDir": "/app", "Labels": {"di": "prova"}, "ExposedPorts": {"80/tcp": {}},
    }  # fmt: skip
    assert (told["Name"], told["Path"], told["Args"]) == ("/web", "sh", ["-c", "sleep 1"])
    assert told["Image"] == "sha256:1"
    assert told["State"]["Running"] is True
    assert told["State"]["Health"] == {"Status": "healthy", "FailingStreak": 0}
    assert (told["State"]["StartedAt"], told["State"]["FinishedAt"]) == (
        "1970-01-01T00:00:02.000000Z", "0001-01-01T00:00:00Z",
    )  # fmt: skip
    assert told["HostConfig"]["NanoCpus"] == 500_000_000
    assert told["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    member = Member("web", "interna", "eth0", "10.89.0.2", mac="02:42:0a:59:00:02", aliases=("sito",))
    networks = docker_form(replace(info, networks=(member,)))["NetworkSettings"]["Networks"]
    assert networks["interna"]["IPAddress"] == "10.89.0.2"
    assert networks["interna"]["Aliases"] == ["sito"]
    assert told["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}


def test_who_has_ended_has_no_pid_and_no_entrypoint_is_null() -> None:
    told = docker_form(ContainerInfo("abc", "x", "busybox", ("false",), "exited", exit_code=1, user="1000"))
    assert (told["State"]["Running"], told["State"]["ExitCode"]) == (False, 1)
    assert (told["Config"]["Entrypoint"], told["Config"]["User"], told["HostConfig"]["PidsLimit"]) == (
        None,
        "1000",
        None,
    )
    assert "Health" not in told["State"]


def test_what_is_mounted_is_told_with_docker_s_names() -> None:
    mounts = read("dati:/a:ro")
    told = docker_form(ContainerInfo("abc", "x", "busybox", ("false",), "exited", mounts=mounts))
    assert told["Mounts"] == [{"Type": "volume", "Name": "dati", "Source": "", "Destination": "/a", "RW": False}]
    assert ContainerInfo.from_json(to_json(ContainerInfo("a", "x", "i", (), "exited", mounts=mounts))).mounts == mounts

"""Le parole del corso come dati: immutabili, controllate alla nascita, uguali dopo un viaggio in JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvalidError
from labkit.model import (
    NAMESPACES,
    ContainerInfo,
    ContainerSpec,
    Event,
    Feature,
    IdMap,
    Outcome,
    Port,
    ProcessInfo,
    Snapshot,
    Step,
    to_json,
)
from labkit.policy import LOG_MOST, HealthCheck, LogLimits, RestartPolicy

WORD = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=20)
NAME = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", fullmatch=True)
PORT = st.builds(Port, st.integers(1, 65535), st.integers(0, 65535), st.sampled_from(["127.0.0.1", "0.0.0.0"]))
SPEC = st.builds(
    ContainerSpec,
    image=WORD,
    command=st.lists(WORD, max_size=4).map(tuple),
    name=st.just("") | NAME,
    env=st.lists(st.tuples(WORD.filter(lambda w: "=" not in w), WORD), max_size=3).map(tuple),
    read_only=st.booleans(),
    user=st.sampled_from(["", "nobody", "1000:50"]),
    workdir=st.sampled_from(["", "/srv"]),
    publish=st.lists(PORT, max_size=2).map(tuple),
    tty=st.booleans(),
    init=st.booleans(),
    remove=st.booleans(),
)


def travelled(value: Any) -> Any:
    return json.loads(json.dumps(to_json(value)))


@given(SPEC)
def test_a_spec_is_the_same_after_the_wire(spec: ContainerSpec) -> None:
    assert ContainerSpec.from_json(travelled(spec)) == spec
    assert hash(ContainerSpec.from_json(travelled(spec))) == hash(spec)


def test_the_rest_of_the_model_is_the_same_after_the_wire() -> None:
    step = Step(1, "MakeLayer", "prepara", "mkdir", "mkdir(2)", where="lab", state="done", microseconds=12.5)
    info = ContainerInfo(
        "abc", "web", "busybox", ("sleep", "1"), "exited", exit_code=3, ports=(Port(80, 8080),), steps=(step,)
    )
    process = ProcessInfo(7, "web", {"uts": 1}, "web")
    feature = Feature("userns", "namespace utente", None, "perché", "rimedio")
    for value in (step, info, process, feature):
        assert type(value).from_json(travelled(value)) == value  # type: ignore[attr-defined]
    event = Event(1.5, "die", "web", {"exit_code": 0})
    assert Event(**travelled(event)) == event


@pytest.mark.parametrize(
    "cls", [ContainerSpec, ContainerInfo, Step, Port, IdMap, ProcessInfo, Snapshot, Feature, Event, Outcome]
)
def test_nothing_of_the_model_can_be_changed(cls: type) -> None:
    assert dataclasses.fields(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": ""},
        {"image": "a\0b"},
        {"name": "-web"},
        {"name": "a b"},
        {"name": "x" * 129},
        {"name": "web\n"},
        {"hostname": "-x"},
        {"hostname": "a..b"},
        {"hostname": "x" * 65},
        {"command": ("a\0",)},
        {"command": (5,)},
        {"env": (("", "x"),)},
        {"env": (("A=B", "x"),)},
        {"env": (("A", "\0"),)},
        {"workdir": "relativa"},
        {"network": "container:"},
        {"network": "a b"},
        {"network": "none", "publish": (Port(80),)},
        {"window": (1,)},
        {"window": (-1, 80)},
    ],
)
def test_a_spec_that_makes_no_sense_is_not_born(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as caught:
        ContainerSpec(**{"image": "busybox", **wrong})
    assert caught.value.remedy


@pytest.mark.parametrize(
    "wrong",
    [
        {"inventata": 1},
        {"image": "busybox", "tty": "sì"},
        {"image": "busybox", "name": 5},
        {"image": ["busybox"]},
        {"image": "busybox", "read_only": 1},
    ],
)
def test_data_of_the_wrong_type_are_not_a_spec(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        ContainerSpec.from_json(wrong)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", Port(80)),
        (80, Port(80)),
        ("8080:80", Port(80, 8080)),
        ("127.0.0.5:8080:80/tcp", Port(80, 8080, "127.0.0.5")),
        ("0.0.0.0::80", Port(80, 0, "0.0.0.0")),
        ("5353:53/udp", Port(53, 5353, protocol="udp")),
    ],
)
def test_a_port_is_written_as_in_docker(text: str | int, port: Port) -> None:
    assert Port.parse(text) == port


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "0",
        "65536",
        "-1",
        "80:",
        "a:80",
        "80:b",
        "80/sctp",
        "80-81",
        "82-80:82-80",
        "8000-8001:80",
        "80/",
        "1:2:3",
        "x:80:80",
        "256.0.0.1:1:1",
        "::1:80:80",
    ],
)
def test_a_port_that_does_not_exist_is_refused(text: str) -> None:
    if text == "80/":
        assert Port.parse(text) == Port(80)
        return
    with pytest.raises(InvalidError) as caught:
        Port.parse(text)
    assert "publish='" in caught.value.remedy


@given(st.text())
def test_any_text_is_a_port_or_is_refused(text: str) -> None:
    try:
        port = Port.parse(text)
    except InvalidError:
        return
    assert 1 <= port.container_port <= 65535
    assert 0 <= port.host_port <= 65535


def test_a_port_is_told_as_docker_tells_it() -> None:
    assert str(Port(80, 8080)) == "127.0.0.1:8080->80/tcp"


def test_a_map_is_told_in_words() -> None:
    assert IdMap(0, 1000, 1).explain("il gruppo") == "il gruppo 0 qui dentro è il gruppo 1000 fuori"
    assert IdMap(1, 100000, 65536).explain() == (
        "gli utenti da 1 a 65536 qui dentro sono gli utenti da 100000 a 165535 fuori"
    )


def test_what_two_processes_share_is_in_the_order_of_the_course() -> None:
    one = ProcessInfo(1, "uno", {kind: number for number, kind in enumerate(NAMESPACES)})
    two = ProcessInfo(2, "due", {**one.namespaces, "net": 99, "uts": 98})
    old = ProcessInfo(3, "vecchio", {kind: n for kind, n in one.namespaces.items() if kind != "time"})
    seen = Snapshot((one, two, old))
    assert seen.shared("uno", "due") == ("mount", "pid", "ipc", "user", "cgroup", "time")
    assert seen.private("uno", "due") == ("uts", "net")
    assert seen.shared("uno", "vecchio") == NAMESPACES[:-1], "a kernel without time namespaces shares what it has"
    assert seen.private("uno", "vecchio") == ()


def test_a_feature_has_a_mark() -> None:
    assert [Feature("x", "x", ok).mark for ok in (True, False, None)] == ["✔", "✘", "–"]


def test_an_outcome_is_true_when_it_went_well() -> None:
    assert Outcome(True, "a", "a")
    assert not Outcome(False, "a", "b", "guarda")


RESTART = st.sampled_from(["no", "always", "unless-stopped"]).map(RestartPolicy) | st.builds(
    RestartPolicy, st.just("on-failure"), st.integers(0, 9)
)
CHECK = st.builds(
    HealthCheck,
    st.just(("NONE",)) | WORD.map(lambda word: ("CMD-SHELL", word)) | WORD.map(lambda word: ("CMD", word, word)),
    st.floats(0.001, 1e6),
    retries=st.integers(1, 5),
)
LIFE = st.builds(
    ContainerSpec,
    image=WORD,
    restart=RESTART,
    health=st.none() | CHECK,
    log=st.builds(LogLimits, st.integers(1024, 1 << 20), st.integers(1, 9)),
    stop_timeout=st.floats(0, 100),
)


@given(LIFE)
def test_how_to_live_is_the_same_after_the_wire(spec: ContainerSpec) -> None:
    assert ContainerSpec.from_json(travelled(spec)) == spec


@given(RESTART)
def test_a_restart_policy_is_read_as_it_is_written(policy: RestartPolicy) -> None:
    assert RestartPolicy.parse(str(policy)) == policy


@pytest.mark.parametrize("wrong", ["sempre", "on-failure:", "on-failure:-1", "on-failure:x", "always:3", ":3", "no:1"])
def test_a_restart_policy_that_docker_does_not_know_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidError) as caught:
        RestartPolicy.parse(wrong)
    assert "restart='" in caught.value.remedy


def test_what_restarts_cannot_also_disappear() -> None:
    with pytest.raises(InvalidError, match="non può anche sparire"):
        ContainerSpec("busybox", remove=True, restart=RestartPolicy("always"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"test": ()},
        {"test": ("CMD",)},
        {"test": ("CMD-SHELL", "a", "b")},
        {"test": ("NONE", "true")},
        {"test": ("true",)},
        {"test": ("CMD", "a\0")},
        {"test": ("CMD", "true"), "interval": 0.0},
        {"test": ("CMD", "true"), "timeout": float("nan")},
        {"test": ("CMD", "true"), "start_period": -1.0},
        {"test": ("CMD", "true"), "retries": 0},
    ],
)
def test_a_health_check_that_makes_no_sense_is_not_born(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as caught:
        HealthCheck(**wrong)
    assert caught.value.remedy


def test_a_health_check_knows_what_to_run() -> None:
    assert HealthCheck(("CMD-SHELL", "test -e /a")).command == ("/bin/sh", "-c", "test -e /a")
    assert HealthCheck(("CMD", "test", "-e", "/a")).command == ("test", "-e", "/a")
    assert HealthCheck(("NONE",)).command == ()


@pytest.mark.parametrize("wrong", [(0, 1), (1023, 1), (1024, 0), (LOG_MOST, 2), (-1, -1)])
def test_the_log_has_a_size_that_the_laboratory_can_keep(wrong: tuple[int, int]) -> None:
    with pytest.raises(InvalidError, match="MiB"):
        LogLimits(*wrong)

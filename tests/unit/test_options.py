"""Le opzioni come le scrive uno studente, tutte le forme di docker run e docker-py, portate a una sola."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.client import environment, options
from labkit.client.images import Images
from labkit.errors import InvalidError, NotFoundError, RegistryError
from labkit.model import ContainerSpec, Port
from labkit.policy import HealthCheck, LogLimits


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ()),
        ("", ()),
        ("echo ciao", ("echo", "ciao")),
        ("echo 'due parole' \"e l'apice\"", ("echo", "due parole", "e l'apice")),
        (r"echo a\ b", ("echo", "a b")),
        ("echo $HOME *", ("echo", "$HOME", "*")),
        (["echo", "$HOME", ""], ("echo", "$HOME", "")),
        (("a",), ("a",)),
        ((word for word in "ab"), ("a", "b")),
    ],
)
def test_a_command_is_split_like_a_shell_and_never_expanded(value: Any, words: tuple[str, ...]) -> None:
    assert options.command(value) == words


@pytest.mark.parametrize("value", ["echo 'aperto", 'echo "', "a \\", [1], ["a", None], b"ls", 5, True])
def test_a_command_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        options.command(value)
    assert caught.value.remedy


@given(st.lists(st.text(), max_size=5))
def test_a_list_is_taken_as_it_is(words: list[str]) -> None:
    assert options.command(words) == tuple(words)


def test_the_environment_has_many_forms_and_one_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DI_QUI", "valore dell'host")
    assert environment.environment({"A": "1", "B": 2, "C": None, "D": True}) == (
        ("A", "1"),
        ("B", "2"),
        ("C", None),
        ("D", "True"),
    )
    monkeypatch.delenv("NON_CE_QUI", raising=False)
    assert environment.environment(["A=1", "B=", "C=x=y", "DI_QUI", "NON_CE_QUI"]) == (
        ("A", "1"),
        ("B", ""),
        ("C", "x=y"),
        ("DI_QUI", "valore dell'host"),
        ("NON_CE_QUI", None),
    )
    assert environment.environment("A=1") == (("A", "1"),)
    assert environment.environment(None) == environment.environment([]) == environment.environment({}) == ()


@pytest.mark.parametrize("value", [[""], ["=x"], {"": "x"}, {"A=": "x"}, {"A\0": "x"}, {"A": "\0"}, 5])
def test_a_variable_without_a_name_is_refused(value: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        environment.environment(value)
    assert caught.value.remedy.startswith("env=")


@pytest.mark.parametrize(
    ("value", "ports"),
    [
        (None, ()),
        ([], ()),
        (80, (Port(80),)),
        ("8080:80", (Port(80, 8080),)),
        (["8080:80", 81], (Port(80, 8080), Port(81))),
        ({80: 8080, 81: None}, (Port(80, 8080), Port(81))),
        ({"80/tcp": 8080}, (Port(80, 8080),)),
    ],
)
def test_ports_have_many_forms_and_one_meaning(value: Any, ports: tuple[Port, ...]) -> None:
    assert options.ports(value) == ports


@pytest.mark.parametrize("value", [0, 0.5, 10, float("inf")])
def test_seconds_are_zero_or_more(value: float) -> None:
    assert options.seconds(value, "grace") == value


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), "10", None, True, [1]])
def test_seconds_are_a_number_and_not_a_negative_one(value: Any) -> None:
    with pytest.raises(InvalidError, match="grace vuole un numero di secondi") as caught:
        options.seconds(value, "grace")
    assert caught.value.remedy == "grace=10"


@pytest.mark.parametrize(("value", "data"), [(None, None), ("", b""), ("è", b"\xc3\xa8"), (b"\xff", b"\xff")])
def test_the_input_is_text_or_bytes(value: Any, data: bytes | None) -> None:
    assert options.stdin(value) == data


@pytest.mark.parametrize("value", [5, ["a"], object()])
def test_an_input_that_is_neither_is_refused(value: Any) -> None:
    with pytest.raises(InvalidError, match="stdin vuole un testo o dei byte"):
        options.stdin(value)


def test_an_image_is_a_name_or_a_folder_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/casa")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    seen = {
        image: options.spec(image, None).image
        for image in ("busybox", "./radice", "a/../b", "a/manca", "/assoluta/", "~/mia")
    }
    assert seen == {
        "busybox": "busybox",
        "./radice": f"{tmp_path}/radice",
        "a/../b": f"{tmp_path}/b",
        "a/manca": "a/manca",
        "/assoluta/": "/assoluta",
        "~/mia": "/casa/mia",
    }
    assert options.spec(Path("radice"), None).image == f"{tmp_path}/radice"


def test_without_options_a_spec_is_the_smallest() -> None:
    assert options.spec("busybox", None) == ContainerSpec("busybox")


def test_every_option_reaches_the_spec() -> None:
    spec = options.spec(
        "busybox", "sh", name=1, env={"A": 1}, hostname="h", read_only=1, user=1000, workdir="/srv", publish="8080:80",
        cap_add="NET_ADMIN", cap_drop=["ALL"], tty=True, init=1, remove=True, stop_signal=2, interactive=True,
    )  # fmt: skip
    assert spec == ContainerSpec(
        "busybox", ("sh",), "1", (("A", "1"),), "h", True, "1000", "/srv", "bridge", (Port(80, 8080),),
        ("NET_ADMIN",), ("ALL",), tty=True, interactive=True, init=True, remove=True, stop_signal="2",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["name", "hostname", "user", "workdir", "stop_signal"])
def test_what_must_be_a_text_is_a_text(name: str) -> None:
    with pytest.raises(InvalidError, match=f"{name} vuole un testo"):
        options.spec("busybox", None, **{name: ["x"]})


def test_how_to_live_is_said_as_docker_says_it() -> None:
    spec = options.spec(
        "busybox",
        "true",
        restart="on-failure:2",
        health_cmd="test -e /pronto",
        health_interval="500ms",
        health_retries=1,
        stop_timeout=3,
        log_max_size="10k",
        log_max_files=2,
    )
    assert (str(spec.restart), spec.stop_timeout) == ("on-failure:2", 3.0)
    assert spec.health == HealthCheck(("CMD-SHELL", "test -e /pronto"), interval=0.5, retries=1)
    assert spec.log == LogLimits(10240, 2)
    assert options.spec("busybox", "true", health_cmd=["true", "sì"]).health == HealthCheck(("CMD", "true", "sì"))
    assert options.spec("busybox", "true", no_healthcheck=True).health == HealthCheck(("NONE",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"restart": 3},
        {"restart": "sempre"},
        {"health_interval": "1s"},
        {"health_cmd": "true", "no_healthcheck": True},
        {"health_cmd": "true", "health_interval": "poco"},
        {"stop_timeout": -1},
        {"log_max_size": "0"},
        {"log_max_files": "3"},
        {"inventata": 1},
    ],
)
def test_a_life_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as caught:
        options.spec("busybox", "true", **wrong)
    assert caught.value.remedy


def test_an_image_that_is_missing_is_pulled_unless_it_must_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_IMAGES", str(tmp_path))
    asked: list[str] = []

    class NoNetwork(Images):
        def pull(self, name: str, platform: str = "", *, tls_verify: bool = True) -> Any:
            asked.append(name)
            raise RegistryError("Manca la rete.", "ip link")

    with pytest.raises(NotFoundError, match="«mai/vista:1» non c'è"):
        options.request("mai/vista:1", "true", images=NoNetwork(), pull="never")
    with pytest.raises(RegistryError, match=r"«mai/vista:1» qui non c'è, .*\. Manca la rete\."):
        options.request("mai/vista:1", "true", images=NoNetwork())
    with pytest.raises(RegistryError, match=r"^Manca la rete\."):
        options.request("mai/vista:1", "true", images=NoNetwork(), pull="always")
    assert asked == ["mai/vista:1"] * 2
    assert "stored" not in options.request("busybox", "true", images=NoNetwork(), pull="always")
    with pytest.raises(InvalidError, match="pull può essere"):
        options.request("busybox", "true", pull="a volte")

"""Quello che uno studente può scrivere male: una frase in italiano con il rimedio, e niente a metà."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit import Lab
from labkit.errors import ConflictError, InvalidError, LabClosedError, LabError, NotFoundError

pytestmark = pytest.mark.kernel

#: Parole che non possono mancare tutte in una frase italiana.
ITALIAN = re.compile(r"\b(non|il|la|lo|le|gli|un|una|è|di|che|ci|del|dal|con|per|sconosciut[ae])\b|L'|l'")


def refused(expected: type[LabError], act: Callable[[], object]) -> LabError:
    """L'errore, che deve essere di quella classe, in italiano, e con un rimedio."""
    with pytest.raises(expected) as caught:
        act()
    problem = caught.value
    assert type(problem) is expected
    assert ITALIAN.search(problem.message), problem.message
    assert problem.message.endswith((".", "!")), problem.message
    assert "\n" not in problem.message
    assert "Traceback" not in str(problem)
    assert problem.remedy, f"manca il rimedio: {problem.message}"
    assert str(problem) == f"{problem.message} Rimedio: {problem.remedy}"
    assert problem._render_traceback_() == [f"{expected.__name__}: {problem}"]
    return problem


@pytest.mark.parametrize("image", ["ubuntu", "busybox:latest", "nessuno/nessuna:1"])
def test_an_unknown_image(lab: Lab, nothing_half_made: None, image: str) -> None:
    for detach in (True, False):
        problem = refused(NotFoundError, lambda d=detach: lab.run(image, "true", detach=d, pull="never"))
        assert f"L'immagine «{image}» non c'è" in problem.message
    refused(NotFoundError, lambda: lab.plan(image, "true", pull="never"))
    refused(NotFoundError, lambda: lab.rootfs(image))


@pytest.mark.parametrize("image", ["BUSYBOX", "busy box", "à"])
def test_an_image_that_no_registry_could_have(lab: Lab, nothing_half_made: None, image: str) -> None:
    refused(InvalidError, lambda: lab.run(image, "true", pull="never"))
    refused(InvalidError, lambda: lab.rootfs(image))


@pytest.mark.parametrize("image", [None, "", 5, ["busybox"], "busy\0box"])
def test_an_image_that_is_no_name(lab: Lab, image: object) -> None:
    assert "immagine" in refused(InvalidError, lambda: lab.run(image, "true")).message
    assert len(lab.ps(all=True)) == 0


def test_a_path_that_is_no_folder(lab: Lab, nothing_half_made: None, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, why in ((file, "non è una cartella"), (tmp_path / "mancante", "non c'è")):
        problem = refused(NotFoundError, lambda p=path: lab.run(p, "true"))
        assert problem.message.startswith(f"«{path}» {why}")
        assert problem.remedy == f"ls -ld {path}"
    for root in ("/", "/proc", "/sys/kernel"):
        refused(InvalidError, lambda r=root: lab.run(r, "true"))


def test_a_missing_command(lab: Lab, nothing_half_made: None, capfd: pytest.CaptureFixture[str]) -> None:
    result = lab.run("busybox", ["bsh", "-c", "true"])
    assert result.exit_code == 127
    shown = capfd.readouterr().err
    assert "Il comando «bsh» non c'è in questa immagine. Rimedio: " in shown
    assert shown.count("\n") == 1


def test_a_file_that_cannot_be_executed(lab: Lab, nothing_half_made: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert lab.run("busybox", ["/etc/passwd"]).exit_code == 126
    shown = capfd.readouterr().err
    assert "Il comando «/etc/passwd» c'è ma non si può eseguire" in shown
    assert "Rimedio: chmod +x" in shown


def test_a_command_detached_that_is_missing_is_an_error_at_once(lab: Lab, nothing_half_made: None) -> None:
    for command, code in (("bsh", 127), ("/etc/passwd", 126)):
        with pytest.raises(LabError) as caught:
            lab.run("busybox", [command], detach=True)
        assert caught.value.exit_code == code
        assert caught.value.remedy


@pytest.mark.parametrize(
    "command", ["echo 'aperto", [5], ["echo", None], ["echo", "a\0b"], b"ls", 5, {"ls": 1}.items()]
)
def test_a_command_that_is_no_command(lab: Lab, command: object) -> None:
    with pytest.raises(InvalidError) as caught:
        lab.run("busybox", command)  # type: ignore[arg-type]
    assert ITALIAN.search(caught.value.message)
    assert len(lab.ps(all=True)) == 0


def test_a_name_that_is_taken(lab: Lab, nothing_half_made: None) -> None:
    container = lab.run("busybox", ["sleep", "60"], name="web", detach=True)
    problem = refused(ConflictError, lambda: lab.run("busybox", "true", name="web"))
    assert "web" in problem.message
    container.rm(force=True)


@pytest.mark.parametrize("name", ["due parole", "-web", ".web", "web/1", "wèb", "a" * 129, "web\n", "$(id)", "../web"])
def test_a_bad_name(lab: Lab, name: str) -> None:
    problem = refused(InvalidError, lambda: lab.run("busybox", "true", name=name))
    assert "non può essere il nome di un container" in problem.message
    assert len(lab.ps(all=True)) == 0


@pytest.mark.parametrize("hostname", ["due parole", "-web", "web-", "a" * 65, "w_b", "web..it", "web\n"])
def test_a_bad_hostname(lab: Lab, hostname: str) -> None:
    assert "hostname" in refused(InvalidError, lambda: lab.run("busybox", "true", hostname=hostname)).message


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.stop(grace=-1),
        lambda c: c.stop(grace=float("nan")),
        lambda c: c.stop(grace="dieci"),
        lambda c: c.stop(grace=True),
        lambda c: c.wait(timeout=-1),
        lambda c: c.wait(timeout="dieci"),
        lambda c: c.kill(-9),
        lambda c: c.lab.run("busybox", "true", publish=-80),
        lambda c: c.lab.run("busybox", "true", publish="-8080:80"),
        lambda c: c.lab.run("busybox", "true", publish="8080:-80"),
        lambda c: c.lab.run("busybox", "true", publish={80: -1}),
    ],
)
def test_a_negative_number_or_no_number(lab: Lab, act: Callable[[object], object]) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    refused(InvalidError, lambda: act(container))
    assert container.status == "running"


def test_a_user_outside_the_map(lab: Lab, nothing_half_made: None) -> None:
    problem = refused(InvalidError, lambda: lab.run("busybox", "true", user="4294967295"))
    assert "Il numero 4294967295 non esiste in questo laboratorio" in problem.message
    assert "usermod --add-subuids" in problem.remedy


@pytest.mark.parametrize("env", ["=valore", ["=valore"], {"": "x"}, {"A=B": "x"}, ["A=\0"], 5])
def test_an_env_without_a_name(lab: Lab, env: object) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    problem = refused(InvalidError, lambda: lab.run("busybox", "true", env=env))
    assert "env=" in problem.remedy
    refused(InvalidError, lambda: container.exec("true", env=env))  # type: ignore[arg-type]
    assert len(lab.ps(all=True)) == 1


@pytest.mark.parametrize("stdin", [5, ["a"], 1.5])
def test_an_input_that_is_no_text(lab: Lab, stdin: object) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    refused(InvalidError, lambda: lab.run("busybox", "cat", stdin=stdin))  # type: ignore[arg-type]
    refused(InvalidError, lambda: container.exec("cat", stdin=stdin))  # type: ignore[arg-type]
    assert len(lab.ps(all=True)) == 1


@pytest.mark.parametrize("option", ["cap_add", "cap_drop"])
def test_a_capability_that_does_not_exist(lab: Lab, nothing_half_made: None, option: str) -> None:
    problem = refused(InvalidError, lambda: lab.run("busybox", "true", **{option: "NET_ADMN"}))
    assert problem.remedy == "forse CAP_NET_ADMIN"
    refused(InvalidError, lambda: lab.run("busybox", "true", **{option: 5}))


def test_an_option_that_does_not_exist(lab: Lab) -> None:
    problem = refused(InvalidError, lambda: lab.run("busybox", "true", volume="/tmp", memoria="1g"))
    assert "memoria, volume" in problem.message
    refused(InvalidError, lambda: lab.run("busybox", "true", name=["web"]))
    refused(InvalidError, lambda: lab.run("busybox", "true", workdir=5))


def test_a_lab_used_after_its_end() -> None:
    with Lab() as ended:
        container = ended.run("busybox", ["sleep", "60"], detach=True)
        process = ended.process()
    for act in (
        lambda: ended.run("busybox", "true"),
        lambda: ended.plan("busybox", "true"),
        lambda: ended.process(),
        lambda: container.exec("true"),
        lambda: container.stop(),
        lambda: process.unshare("uts"),
        lambda: process.run("true"),
        lambda: process.python("1"),
        lambda: ended.hold(process, "uts"),
    ):
        assert "Il laboratorio è chiuso" in refused(LabClosedError, act).message
    process.close()
    ended.close()

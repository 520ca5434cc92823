"""L'ambiente di un container vero: chi vince, che cosa non entra; e i file che riceve: modelli e segreti."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import Lab
from labkit.errors import CommandError, InvalidError, LabError, NotFoundError

pytestmark = pytest.mark.kernel


def sh(lab: Lab, script: str, image: str = "busybox", **options: object) -> str:
    return lab.run(image, ["sh", "-c", script], quiet=True, **options).output


# ---- variables


def test_the_last_to_speak_wins(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DI_QUI", "valore di qui")
    monkeypatch.delenv("NON_CE_QUI", raising=False)
    one, two = tmp_path / "uno.env", tmp_path / "due.env"
    one.write_text("A=uno\nB=uno\nPATH=/bin:/uno\n")
    two.write_text("B=due\nDI_QUI\nNON_CE_QUI\nC='apici' # resto\n")
    env = ["C=opzione", "NON_CE_QUI", "D="]
    found = dict(
        line.split("=", 1)
        for line in lab.run("busybox", "env", env_file=[one, two], env=env, quiet=True).output.split("\n")[:-1]
    )
    hostname = found.pop("HOSTNAME")
    assert hostname.startswith("container-")
    assert found == {
        "PATH": "/bin:/uno", "A": "uno", "B": "due", "C": "opzione", "D": "", "DI_QUI": "valore di qui",
        "HOME": "/root",
    }  # fmt: skip


def test_a_name_that_the_caller_does_not_have_is_taken_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOSTNAME", raising=False)
    for env in (["HOSTNAME"], {"HOSTNAME": None}):
        assert "HOSTNAME" not in lab.run("busybox", "/bin/env", env=env, quiet=True).output


def test_nothing_of_the_caller_s_environment_enters(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DI_QUI", "non deve entrare")
    lines = lab.run("busybox", "env", quiet=True).output.splitlines()
    assert sorted(line.partition("=")[0] for line in lines) == ["HOME", "HOSTNAME", "PATH"]


def test_exec_adds_to_the_container_s_environment(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("B=file\nC=file\n")
    container = lab.run("busybox", ["sleep", "60"], detach=True, env={"A": "1", "B": "1"})
    result = container.exec("env", env={"C": "exec", "A": None}, env_file=tmp_path / "x.env", quiet=True)
    lines = result.output.splitlines()
    assert {"B=file", "C=exec"} < set(lines)
    assert not any(line.startswith("A=") for line in lines)
    again = container.exec("env", quiet=True).output.splitlines()
    assert {"A=1", "B=1"} < set(again)


def test_inspect_says_where_every_variable_comes_from(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("A=file\n")
    container = lab.run(
        "busybox", ["sleep", "60"], detach=True, name="web", env={"B": "2"}, env_file=tmp_path / "x.env"
    )
    info = container.inspect()
    assert [(str(v), v.origin) for v in info.env if v.name != "PATH"] == [
        ("HOSTNAME=web", "lab"), ("A=file", "file"), ("B=2", "option"),
    ]  # fmt: skip
    assert next(v.origin for v in info.env if v.name == "PATH") == "image"
    # What inspect says is what the program received, plus its user's home.
    seen = container.exec(["sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"], quiet=True).output.splitlines()
    assert sorted(seen) == sorted([*map(str, info.env), "HOME=/root"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"A=1\n=x\n", "riga 2: manca il nome"), (b"\nA B=1", "riga 2: il nome"), (b"A=\xff", "riga 1: ci sono byte")],
)
def test_a_wrong_file_starts_nothing(lab: Lab, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.env"
    path.write_bytes(content)
    with pytest.raises(InvalidError, match=f"{path}, {message}"):
        lab.run("busybox", "true", env_file=path)
    with pytest.raises(NotFoundError, match="il file di variabili"):
        lab.run("busybox", "true", env_file=[path.with_name("manca")])
    assert not lab.ps(all=True)


def test_an_environment_too_big_for_execve_is_told(lab: Lab) -> None:
    with pytest.raises(CommandError, match="E2BIG") as caught:
        lab.run("busybox", "true", env={"GRANDE": "x" * (128 << 10)}, detach=True)
    assert caught.value.exit_code == 126
    assert sh(lab, "echo ${#G}", env={"G": "x" * ((128 << 10) - 3)}) == f"{(128 << 10) - 3}\n"


def test_a_big_environment_arrives_whole_whoever_becomes_the_container(lab: Lab) -> None:
    env = {f"G{n}": "x" * (100 << 10) for n in range(10)}
    for _ in range(6):  # born before or now, awaited or not
        assert int(sh(lab, "env | wc -c", env=env)) > 1000 << 10
        assert lab.run("busybox", "true", env=env, quiet=True).exit_code == 0


# ---- the program


def test_the_entrypoint_is_the_program_and_the_command_its_arguments(lab: Lab) -> None:
    assert lab.run("busybox", ["uno", "due"], entrypoint="echo", quiet=True).output == "uno due\n"
    assert lab.run("busybox", ["tre"], entrypoint=["echo", "uno due"], quiet=True).output == "uno due tre\n"
    assert lab.run("busybox", ["echo", "x"], entrypoint="", quiet=True).output == "x\n"
    container = lab.run("busybox", ["60"], entrypoint="sleep", detach=True)
    info = container.inspect()
    assert (info.entrypoint, info.command) == (("sleep",), ("sleep", "60"))
    with pytest.raises(InvalidError, match="Non c'è nessun programma"):
        lab.run("busybox", entrypoint="")


# ---- templates


def test_a_template_is_a_file_when_the_program_starts(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "sito.conf"
    source.write_text("listen ${PORTA};\nserver_name ${NOME:-localhost};\ntry_files $uri; # ${HOSTNAME}\n")
    for read_only in (False, True):
        found = sh(
            lab, "cat /etc/nginx/conf.d/sito.conf", templates={"/etc/nginx/conf.d/sito.conf": source},
            env={"PORTA": 8080}, hostname="web", read_only=read_only,
        )  # fmt: skip
        assert found == "listen 8080;\nserver_name localhost;\ntry_files $uri; # web\n"


def test_a_template_takes_the_place_of_the_image_s_file(lab: Lab) -> None:
    passwd = {"/etc/passwd": "root:x:0:0:${CHI}:/:/bin/sh\n"}
    assert sh(lab, "cat /etc/passwd; ls -l /etc/passwd", templates=passwd, env={"CHI": "io"}).startswith(
        "root:x:0:0:io:/:/bin/sh\n-rw-r--r-- "
    )
    assert "root:x:0:0:root" in sh(lab, "cat /etc/passwd")


def test_a_variable_that_is_missing_starts_nothing(lab: Lab, nothing_half_made: None) -> None:
    with pytest.raises(InvalidError, match="^/etc/x, riga 2: manca la variabile MANCA: serve al sito."):
        lab.run("busybox", "true", templates={"/etc/x": "a\n${MANCA:?serve al sito}"})
    with pytest.raises(InvalidError, match="quella è una cartella"):
        lab.run("busybox", "true", templates={"/bin": ""})
    with pytest.raises(InvalidError, match="passa per un file"):
        lab.run("busybox", "true", templates={"/etc/passwd/x": ""})
    assert not lab.ps(all=True)


def test_a_template_never_goes_through_a_link_of_the_image(lab: Lab, root: Path) -> None:
    (root / "conf").symlink_to("/proc/sys/kernel")
    (root / "etc").mkdir()
    (root / "etc" / "x").symlink_to("/proc/sys/kernel/core_pattern")
    with pytest.raises(InvalidError, match="passa per un link"):
        lab.run(root, "true", templates={"/conf/core_pattern": "intruso"})
    assert sh(lab, "cat /etc/x; ls -l /etc/x", str(root), templates={"/etc/x": "mio\n"}).startswith("mio\n-rw")


# ---- secrets

LOOK = "stat -c '%a %u:%g %F' /run/secrets /run/secrets/*; cat /run/secrets/pw; touch /run/secrets/x || echo no"


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("init", [False, True])
def test_a_secret_is_a_file_in_memory_that_cannot_be_changed(lab: Lab, read_only: bool, init: bool) -> None:
    secrets = {"pw": "segretissimo\n", "chiave": bytes(range(256))}
    found = sh(lab, f"{LOOK}; wc -c < /run/secrets/chiave; grep /run/secrets /proc/self/mountinfo", secrets=secrets,
               read_only=read_only, init=init)  # fmt: skip
    lines = found.splitlines()
    assert lines[:6] == [
        "500 0:0 directory", "400 0:0 regular file", "400 0:0 regular file", "segretissimo", "no", "256",
    ]  # fmt: skip
    assert " ro,nosuid,nodev,noexec," in lines[6]
    assert " tmpfs " in lines[6]


@pytest.mark.subuid
def test_only_the_user_of_the_program_reads_its_secrets(lab: Lab) -> None:
    found = sh(lab, LOOK, secrets={"pw": "segretissimo\n"}, user="1000:50")
    assert found == "500 1000:50 directory\n400 1000:50 regular file\nsegretissimo\nno\n"
    container = lab.run("busybox", ["sleep", "60"], detach=True, secrets={"pw": "segretissimo\n"}, user="nobody")
    assert container.exec("cat /run/secrets/pw", quiet=True).output == "segretissimo\n"
    assert container.exec("cat /run/secrets/pw", user="0", quiet=True).output == "segretissimo\n"
    other = container.exec("cat /run/secrets/pw", user="1000", quiet=True)
    assert other.exit_code == 1
    assert "segretissimo" not in other.output


def test_a_secret_of_a_file_is_read_once(lab: Lab, tmp_path: Path) -> None:
    pipe = tmp_path / "tubo"
    os.mkfifo(pipe)
    if os.fork() == 0:
        pipe.write_bytes(b"dal tubo")
        os._exit(0)
    assert sh(lab, "cat /run/secrets/pw", secrets={"pw": pipe}) == "dal tubo"
    os.wait()


def test_secrets_step_by_step_can_be_undone_and_redone(lab: Lab) -> None:
    plan = lab.plan("busybox", ["cat", "/run/secrets/pw"], secrets={"pw": "segretissimo"}, name="passi")
    place = [step.name for step in plan.steps].index("MountSecrets") + 1
    for _ in range(place):
        plan.step()
    for _ in range(3):
        assert plan.undo().name == "MountSecrets"
        assert plan.step().name == "MountSecrets"
    container = plan.run()
    assert container.wait(10) == 0
    assert container.logs() == "segretissimo"


def test_a_birth_that_is_undone_and_redone_has_the_same_secrets(lab: Lab) -> None:
    plan = lab.plan("busybox", ["cat", "/run/secrets/pw"], secrets={"pw": "segretissimo"}, name="passi")
    while plan.step().name != "CloneProcess":
        pass
    plan.undo()
    container = plan.run()
    assert container.wait(10) == 0
    assert container.logs() == "segretissimo"


def test_a_container_that_starts_again_has_its_secrets_and_its_files(lab: Lab) -> None:
    container = lab.create(
        "busybox", ["cat", "/run/secrets/pw", "/etc/x"], secrets={"pw": "uno "}, templates={"/etc/x": "${A}\n"},
        env={"A": "due"},
    )  # fmt: skip
    for times in (1, 2, 3):
        container.start()
        assert container.wait(10) == 0
        assert container.logs() == "uno due\n" * times


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ({"a/b": "x"}, "nome di un segreto"),
        ({"": "x"}, "nome di un segreto"),
        ({"a": ""}, "è vuoto"),
        ({"a": b"x" * (500 * 1024 + 1)}, "byte, e al massimo"),
        ({f"a{n}": b"x" * (500 * 1024) for n in range(3)}, "tutti insieme"),
        ({f"a{n}": "x" for n in range(33)}, "al massimo 32"),
        ({"a": 7}, "int non va bene"),
        ({"a": ["segretissimo"]}, "list non va bene"),
        (["segretissimo"], "vuole un dizionario"),
        ({"a": Path("/non/c/e")}, "Non trovo il segreto «a»"),
        ({"a": Path("/")}, "Non posso leggere il segreto «a»"),
    ],
)
def test_a_secret_that_is_none_starts_nothing(lab: Lab, secrets: object, message: str) -> None:
    with pytest.raises(LabError, match=message) as caught:
        lab.run("busybox", "true", secrets=secrets)
    assert "segretissimo" not in str(caught.value)
    assert not lab.ps(all=True)


def test_the_biggest_secrets_that_are_accepted_arrive_whole(lab: Lab) -> None:
    secrets = {f"a{n}": bytes([n]) * (500 * 1024) for n in range(2)} | {f"b{n}": "x" for n in range(30)}
    assert sh(lab, "cd /run/secrets; ls | wc -l; cat a0 a1 | wc -c", secrets=secrets) == f"32\n{1000 * 1024}\n"


def test_secrets_leave_nothing_open(lab: Lab, nothing_half_made: None) -> None:
    for _ in range(3):
        sh(lab, "true", secrets={"pw": "x"})
        with pytest.raises(LabError):
            lab.run("busybox", "comando-che-non-c'è", secrets={"pw": "x"})
        with pytest.raises(InvalidError):
            lab.run("busybox", "true", secrets={"pw": "x"}, templates={"/x": "${MANCA}"})
        plan = lab.plan("busybox", "true", secrets={"pw": "x"})
        plan.step()
        plan.rollback()


# ---- the command line


def test_a_terminal_gives_the_same_things_with_docker_s_words(lab: Lab, tmp_path: Path) -> None:
    for name, text in (("x.env", "A=file\nB=file\n"), ("pw", "segretissimo"), ("conf", "porta ${PORTA:-80} ${B}\n")):
        (tmp_path / name).write_text(text)
    labkit = [sys.executable, "-m", "labkit"]
    given = ["--env-file", f"{tmp_path}/x.env", "-e", "B=opzione", "--secret", f"id=pw,src={tmp_path}/pw",
             "--template", f"{tmp_path}/conf:/etc/x", "--entrypoint", "sh"]  # fmt: skip
    told = subprocess.run(
        [*labkit, "run", "--lab", lab.id, *given, "busybox", "-c", "echo $A $B; cat /etc/x /run/secrets/pw"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == "file opzione\nporta 80 opzione\nsegretissimo"
    subprocess.run(
        [*labkit, "run", "-d", "--name", "web", "--lab", lab.id, *given, "busybox", "-c", "sleep 60"],
        capture_output=True, check=True,
    )  # fmt: skip
    seen = subprocess.run(
        [*labkit, "inspect", "--lab", lab.id, "web", "manca"], capture_output=True, text=True, check=False
    )
    assert (seen.returncode, "manca" in seen.stderr) == (1, True)
    [web] = json.loads(seen.stdout)
    assert {"A=file", "B=opzione"} < set(web["Config"]["Env"])
    assert (web["Config"]["Entrypoint"], web["Config"]["Cmd"]) == (["sh"], ["-c", "sleep 60"])
    assert "segretissimo" not in seen.stdout

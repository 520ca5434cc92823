"""Costruire con un kernel vero: i RUN girano in un container, e di loro resta solo lo strato."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Lab
from labkit.build.steps import BuildError
from labkit.client.image import Image
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.kernel.stored import base

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """La cartella delle immagini di queste prove, con dentro «prova:1»."""
    place = tmp_path_factory.mktemp("immagini")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_IMAGES", str(place))
        store = Store()
        store.put(base(), parse("prova:1"))
        yield store


@pytest.fixture(scope="module")
def lab(store: Store) -> Iterator[Lab]:
    with Lab(backend="direct") as lab:
        yield lab
        with lab.process() as root:  # the files of subordinate users are not ours
            root.run(["rm", "-rf", f"{store.root}/layers"], quiet=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("dal contesto\n")
    return tmp_path


def build(lab: Lab, folder: Path, text: str, tag: str = "nuova", **options: object) -> Image:
    (folder / "Containerfile").write_text(f"FROM prova:1\n{text}\n")
    return lab.build(folder, tag, **options)  # type: ignore[arg-type]


def says(lab: Lab, *command: str) -> str:
    return lab.run("nuova", list(command), quiet=True, network="none").output


def test_what_a_run_changes_is_a_layer_and_what_it_says_is_shown(lab: Lab, folder: Path, capsys) -> None:
    text = "WORKDIR /app\nCOPY file .\nENV A=1\nRUN echo fatto; rm /etc/nuovo; echo $A $PWD >> file\nCMD cat file"
    image = build(lab, folder, text)
    assert capsys.readouterr().out == (
        "Passo 1/6: FROM prova:1\nPasso 2/6: WORKDIR /app\nPasso 3/6: COPY file .\nPasso 4/6: ENV A=1\n"
        "Passo 5/6: RUN echo fatto; rm /etc/nuovo; echo $A $PWD >> file\nfatto\nPasso 6/6: CMD cat file\n"
        "nuova:latest: 6 passi, 0 dalla cache.\n"
    )
    assert len(image.layers) == 2 + 3
    assert lab.run("nuova", quiet=True).output == "dal contesto\n1 /app\n"
    assert "nuovo" not in says(lab, "ls", "/etc").split()
    build(lab, folder, text)
    assert "6 passi, 5 dalla cache" in capsys.readouterr().out
    assert lab.ps(all=True)[:] == ()


def test_a_copy_goes_through_the_links_of_the_image_and_no_further(lab: Lab, folder: Path) -> None:
    build(
        lab,
        folder,
        "RUN mkdir /vera && ln -s /vera /finta && ln -s ../../../vera /su\nCOPY file /finta/a\nCOPY file /su/b",
    )
    assert says(lab, "ls", "/vera").split() == ["a", "b"]


def test_a_run_sees_its_arguments_and_no_network(lab: Lab, folder: Path) -> None:
    build(lab, folder, "ARG V=x\nRUN echo $V > /v; ls /sys/class/net > /reti", build_args={"V": "dato"}, quiet=True)
    assert says(lab, "cat", "/v", "/reti").split() == ["dato", "lo"]


def test_a_script_in_a_here_document_runs_with_its_interpreter(lab: Lab, folder: Path) -> None:
    build(lab, folder, "RUN <<UNO\nset -e\necho uno > /uno\nUNO\nRUN <<DUE\n#!/bin/busybox sh\necho $0 > /due\nDUE")
    assert says(lab, "cat", "/uno", "/due").split() == ["uno", "/dev/stdin"]


@pytest.mark.parametrize(
    ("step", "code", "said"),
    [("echo aiuto >&2; exit 4", 4, "aiuto\n"), ('["/manca"]', 127, "«/manca» non c'è")],
)
def test_a_run_that_fails_leaves_no_container_and_no_image(lab: Lab, folder: Path, step, code, said) -> None:
    before = [image.digest for image in lab.images()]
    with pytest.raises(BuildError) as caught:
        build(lab, folder, f"RUN {step}\nRUN touch /mai", tag="rotta", quiet=True)
    assert caught.value.exit_code == code
    assert said in caught.value.output
    assert caught.value.step.number == 2
    assert lab.ps(all=True)[:] == ()
    assert [image.digest for image in lab.images()] == before


def test_the_same_date_gives_the_same_digest_whoever_builds_and_whenever(lab: Lab, folder: Path) -> None:
    text = "RUN mkdir /d && echo uno > /d/f && rm /etc/nuovo\nCOPY file /d/"
    made = [
        build(lab, folder, text, no_cache=True, quiet=True, build_args={"SOURCE_DATE_EPOCH": "0"}) for _ in range(2)
    ]
    assert made[0].digest == made[1].digest
    assert says(lab, "stat", "-c", "%Y", "/d/f").strip() == "0"


@pytest.mark.subuid
def test_a_run_is_of_the_user_of_the_image_and_its_files_too(lab: Lab, folder: Path) -> None:
    build(lab, folder, "USER app\nRUN id -u > /dati/chi\nCOPY --chown=app file /dati/\nCMD cat /dati/chi", quiet=True)
    assert says(lab, "stat", "-c", "%u", "/dati/chi", "/dati/file").split() == ["33", "33"]
    assert lab.run("nuova", quiet=True).output == "33\n"


@pytest.mark.once
def test_the_command_builds_with_a_laboratory_of_its_own(store: Store, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM prova:1\nARG A\nRUN echo $A > /a\nCMD cat /a\n")
    command = [sys.executable, "-m", "labkit", "build", "-q", "-t", "comando:1", "--build-arg", "A=7", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == store.image("comando:1").id
    (folder / "Dockerfile").write_text("FROM prova:1\nRUNN x\n")
    done = subprocess.run([*command[:4], str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "Dockerfile, riga 2: «RUNN» non è un'istruzione.\n  2 │ RUNN x\n    │ ^^^^\n" in done.stderr
    (folder / "Dockerfile").write_text("FROM prova:1\nRUN exit 3\n")
    done = subprocess.run([*command[:4], str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3

"""Lo stesso Containerfile costruito qui e da Docker: la stessa configurazione, gli stessi file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cgroups import OwnCgroup
from bench.scratch_docker import ScratchDocker
from labkit import Lab
from labkit.build.view import View
from labkit.client.image import Image
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.kernel.stored import base

pytestmark = [pytest.mark.kernel, pytest.mark.root, pytest.mark.once, pytest.mark.slow]

#: One of everything that Docker 20.10 knows too.
TEXT = """# escape=\\
ARG BASE=prova:1
FROM $BASE AS officina
ARG VERSIONE=1
RUN mkdir /prodotto && echo "versione $VERSIONE" > /prodotto/v && chmod 750 /prodotto

FROM prova:1
MAINTAINER Anna
ENV A=1 B="due parole" \\
    # un commento
    C=${A:-x}
ENV A=2 D=$A
LABEL nome="prova" versione=${VERSIONE:-nessuna}
WORKDIR /app/sito
WORKDIR ../dati
COPY --from=officina /prodotto /app/prodotto
COPY --chown=33:44 a.txt /nuova/
COPY *.txt cartella ./
COPY cartella /app/
ADD archivio.tar.gz /
RUN rm /etc/nuovo && ln -s dati /app/link && touch -d @1000 /app/ora
RUN ["/bin/busybox", "touch", "/app/exec"]
EXPOSE 80 53/udp
VOLUME /var/dati
USER app
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --retries=2 CMD cat /etc/passwd
SHELL ["/bin/sh", "-ec"]
ONBUILD RUN echo ciao
ENTRYPOINT ["/bin/busybox"]
CMD ["cat", "/app/prodotto/v"]
"""
FIELDS = ("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "StopSignal",
          "Healthcheck", "Shell", "OnBuild")  # fmt: skip


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Il comando con cui si parla a un servizio Docker tutto di questa prova."""
    for name in ("docker", "dockerd"):
        if not shutil.which(name):
            pytest.skip(f"{name} non c'è: sudo apt-get install docker.io")
    group = OwnCgroup()
    daemon = ScratchDocker(tmp_path_factory.mktemp("docker"), group.name)
    yield ["docker", "-H", daemon.address]
    daemon.close()
    group.close()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    here = tmp_path / "contesto"
    (here / "cartella/sotto").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "cartella/c", "cartella/sotto/d", "nascosto.txt"):
        (here / name).write_text(name)
    (here / "cartella/c").chmod(0o700)
    (here / "cartella/l").symlink_to("c")
    (here / ".dockerignore").write_text("nascosto*\nDockerfile\n.dockerignore\n")
    (here / "Dockerfile").write_text(TEXT)
    with tarfile.open(here / "archivio.tar.gz", "w:gz") as archive:
        archive.add(here / "cartella", "opt/archivio")
    return here


def done(command: list[object], **options: object) -> str:
    found = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    assert found.returncode == 0, found.stdout + found.stderr
    return str(found.stdout)


def files(view: View) -> dict[str, tuple[object, ...]]:
    paths = [path for path, node in view.nodes.items() if node.kind == b"0"]
    data = {path: b"".join(pieces) for path, _, pieces in view.contents(paths)}
    return {
        path: (node.kind, node.mode, node.uid, node.gid, node.link, data.get(path))
        for path, node in view.nodes.items()
        if path and path not in ("dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf")
    }


def told(image: Image) -> list[str]:
    """La storia, senza le impronte di ciò che si copia: Docker le calcola su altro."""
    steps = [re.sub(r"(file|dir|multi):[0-9a-f]+", r"\1:", step.created_by) for step, _ in image.history()]
    # Docker writes a structure of Go there, and forgets a space.
    steps = [re.sub(r"(--chown=\S+?)(file|dir|multi):", r"\1 \2:", step) for step in steps]
    return [step.partition("HEALTHCHECK")[0] for step in steps]


def test_docker_and_labkit_make_the_same_image_of_the_same_containerfile(
    docker: list[str], context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_IMAGES", str(tmp_path / "immagini"))
    Store().put(base(), parse("prova:1"))
    with Lab(backend="direct") as lab:
        lab.save("prova:1", tmp_path / "base.tar")
        done([*docker, "load", "-i", tmp_path / "base.tar"])
        mine = lab.build(context, "mia:1", quiet=True)
        env = {**os.environ, "DOCKER_BUILDKIT": "0"}
        done([*docker, "build", "--network", "none", "-t", "sua:1", context], env=env)
        done([*docker, "save", "-o", tmp_path / "sua.tar", "sua:1"])
        theirs = lab.load(tmp_path / "sua.tar")[0]
        assert {key: mine.config.get(key) for key in FIELDS} == {key: theirs.config.get(key) or None for key in FIELDS}
        assert mine._content.config.data["author"] == theirs._content.config.data["author"]
        assert told(mine) == told(theirs)
        assert files(View.of(mine._content)) == files(View.of(theirs._content))
        lab.save("mia:1", tmp_path / "mia.tar")
        done([*docker, "load", "-i", tmp_path / "mia.tar"])
        found = json.loads(done([*docker, "image", "inspect", "mia:1"]))[0]
        assert found["Id"] == mine.id
        ran = [*docker, "run", "--rm", "--network", "none", "--entrypoint", "/bin/busybox"]
        assert done([*ran, "mia:1", "cat", "/app/prodotto/v"]) == "versione 1\n"
        with lab.process() as root:
            root.run(["rm", "-rf", f"{tmp_path}/immagini/layers"], quiet=True)

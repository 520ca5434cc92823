"""Le stesse immagini in un Docker e in un Podman veri: prese, eseguite, rimandate; le impronte sono uguali."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.cgroups import OwnCgroup
from bench.scratch_docker import ScratchDocker
from labkit import Lab
from labkit.client.image import Image as Handle
from labkit.client.images import Images
from labkit.client.registry import CourseRegistry
from labkit.images.config import History
from labkit.images.image import Image, Layer
from labkit.images.reference import parse
from tests.unit.images.tars import entry, folder, link, tar

pytestmark = [pytest.mark.root, pytest.mark.kernel]

Program = Callable[..., str]
ANSWER = "dal secondo strato\n"


def program(argv: list[str]) -> Program:
    def run(*more: object) -> str:
        done = subprocess.run([*argv, *map(str, more)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def registry() -> Iterator[CourseRegistry]:
    with CourseRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_IMAGES", str(tmp_path_factory.mktemp("immagini")))
        yield Images()


@pytest.fixture(scope="module")
def made(images: Images, registry: CourseRegistry) -> Handle:
    """Un'immagine che si può eseguire, già nel registro: busybox; sopra, un file cambiato e uno cancellato."""
    busybox = Path(shutil.which("busybox") or pytest.skip("busybox non c'è: sudo apt-get install busybox-static"))
    base = tar(
        folder("bin"), entry("bin/busybox", busybox.read_bytes(), mode=0o755), link("bin/sh", "busybox"),
        entry("risposta", b"dal primo strato\n"), entry("tolto", b"x"),
    )  # fmt: skip
    top = tar(entry("risposta", ANSWER.encode()), entry(".wh.tolto"))
    image = Image.empty()
    for number, layer in enumerate((base, top)):
        image = image.append(Layer.from_tar(layer), History(created_by=f"strato {number}"))
    script = "busybox cat /risposta; busybox test ! -e /tolto && exit $CODICE"
    start = {"Cmd": ["sh", "-c", script], "Env": ["PATH=/bin", "CODICE=7"], "WorkingDir": "/bin"}
    images.store.put(image.with_process(History(empty_layer=True), **start), parse(registry.name("interop/prova:1")))
    return images.push(registry.name("interop/prova:1"))


@pytest.fixture(scope="module")
def cgroup() -> Iterator[OwnCgroup]:
    own = OwnCgroup()
    yield own
    own.close()


@pytest.fixture(scope="module")
def docker(cgroup: OwnCgroup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    for name in ("docker", "dockerd"):
        if not shutil.which(name):
            pytest.skip(f"{name} non c'è: sudo apt-get install docker.io")
    daemon = ScratchDocker(tmp_path_factory.mktemp("docker"), cgroup.name)
    yield ["docker", "-H", daemon.address]
    daemon.close()


@pytest.fixture(scope="module")
def podman() -> Iterator[list[str]]:
    if not shutil.which("podman"):
        pytest.skip("podman non c'è: sudo apt-get install podman")
    home = tempfile.mkdtemp(prefix="lkp-", dir="/tmp")  # podman wants a short path
    argv = ["podman", "--root", f"{home}/root", "--runroot", f"{home}/run", "--tmpdir", f"{home}/tmp"]
    argv += ["--cgroup-manager=cgroupfs", "--storage-driver", "vfs", "--events-backend", "none", "--runtime", "runc"]
    # Its locks in /dev/shm, and whatever it mounts, end with a mount namespace of each command's own.
    private = 'mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /run; exec "$@"'
    yield ["unshare", "--mount", "--propagation", "private", "sh", "-c", private, "sh", *argv]
    shutil.rmtree(home)


def outcome(argv: list[str], name: str) -> tuple[int, str]:
    done = subprocess.run([*argv, name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def ours(images: Images, made: Handle) -> tuple[int, str]:
    """Che cosa risponde l'immagine nel laboratorio."""
    with Lab() as lab:
        done = lab.run(made.name, quiet=True)
    return done.exit_code or 0, done.output


def test_docker_takes_our_image_and_it_answers_the_same(docker: list[str], made: Handle, ours: tuple[int, str]) -> None:
    run = program(docker)
    run("pull", made.name)
    (seen,) = json.loads(run("inspect", made.name))
    assert seen["Id"] == made.id
    assert seen["RepoDigests"] == made.inspect()["RepoDigests"]
    assert seen["RootFS"]["Layers"] == [layer.diff_id for layer in made.layers]
    assert ours == (7, ANSWER)
    assert outcome([*docker, "run", "--rm", "--network", "none"], made.name) == ours


def test_an_archive_goes_to_docker_and_comes_back_the_same(
    docker: list[str], images: Images, made: Handle, tmp_path: Path
) -> None:
    run = program(docker)
    images.tag(made.name, "interop/archivio:1")
    images.save("interop/archivio:1", tmp_path / "nostro.tar")
    assert "interop/archivio:1" in run("load", "-i", tmp_path / "nostro.tar")
    (seen,) = json.loads(run("inspect", "interop/archivio:1"))
    assert seen["Id"] == made.id
    run("save", "-o", tmp_path / "suo.tar", "interop/archivio:1")
    images.rmi("interop/archivio:1")
    (back,) = images.load(tmp_path / "suo.tar")
    assert (back.name, back.id) == ("interop/archivio:1", made.id)


def test_what_docker_makes_runs_in_the_laboratory(
    docker: list[str], images: Images, made: Handle, registry: CourseRegistry, tmp_path: Path
) -> None:
    run = program(docker)
    (tmp_path / "Dockerfile").write_text(f"FROM {made.name}\nCOPY nuova /risposta\nENV CODICE=5\nLABEL di=docker\n")
    (tmp_path / "nuova").write_text("fatta da Docker\n")
    name = registry.name("interop/docker:1")
    run("build", "-q", "-t", name, tmp_path)
    said = run("push", name)
    taken = images.pull(name)
    assert taken.digest in said
    assert taken.id == json.loads(run("inspect", name))[0]["Id"]
    assert taken.layers[:2] == made.layers, "gli strati di prima non sono cambiati"
    with Lab() as lab:
        done = lab.run(name, quiet=True)
    assert (done.exit_code, done.output) == (5, "fatta da Docker\n")


def test_podman_takes_our_image_and_it_answers_the_same(
    cgroup: OwnCgroup, made: Handle, ours: tuple[int, str], podman: list[str]
) -> None:
    run = program(podman)
    run("pull", "-q", "--tls-verify=false", made.name)
    (seen,) = json.loads(run("inspect", made.name))
    assert (f"sha256:{seen['Id']}", seen["Digest"]) == (made.id, made.digest)
    # A root without CAP_SYS_RESOURCE (some virtual machines) cannot raise the limits that podman asks for.
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--cgroup-parent", cgroup.name]
    assert outcome([*podman, "run", "--rm", "--network", "none", *limits], made.name) == ours

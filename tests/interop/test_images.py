"""Immagini scambiate con programmi che qui nessuno ha scritto: skopeo, umoci, il registro di Docker."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.images.archive import load, save
from labkit.images.config import History
from labkit.images.descriptor import LAYER_GZIP, Descriptor, Platform
from labkit.images.image import Image, Layer
from labkit.images.local_registry import LocalRegistry
from labkit.images.reference import Reference, parse
from labkit.images.registry import Registry
from labkit.images.registry_pull import pull
from labkit.images.registry_push import push
from labkit.images.store import Store
from labkit.images.unpack import Options, unpack
from labkit.images.whiteouts import RemovingWhiteouts
from tests.unit.images.tars import entry, folder, hard, link, tar

pytestmark = pytest.mark.slow

AMD64 = Platform("linux", "amd64")


def need(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} non c'è: sudo apt-get install {program}")


def run(*argv: object) -> str:
    done = subprocess.run([str(one) for one in argv], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def skopeo(*argv: object) -> str:
    need("skopeo")
    return run("skopeo", *argv)


def image() -> Image:
    """Tre strati, con tutto ciò che uno strato può avere: cancellazioni, link, permessi, nomi strani."""
    base = (
        folder("d", mode=0o1777, mtime=1),
        entry("d/a", b"a" * 9000, mode=0o4755),
        entry("d/b", b"b"),
        link("s", "d/a"),
        folder("via"),
        entry("via/x", b"1"),
        entry("via/y/z", b"2"),
        hard("h", "d/a"),
        entry("tolto", b"x"),
    )
    changes = (
        entry("d/.wh.b"),
        entry("via/.wh..wh..opq"),
        entry("via/n", b"nuovo"),
        entry(".wh.tolto"),
        entry("d/a", b"cambiato"),
    )
    names = (
        entry("n" * 180, b"lungo", mtime=9),
        entry("è", b"accento", uid=33, gid=34),
        folder("tolto"),
        entry("tolto/q"),
    )
    made = Image.empty(AMD64)
    for number, entries in enumerate((base, changes, names)):
        step = History(created_by=f"strato {number}", created="2026-01-01T00:00:00Z")
        made = made.append(Layer.from_tar(tar(*entries)), step)
    return made.with_process(History(empty_layer=True), Cmd=["/bin/sh"], Env=["A=1"], Labels={"l": "x"})


def described(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        what = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        what = os.fsencode(os.readlink(path)) if path.is_symlink() else what
        when = 0 if path.is_dir() and not path.is_symlink() else info.st_mtime_ns
        found[str(path.relative_to(root))] = (info.st_mode, info.st_uid, info.st_gid, when, info.st_nlink, what)
    return found


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(str(tmp_path / "immagini"))
    made.put(image(), parse("corso/prova:1"))
    return made


# ---------------------------------------------------------------- layouts and archives


def test_skopeo_reads_our_folder_and_we_read_its_own(store, tmp_path):
    skopeo("copy", f"oci:{store.root}:docker.io/corso/prova:1", f"oci-archive:{tmp_path}/suo.tar:corso/prova:2")
    other = Store(str(tmp_path / "altre"))
    load(other, io.BytesIO((tmp_path / "suo.tar").read_bytes()))
    assert other.image("corso/prova:2") == image()


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_skopeo_reads_what_we_save(store, tmp_path, kind):
    (tmp_path / "mio.tar").write_bytes(b"".join(save(store, ["corso/prova:1"])))
    skopeo("copy", f"{kind}:{tmp_path}/mio.tar", f"oci:{tmp_path}/fuori:x")
    found = Store(str(tmp_path / "fuori"))
    config = found.image(found.images()[0].descriptor).config
    assert (config.diff_ids, config.command, config.env) == (image().config.diff_ids, ("/bin/sh",), (("A", "1"),))


def test_we_read_the_archives_of_docker_that_skopeo_writes(store, tmp_path):
    where = f"{tmp_path}/docker.tar"
    skopeo("copy", f"oci:{store.root}:docker.io/corso/prova:1", f"docker-archive:{where}:corso/vecchia:1")
    other = Store(str(tmp_path / "altre"))
    with open(where, "rb") as file:
        load(other, file)
    assert other.image("corso/vecchia:1").config.diff_ids == image().config.diff_ids


@pytest.mark.root
def test_umoci_unpacks_the_same_tree(store, tmp_path):
    need("umoci")
    skopeo("copy", f"oci:{store.root}:docker.io/corso/prova:1", f"oci:{tmp_path}/fuori:x")
    run("umoci", "raw", "unpack", "--image", f"{tmp_path}/fuori:x", tmp_path / "suo")
    mine = tmp_path / "mio"
    mine.mkdir()
    for layer in store.image("corso/prova:1").layers:
        with layer.open() as blob:
            unpack(blob, str(mine), layer.descriptor.digest, layer.diff_id, Options(RemovingWhiteouts()))
    assert described(mine) == described(tmp_path / "suo")
    assert "d/b" not in described(mine)


# ---------------------------------------------------------------- the registry of Docker, and ours


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory) -> Iterator[str]:
    need("docker-registry")
    folder = tmp_path_factory.mktemp("registro-docker")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/dati}}, "
        f"delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    server = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_the_registry_of_docker_keeps_and_gives_back_our_images(docker_registry, store, tmp_path):
    reference = Reference(docker_registry, "corso/prova", "1")
    assert str(push(store, "corso/prova:1", reference)) == image().digest
    seen: list[str] = []
    push(store, "corso/prova:1", reference, watch=lambda progress: seen.append(progress.state))
    assert set(seen) == {"waiting", "exists"}
    other = Store(str(tmp_path / "altre"))
    pull(other, reference, AMD64)
    assert other.image(str(reference)) == image()
    assert Registry(docker_registry).tags("corso/prova") == ("1",)


def test_a_blob_moves_between_repositories_of_the_registry_of_docker(docker_registry, store):
    first, second = (Reference(docker_registry, f"corso/{name}", "1") for name in ("da", "verso"))
    push(store, "corso/prova:1", first)
    store.tag("corso/prova:1", str(first))
    seen: list[str] = []
    push(store, "corso/prova:1", second, watch=lambda progress: seen.append(progress.state))
    assert seen.count("mounted") == 4, "tre strati e una configurazione"


def test_half_a_blob_is_finished_with_the_registry_of_docker(docker_registry, store, tmp_path):
    reference = Reference(docker_registry, "corso/meta", "1")
    data = Layer.from_tar(tar(entry("g", os.urandom(300_000))))
    store.put(Image.empty(AMD64).append(data, History()), reference)
    push(store, str(reference))
    other = Store(str(tmp_path / "altre"))
    blob = Descriptor(LAYER_GZIP, data.descriptor.digest, data.descriptor.size)
    with other.blobs.partial(blob) as partial:
        partial.write(data.open().read()[:100_000])
    first: list[int] = []
    pull(other, reference, AMD64, watch=lambda p: first.append(p.done) if p.digest == blob.digest and p.done else None)
    assert first[0] > 100_000
    assert other.check() == ()


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Iterator[str]:
    with LocalRegistry(str(tmp_path_factory.mktemp("registro-nostro"))) as registry:
        yield registry.address


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_skopeo_sends_to_our_registry_and_takes_from_it(ours, store, tmp_path, form):
    where = f"docker://{ours}/corso/{form}:1"
    skopeo("copy", "--dest-tls-verify=false", "--format", form, f"oci:{store.root}:docker.io/corso/prova:1", where)
    skopeo("copy", "--src-tls-verify=false", where, f"oci:{tmp_path}/fuori:x")
    other = Store(str(tmp_path / "altre"))
    pull(other, Reference(ours, f"corso/{form}", "1"), AMD64)
    assert other.image(f"{ours}/corso/{form}:1").config.diff_ids == image().config.diff_ids
    assert skopeo("list-tags", "--tls-verify=false", where.rpartition(":")[0]).count('"1"') == 1
    skopeo("delete", "--tls-verify=false", where)
    assert Registry(ours).tags(f"corso/{form}") == ()

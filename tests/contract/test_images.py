"""Le immagini conservate, in ogni backend: un container ne nasce, e ciò che cambia diventa un'altra immagine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from labkit import Lab
from labkit.errors import BackendError, CorruptError, LabError, NotFoundError
from labkit.images.config import History
from labkit.images.image import Layer
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.kernel.stored import stored, variant
from tests.unit.images.tars import entry, tar

ROOT = {"uid": 0, "gid": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with stored(tmp_path_factory.mktemp("immagini")) as store:
        yield store


@pytest.fixture(scope="module")
def shared(backend: str, store: Store) -> Iterator[Lab]:
    with Lab(backend=backend) as lab:
        yield lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    yield shared
    for container in shared.ps(all=True):
        container.rm(force=True)


def test_a_stored_image_says_how_its_container_starts(lab: Lab, store: Store) -> None:
    name = variant(store, "dice:1", Entrypoint=["echo"], Cmd=["di", "suo"], Labels={"a": "1"})
    assert lab.run(name, quiet=True).output == "di suo\n"
    assert lab.run(name, ["altro"], quiet=True).output == "altro\n"
    info = lab.create(name).inspect()
    assert (info.image, info.image_digest) == (name, store.image(name).digest)
    assert (dict(info.labels), [str(one) for one in info.env if one.origin == "image"]) == (
        {"a": "1"}, ["PATH=/bin", "COLORE=verde"],
    )  # fmt: skip


def test_an_image_that_is_not_there_is_named_and_nothing_is_born(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="«mai/vista:1» non c'è"):
        lab.run("mai/vista:1", "true", pull="never")
    assert len(lab.ps(all=True)) == 0


def test_what_a_container_changes_becomes_an_image_that_runs(lab: Lab, store: Store) -> None:
    container = lab.create("prova:1", ["cat", "/dati/messo"])
    if lab.backend == "fake":  # its containers have no files, and it says so
        for act in (container.diff, container.commit, lambda: container.put_archive("/dati", tar())):
            with pytest.raises(BackendError, match="non hanno file"):
                act()
        return
    container.put_archive("/dati", tar(entry("messo", b"da fuori", **ROOT), entry("grande", bytes(400_000), **ROOT)))
    container.start()
    assert container.wait(timeout=25) == 0
    assert container.logs() == "da fuori"
    assert [str(one) for one in container.diff()] == ["C /dati", "A /dati/grande", "A /dati/messo"]
    pieces, stat = container.get_archive("/dati/grande")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        assert archive.getmember("grande").size == stat["size"] == 400_000
    made = container.commit("fatta:1", ['CMD ["cat", "/dati/messo", "/etc/nuovo"]'])
    assert lab.run("fatta:1", quiet=True).output == "da fuorinuovo"
    assert store.image("fatta:1").digest == made.digest


def test_a_damaged_layer_is_named_and_the_lab_goes_on(lab: Lab, store: Store) -> None:
    if lab.backend == "fake":
        return
    layer = Layer.from_tar(tar(entry(lab.backend, b"x" * 5000, **ROOT)))
    store.put(store.image("prova:1").append(layer, History()), parse("guasta:1"))
    path = store.blobs.path(layer.descriptor.digest)
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    store.blobs.remove(layer.descriptor.digest)
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(CorruptError, match=layer.descriptor.digest.encoded):
        lab.run("guasta:1", "true", quiet=True)
    assert lab.run("prova:1", "true", quiet=True).ok


@pytest.mark.parametrize("wrong", [5, {}, {"store": "/manca", "name": "x", "descriptor": {}}, {"store": 1}])
def test_a_place_that_makes_no_sense_is_refused(lab: Lab, wrong: object) -> None:
    with pytest.raises(LabError):
        lab.wire.call("run", spec={"image": "x"}, stored=wrong)
    assert lab.ps() is not None

"""Un'immagine in un file: torna uguale, da chiunque l'abbia scritta, e niente di più di ciò che promette."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterable

import pytest

from labkit.errors import InvalidError, LabError, NotFoundError
from labkit.images.archive import import_root, load, save
from labkit.images.config import History
from labkit.images.digest import DiffID, Digest
from labkit.images.image import Image, Layer
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.unit.images.tars import entry, hard, link, tar


def store_in(tmp_path, name: str) -> Store:
    return Store(str(tmp_path / name))


def image(*names: str) -> Image:
    made = Image.empty()
    for name in names:
        made = made.append(Layer.from_tar(tar(entry(name, name.encode() * 500))), History(created_by=name))
    return made


def names(store: Store) -> set[str]:
    return {one.reference.familiar if one.reference else "" for one in store.images()}


def read(store: Store, data: bytes | Iterable[bytes]) -> object:
    return load(store, io.BytesIO(data if isinstance(data, bytes) else b"".join(data)))


@pytest.fixture
def source(tmp_path) -> Store:
    store = store_in(tmp_path, "a")
    store.put(image("base", "uno"), parse("uno:1"))
    store.put(image("base", "due"), parse("localhost:5000/x/due"))
    return store


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_saved_is_loaded_equal_with_its_names(source, tmp_path, packed):
    data = b"".join(save(source, ["uno:1", "localhost:5000/x/due"]))
    target = store_in(tmp_path, "b")
    read(target, gzip.compress(data) if packed else data)
    assert names(target) == {"uno:1", "localhost:5000/x/due:latest"}
    for name in names(target):
        assert target.image(name) == source.image(name)
    assert target.check() == ()


def test_the_same_images_make_the_same_archive_and_a_shared_layer_is_there_once(source):
    data = b"".join(save(source, ["uno:1", "localhost:5000/x/due"]))
    assert data == b"".join(save(source, ["uno:1", "localhost:5000/x/due"]))
    assert data.count(source.image("uno:1").layers[0].descriptor.digest.encoded.encode()) == 1 + 4, (
        "un file, e i documenti"
    )


def test_an_image_saved_by_id_comes_back_without_a_name(source, tmp_path):
    target = store_in(tmp_path, "b")
    read(target, save(source, [source.image("uno:1").id]))
    assert names(target) == {""}


def docker_archive(one: Image, *more: bytes, **changes: object) -> bytes:
    """Com'era «docker save» fino alla versione 24: uno strato già in cartella, gli altri con un link."""
    raw = one.config.raw
    plain = [tar(entry(step.created_by, step.created_by.encode() * 500)) for step in one.config.history]
    listed = {"Config": "c.json", "RepoTags": ["vecchia:1"], "Layers": [f"{n}/layer.tar" for n in range(len(plain))]}
    layers = [entry(f"{n}/layer.tar", data) for n, data in enumerate(plain)]
    return tar(
        *layers, *more, entry("c.json", raw), entry("manifest.json", json.dumps([{**listed, **changes}]).encode())
    )


def test_the_old_archives_of_docker_are_read(tmp_path):
    store = store_in(tmp_path, "b")
    one = image("a", "b")
    read(store, docker_archive(one))
    found = store.image("vecchia:1")
    assert found.config == one.config
    assert found.config.diff_ids == tuple(DiffID.of(layer.open().read()) for layer in found.layers)


def test_a_layer_may_be_a_link_to_another_place_of_the_archive(tmp_path):
    store = store_in(tmp_path, "b")
    more = (link("z/layer.tar", "../0/layer.tar"), hard("h/layer.tar", "1/layer.tar"))
    read(store, docker_archive(image("a", "b"), *more, Layers=["z/layer.tar", "h/layer.tar"], RepoTags=None))
    assert names(store) == {""}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tar(entry("etc/passwd", b"x")), "labkit import"),
        (tar(), "labkit import"),
        (docker_archive(image("a"), Config="altro.json"), "manca la configurazione"),
        (docker_archive(image("a"), Config="../../etc/passwd"), "manca la configurazione"),
        (docker_archive(image("a"), Layers=[]), "0 strati"),
        (docker_archive(image("a"), Layers=["niente"]), "manca lo strato"),
        (docker_archive(image("a", "b"), Layers=["1/layer.tar", "0/layer.tar"]), "non è quello che dice"),
        (docker_archive(image("a"), link("l", "m"), link("m", "l"), Layers=["l"]), "manca lo strato"),
        (docker_archive(image("a"), RepoTags=["NON VA"]), "non va bene"),
        (tar(entry("manifest.json", b"{}")), "docker save"),
        (tar(entry("manifest.json", b"[" * 99999)), "docker save"),
        (tar(entry("oci-layout", b"{}"), entry("index.json", b"{}")), "schemaVersion"),
        (b"qualunque cosa" * 100, "tar"),
    ],
)
def test_an_archive_that_is_not_whole_names_what_is_missing_and_adds_no_image(tmp_path, data, why):
    store = store_in(tmp_path, "b")
    with pytest.raises(LabError) as problem:
        read(store, data)
    assert why in str(problem.value)
    assert store.images() == ()
    store.gc()
    assert list(store.blobs.all()) == []


def test_an_oci_archive_without_a_layer_adds_no_image(source, tmp_path):
    whole = b"".join(save(source, ["uno:1"]))
    digest = source.image("uno:1").layers[0].descriptor.digest.encoded.encode()
    where = whole.index(digest) - len("blobs/sha256/")
    cut = whole[:where] + whole[where:].replace(digest, b"f" * 64, 1)
    header = bytearray(cut[where : where + 512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    target = store_in(tmp_path, "b")
    # The name in the archive says nothing: what counts are the bytes. They are still there, so it loads…
    read(target, cut[:where] + bytes(header) + cut[where + 512 :])
    assert target.image("uno:1") == source.image("uno:1")
    # …and without the bytes it does not.
    size = source.image("uno:1").layers[0].descriptor.size
    other = store_in(tmp_path, "c")
    with pytest.raises(InvalidError, match="manca il pezzo"):
        read(other, whole[:where] + whole[where + 512 + size + (-size % 512) :])
    assert other.images() == ()


def test_a_damaged_blob_is_never_saved(source):
    layer = source.image("uno:1").layers[0].descriptor
    path = source.blobs.path(layer.digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(20)
        file.write(b"XX")
    with pytest.raises(InvalidError, match="rovinato"):
        b"".join(save(source, ["uno:1"]))


def test_a_root_becomes_an_image_of_one_layer(tmp_path):
    store = store_in(tmp_path, "b")
    data = tar(entry("bin/sh", b"x" * 1_000_000))
    step = History(created_by="import")
    made = import_root(store, io.BytesIO(gzip.compress(data)), parse("radice"), step, Cmd=["/bin/sh"])
    found = store.image("radice")
    assert found == made
    assert found.config.diff_ids == (DiffID.of(data),)
    assert found.config.command == ("/bin/sh",)
    assert Digest.of(found.layers[0].open().read()) == found.layers[0].descriptor.digest


@pytest.mark.parametrize("data", [b"", tar(), b"x" * 600, tar(entry("a", b"x" * 2000))[:1000]])
def test_what_is_not_a_root_becomes_no_image(tmp_path, data):
    store = store_in(tmp_path, "b")
    with pytest.raises((InvalidError, NotFoundError)):
        import_root(store, io.BytesIO(data), parse("radice"), History())
    assert store.images() == ()
    assert list(store.blobs.all()) == []

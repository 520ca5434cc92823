"""Manifesti, indici, configurazioni, immagini: si legge ciò che è chiaro, si rifiuta ciò che è ambiguo."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvalidError, NotFoundError
from labkit.images import descriptor as media
from labkit.images import manifest as manifests
from labkit.images.config import History, ImageConfig
from labkit.images.descriptor import Descriptor, Platform
from labkit.images.digest import DiffID, Digest
from labkit.images.image import Image, Layer
from labkit.images.manifest import Index, Manifest
from tests.unit.images.tars import entry, tar

AMD64 = Platform("linux", "amd64")
BLOB = {"mediaType": media.LAYER_GZIP, "digest": str(Digest.of(b"x")), "size": 1}
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
CONFIG = {"mediaType": media.CONFIG, "digest": str(Digest.of(b"{}")), "size": 2}
GOOD = {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": CONFIG, "layers": [BLOB]}


def raw(**changes: object) -> bytes:
    return json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not ...}).encode()


def test_a_manifest_keeps_the_very_bytes_it_came_with():
    text = json.dumps(GOOD, indent=3).encode()
    assert Manifest.parse(text).descriptor.digest == Digest.of(text)


def test_docker_schema_2_is_read_too():
    found = Manifest.parse(raw(mediaType=media.DOCKER_MANIFEST), media.DOCKER_MANIFEST)
    assert (found.media_type, found.layers[0].size) == (media.DOCKER_MANIFEST, 1)


def test_the_type_may_be_only_in_the_answer_or_nowhere():
    assert Manifest.parse(raw(mediaType=...), media.DOCKER_MANIFEST + "; charset=utf-8").media_type.endswith("v2+json")
    assert isinstance(manifests.parse(raw(mediaType=...)), Manifest)
    assert isinstance(manifests.parse(b'{"schemaVersion":2,"manifests":[]}'), Index)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Non è JSON"),
        (b"[]", "oggetto JSON"),
        (b"\xff", "Non è JSON"),
        (b"[" * 100_000, "parentesi"),
        (b" " * (media.LARGEST_DOCUMENT + 1), "troppo grande"),
        (raw(schemaVersion=1), "schema 1"),
        (raw(schemaVersion=True), "schemaVersion"),
        (raw(schemaVersion=3), "conosco solo il 2"),
        (raw(layers=...), "layers"),
        (raw(layers={}), "layers"),
        (raw(config=[]), "config"),
        (raw(layers=[BLOB] * 501), "501 strati"),
        (raw(layers=[{**BLOB, "size": -1}]), "negativa"),
        (raw(layers=[{**BLOB, "size": 1.5}]), "size"),
        (raw(layers=[{**BLOB, "size": True}]), "size"),
        (raw(layers=[{**BLOB, "digest": "sha256:../../etc"}]), "impronta"),
        (raw(layers=[{**BLOB, "annotations": {"a": 1}}]), "annotazioni"),
        (raw(layers=["x"]), "descrittore"),
        (raw(layers=[{**BLOB, "mediaType": FOREIGN}]), "distribuire"),
        (raw(manifests=[]), "ambiguo"),
        (raw(mediaType="text/plain"), "text/plain"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_and_says_where(text, why):
    with pytest.raises(InvalidError, match=why):
        Manifest.parse(text)


def test_a_registry_that_calls_a_manifest_an_index_is_not_believed():
    with pytest.raises(InvalidError, match="non mi fido"):
        manifests.parse(raw(), media.INDEX)
    with pytest.raises(InvalidError, match="ambiguo"):
        Index.parse(b'{"schemaVersion":2,"manifests":[],"layers":[]}')


def index(*platforms: str) -> Index:
    listed = (Descriptor.of(media.MANIFEST, name.encode(), platform=Platform.parse(name)) for name in platforms)
    return Index.of(tuple(listed))


def test_the_platform_is_chosen_exactly_and_otherwise_as_near_as_it_suits():
    arms = index("linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8")
    assert arms.choose(Platform.parse("linux/arm/v7")).digest == Digest.of(b"linux/arm/v7")
    assert arms.choose(Platform.parse("linux/arm64")).digest == Digest.of(b"linux/arm64/v8")


def test_a_platform_that_is_not_there_is_said_with_those_that_are():
    with pytest.raises(NotFoundError, match="è per linux/amd64, linux/arm64"):
        index("linux/amd64", "linux/arm64", "unknown/unknown").choose(Platform("linux", "s390x"))


_keys = st.sampled_from(["schemaVersion", "mediaType", "layers", "config", "manifests", "rootfs", "history", "os"])
_json = st.recursive(st.none() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(_keys, one))


@given(st.binary(max_size=200) | _json.map(lambda data: json.dumps(data).encode()))
def test_whatever_comes_is_read_or_refused_never_a_crash(data):
    for read in (manifests.parse, Manifest.parse, Index.parse, ImageConfig):
        with contextlib.suppress(InvalidError):
            read(data)


# ---------------------------------------------------------------- configuration and image


def config(**fields: object) -> ImageConfig:
    data = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}, **fields}
    return ImageConfig(json.dumps(data).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"rootfs": {"type": "other"}},
        {"rootfs": {"type": "layers", "diff_ids": ["x"]}},
        {"rootfs": {"type": "layers", "diff_ids": [1]}},
        {"os": 1},
        {"config": {"Cmd": "sh"}},
        {"config": {"Env": [1]}},
        {"config": {"User": []}},
        {"history": ["x"]},
        {"created": 5},
    ],
)
def test_a_configuration_that_could_not_start_is_refused(fields):
    with pytest.raises(InvalidError):
        config(**fields).diff_ids, config(**fields).created


def test_fields_that_we_do_not_know_survive_a_new_layer():
    old = config(**{"x.custom": {"a": [1]}, "config": {"Cmd": ["sh"], "OnBuild": ["RUN x"]}})
    new = old.with_layer(DiffID.of(b""), History(created_by="test", created="2026-01-01T00:00:00Z"))
    assert new.data["x.custom"] == {"a": [1]}
    assert new.process == {"Cmd": ["sh"], "OnBuild": ["RUN x"]}
    assert new.created == "2026-01-01T00:00:00Z"
    assert old.diff_ids == ()


def test_a_null_list_of_go_is_an_empty_one():
    assert config(history=None, config=None).history == ()


def test_the_command_is_the_entrypoint_and_then_the_arguments():
    found = config(config={"Entrypoint": ["/e"], "Cmd": ["a", "b"], "Env": ["A=1=2", "B="]})
    assert found.command == ("/e", "a", "b")
    assert found.env == (("A", "1=2"), ("B", ""))


def test_an_image_with_a_layer_more_is_another_image():
    layer = Layer.from_tar(tar(entry("a", b"x")))
    base = Image.empty(AMD64)
    one = base.append(layer, History(created_by="COPY a"))
    two = one.with_process(History(created_by="CMD", empty_layer=True), Cmd=["/a"])
    assert (len(base.layers), len(one.layers), two.layers) == (0, 1, one.layers)
    assert len({base.id, one.id, two.id, base.digest, one.digest, two.digest}) == 6
    assert [(step.created_by, size) for step, size in two.history()] == [("COPY a", layer.descriptor.size), ("CMD", 0)]
    assert two.inspect()["Config"] == {"Cmd": ["/a"]}
    with pytest.raises(AttributeError):
        one.layers = ()  # type: ignore[misc]


def test_a_layer_knows_both_its_digests_and_the_same_files_make_the_same_layer():
    data = tar(entry("a", b"x"))
    for kind in ("", "gzip", "zstd"):
        layer = Layer.from_tar(data, kind)
        assert layer.diff_id == DiffID.of(data)
        assert layer.descriptor.digest == Digest.of(layer.open().read())
        assert layer == Layer.from_tar(data, kind)


def test_an_image_whose_layers_are_not_those_of_its_configuration_is_refused():
    layer = Layer.from_tar(tar())
    other = Image.empty(AMD64).append(layer, History())
    with pytest.raises(InvalidError, match="non è coerente"):
        Image(other.manifest, ImageConfig.empty(AMD64), (layer,))
    with pytest.raises(InvalidError, match="manifesto"):
        Image(other.manifest, other.config, ())

"""Nomi, impronte, piattaforme: che cosa è scritto bene, e che cosa non si confonde."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvalidError
from labkit.images.descriptor import Platform
from labkit.images.digest import ChainID, DiffID, Digest, chain_ids
from labkit.images.reference import Reference, parse

HEX = "a" * 64


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("bitnami/nginx", "docker.io/bitnami/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("127.0.0.1:5000/corso/x:1", "127.0.0.1:5000/corso/x:1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("Server/x", "Server/x:latest"),
        (f"nginx@sha256:{HEX}", f"docker.io/library/nginx@sha256:{HEX}"),
        (f"nginx:1@sha256:{HEX}", f"docker.io/library/nginx:1@sha256:{HEX}"),
        ("a__b-c---d/e.f", "docker.io/a__b-c---d/e.f:latest"),
    ],
)
def test_a_name_means_what_it_means_for_docker(written, meant):
    assert str(parse(written)) == meant


@pytest.mark.parametrize(
    "wrong",
    ["", " nginx", "Nginx", "nginx:", "a//b", "/a", "a/", "-a", "a..b", "a___b", "x:" + "t" * 129, HEX, "x@sha256:1",
     "x@md5:" + "a" * 32, "quay.io/", "http://quay.io/x", "x:t:u", "x y", "à", "a/../b", "x" * 256, "reg.io:/x", "x@"],
)  # fmt: skip
def test_a_wrong_name_is_refused_with_a_sentence(wrong):
    with pytest.raises(InvalidError):
        parse(wrong)


def test_a_name_in_capitals_gets_a_suggestion():
    with pytest.raises(InvalidError, match="«nginx:1»"):
        parse("NGINX:1")


_component = st.from_regex(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*", fullmatch=True).filter(lambda text: len(text) < 30)


@given(
    st.sampled_from(["docker.io", "quay.io", "localhost", "h:5000", "127.0.0.1:80"]),
    st.lists(_component, min_size=1, max_size=3).map("/".join),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    st.booleans(),
)
def test_a_name_written_whole_or_short_is_read_back_the_same(registry, repository, tag, pinned):
    if registry == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    one = Reference(registry, repository, tag, Digest(f"sha256:{HEX}") if pinned else None)
    assert parse(str(one)) == one
    assert parse(one.familiar) == one


@pytest.mark.parametrize(
    "wrong", ["", "sha256:", f"sha256:{HEX.upper()}", f"sha256:{HEX}a", f"sha1:{'a' * 40}", f"sha256:{'../' * 21}a",
              f"sha512:{HEX}", HEX, f"sha256:{HEX}\n"]
)  # fmt: skip
def test_a_wrong_digest_never_exists(wrong):
    with pytest.raises(InvalidError):
        Digest(wrong)


def test_the_digest_of_what_travels_is_never_the_one_of_what_is_in_it():
    assert Digest.of(b"x").text == DiffID.of(b"x").text
    assert Digest.of(b"x") != DiffID.of(b"x")
    assert len({Digest.of(b"x"), DiffID.of(b"x"), ChainID.of(b"x")}) == 3


def test_a_chain_changes_with_every_layer_below():
    # The example of the specification: ChainID(L0|L1) = Digest(ChainID(L0) + " " + DiffID(L1)).
    a, b = DiffID.of(b"a"), DiffID.of(b"b")
    assert chain_ids([a, b])[1] == ChainID.of(f"{a} {b}".encode())
    assert chain_ids([b, a])[1] != chain_ids([a, b])[1]
    assert chain_ids([]) == ()


@pytest.mark.parametrize(
    ("image", "wanted", "good"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/arm", "linux/arm/v7", True),
        ("windows/amd64", "linux/amd64", False),
        ("linux/amd64/v3", "linux/amd64", True),
    ],
)
def test_an_image_suits_the_machine_that_can_run_it(image, wanted, good):
    assert Platform.parse(image).suits(Platform.parse(wanted)) is good


@pytest.mark.parametrize("wrong", ["linux", "", "linux/", "linux/a/b/c", "linux/am d64", "../amd64"])
def test_a_wrong_platform_is_refused(wrong):
    with pytest.raises(InvalidError):
        Platform.parse(wrong)

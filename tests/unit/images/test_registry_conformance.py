"""Il registro del corso fa quello che la distribution-spec 1.1 chiede: pull, push, discovery, deletion.

Le quattro vie sono quelle della prova di conformità della specifica; il titolo di ogni gruppo, e la prima riga di ogni
prova, dice la sezione.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.images.descriptor import CONFIG, EMPTY, INDEX, LAYER, LAYER_GZIP, MANIFEST, write
from labkit.images.digest import Digest
from labkit.images.local_registry import LocalRegistry

NAME = "conformance/prova"
CONFIGURATION = write({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
BLOB = b"uno strato di prova" * 100
MISSING = str(Digest.of(b"che non c'e'"))


class Client:
    """HTTP e niente altro: ogni prova vede gli stati e le intestazioni come sono sul filo."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            connection.request(method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def upload(self, data: bytes, name: str = NAME) -> str:
        digest = str(Digest.of(data))
        status, headers, _ = self("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202
        mark = "&" if "?" in headers["location"] else "?"
        kind = "application/octet-stream"
        assert self("PUT", f"{headers['location']}{mark}digest={digest}", data, Content_Type=kind)[0] == 201
        return digest

    def put(self, where: str, raw: bytes, name: str = NAME, kind: str = MANIFEST) -> tuple[int, dict[str, str], bytes]:
        return self("PUT", f"/v2/{name}/manifests/{where}", raw, Content_Type=kind)

    def code(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        status, _, body = self(method, path, **headers)
        return status, json.loads(body)["errors"][0]["code"]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with LocalRegistry(str(tmp_path_factory.mktemp("conforme"))) as registry:
        client = Client(registry.address)
        client.upload(CONFIGURATION)
        client.upload(BLOB)
        assert client.put("tag0", manifest())[0] == 201
        yield client


def part(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": str(Digest.of(data)), "size": len(data)}


def manifest(**more: object) -> bytes:
    layers = [part(LAYER_GZIP, BLOB)]
    return write(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": part(CONFIG, CONFIGURATION), "layers": layers, **more}
    )


# ---------------------------------------------------------------- pull


def test_the_endpoint_says_that_it_speaks_this_specification(ask: Client) -> None:
    """Determining Support (end-1)."""
    assert ask("GET", "/v2/")[0] == 200


@pytest.mark.parametrize("where", ["tag0", str(Digest.of(manifest()))])
def test_a_manifest_is_pulled_by_tag_and_by_digest(ask: Client, where: str) -> None:
    """Pulling manifests (end-3)."""
    status, headers, body = ask("GET", f"/v2/{NAME}/manifests/{where}", Accept=MANIFEST)
    assert (status, body) == (200, manifest())
    assert headers["content-type"] == MANIFEST
    assert headers["docker-content-digest"] == str(Digest.of(manifest()))
    status, headers, body = ask("HEAD", f"/v2/{NAME}/manifests/{where}", Accept=MANIFEST)
    assert (status, body, headers["content-length"]) == (200, b"", str(len(manifest())))


def test_a_manifest_that_is_not_there_is_not_found(ask: Client) -> None:
    """Pulling manifests (end-3), Error Codes (code-7)."""
    for where in ("mai-visto", MISSING):
        assert ask("HEAD", f"/v2/{NAME}/manifests/{where}")[0] == 404
        assert ask.code("GET", f"/v2/{NAME}/manifests/{where}") == (404, "MANIFEST_UNKNOWN")
    assert ask("GET", "/v2/nessun/deposito/manifests/tag0")[0] == 404


def test_a_blob_is_pulled_whole_and_its_existence_is_asked(ask: Client) -> None:
    """Pulling blobs (end-2), Checking if content exists in the registry."""
    path = f"/v2/{NAME}/blobs/{Digest.of(BLOB)}"
    status, headers, body = ask("GET", path)
    assert (status, body) == (200, BLOB)
    assert headers["docker-content-digest"] == str(Digest.of(BLOB))
    status, headers, body = ask("HEAD", path)
    assert (status, body, headers["content-length"]) == (200, b"", str(len(BLOB)))
    assert ask("HEAD", f"/v2/{NAME}/blobs/{MISSING}")[0] == 404
    assert ask.code("GET", f"/v2/{NAME}/blobs/{MISSING}") == (404, "BLOB_UNKNOWN")


def test_a_part_of_a_blob_is_pulled_by_its_range(ask: Client) -> None:
    """Pulling blobs (end-2): Range requests, RFC 9110."""
    status, headers, body = ask("GET", f"/v2/{NAME}/blobs/{Digest.of(BLOB)}", Range="bytes=3-9")
    assert (status, body) == (206, BLOB[3:10])
    assert headers["content-range"] == f"bytes 3-9/{len(BLOB)}"


# ---------------------------------------------------------------- push


def test_a_blob_is_pushed_with_post_and_put(ask: Client) -> None:
    """Pushing a blob monolithically, POST then PUT (end-4a, end-6)."""
    digest = ask.upload(b"in due tempi")
    assert ask("GET", f"/v2/{NAME}/blobs/{digest}")[2] == b"in due tempi"


def test_a_blob_is_pushed_with_one_post(ask: Client) -> None:
    """Pushing a blob monolithically, Single POST (end-4b)."""
    data = b"in un tempo solo"
    path = f"/v2/{NAME}/blobs/uploads/?digest={Digest.of(data)}"
    status, headers, _ = ask("POST", path, data, Content_Type="application/octet-stream")
    assert status == 201
    assert ask("GET", headers["location"])[2] == data


def test_a_blob_is_pushed_in_chunks_in_their_order_only(ask: Client) -> None:
    """Pushing a blob in chunks (end-5, end-6, end-13)."""
    data = b"primo pezzo, secondo pezzo"
    first, second = data[:12], data[12:]
    kind = "application/octet-stream"
    status, headers, _ = ask("POST", f"/v2/{NAME}/blobs/uploads/", Content_Length="0")
    assert status == 202
    where = headers["location"]
    assert ask("PATCH", where, second, Content_Type=kind, Content_Range="12-25")[0] == 416, "manca il primo"
    status, headers, _ = ask("PATCH", where, first, Content_Type=kind, Content_Range="0-11")
    assert (status, headers["range"]) == (202, "0-11")
    where = headers["location"]
    assert ask("PATCH", where, first, Content_Type=kind, Content_Range="0-11")[0] == 416, "già mandato"
    status, headers, _ = ask("GET", where)
    assert (status, headers["range"], headers["location"]) == (204, "0-11", where)
    status, headers, _ = ask(
        "PUT", f"{where}?digest={Digest.of(data)}", second, Content_Type=kind, Content_Range="12-25"
    )
    assert status == 201
    assert ask("GET", headers["location"])[2] == data


def test_bytes_that_are_not_those_of_the_digest_are_no_blob(ask: Client) -> None:
    """Pushing blobs, Error Codes (code-2 DIGEST_INVALID)."""
    where = ask("POST", f"/v2/{NAME}/blobs/uploads/")[1]["location"]
    assert ask("PUT", f"{where}?digest={MISSING}", b"altri byte")[0] == 400
    assert ask("HEAD", f"/v2/{NAME}/blobs/{MISSING}")[0] == 404
    assert ask.code("GET", f"/v2/{NAME}/blobs/sha256:corta") == (400, "DIGEST_INVALID")


def test_a_blob_is_mounted_from_another_repository_or_sent(ask: Client) -> None:
    """Mounting a blob from another repository (end-11)."""
    digest = Digest.of(BLOB)
    status, headers, _ = ask("POST", f"/v2/conformance/altro/blobs/uploads/?mount={digest}&from={NAME}")
    assert status == 201
    assert ask("GET", headers["location"])[2] == BLOB
    status, headers, _ = ask("POST", f"/v2/conformance/altro/blobs/uploads/?mount={MISSING}&from={NAME}")
    assert status == 202, "se non c'è si manda come sempre"
    assert "/blobs/uploads/" in headers["location"]


def test_a_manifest_is_pushed_with_a_tag_and_with_its_digest(ask: Client) -> None:
    """Pushing manifests (end-7)."""
    raw = manifest(annotations={"n": "1"})
    for where in ("tag1", str(Digest.of(raw))):
        status, headers, _ = ask.put(where, raw)
        assert status == 201
        assert ask("GET", headers["location"])[2] == raw
        assert headers["docker-content-digest"] == str(Digest.of(raw))
    assert ask.put(MISSING, raw)[0] == 400


def test_a_manifest_with_missing_blobs_is_refused_and_one_without_layers_is_not(ask: Client) -> None:
    """Pushing manifests (end-7): «may be accepted»; MANIFEST_BLOB_UNKNOWN (code-1)."""
    status, _, body = ask.put("rotto", manifest(layers=[{**part(LAYER, b"x"), "digest": MISSING}]))
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert ask("HEAD", f"/v2/{NAME}/manifests/rotto")[0] == 404
    assert ask.put("vuoto", manifest(layers=[]))[0] == 201


def test_an_index_is_pushed_and_pulled_as_it_is(ask: Client) -> None:
    """Pushing manifests (end-7): image index."""
    raw = write({"schemaVersion": 2, "mediaType": INDEX, "manifests": [part(MANIFEST, manifest())]})
    assert ask.put("indice", raw, kind=INDEX)[0] == 201
    status, headers, body = ask("GET", f"/v2/{NAME}/manifests/indice", Accept=INDEX)
    assert (status, headers["content-type"], body) == (200, INDEX, raw)


def test_a_manifest_with_a_subject_is_accepted_before_its_subject(ask: Client) -> None:
    """Pushing Manifests with Subject (end-7): OCI-Subject."""
    raw = manifest(subject={"mediaType": MANIFEST, "digest": MISSING, "size": 7})
    status, headers, _ = ask.put(str(Digest.of(raw)), raw)
    assert (status, headers["oci-subject"]) == (201, MISSING)


# ---------------------------------------------------------------- content discovery


def test_tags_are_listed_in_order_and_in_pages(ask: Client) -> None:
    """Listing Tags (end-8a, end-8b)."""
    name = "conformance/tag"
    ask.upload(CONFIGURATION, name)
    ask.upload(BLOB, name)
    for tag in ("b", "a", "d", "c"):
        assert ask.put(tag, manifest(), name)[0] == 201
    status, _, body = ask("GET", f"/v2/{name}/tags/list")
    assert (status, json.loads(body)) == (200, {"name": name, "tags": ["a", "b", "c", "d"]})
    status, headers, body = ask("GET", f"/v2/{name}/tags/list?n=2")
    assert json.loads(body)["tags"] == ["a", "b"]
    more = headers["link"].partition("<")[2].partition(">")[0]
    assert headers["link"].endswith('rel="next"')
    status, headers, body = ask("GET", more)
    assert (json.loads(body)["tags"], "link" in headers) == (["c", "d"], False)
    assert json.loads(ask("GET", f"/v2/{name}/tags/list?n=0")[2])["tags"] == []
    assert json.loads(ask("GET", f"/v2/{name}/tags/list?last=c")[2])["tags"] == ["d"]
    assert ask.code("GET", "/v2/nessun/deposito/tags/list") == (404, "NAME_UNKNOWN")


def test_who_refers_to_a_manifest_is_an_index_that_can_be_filtered(ask: Client) -> None:
    """Listing Referrers (end-12a, end-12b)."""
    subject = part(MANIFEST, manifest())
    ask.upload(b"{}")
    empty = part(EMPTY, b"{}")
    signature = manifest(subject=subject, config=empty, artifactType="application/firma", annotations={"di": "prof"})
    inventory = manifest(subject=subject, config=empty, artifactType="application/inventario")
    for raw in (signature, inventory):
        assert ask.put(str(Digest.of(raw)), raw)[0] == 201
    status, headers, body = ask("GET", f"/v2/{NAME}/referrers/{subject['digest']}")
    found = json.loads(body)
    assert (status, headers["content-type"], found["mediaType"]) == (200, INDEX, INDEX)
    assert {one["digest"] for one in found["manifests"]} == {str(Digest.of(raw)) for raw in (signature, inventory)}
    path = f"/v2/{NAME}/referrers/{subject['digest']}?artifactType=application/firma"
    status, headers, body = ask("GET", path)
    (one,) = json.loads(body)["manifests"]
    assert headers["oci-filters-applied"] == "artifactType"
    assert (one["artifactType"], one["annotations"]) == ("application/firma", {"di": "prof"})
    status, _, body = ask("GET", f"/v2/{NAME}/referrers/{Digest.of(b'di cui nessuno parla')}")
    assert (status, json.loads(body)["manifests"]) == (200, []), "nessuno ne parla: un elenco vuoto, non un errore"


# ---------------------------------------------------------------- content management


def test_a_deleted_tag_leaves_the_manifest(ask: Client) -> None:
    """Deleting tags (end-9)."""
    raw = manifest(annotations={"n": "tag"})
    ask.put("da-togliere", raw)
    assert ask("DELETE", f"/v2/{NAME}/manifests/da-togliere")[0] == 202
    assert ask("GET", f"/v2/{NAME}/manifests/da-togliere")[0] == 404
    assert ask("GET", f"/v2/{NAME}/manifests/{Digest.of(raw)}")[0] == 200
    assert "da-togliere" not in json.loads(ask("GET", f"/v2/{NAME}/tags/list")[2])["tags"]


def test_a_deleted_manifest_takes_its_tags_along(ask: Client) -> None:
    """Deleting Manifests (end-9)."""
    raw = manifest(annotations={"n": "via"})
    ask.put("via1", raw)
    ask.put("via2", raw)
    assert ask("DELETE", f"/v2/{NAME}/manifests/{Digest.of(raw)}")[0] == 202
    for where in ("via1", "via2", str(Digest.of(raw))):
        assert ask("GET", f"/v2/{NAME}/manifests/{where}")[0] == 404
    assert ask("DELETE", f"/v2/{NAME}/manifests/{Digest.of(raw)}")[0] == 404
    assert ask("GET", f"/v2/{NAME}/manifests/tag0")[0] == 200, "gli strati sono anche di un altro"
    assert ask("GET", f"/v2/{NAME}/blobs/{Digest.of(BLOB)}")[0] == 200


def test_a_deleted_blob_is_gone(ask: Client) -> None:
    """Deleting Blobs (end-10)."""
    digest = ask.upload(b"da cancellare")
    assert ask("DELETE", f"/v2/{NAME}/blobs/{digest}")[0] == 202
    assert ask("GET", f"/v2/{NAME}/blobs/{digest}")[0] == 404
    assert ask("DELETE", f"/v2/{NAME}/blobs/{digest}")[0] == 404


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["MAIUSCOLO", "a/../b", "-a", "a/", "a//b"])
def test_a_name_outside_the_grammar_is_an_error_with_its_code(ask: Client, name: str) -> None:
    """Pulling manifests: <name> MUST match; Error Codes."""
    status, code = ask.code("GET", f"/v2/{name}/manifests/tag0")
    assert status in (400, 404)
    assert code in ("NAME_INVALID", "NAME_UNKNOWN", "MANIFEST_UNKNOWN", "MANIFEST_INVALID")

"""Il client e il registro del corso, uno contro l'altro: ciò che si manda è ciò che si scarica."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import threading

import pytest

from labkit.errors import InvalidError, NotFoundError
from labkit.images.config import History
from labkit.images.descriptor import EMPTY, MANIFEST, Descriptor, Platform, write
from labkit.images.digest import Digest
from labkit.images.image import Image, Layer
from labkit.images.local_registry import LocalRegistry
from labkit.images.manifest import Index
from labkit.images.reference import Reference, parse
from labkit.images.registry import Registry
from labkit.images.registry_origin import RegistryError
from labkit.images.registry_pull import pull
from labkit.images.registry_push import push
from labkit.images.registry_transfer import Progress
from labkit.images.store import Store
from tests.unit.images.tars import entry, tar


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with LocalRegistry(str(tmp_path_factory.mktemp("registro"))) as one:
        yield one


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "immagini"))


def image(*names: str, platform: str = "linux/amd64", kind: str = "gzip") -> Image:
    made = Image.empty(Platform.parse(platform))
    for name in names:
        data = tar(entry(name, random.Random(name).randbytes(700_000)))
        made = made.append(Layer.from_tar(data, kind), History(created_by=name))
    return made


def name(registry: LocalRegistry, repository: str, tag: str = "1") -> Reference:
    return Reference(registry.address, repository, tag)


def ask(registry: LocalRegistry, method: str, path: str, body: bytes = b"", **headers: str):
    connection = http.client.HTTPConnection(registry.address, timeout=20)
    connection.request(method, path, body or None, {key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    found = (answer.status, dict(answer.headers), answer.read())
    connection.close()
    return found


# ---------------------------------------------------------------- pull and push


def test_what_is_pushed_is_what_is_pulled(registry, store, tmp_path):
    reference = name(registry, "corso/prova")
    one = image("a", "b", "c", "d", kind="zstd")
    store.put(one, reference)
    assert str(push(store, str(reference))) == one.digest
    other = Store(str(tmp_path / "altre"))
    assert pull(other, reference, Platform.parse("linux/amd64")).digest == Digest(one.digest)
    assert other.image(str(reference)) == one
    assert other.check() == ()


def test_every_blob_tells_how_far_it_is(registry, store, tmp_path):
    reference = name(registry, "corso/avanzamento")
    one = image("x", "y")
    store.put(one, reference)
    seen: list[Progress] = []
    push(store, str(reference), watch=seen.append)
    states = {blob.digest: [p.state for p in seen if p.digest == blob.digest] for blob in one.manifest.blobs}
    assert all(said[0] == "waiting" and said[-1] == "done" for said in states.values())
    again: list[Progress] = []
    push(store, str(reference), watch=again.append)
    assert {p.state for p in again} == {"waiting", "exists"}
    down: list[Progress] = []
    other = Store(str(tmp_path / "altre"))
    pull(other, reference, Platform.parse("linux/amd64"), watch=down.append)
    layer = one.layers[0].descriptor
    moved = [p.done for p in down if p.digest == layer.digest and p.state == "moving"]
    assert moved == sorted(moved)
    assert moved[-1] == layer.size
    twice: list[Progress] = []
    pull(other, reference, Platform.parse("linux/amd64"), watch=twice.append)
    assert {p.state for p in twice} == {"waiting", "exists"}


def test_a_blob_of_another_repository_is_taken_from_there(registry, store):
    store.put(image("base", "uno"), name(registry, "corso/uno"))
    push(store, str(name(registry, "corso/uno")))
    store.put(image("base", "due"), name(registry, "corso/due"))
    seen: list[Progress] = []
    push(store, str(name(registry, "corso/due")), watch=seen.append)
    base = image("base").layers[0].descriptor.digest
    assert [p.state for p in seen if p.digest == base] == ["waiting", "mounted"]


def test_the_platform_is_the_one_asked_for(registry, store):
    known = Registry(registry.address)
    listed = []
    for platform in ("linux/amd64", "linux/arm64"):
        one = image(platform.replace("/", "-"), platform=platform)
        store.put(one, name(registry, "corso/molte", platform[6:]))
        push(store, str(name(registry, "corso/molte", platform[6:])))
        listed.append(Descriptor(MANIFEST, Digest(one.digest), len(one.manifest.raw), Platform.parse(platform)))
    index = Index.of(tuple(listed))
    known.put_manifest(name(registry, "corso/molte", "tutte"), index.raw, index.media_type)
    for platform in ("linux/arm64", "linux/amd64"):
        pull(store, name(registry, "corso/molte", "tutte"), Platform.parse(platform))
        assert store.image(f"{registry.address}/corso/molte:tutte").config.platform == Platform.parse(platform)
    pinned = name(registry, "corso/molte").with_digest(index.descriptor.digest)
    pull(store, pinned, Platform.parse("linux/amd64"))
    assert store.image(str(pinned)).config.architecture == "amd64"
    with pytest.raises(NotFoundError, match="linux/amd64, linux/arm64"):
        pull(store, pinned, Platform.parse("linux/s390x"))


def test_what_is_not_there_is_said_with_its_name(registry, store):
    with pytest.raises(RegistryError, match="non c'è «127.0.0.1:.*/corso/niente:1»") as problem:
        pull(store, name(registry, "corso/niente"))
    assert problem.value.status == 404
    assert store.images() == ()


def test_a_mirror_is_tried_first_and_the_registry_after(registry, store, tmp_path):
    reference = name(registry, "corso/specchio")
    store.put(image("s"), reference)
    push(store, str(reference))
    hub = Reference("docker.io", "corso/specchio", "1")
    other = Store(str(tmp_path / "altre"))
    # The mirror answers for Docker Hub, where nobody goes.
    pull(other, hub, Platform.parse("linux/amd64"), mirrors={"docker.io": [f"http://{registry.address}"]})
    assert other.find("corso/specchio:1").descriptor.digest == Digest(image("s").digest)
    # A mirror that is not there: the registry itself is asked.
    third = Store(str(tmp_path / "terze"))
    pull(third, reference, Platform.parse("linux/amd64"), mirrors={registry.address: ["http://127.0.0.1:9"]})
    assert third.image(str(reference))


def test_two_laboratories_fetch_a_layer_once(registry, store, tmp_path):
    reference = name(registry, "corso/insieme")
    store.put(image("i", "j"), reference)
    push(store, str(reference))
    root = str(tmp_path / "comune")
    seen: list[Progress] = []
    people = [
        threading.Thread(
            target=pull, args=(Store(root), reference, Platform.parse("linux/amd64")), kwargs={"watch": seen.append}
        )
        for _ in range(4)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len([p for p in seen if p.state == "done"]) == 3, "due strati e una configurazione, una volta sola"
    assert Store(root).check() == ()


def test_a_repository_that_may_not_be_read_is_done_without(registry, store, monkeypatch):
    store.put(image("base", "tre"), name(registry, "corso/segreto"))
    push(store, str(name(registry, "corso/segreto")))
    store.put(image("base", "tre"), name(registry, "corso/mio"))
    start = Registry.start_upload

    def strict(self: Registry, repository: str, blob: Descriptor, source: str = "") -> str:
        if source:
            raise RegistryError("no", status=403)
        return start(self, repository, blob)

    monkeypatch.setattr(Registry, "start_upload", strict)
    push(store, str(name(registry, "corso/mio")))
    assert Registry(registry.address).tags("corso/mio") == ("1",)


def test_what_was_damaged_and_only_that_is_fetched_again(registry, store, tmp_path):
    reference = name(registry, "corso/guasto")
    one = image("sano", "malato")
    store.put(one, reference)
    push(store, str(reference))
    other = Store(str(tmp_path / "altre"))
    pull(other, reference, Platform.parse("linux/amd64"))
    path = other.blobs.path(one.layers[1].descriptor.digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"guasto")
    assert other.check() == (one.layers[1].descriptor.digest,)
    seen: list[Progress] = []
    pull(other, reference, Platform.parse("linux/amd64"), watch=seen.append)
    assert [p.digest for p in seen if p.state == "done"] == [one.layers[1].descriptor.digest]
    assert other.check() == ()
    assert other.image(str(reference)) == one


def test_an_image_without_a_name_cannot_be_pushed(store):
    store.put(image("a"))
    with pytest.raises(InvalidError, match="non ha un nome"):
        push(store, image("a").id)


def test_http_in_clear_is_only_for_this_machine():
    assert Registry("localhost:5000").url == "http://localhost:5000"
    assert Registry("[::1]:5000").url == "http://[::1]:5000"
    assert Registry("registro.example:5000").url == "https://registro.example:5000"
    assert Registry("docker.io").url.startswith("https://registry-1.")
    with pytest.raises(InvalidError, match="in chiaro"):
        Registry("docker.io", url="http://registro.example")


# ---------------------------------------------------------------- the server, by the letter


def test_the_tags_come_in_order_and_in_pages(registry, store):
    for tag in ("c", "a", "b"):
        store.put(image("t"), name(registry, "corso/tag", tag))
        push(store, str(name(registry, "corso/tag", tag)))
    assert Registry(registry.address).tags("corso/tag") == ("a", "b", "c")
    status, headers, body = ask(registry, "GET", "/v2/corso/tag/tags/list?n=2")
    assert (status, json.loads(body)["tags"]) == (200, ["a", "b"])
    assert "last=b" in headers["Link"]
    assert json.loads(ask(registry, "GET", "/v2/corso/tag/tags/list?n=2&last=b")[2])["tags"] == ["c"]
    assert "corso/tag" in json.loads(ask(registry, "GET", "/v2/_catalog")[2])["repositories"]


def send(registry: LocalRegistry, repository: str, data: bytes) -> Digest:
    digest = Digest.of(data)
    assert ask(registry, "POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)[0] == 201
    return digest


def test_a_blob_is_sent_whole_or_in_pieces_and_read_in_part(registry):
    digest = Digest.of(b"0123456789")
    status, headers, _ = ask(registry, "POST", "/v2/c/pezzi/blobs/uploads/")
    where = headers["Location"]
    assert status == 202
    assert ask(registry, "PATCH", where, b"01234", Content_Range="0-4")[0] == 202
    assert ask(registry, "PATCH", where, b"56", Content_Range="9-10")[0] == 416
    assert ask(registry, "GET", where)[1]["Range"] == "0-4"
    assert ask(registry, "PUT", f"{where}?digest={Digest.of(b'altro')}", b"56789")[0] == 400
    status, headers, _ = ask(registry, "POST", "/v2/c/pezzi/blobs/uploads/")
    assert ask(registry, "PUT", f"{headers['Location']}?digest={digest}", b"0123456789")[0] == 201
    assert ask(registry, "GET", f"/v2/c/pezzi/blobs/{digest}", Range="bytes=3-5")[::2] == (206, b"345")
    assert ask(registry, "GET", f"/v2/c/pezzi/blobs/{digest}", Range="bytes=7-")[::2] == (206, b"789")
    assert ask(registry, "GET", f"/v2/c/pezzi/blobs/{digest}", Range="bytes=-4")[::2] == (206, b"6789")
    assert ask(registry, "GET", f"/v2/c/pezzi/blobs/{digest}", Range="bytes=8-500")[::2] == (206, b"89")
    for nowhere in ("bytes=99-", "bytes=5-0", "bytes=99-100"):
        assert ask(registry, "GET", f"/v2/c/pezzi/blobs/{digest}", Range=nowhere)[0] == 416
    assert ask(registry, "HEAD", f"/v2/c/pezzi/blobs/{digest}")[1]["Content-Length"] == "10"


def test_an_upload_that_is_cancelled_is_gone(registry):
    where = ask(registry, "POST", "/v2/c/via/blobs/uploads/")[1]["Location"]
    assert ask(registry, "DELETE", where)[0] == 204
    assert ask(registry, "GET", where)[0] == 404
    assert ask(registry, "PATCH", where, b"x")[0] == 404


def test_what_a_registry_keeps_is_there_when_it_starts_again_and_half_an_upload_is_not(tmp_path):
    root = tmp_path / "registro"
    with LocalRegistry(str(root)) as first:
        digest = send(first, "c/x", b"resta")
        where = ask(first, "POST", "/v2/c/x/blobs/uploads/")[1]["Location"]
        ask(first, "PATCH", where, b"a meta")
    with LocalRegistry(str(root)) as second:
        assert ask(second, "GET", f"/v2/c/x/blobs/{digest}")[2] == b"resta"
        assert ask(second, "GET", where)[0] == 404


def test_what_one_repository_deletes_another_keeps(registry):
    digest = send(registry, "c/primo", b"di due")
    assert ask(registry, "POST", f"/v2/c/secondo/blobs/uploads/?mount={digest}&from=c/primo")[0] == 201
    assert ask(registry, "DELETE", f"/v2/c/primo/blobs/{digest}")[0] == 202
    assert ask(registry, "GET", f"/v2/c/primo/blobs/{digest}")[0] == 404
    assert ask(registry, "GET", f"/v2/c/secondo/blobs/{digest}")[2] == b"di due"
    assert ask(registry, "POST", f"/v2/c/terzo/blobs/uploads/?mount={digest}&from=c/primo")[0] == 202
    assert ask(registry, "POST", f"/v2/c/terzo/blobs/uploads/?mount={digest}")[0] == 201
    assert ask(registry, "POST", f"/v2/c/terzo/blobs/uploads/?mount={Digest.of(b'mai visto')}")[0] == 202


def manifest(registry: LocalRegistry, repository: str, **more: object) -> bytes:
    empty = {"mediaType": EMPTY, "digest": str(send(registry, repository, b"{}")), "size": 2}
    return write({"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": [empty], **more})


def test_a_manifest_that_names_what_is_not_there_is_refused(registry):
    raw = manifest(registry, "c/intero")
    assert ask(registry, "PUT", "/v2/c/altro/manifests/x", raw, Content_Type=MANIFEST)[0] == 400
    assert ask(registry, "PUT", "/v2/c/intero/manifests/x", raw, Content_Type=MANIFEST)[0] == 201
    assert ask(registry, "PUT", "/v2/c/intero/manifests/x", raw, Content_Type="text/plain")[0] == 400
    assert ask(registry, "PUT", f"/v2/c/intero/manifests/{Digest.of(b'')}", raw, Content_Type=MANIFEST)[0] == 400
    assert ask(registry, "PUT", "/v2/c/intero/manifests/x", b"{", Content_Type=MANIFEST)[0] == 400


def test_every_kind_of_manifest_of_the_specification_is_kept(registry):
    foreign = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": str(Digest.of(b"?")),
        "size": 9,
    }
    large = {f"nota-{number}": "A" * 10_000 for number in range(390)}
    for more in ({"layers": [foreign]}, {"annotations": large}, {"layers": []}, {"altro": [1, None]}):
        raw = manifest(registry, "c/tipi", **more)
        assert ask(registry, "PUT", f"/v2/c/tipi/manifests/{Digest.of(raw)}", raw, Content_Type=MANIFEST)[0] == 201
        assert ask(registry, "GET", f"/v2/c/tipi/manifests/{Digest.of(raw)}")[2] == raw


def test_sha512_is_as_good_as_sha256(registry):
    digest = f"sha512:{hashlib.sha512(b'lungo').hexdigest()}"
    assert ask(registry, "POST", f"/v2/c/lungo/blobs/uploads/?digest={digest}", b"lungo")[0] == 201
    assert ask(registry, "GET", f"/v2/c/lungo/blobs/{digest}")[2] == b"lungo"
    raw = manifest(registry, "c/lungo")
    name = f"sha512:{hashlib.sha512(raw).hexdigest()}"
    assert ask(registry, "PUT", f"/v2/c/lungo/manifests/{name}", raw, Content_Type=MANIFEST)[0] == 201
    assert ask(registry, "GET", f"/v2/c/lungo/manifests/{name}")[1]["Docker-Content-Digest"] == name


def test_a_manifest_goes_with_its_tags_and_a_tag_goes_alone(registry):
    raw = manifest(registry, "c/tolto", annotations={"a": "1"})
    for tag in ("uno", "due"):
        ask(registry, "PUT", f"/v2/c/tolto/manifests/{tag}", raw, Content_Type=MANIFEST)
    assert ask(registry, "DELETE", "/v2/c/tolto/manifests/uno")[0] == 202
    assert ask(registry, "GET", "/v2/c/tolto/manifests/due")[2] == raw
    assert ask(registry, "DELETE", f"/v2/c/tolto/manifests/{Digest.of(raw)}")[0] == 202
    assert ask(registry, "GET", "/v2/c/tolto/manifests/due")[0] == 404
    assert ask(registry, "DELETE", "/v2/c/tolto/manifests/due")[0] == 404


def test_who_speaks_of_a_manifest_is_listed(registry):
    raw = manifest(registry, "c/firma")
    ask(registry, "PUT", "/v2/c/firma/manifests/x", raw, Content_Type=MANIFEST)
    subject = {"mediaType": MANIFEST, "digest": str(Digest.of(raw)), "size": len(raw)}
    signature = manifest(registry, "c/firma", subject=subject, artifactType="application/firma")
    status, headers, _ = ask(
        registry, "PUT", f"/v2/c/firma/manifests/{Digest.of(signature)}", signature, Content_Type=MANIFEST
    )
    assert (status, headers["OCI-Subject"]) == (201, str(Digest.of(raw)))
    listed = json.loads(ask(registry, "GET", f"/v2/c/firma/referrers/{Digest.of(raw)}")[2])["manifests"]
    assert [(one["digest"], one["artifactType"]) for one in listed] == [
        (str(Digest.of(signature)), "application/firma")
    ]
    none = ask(registry, "GET", f"/v2/c/firma/referrers/{Digest.of(raw)}?artifactType=altro")
    assert json.loads(none[2])["manifests"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/",
        "/v2/x",
        "/v2/../../etc/passwd",
        "/v2/c/%2e%2e/blobs/x",
        "/v2/A/tags/list",
        "/v2/c/manifests/..%2f..%2fx",
        "/v2/c/blobs/uploads/..%2f..%2f..%2findex",
        "/v2/c/_tags/tags/list",
        "/v2/c/blobs/sha256:..%2f",
        "/v2/niente/tags/list",
    ],
)
def test_a_strange_address_is_refused_and_reads_nothing(registry, path):
    status, _, body = ask(registry, "GET", path)
    assert status in (400, 404)
    assert json.loads(body)["errors"][0]["code"]


def test_a_page_of_the_browser_cannot_use_the_registry(registry):
    assert ask(registry, "GET", "/v2/", Host="ladro.example")[0] == 403
    assert ask(registry, "POST", "/v2/c/x/blobs/uploads/", Origin="http://ladro.example")[0] == 403
    assert ask(registry, "GET", "/v2/", Host="localhost:5000")[0] == 200


def test_the_name_of_the_registry_is_good_for_a_reference(registry):
    assert parse(f"{registry.address}/x").registry == registry.address

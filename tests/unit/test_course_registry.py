"""Il registro del corso dalla parte di chi lo accende: che cosa ha viaggiato, chi può scrivere, che cosa si libera."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import cli
from labkit.client.images import Images
from labkit.client.registry import CourseRegistry
from labkit.errors import ConflictError, InvalidError, NotFoundError
from labkit.images import local_registry_api
from labkit.images.config import History
from labkit.images.digest import Digest
from labkit.images.image import Image, Layer
from labkit.images.local_registry import LocalRegistry
from labkit.images.reference import parse
from tests.unit.images.tars import entry, tar


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.setenv("LABKIT_IMAGES", str(tmp_path / "immagini"))
    return Images()


@pytest.fixture
def registry() -> Iterator[CourseRegistry]:
    with CourseRegistry() as registry:
        yield registry


def stack(images: Images, name: str, *layers: bytes) -> Image:
    """Un'immagine con uno strato, che non si comprime, per ogni contenuto."""
    made = Image.empty()
    for place, content in enumerate(layers):
        made = made.append(Layer.from_tar(tar(entry(f"f{place}", content)), ""), History(created_by=f"passo {place}"))
    images.store.put(made, parse(name))
    return made


def test_the_log_says_what_travels_the_first_time_and_what_the_second(images: Images, registry: CourseRegistry) -> None:
    made = stack(images, "c/x:1", b"a" * 5000, b"b" * 7000)
    weight = made.size + made.manifest.config.size
    images.push("c/x:1", registry.name("c/x:1"))
    first = registry.log(new=True)
    assert first.only("invio").received == weight
    assert first.received == weight + len(made.manifest.raw)
    images.push("c/x:1", registry.name("c/x:2"))
    second = registry.log(new=True)
    assert second.only("invio").received == 0, "gli strati ci sono già"
    assert second.received == len(made.manifest.raw)
    images.rmi("c/x:1")
    images.pull(registry.name("c/x:1"))
    pulled = registry.log(new=True)
    assert pulled.only("blob").sent == weight
    assert pulled.only("manifesto").sent == len(made.manifest.raw)
    images.pull(registry.name("c/x:2"))
    assert registry.log(new=True).only("blob").sent == 0
    assert len(registry.log()) == len(first) + len(second) + len(pulled) + 1
    assert len(registry.log(new=True)) == 0


def test_a_request_is_a_row_and_the_digests_are_short(images: Images, registry: CourseRegistry) -> None:
    stack(images, "c/x:1", b"a")
    images.push("c/x:1", registry.name("c/x:1"))
    last = registry.log()[-1]
    assert (last.method, last.what, last.status) == ("PUT", ("c/x", "manifesto", "1"), 201)
    rows = registry.log().rows()
    assert rows[-1][:6] == ("127.0.0.1", "PUT", "c/x", "manifesto", "1", "201")
    assert max(len(row[4]) for row in rows) == 12
    assert str(registry.log()).startswith("DA ")
    assert "<td" in registry.log()[-2:]._repr_html_()


def test_a_part_of_a_blob_counts_for_what_it_is(images: Images, registry: CourseRegistry) -> None:
    made = stack(images, "c/x:1", os.urandom(1 << 16))
    images.push("c/x:1", registry.name("c/x:1"))
    registry.log(new=True)
    connection = http.client.HTTPConnection(registry.address, timeout=10)
    connection.request("GET", f"/v2/c/x/blobs/{made.layers[0].descriptor.digest}", headers={"Range": "bytes=0-99"})
    connection.getresponse().read()
    connection.close()
    assert registry.log(new=True).sent == 100


def test_a_deleted_image_gives_its_room_back_and_shared_layers_stay(images: Images, registry: CourseRegistry) -> None:
    shared, own = b"s" * 9000, b"p" * 4000
    stack(images, "c/a:1", shared)
    both = stack(images, "c/a:2", shared, own)
    images.push("c/a:1", registry.name("c/a:1"))
    images.push("c/a:2", registry.name("c/a:2"))
    assert registry.repositories() == ["c/a"]
    assert registry.tags("c/a") == ["1", "2"]
    before = registry.size
    gone = registry.delete("c/a:2")
    assert gone == both.layers[1].descriptor.size + both.manifest.config.size + len(both.manifest.raw)
    assert registry.size == before - gone
    images.rmi("c/a:1")
    assert images.pull(registry.name("c/a:1")).size == both.layers[0].descriptor.size
    registry.delete("c/a:1")
    assert (registry.size, registry.repositories()) == (0, [])
    with pytest.raises(NotFoundError, match="non c'è"):
        registry.digest("c/a:1")


def test_a_moved_tag_leaves_the_old_digest_where_it_was(images: Images, registry: CourseRegistry) -> None:
    one, two = stack(images, "c/m:uno", b"1"), stack(images, "c/m:due", b"2")
    images.push("c/m:uno", registry.name("c/m:ultima"))
    assert registry.digest("c/m:ultima") == one.digest
    images.push("c/m:due", registry.name("c/m:ultima"))
    assert registry.digest("c/m:ultima") == two.digest
    assert registry.digest(f"c/m@{one.digest}") == one.digest


def test_a_blob_on_its_way_survives_a_deletion_and_goes_when_asked(registry: CourseRegistry, images: Images) -> None:
    connection = http.client.HTTPConnection(registry.address, timeout=10)
    digest = Digest.of(b"in viaggio")
    connection.request("POST", f"/v2/c/v/blobs/uploads/?digest={digest}", b"in viaggio")
    assert connection.getresponse().read() == b""
    stack(images, "c/v:1", b"x")
    images.push("c/v:1", registry.name("c/v:1"))
    registry.delete("c/v:1")
    assert registry.size == len(b"in viaggio"), "il suo manifesto poteva essere in viaggio"
    connection.close()
    assert registry.gc() == len(b"in viaggio")
    assert registry.size == 0


def test_a_folder_is_of_one_registry_at_a_time(tmp_path: Path) -> None:
    with CourseRegistry(str(tmp_path / "r")), pytest.raises(ConflictError, match="già di un registro acceso"):
        CourseRegistry(str(tmp_path / "r"))
    with CourseRegistry(str(tmp_path / "r")) as again:
        assert again.folder == str(tmp_path / "r")
    assert (tmp_path / "r").is_dir(), "una cartella scelta resta"


def test_an_address_of_another_machine_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="non è un indirizzo di questa macchina"):
        LocalRegistry(str(tmp_path / "r"), host="192.0.2.7")
    with LocalRegistry(str(tmp_path / "r")):
        pass


def from_class(registry: CourseRegistry, method: str, path: str, **headers: str) -> int:
    """Una domanda che arriva da un altro indirizzo."""
    port = int(registry.address.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.2", port, timeout=10, source_address=("127.0.0.2", 0))
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_a_class_reads_and_does_not_write(images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def only_one(host: str) -> bool:
        return host in ("127.0.0.1", "localhost")

    monkeypatch.setattr(local_registry_api, "is_local", only_one)  # 127.0.0.2 plays the class
    made = stack(images, "c/x:1", b"per tutti")
    with CourseRegistry(host="127.0.0.2") as registry:
        images.push("c/x:1", registry.name("c/x:1"))
        assert from_class(registry, "GET", "/v2/c/x/manifests/1") == 200
        assert from_class(registry, "HEAD", f"/v2/c/x/blobs/{made.layers[0].descriptor.digest}") == 200
        for method, path in (
            ("POST", "/v2/c/x/blobs/uploads/"),
            ("PUT", "/v2/c/x/manifests/1"),
            ("DELETE", f"/v2/c/x/manifests/{made.digest}"),
            ("PATCH", "/v2/c/x/blobs/uploads/x"),
        ):
            assert from_class(registry, method, path) == 403
        assert from_class(registry, "GET", "/v2/", Host="ladro.example") == 403
        assert from_class(registry, "GET", "/v2/", Origin="http://127.0.0.2") == 403
        assert registry.digest("c/x:1") == made.digest


# ---------------------------------------------------------------- the command


def test_the_command_lights_it_tells_every_request_and_ends_with_ctrl_c(images: Images, tmp_path: Path) -> None:
    made = stack(images, "c/x:1", b"dal comando")
    command = [sys.executable, "-m", "labkit", "registry", "--folder", str(tmp_path / "r"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lit:
        assert lit.stdout is not None
        first = lit.stdout.readline()
        address = first.split()[-1]
        said = [lit.stdout.readline() for _ in range(6)]
        assert f"  labkit push corso/prova:1 {address}/corso/prova:1\n" in said
        images.push("c/x:1", f"{address}/c/x:1")
        images.rmi("c/x:1")
        assert images.pull(f"{address}/c/x:1").digest == made.digest
        lit.send_signal(signal.SIGINT)
        rest = lit.stdout.read()
        assert lit.wait(20) == 0
    assert "PUT c/x manifesto 1  201" in rest
    assert "Registro spento" in rest


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("registry --port x", "la porta deve essere un numero intero"),
        ("registry --port 0 --classe 192.0.2.7", "Rimedio: ip -brief address"),
    ],
)
def test_a_wrong_line_is_said(line: str, words: str, capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_REGISTRY", str(tmp_path / "r"))
    assert cli.main(line.split()) != 0
    assert words in capsys.readouterr().err

"""La cartella delle immagini: intera dopo ogni guasto, condivisa, e vuota solo di ciò che nessuno usa."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.errors import ConflictError, CorruptError, InvalidError, LabError, NotFoundError
from labkit.images.blobs import Blobs
from labkit.images.config import History
from labkit.images.descriptor import LAYER_GZIP, Descriptor, Platform
from labkit.images.digest import Digest
from labkit.images.image import Image, Layer
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.unit.images.tars import entry, tar

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "immagini"))


def image(*names: str, **process: object) -> Image:
    made = Image.empty(Platform("linux", "amd64"))
    for name in names:
        data = tar(entry(name, random.Random(name).randbytes(3000)))
        made = made.append(Layer.from_tar(data), History(created_by=f"COPY {name}"))
    return made.with_process(History(empty_layer=True), **process) if process else made


def files(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in Path(store.root).rglob("*") if path.is_file()}


# ---------------------------------------------------------------- images and names


def test_an_image_comes_back_equal_from_the_disk(store):
    one = image("a", "b", Cmd=["sh"])
    store.put(one, parse("prova"))
    found = Store(store.root).image("prova")
    assert found == one
    assert found.layers[0].open().read() == one.layers[0].open().read()


def test_the_folder_is_an_oci_layout(store):
    store.put(image("a"), parse("prova:1"))
    assert json.loads(Path(store.root, "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = json.loads(Path(store.root, "index.json").read_bytes())["manifests"]
    assert listed["annotations"] == {"org.opencontainers.image.ref.name": "docker.io/library/prova:1"}
    assert listed["platform"] == {"os": "linux", "architecture": "amd64"}
    assert os.stat(store.root).st_mode & 0o077 == 0


def test_an_image_is_found_by_name_and_by_the_beginning_of_its_ids(store):
    one, other = image("a"), image("b")
    store.put(one, parse("uno"))
    store.put(other, parse("cafe"))
    assert store.image("cafe") == other, "un nome fatto di cifre esadecimali è prima di tutto un nome"
    for wanted in ("uno", "docker.io/library/uno:latest", one.id, one.id[7:19], one.digest, one.digest[7:]):
        assert store.image(wanted) == one
    assert store.image(f"uno@{one.digest}") == one
    with pytest.raises(NotFoundError):
        store.find(f"cafe@{one.digest}")
    with pytest.raises(NotFoundError, match="«tre» non c'è") as problem:
        store.find("tre")
    assert problem.value.remedy == "labkit pull tre:latest"
    with pytest.raises(InvalidError):
        store.find("Non:Va:Bene")


def test_a_name_that_moves_leaves_the_old_image_without_a_name(store):
    one, two = image("a"), image("b")
    store.put(one, parse("prova"))
    store.tag("prova", "prova:vecchia")
    store.put(two, parse("prova"))
    assert {str(s.reference.tag) for s in store.images() if s.reference} == {"vecchia", "latest"}
    store.put(image("c"), parse("prova:vecchia"))
    assert [s.descriptor.digest for s in store.images() if not s.reference] == [Digest(one.digest)]
    assert store.prune() > 0
    with pytest.raises(NotFoundError):
        store.find(one.digest)


def test_removing_counts_who_uses_what(store):
    one, two = image("base", "a"), image("base", "b")
    store.put(one, parse("uno"))
    store.put(two, parse("due"))
    store.tag("uno", "altro")
    shared, only = (layer.descriptor for layer in one.layers)
    assert store.remove("uno") == ("Untagged: uno:latest",)
    assert store.blobs.has(only)
    assert store.remove("altro") == ("Untagged: altro:latest", f"Deleted: {one.digest}")
    assert not store.blobs.has(only)
    assert store.blobs.has(shared)
    assert store.image("due").layers[0].open().read()
    store.remove(two.id)
    assert list(store.blobs.all()) == []


def test_an_id_with_two_names_is_not_removed_by_guess(store):
    store.put(image("a"), parse("uno"))
    store.tag("uno", "due")
    with pytest.raises(ConflictError, match="uno:latest, due:latest"):
        store.remove(store.image("uno").id)
    assert len(store.images()) == 2


def test_room_is_counted_once_for_what_is_shared(store):
    store.put(image("base", "a"), parse("uno"))
    before = store.df()
    store.put(image("base", "b"), parse("due"))
    after = store.df()
    assert (before.images, after.images, after.reclaimable) == (1, 2, 0)
    assert after.blobs == before.blobs + 3, "uno strato, una configurazione, un manifesto: la base c'era"
    store.blobs.add([b"di nessuno"])
    assert store.df().reclaimable == 10
    assert store.gc() == 10


def test_a_tag_with_a_digest_or_of_nothing_is_refused(store):
    with pytest.raises(NotFoundError):
        store.tag("niente", "altro")
    with pytest.raises(InvalidError, match="impronta"):
        store.tag("niente", f"altro@sha256:{'a' * 64}")


# ---------------------------------------------------------------- damage


def flip(path: str) -> None:
    os.chmod(path, 0o600)
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


def test_a_damaged_document_is_set_aside_and_named_and_can_come_back(store):
    one = image("a")
    store.put(one, parse("prova"))
    flip(store.blobs.path(one.config.descriptor.digest))
    with pytest.raises(CorruptError, match=one.config.descriptor.digest.encoded):
        store.image("prova")
    assert len(os.listdir(f"{store.root}/corrupt")) == 1
    with pytest.raises(NotFoundError, match="manca"):
        store.image("prova")
    store.put(one, parse("prova"))
    assert store.image("prova") == one


def test_the_check_finds_every_damaged_blob_and_only_those(store):
    one = image("a", "b")
    store.put(one, parse("prova"))
    assert store.check() == ()
    damaged = one.layers[1].descriptor.digest
    flip(store.blobs.path(damaged))
    assert store.check() == (damaged,)
    store.put(one, parse("prova"))
    assert store.check() == ()


def test_a_blob_cut_short_is_seen_by_its_size(store):
    one = image("a")
    store.put(one, parse("prova"))
    path = store.blobs.path(one.layers[0].descriptor.digest)
    os.chmod(path, 0o600)
    os.truncate(path, 10)
    with pytest.raises(NotFoundError):
        store.image("prova").layers[0].open()
    assert len(os.listdir(f"{store.root}/corrupt")) == 1


def test_without_a_manifest_nothing_is_thrown_away(store):
    one = image("a")
    store.put(one, parse("prova"))
    os.unlink(store.blobs.path(one.manifest.descriptor.digest))
    with pytest.raises(CorruptError, match=r"«prova:latest» manca il manifesto"):
        store.gc()
    assert store.blobs.has(one.layers[0].descriptor)
    store.remove("prova")
    assert list(store.blobs.all()) == []


def test_a_list_of_images_that_is_damaged_says_where_it_is(store):
    Path(store.root, "index.json").write_text("{")
    with pytest.raises(InvalidError, match="rovinato") as problem:
        store.images()
    assert f"{store.root}/index.json" in problem.value.remedy


# ---------------------------------------------------------------- writing


def test_what_is_not_the_promised_blob_leaves_nothing(store):
    wanted = Descriptor.of(LAYER_GZIP, b"giusto")
    before = files(store)
    for wrong in (b"sbagli", b"giust", b"giusto e altro"):
        with pytest.raises(InvalidError, match="promess"):
            store.blobs.add([wrong], wanted)
    assert files(store) == before
    assert store.blobs.add([b"giu", b"sto"], wanted) == (wanted.digest, 6)


def test_a_source_that_breaks_leaves_nothing(store):
    def broken():
        yield b"x"
        raise ValueError("rotta")

    before = files(store)
    with pytest.raises(ValueError, match="rotta"):
        store.blobs.add(broken())
    assert files(store) == before


def test_a_download_goes_on_from_where_it_was(store):
    wanted = Descriptor.of(LAYER_GZIP, b"0123456789")
    with store.blobs.partial(wanted) as first:
        first.write(b"01234")
    assert not store.blobs.has(wanted)
    with Blobs(store.root).partial(wanted) as second:
        assert second.offset == 5
        second.write(b"56789")
        second.commit()
    assert store.blobs.has(wanted)
    with store.blobs.partial(wanted) as third:
        assert third is None
    assert os.listdir(f"{store.root}/ingest") == []


def test_a_download_of_other_bytes_starts_again(store):
    wanted = Descriptor.of(LAYER_GZIP, b"0123456789")
    with pytest.raises(InvalidError, match="non sono quelli promessi"), store.blobs.partial(wanted) as one:
        one.write(b"0123456780")
        one.commit()
    with pytest.raises(InvalidError, match="più byte"), store.blobs.partial(wanted) as one:
        assert one.offset == 0
        one.write(b"01234567890")
    with store.blobs.partial(wanted) as one:
        assert one.offset == 0
    assert store.gc() == 0
    assert os.listdir(f"{store.root}/ingest") == []


def test_cleaning_up_waits_for_who_is_adding_and_spares_a_download_in_use(store):
    wanted = Descriptor.of(LAYER_GZIP, b"0123456789")
    with store.writing(), pytest.raises(ConflictError, match="sta aggiungendo"):
        store.gc(patience=0)
    with store.blobs.partial(wanted) as one:
        one.write(b"012")
        assert store.gc() == 0
        one.write(b"3456789")
        one.commit()
    assert store.gc() == 10


FULL = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.unit.images.test_store import *
store = Store("images")
store.put(image("a"), parse("prima"))
large = Image.empty().append(Layer.from_tar(tar(entry("g", random.Random(1).randbytes(400_000)))), History())
try:
    for number, one in enumerate([*(image(f"x{n}") for n in range(60)), large]):
        names = store.images()
        store.put(one, parse(f"i{number}"))
except LabError as problem:
    assert "disco è pieno" in problem.message, problem
    assert store.images() == names
    assert os.listdir("images/ingest") == []
    assert not [name for name in os.listdir("images") if name.startswith(".")]
    assert store.image("prima") == image("a")
    assert store.check() == ()
    print("pieno")
"""


@pytest.mark.root
@pytest.mark.parametrize("options", ["size=300k", "nr_inodes=60"])
def test_a_full_disk_is_a_sentence_and_the_store_is_as_it_was(tmp_path, options):
    # In a mount namespace of its own: the tmpfs goes away with the process.
    command = f'mount -t tmpfs -o {options} tmpfs "$0" && cd "$0" && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", command, tmp_path, sys.executable, "-c", FULL, ROOT]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout == "pieno\n", done.stderr


def test_a_place_where_one_may_not_write_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="Non riesco a preparare"):
        Store(str(tmp_path / "file" / "x"))


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.unit.images.test_store import *
store = Store(sys.argv[1])
for n in range(int(sys.argv[3]), 10**6 if len(sys.argv) < 5 else int(sys.argv[4])):
    store.put(image("base", f"f{n % 7}"), parse(f"i{n % 5}"))
    if n % 3 == 0:
        store.gc()
"""


def writer(store: Store, *numbers: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, store.root, str(ROOT), *map(str, numbers)])


def whole(store: Store) -> None:
    assert store.check() == ()
    for one in store.images():
        for layer in store.image(one.descriptor).layers:
            assert Digest.of(layer.open().read()) == layer.descriptor.digest


def test_many_processes_share_a_store(store):
    people = [writer(store, n * 10, n * 10 + 10) for n in range(4)]
    assert [person.wait(timeout=120) for person in people] == [0] * 4
    whole(store)
    assert {s.reference.repository for s in store.images() if s.reference} == {f"library/i{n}" for n in range(5)}


@pytest.mark.serial
def test_a_store_is_whole_whenever_its_writer_is_killed(store):
    store.put(image("a"), parse("sempre"))
    for number in range(12):
        person = writer(store, number)
        time.sleep(0.3 + random.Random(number).random() / 2)
        person.send_signal(signal.SIGKILL)
        person.wait()
        whole(Store(store.root))
        assert store.image("sempre") == image("a")
    store.gc()
    left = {"blobs", "corrupt", "index.json", "ingest", "names", "oci-layout", "writers"}
    assert (os.listdir(f"{store.root}/ingest"), set(os.listdir(store.root))) == ([], left)

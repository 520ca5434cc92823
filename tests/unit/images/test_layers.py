"""Gli strati spacchettati: una volta sola, mai a metà, mai sotto i piedi di chi li usa."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labkit.errors import CorruptError, InvalidError
from labkit.images import layers
from labkit.images.config import History
from labkit.images.image import Image, Layer
from labkit.images.layers import Layers, Unpacking
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.unit.images.tars import entry, folder, tar

pytestmark = pytest.mark.root


@pytest.fixture
def ready(tmp_path) -> Layers:
    store = Store(str(tmp_path / "immagini"))
    image = Image.empty()
    for data in (tar(folder("d", mode=0o1777), entry("d/a", b"1")), tar(entry("d/.wh.a"), entry("d/b", b"2"))):
        image = image.append(Layer.from_tar(data), History())
    store.put(image, parse("prova"))
    return Layers(store, Unpacking("root"))


def test_the_layers_of_an_image_come_from_the_lowest_and_only_once(ready):
    image = ready.store.image("prova")
    with ready.use(image) as (low, high):
        assert Path(low.folder, "d/a").read_bytes() == b"1"
        assert Path(high.folder, "d/b").read_bytes() == b"2"
        assert os.stat(f"{high.folder}/d").st_mode & 0o7777 == 0o1777, "i permessi della cartella di sotto"
        born = os.stat(low.folder).st_ino
    with Layers(ready.store, ready.how).use(image) as again:
        assert os.stat(again[0].folder).st_ino == born


def test_no_other_user_reaches_the_set_uid_programs_of_an_image(ready):
    with ready.use(ready.store.image("prova")) as (low, _):
        assert low.folder.startswith(f"{ready.root}/ready/")
        assert os.stat(f"{ready.root}/ready").st_mode & 0o077 == 0
        assert os.stat(f"{ready.root}/making").st_mode & 0o077 == 0


def test_layers_in_use_are_not_removed_and_those_of_nobody_are(ready):
    image = ready.store.image("prova")
    with ready.use(image) as (low, _):
        assert ready.prune() == 0
        assert os.path.isdir(low.folder)
    assert ready.prune(keep=[low.chain_id]) == 1
    assert ready.prune() == 1
    with ready.use(image) as (low, _):
        assert os.path.isdir(low.folder)


def test_layers_of_another_boot_are_made_again(ready, monkeypatch):
    image = ready.store.image("prova")
    with ready.use(image) as (low, _):
        Path(low.folder, "a metà").touch()
    monkeypatch.setattr(layers, "boot_id", lambda: "un altro avvio")
    with ready.use(image) as (low, _):
        assert os.listdir(low.folder) == ["d"]


def test_a_damaged_layer_is_set_aside_and_named_and_nothing_is_left(ready):
    image = ready.store.image("prova")
    digest = image.layers[1].descriptor.digest
    path = ready.store.blobs.path(digest)
    os.chmod(path, 0o600)
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(CorruptError, match=digest.encoded), ready.use(image):
        pass
    assert len(os.listdir(f"{ready.root}/ready")) == 1
    assert os.listdir(f"{ready.root}/making") == []
    assert os.listdir(f"{ready.store.root}/corrupt") == [f"sha256-{digest.encoded}"]


def test_a_layer_that_was_always_bad_is_refused_and_stays_where_it_is(ready):
    bad = Image.empty().append(Layer.from_tar(tar(entry("../x"))), History())
    ready.store.put(bad, parse("cattiva"))
    with pytest.raises(InvalidError, match="salire"), ready.use(ready.store.image("cattiva")):
        pass
    assert os.listdir(f"{ready.root}/making") == []
    assert ready.store.blobs.has(bad.layers[0].descriptor)


def test_many_threads_and_processes_unpack_it_once(ready, tmp_path):
    files = [entry(f"f{n}", random.Random(n).randbytes(2000)) for n in range(300)]
    ready.store.put(Image.empty().append(Layer.from_tar(tar(*files)), History()), parse("grande"))
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
from labkit.images.layers import *
ready = Layers(Store({ready.store.root!r}), Unpacking("root"))
with ready.use(ready.store.image("grande")) as (one,):
    print(os.stat(one.folder).st_ino, len(os.listdir(one.folder)))
"""
    people = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said: set[str] = set()

    def here() -> None:
        with ready.use(ready.store.image("grande")) as (one,):
            said.add(f"{os.stat(one.folder).st_ino} {len(os.listdir(one.folder))}\n")

    threads = [threading.Thread(target=here) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said |= {person.communicate()[0] for person in people}
    assert len(said) == 1, said
    assert said.pop().endswith(" 300\n")

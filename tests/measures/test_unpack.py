"""Spacchettare uno strato: non più lenti di umoci sugli stessi byte, e con poca memoria anche davanti a una bomba."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.images.archive import add_layer
from labkit.images.compression import compress
from labkit.images.config import History
from labkit.images.digest import DiffID, Digest
from labkit.images.image import Image
from labkit.images.pack import tree
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.unit.images.tars import END, entry, folder

pytestmark = [pytest.mark.bench, pytest.mark.serial, pytest.mark.slow, pytest.mark.root]

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3
ATTEMPTS = 3
#: Speed of ours over speed of umoci's: at least this.
PROMISE = 0.8

OURS = r"""
import re, sys
sys.path.insert(0, sys.argv[1])
from labkit.images.digest import *
from labkit.images.unpack import *
with open(sys.argv[2], "rb") as blob:
    try:
        unpack(blob, sys.argv[3], Digest(sys.argv[4]), DiffID(sys.argv[5]))
    except InvalidError as problem:
        print(problem)
# Not ru_maxrss: across execve(2) it keeps the peak of the parent.
print(int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def timed(work: Callable[[Path], None], target: Path) -> float:
    start = time.monotonic()
    work(target)
    passed = time.monotonic() - start
    shutil.rmtree(target)
    return passed


def test_a_layer_is_unpacked_as_fast_as_umoci(tmp_path):
    assert shutil.which("umoci")
    assert shutil.which("skopeo")
    store = Store(str(tmp_path / "immagini"))
    with store.writing():
        layer = add_layer(store, tree(sysconfig.get_path("stdlib")))
        store.put(Image.empty().append(layer, History()), parse("libreria"))
    layout = tmp_path / "layout"
    source = f"oci:{store.root}:docker.io/library/libreria:latest"
    subprocess.run(["skopeo", "copy", "--quiet", source, f"oci:{layout}:x"], check=True)

    def ours(target: Path) -> None:
        target.mkdir()
        blob, names = store.blobs.path(layer.descriptor.digest), (layer.descriptor.digest, layer.diff_id)
        subprocess.run(
            [sys.executable, "-c", OURS, ROOT, blob, target, *map(str, names)], check=True, capture_output=True
        )

    def umoci(target: Path) -> None:
        subprocess.run(["umoci", "raw", "unpack", "--image", f"{layout}:x", target], check=True, capture_output=True)

    best = 0.0
    for _ in range(ATTEMPTS):
        pairs = [(timed(ours, tmp_path / "a"), timed(umoci, tmp_path / "b")) for _ in range(ROUNDS)]
        mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        best = max(best, theirs / mine)
        print(f"umoci {theirs:.2f} s, labkit {mine:.2f} s: velocità {theirs / mine:.2f}")
        if best >= PROMISE:
            return
    raise AssertionError(f"velocità {best:.2f} rispetto a umoci: la promessa è {PROMISE}")


def many_folders() -> bytes:
    return b"".join(folder(f"{n % 300}/{n}") for n in range(60_000)) + END


def wide_headers() -> bytes:
    return entry("f", pax_headers={f"labkit.{n}": "x" * 60_000 for n in range(16)}) * 100 + END


def zeros() -> bytes:
    return entry("z", bytes(150 << 20)) + END


def deep() -> bytes:
    return b"".join(entry(f"{n}/" + "d/" * 2000 + "f") for n in range(10)) + END


@pytest.mark.parametrize("bomb", [many_folders, wide_headers, zeros, deep])
def test_a_bomb_takes_little_memory_and_an_end(tmp_path, bomb):
    plain = bomb()
    blob = tmp_path / "blob"
    blob.write_bytes(b"".join(compress([plain], "gzip")))
    (tmp_path / "t").mkdir()
    names = (Digest.of(blob.read_bytes()), DiffID.of(plain))
    argv = [sys.executable, "-c", OURS, ROOT, blob, tmp_path / "t", *map(str, names)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    print(bomb.__name__, done.stdout)
    assert int(done.stdout.split()[-1]) < 200

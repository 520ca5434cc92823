"""Un tar senza ore troppo tarde: il resto passa com'è, byte per byte."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from labkit.build.clamp import clamped
from labkit.errors import InvalidError
from labkit.images.pack import tree
from tests.unit.images.tars import entry, folder, hard, link, tar


def read(data: bytes) -> dict[str, tuple]:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return {
            one.name: (one.type, one.mode, one.mtime, one.linkname, one.pax_headers.get("SCHILY.xattr.user.a"),
                       opened.extractfile(one).read() if one.isreg() else b"")
            for one in opened
        }  # fmt: skip


ARCHIVE = tar(
    folder("d", mtime=10), entry("d/prima", b"x" * 700, mtime=99), entry("d/dopo", b"y" * 512, mtime=101),
    entry("d/dopo-e-lungo-" + "n" * 200, b"z", mtime=200.5, pax_headers={"SCHILY.xattr.user.a": "1"}),
    entry("d/quasi", mtime=100.25), entry("d/giusto", mtime=99.75), link("l", "d", mtime=300), hard("h", "d/dopo"),
    entry("vuoto", mtime=101),
)  # fmt: skip


@pytest.mark.parametrize("piece", [1, 7, 512, 1 << 20])
def test_only_the_times_that_are_too_late_change(piece):
    pieces = [ARCHIVE[start : start + piece] for start in range(0, len(ARCHIVE), piece)]
    found, before = read(b"".join(clamped(pieces, 100))), read(ARCHIVE)
    assert {name: (*facts[:2], *facts[3:]) for name, facts in found.items()} == {
        name: (*facts[:2], *facts[3:]) for name, facts in before.items()
    }
    assert {name: facts[2] for name, facts in found.items()} == {
        name: min(facts[2], 100) for name, facts in before.items()
    }


def test_an_archive_that_is_early_enough_passes_byte_by_byte():
    assert b"".join(clamped([ARCHIVE], 1000)) == ARCHIVE


def test_the_same_tree_made_twice_is_the_same_archive(tmp_path):
    archives = []
    for name in "ab":
        root = tmp_path / name
        (root / "d").mkdir(parents=True)
        (root / "d/f").write_text("ciao")
        os.utime(root / "d/f", ns=(0, 2_000_000_000_123_456_789 + len(archives)))
        archives.append(b"".join(clamped(tree(str(root)), 100)))
    assert archives[0] == archives[1]


def test_an_archive_that_is_cut_is_told():
    with pytest.raises(InvalidError, match="a metà"):
        list(clamped([ARCHIVE[:900]], 100))

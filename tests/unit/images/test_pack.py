"""Da cartella a strato e ritorno: non si perde niente, e un altro programma legge lo stesso."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.images.pack import Packed, diff, tree
from labkit.images.rooted import remove
from tests.unit.images.tars import Result, entry, folder, hard, link, opened, tar

pytestmark = pytest.mark.root


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Tutto di un albero: tipo, permessi, proprietari, ora, contenuto o bersaglio, attributi."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        info = path.lstat()
        what = b""
        if stat.S_ISREG(info.st_mode):
            what = path.read_bytes()
        elif stat.S_ISLNK(info.st_mode):
            what = os.fsencode(os.readlink(path))
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        when = 0 if stat.S_ISCHR(info.st_mode) else info.st_mtime_ns  # of a whiteout the time says nothing
        found[str(path.relative_to(root))] = (
            info.st_mode, info.st_uid, info.st_gid, when, info.st_rdev, what, info.st_nlink, xattrs,
        )  # fmt: skip
    return found


def fill(root: Path) -> None:
    opened(
        root,
        tar(
            folder("./", mode=0o711, mtime=1),
            folder("d", mode=0o1777, uid=3, mtime=2),
            entry(
                "d/f", b"x" * 5000, mode=0o6755, gid=4, pax_headers={"mtime": "7.25", "SCHILY.xattr.user.x": "\udcff\0"}
            ),
            hard("h", "d/f"),
            link("s", "\udcffè"),
            entry("n" * 150 + "\udcfe", b"lungo"),
            entry("d/.wh.via"),
            folder("o", mtime=3),
            entry("o/.wh..wh..opq"),
            entry("o/n", b"nuovo"),
            entry("vuoto"),
        ),
    )


def test_a_layer_becomes_a_folder_and_the_same_layer_again(tmp_path):
    fill(tmp_path / "a")
    data = b"".join(diff(str(tmp_path / "a")))
    opened(tmp_path / "b", data)
    assert described(tmp_path / "a") == described(tmp_path / "b")
    assert b"".join(diff(str(tmp_path / "b"))) == data, "lo stesso albero dà lo stesso archivio"


def test_holes_are_not_carried_and_come_back(tmp_path):
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a" / "s", "wb") as file:
        for start in (0, 5_000_000, 90_000_000):
            file.seek(start)
            file.write(b"pieno" * 100)
        file.truncate(200_000_000)
    data = b"".join(diff(str(tmp_path / "a")))
    assert len(data) < 100_000
    opened(tmp_path / "b", data)
    assert (tmp_path / "b" / "s").stat().st_blocks * 512 < 100_000
    subprocess.run(["cmp", tmp_path / "a" / "s", tmp_path / "b" / "s"], check=True)
    (tmp_path / "c").mkdir()
    subprocess.run(["tar", "-xf-", "-C", tmp_path / "c"], input=data, check=True)
    subprocess.run(["cmp", tmp_path / "a" / "s", tmp_path / "c" / "s"], check=True)


def test_the_tar_of_debian_reads_the_same_tree(tmp_path):
    fill(tmp_path / "a")
    (tmp_path / "b").mkdir()
    data = b"".join(tree(str(tmp_path / "a")))
    argv = ["tar", "--xattrs", "--xattrs-include=*", "--same-owner", "-xpf-", "-C", tmp_path / "b"]
    subprocess.run(argv, input=data, check=True)
    mine, theirs = described(tmp_path / "a"), described(tmp_path / "b")
    for one in (mine, theirs):  # a whole tree has no whiteouts: the marks of overlay are not its files
        for name in ("o", "."):
            one.pop(name)
    assert mine == theirs


def test_sockets_stay_out_and_it_is_said(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        report = Packed()
        assert b"".join(diff(str(tmp_path), report))
    assert (report.entries, sum(report.skipped.values())) == (1, 1)


def test_a_file_that_would_be_a_whiteout_cannot_become_one(tmp_path):
    (tmp_path / ".wh.passwd").write_text("x")
    with pytest.raises(LabError, match="vuol dire «cancellato»"):
        b"".join(diff(str(tmp_path)))


def test_a_very_deep_tree_is_packed(tmp_path):
    opened(tmp_path / "a", tar(entry("d/" * 1500 + "f", b"x")))
    data = b"".join(diff(str(tmp_path / "a")))
    opened(tmp_path / "b", data)
    assert b"".join(diff(str(tmp_path / "b"))) == data
    top = os.open(tmp_path, os.O_RDONLY)
    for name in (b"a", b"b"):
        remove(top, name)
    os.close(top)


_name = st.sampled_from(["a", "b", "c"])
_path = st.lists(_name, min_size=1, max_size=3).map("/".join)
_data = st.binary(max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.lists(st.one_of(
    st.builds(entry, _path, _data, mode=st.integers(0, 0o7777), uid=st.integers(0, 70000)),
    st.builds(folder, _path, mode=st.integers(0, 0o7777), mtime=st.integers(0, 2**31)),
    st.builds(link, _path, _path), st.builds(lambda path: entry(path[:-1] + ".wh." + path[-1]), _path),
), max_size=8))  # fmt: skip
def test_any_layer_goes_round_unchanged(tmp_path, entries):
    top = tmp_path / "giro"
    top.mkdir()
    try:
        first = opened(top / "a", tar(*entries))
    except LabError:
        first = Result(top / "a")
    data = b"".join(diff(str(first.root)))
    opened(top / "b", data)
    assert b"".join(diff(str(top / "b"))) == data
    fd = os.open(tmp_path, os.O_RDONLY)
    remove(fd, b"giro")
    os.close(fd)

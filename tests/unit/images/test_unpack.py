"""Lo stesso albero del tar, e niente fuori; le cancellazioni come dice la specifica; ogni trappola conosciuta."""

from __future__ import annotations

import io
import os
import random
import socket
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.errors import InvalidError
from labkit.images.compression import compress
from labkit.images.digest import DiffID, Digest
from labkit.images.pipeline import Limits
from labkit.images.rooted import remove
from labkit.images.unpack import Options, unpack
from labkit.images.whiteouts import RemovingWhiteouts
from tests.unit.images.tars import entry, folder, hard, link, opened, tar

pytestmark = pytest.mark.root  # owners and whiteouts need CAP_CHOWN and CAP_MKNOD, as in the laboratory


def test_the_tree_is_the_one_of_the_archive(tmp_path):
    found = opened(
        tmp_path / "l",
        tar(
            folder("d/", mode=0o1777, mtime=5),
            entry("d/f", b"ciao", mode=0o4750, uid=33, gid=34, mtime=7),
            hard("d/h", "d/f"),
            link("s", "/etc/../passwd", uid=5, mtime=9),
            entry("p", kind=tarfile.FIFOTYPE, mode=0o620),
            folder("d/vuota", mode=0o555),
        ),
    )
    assert found.names == {"d", "d/f", "d/h", "s", "p", "d/vuota"}
    assert found["d/f"] == b"ciao"
    info = (found.root / "d/f").stat()
    assert (info.st_uid, info.st_gid, info.st_mtime, info.st_nlink) == (33, 34, 7, 2)
    assert (found.mode("d"), found.mode("d/f"), found.mode("p"), found.mode("d/vuota")) == (
        0o1777,
        0o4750,
        0o620,
        0o555,
    )
    assert (found.root / "d").stat().st_mtime == 5
    assert os.readlink(found.root / "s") == "/etc/../passwd"
    assert ((found.root / "s").lstat().st_uid, (found.root / "s").lstat().st_mtime) == (5, 9)
    assert stat.S_ISFIFO((found.root / "p").lstat().st_mode)
    assert (found.report.entries, found.report.size, dict(found.report.skipped)) == (6, 4, {})


def test_without_other_users_every_file_is_ours(tmp_path):
    assert opened(tmp_path / "l", tar(entry("f", uid=33)), Options(owners=False)).root.joinpath("f").stat().st_uid == 0


def test_a_long_name_and_a_strange_one_are_kept(tmp_path):
    deep = "/".join(["d" * 200] * 15)
    found = opened(tmp_path / "l", tar(entry(deep, b"x"), entry("\udcffè\n", b"y")))
    assert os.listdir(os.fsencode(found.root)).count("\udcffè\n".encode("utf-8", "surrogateescape")) == 1
    assert found.report.entries == 2


def test_a_sparse_file_stays_sparse(tmp_path):
    found = opened(
        tmp_path / "l",
        tar(entry("s", b"abc", pax_headers={"GNU.sparse.map": "1000000,3", "GNU.sparse.size": "9000000"})),
    )
    info = (found.root / "s").stat()
    assert info.st_size == 9_000_000
    assert info.st_blocks * 512 < 100_000
    assert found["s"][1_000_000:1_000_003] == b"abc"


def test_attributes_are_kept_and_those_of_overlay_never(tmp_path):
    found = opened(
        tmp_path / "l",
        tar(
            entry("f", pax_headers={"SCHILY.xattr.user.colore": "blu", "SCHILY.xattr.trusted.overlay.metacopy": "",
                                    "SCHILY.xattr.user.overlay.opaque": "y"}),
            folder("d", pax_headers={"SCHILY.xattr.user.overlay.opaque": "y"}),
        ),
    )  # fmt: skip
    assert os.getxattr(found.root / "f", "user.colore") == b"blu"
    assert set(os.listxattr(found.root / "f")) == {"user.colore"}
    assert os.listxattr(found.root / "d") == []
    assert found.report.skipped["gli attributi riservati a overlay"] == 3


def test_an_attribute_too_large_for_the_disk_is_not_a_full_disk(tmp_path):
    # Every filesystem has its own limit; of one attribute Linux takes 64 KiB at most (xattr(7)).
    with pytest.raises(InvalidError, match="attributo di 70000 byte"):
        opened(tmp_path / "l", tar(entry("f", pax_headers={"SCHILY.xattr.user.x": "x" * 70_000})))


def test_devices_are_not_made_and_it_is_said(tmp_path):
    found = opened(
        tmp_path / "l",
        tar(
            entry("sda", kind=tarfile.BLKTYPE, devmajor=8), entry("zero", kind=tarfile.CHRTYPE, devmajor=0, devminor=0)
        ),
    )
    assert found.names == set()
    assert sum(found.report.skipped.values()) == 2


# ---------------------------------------------------------------- whiteouts


def test_a_whiteout_becomes_what_overlay_wants(tmp_path):
    found = opened(
        tmp_path / "l", tar(entry("d/.wh.a"), entry("d/b", b"x"), entry(".wh.c"), entry("o/.wh..wh..opq"), entry("o/n"))
    )
    assert found.whiteout("d/a")
    assert found.whiteout("c")
    assert found.opaque("o")
    assert not found.opaque("d")
    assert found.names == {"d", "d/a", "d/b", "c", "o", "o/n"}


FILE, GONE = entry("a/f", b"x"), entry("a/.wh.f")
FOLDER, GONE_FOLDER, INSIDE = folder("a/d"), entry("a/.wh.d"), entry("a/d/x", b"y")


@pytest.mark.parametrize("order", [(FILE, GONE), (GONE, FILE), (GONE, FILE, GONE), (GONE, GONE, FILE)])
def test_a_file_of_the_same_layer_stays_in_whatever_order(tmp_path, order):
    assert opened(tmp_path / "l", tar(*order))["a/f"] == b"x"


@pytest.mark.parametrize("order", [(FOLDER, INSIDE, GONE_FOLDER), (GONE_FOLDER, FOLDER, INSIDE), (GONE_FOLDER, INSIDE),
                                   (INSIDE, GONE_FOLDER), (FOLDER, GONE_FOLDER, INSIDE)])  # fmt: skip
def test_a_folder_made_again_does_not_continue_the_one_below(tmp_path, order):
    found = opened(tmp_path / "l", tar(*order))
    assert found["a/d/x"] == b"y"
    assert found.opaque("a/d")


def test_a_folder_that_replaces_a_file_of_its_layer_is_opaque(tmp_path):
    found = opened(tmp_path / "l", tar(entry("a", b"1"), folder("a"), entry("a/b", b"2")))
    assert found.opaque("a")
    assert found["a/b"] == b"2"


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b", "a/.wh.b/c", ".wh.a/.wh.b"])
def test_a_whiteout_that_climbs_or_says_nothing_is_refused(tmp_path, name):
    with pytest.raises(InvalidError, match="non cancella niente di preciso"):
        opened(tmp_path / "l", tar(folder("a"), entry(name)))


def test_the_bookkeeping_of_aufs_is_nobodys_file(tmp_path):
    found = opened(
        tmp_path / "l", tar(entry(".wh..wh.aufs"), folder(".wh..wh.plnk"), entry(".wh..wh.plnk/1.2"), entry("a"))
    )
    assert found.names == {"a"}
    assert found.report.skipped["i segni privati di AUFS"] == 3


def test_a_whiteout_that_is_a_link_or_a_folder_is_refused(tmp_path):
    for number, bad in enumerate([link(".wh.a", "/"), folder(".wh.b"), entry(".wh.c", kind=tarfile.CHRTYPE)]):
        with pytest.raises(InvalidError, match="ambiguo"):
            opened(tmp_path / str(number), tar(bad))


def test_a_hard_link_never_carries_a_whiteout_elsewhere(tmp_path):
    with pytest.raises(InvalidError, match="non è un file"):
        opened(tmp_path / "l", tar(entry(".wh.a"), hard("b", "a")))


def below(root: Path) -> None:
    for name in ("a/f", "a/d/x", "a/d/e/z", "b"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("sotto")


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ((entry("a/.wh.f"),), {"a", "a/d", "a/d/x", "a/d/e", "a/d/e/z", "b"}),
        ((entry("a/.wh.d"), entry(".wh.b")), {"a", "a/f"}),
        ((entry("a/.wh..wh..opq"),), {"a", "b"}),
        ((entry("a/d/new"), entry("a/.wh..wh..opq")), {"a", "a/d", "a/d/new", "b"}),
        ((entry("a/d/x"), entry(".wh.a")), {"a", "a/d", "a/d/x", "b"}),
        (
            (entry("a/f"), entry("a/.wh.f"), entry("n/.wh.niente")),
            {"a", "a/f", "a/d", "a/d/x", "a/d/e", "a/d/e/z", "b"},
        ),
        ((entry("a", b"un file"),), {"a", "b"}),
        ((folder("b"), entry("b/c")), {"a", "a/f", "a/d", "a/d/x", "a/d/e", "a/d/e/z", "b", "b/c"}),
    ],
)
def test_in_one_folder_only_what_was_below_is_removed(tmp_path, entries, left):
    root = tmp_path / "l"
    below(root)
    found = opened(root, tar(*entries), Options(RemovingWhiteouts()))
    assert found.names == left


def test_the_folder_that_a_layer_only_names_looks_like_the_one_below(tmp_path):
    under, over = tmp_path / "under", tmp_path / "over"
    opened(under, tar(folder("tmp", mode=0o1777, uid=7, mtime=9, pax_headers={"SCHILY.xattr.user.x": "1"})))
    found = opened(over, tar(entry("tmp/f"), entry("nuova/f")), Options(below=(str(under),)))
    info = (over / "tmp").stat()
    assert (found.mode("tmp"), info.st_uid, info.st_mtime) == (0o1777, 7, 9)
    assert os.getxattr(over / "tmp", "user.x") == b"1"
    assert found.mode("nuova") == 0o755


def test_folders_that_nobody_describes_are_open_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        found = opened(tmp_path / "l", tar(entry("a/b/c", mode=0o644)))
        continued = opened(tmp_path / "m", tar(entry("x")), Options(below=(str(tmp_path / "l"),)))
    finally:
        os.umask(old)
    assert [found.mode(name) for name in (".", "a", "a/b", "a/b/c")] == [0o755, 0o755, 0o755, 0o644]
    assert continued.mode(".") == 0o755


# ---------------------------------------------------------------- nothing outside, ever


def outside(tmp_path: Path) -> Path:
    """Una cartella accanto alla radice che nessun archivio deve toccare."""
    target = tmp_path / "fuori"
    target.mkdir()
    (target / "segreto").write_text("intatto")
    return target


UP = "../fuori"


@pytest.mark.parametrize(
    "entries",
    [
        (entry("../fuori/x"),),
        (entry("a/../../fuori/x"),),
        (entry("/../fuori/x"),),
        (entry("..", kind=tarfile.DIRTYPE),),
        (hard("x", "../fuori/segreto"),),
        (link("l", UP), hard("x", "l/segreto")),
        (link("l", "/etc"), hard("x", "l/passwd")),
        (hard("x", "/etc/passwd"),),
        (entry("f"), entry("f/x")),
        (link("a", "b"), link("b", "a"), entry("a/x")),
        (link("l", "."), entry("l" + "/l" * 60 + "/x"), link("m", "n"), link("n", "m"), entry("m/x")),
        (entry("", b"radice"),),
        (link("", "/"),),
        (link(".", "/tmp"),),
        (folder("d"), hard("x", "d")),
        (hard("x", "niente"),),
        (link("x", ""),),
        (entry("n" * 300),),
    ],
    ids=range(18),
)
def test_an_archive_that_climbs_is_refused_and_touches_nothing(tmp_path, entries):
    out = outside(tmp_path)
    with pytest.raises(InvalidError):
        opened(tmp_path / "l", tar(*entries))
    assert {path.name: path.read_text() for path in out.iterdir()} == {"segreto": "intatto"}
    assert sorted(os.listdir(tmp_path)) == ["fuori", "l"]


@pytest.mark.parametrize("target", ["../fuori", "../../../../../../../fuori", "/fuori", "ABS"])
def test_a_link_that_leads_outside_leads_inside(tmp_path, target):
    out = outside(tmp_path)
    data = tar(
        link("l", target.replace("ABS", str(out))),
        entry("l/x", b"1"),
        entry("l/.wh.segreto"),
        entry("l/y/z", b"2"),
        folder("l/d", mode=0o700),
    )
    found = opened(tmp_path / "l", data)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"segreto": "intatto"}
    inside = target.replace("ABS", str(out)).lstrip("./")
    assert found[f"{inside}/x"] == b"1"
    assert found[f"{inside}/y/z"] == b"2"
    assert found.mode(f"{inside}/d") == 0o700


def test_an_absolute_name_starts_from_the_root_of_the_layer(tmp_path):
    found = opened(tmp_path / "l", tar(entry("/etc/passwd", b"x"), entry("./././b", b"y"), entry("c//d", b"z")))
    assert found.names == {"etc", "etc/passwd", "b", "c", "c/d"}


def test_a_name_taken_twice_is_of_the_last(tmp_path):
    secret = outside(tmp_path) / "segreto"
    found = opened(
        tmp_path / "l",
        tar(
            entry("f", b"1"), entry("f", b"2"),
            link("s", str(secret)), entry("s", b"3"),
            entry("h1", b"4"), hard("h2", "h1"), entry("h2", b"5"), hard("h1", "h1"), hard("h1", "./h1"),
            folder("d", mode=0o700), entry("d/x", b"6"), link("d", "e"), folder("e"), entry("d/y", b"7"),
            link("l", "e"), folder("l", mode=0o711), entry("l/w", b"8"),
            folder("m", mode=0o700), entry("m/k"), folder("m", mode=0o750),
        ),
    )  # fmt: skip
    assert (found["f"], found["s"], found["h1"], found["h2"]) == (b"2", b"3", b"4", b"5")
    assert secret.read_text() == "intatto"
    assert found.names >= {"e/y", "l/w", "m/k"}
    assert "e/w" not in found.names
    assert (found.mode("l"), found.mode("m"), os.readlink(found.root / "d")) == (0o711, 0o750, "e")


def test_a_fifo_or_a_socket_in_the_way_blocks_nobody(tmp_path):
    root = tmp_path / "l"
    root.mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "s"))
        found = opened(
            root,
            tar(entry("p", kind=tarfile.FIFOTYPE), entry("p", b"x"), entry("s", b"y")),
            Options(RemovingWhiteouts()),
        )
    assert (found["p"], found["s"]) == (b"x", b"y")


def test_a_tree_a_thousand_levels_deep_is_made_replaced_and_removed(tmp_path):
    deep = "d/" * 1900
    found = opened(tmp_path / "l", tar(entry(deep + "f"), link("d", "altrove")))
    assert found.names == {"d"}
    opened(tmp_path / "l", tar(entry(deep + "f")), Options(RemovingWhiteouts()))
    fd = os.open(tmp_path, os.O_RDONLY)
    remove(fd, b"l")
    os.close(fd)
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- bounds, digests, damage


@pytest.mark.parametrize(
    ("data", "limits", "why"),
    [
        (tar(*(entry(str(n)) for n in range(11))), Limits(entries=10), "più di 10 voci"),
        (tar(entry("z", bytes(2_000_000))), Limits(size=1_000_000), "bomba"),
        (tar(entry("z", bytes(9_000_000))), Limits(seconds=-1), "secondi"),
        (
            tar(entry("s", b"abc", pax_headers={"GNU.sparse.map": "0,3", "GNU.sparse.size": str(1 << 62)})),
            Limits(),
            "s",
        ),
    ],
)
def test_too_much_of_anything_is_refused(tmp_path, data, limits, why):
    with pytest.raises(InvalidError, match=why):
        opened(tmp_path / "l", b"".join(compress([data], "gzip")), Options(limits=limits))


@pytest.mark.parametrize("kind", ["", "gzip", "zstd"])
def test_a_layer_that_is_not_the_promised_one_is_refused(tmp_path, kind):
    plain = tar(entry("f", b"x"))
    data = b"".join(compress([plain], kind))
    good, right = Digest.of(data), DiffID.of(plain)
    for digest, diff_id, why in ((Digest.of(b""), right, "i suoi byte"), (good, DiffID.of(b""), "il suo tar")):
        (tmp_path / "l").mkdir(exist_ok=True)
        with pytest.raises(InvalidError, match=why):
            unpack(io.BytesIO(data), str(tmp_path / "l"), digest, diff_id)


def test_one_wrong_byte_anywhere_is_always_noticed(tmp_path):
    plain = tar(*(entry(f"f{n}", random.Random(n).randbytes(300)) for n in range(5)), folder("d"), link("l", "d"))
    for kind in ("", "gzip", "zstd"):
        data = b"".join(compress([plain], kind))
        for where in range(0, len(data), max(1, len(data) // 40)):
            broken = bytearray(data)
            broken[where] ^= 0x10
            target = tmp_path / f"{kind}{where}"
            target.mkdir()
            with pytest.raises(InvalidError):
                unpack(io.BytesIO(bytes(broken)), str(target), Digest.of(data), DiffID.of(plain))


_part = st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", "l"])
_path = st.lists(_part, min_size=1, max_size=4).map("/".join)
_any = st.one_of(
    st.builds(entry, _path, st.binary(max_size=3)), st.builds(folder, _path), st.builds(hard, _path, _path),
    st.builds(link, _path, st.one_of(_path, st.sampled_from(["/", "/..", "../fuori", "/a", "l"]))),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.lists(_any, max_size=8), st.booleans())
def test_no_archive_at_all_writes_outside(tmp_path, entries, removing):
    root = tmp_path / "prova"
    root.mkdir()
    (root / "fuori").mkdir()
    try:
        opened(root / "l", tar(*entries), Options(RemovingWhiteouts()) if removing else Options())
    except InvalidError:
        pass
    assert sorted(os.listdir(root)) == ["fuori", "l"]
    assert os.listdir(root / "fuori") == []
    fd = os.open(tmp_path, os.O_RDONLY)
    remove(fd, b"prova")
    os.close(fd)


def test_no_descriptor_is_left_open(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    opened(tmp_path / "a", tar(*(entry(f"d{n}/e/f") for n in range(100)), entry("d1", b"x")))
    with pytest.raises(InvalidError):
        opened(tmp_path / "b", tar(entry("d/f"), entry("../x")), Options(below=(str(tmp_path / "a"),)))
    assert set(os.listdir("/proc/self/fd")) == before

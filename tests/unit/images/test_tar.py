"""Il lettore di tar: ciò che tar e tarfile scrivono si rilegge uguale; ciò che è rovinato non passa per intero."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvalidError
from labkit.images import tar_header
from labkit.images.tar import TarReader
from labkit.images.tar_header import Entry
from tests.unit.images.tars import END, entry, folder, hard, header, info, link, tar


def read(data: bytes, piece: int = 700) -> list[tuple[Entry, bytes]]:
    reader = TarReader(data[start : start + piece] for start in range(0, len(data), piece))
    found = [(one, b"".join(reader.data())) for one in reader]
    reader.drain()
    return found


def names(data: bytes) -> list[bytes]:
    return [one.name for one, _ in read(data)]


_name = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(st.lists(st.tuples(_name, st.binary(max_size=2000), st.integers(0, 0o7777), st.integers(0, 2**40),
                          st.integers(-(2**33), 2**40)), max_size=5),
       st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), st.integers(1, 3000))  # fmt: skip
def test_what_tarfile_writes_is_read_back_the_same(files, form, piece):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data, mode, uid, mtime in files:
            # tarfile ends a name with a slash only for a folder
            archive.addfile(
                info("n" + name.rstrip("/"), mode=mode, uid=uid, mtime=mtime, size=len(data)), io.BytesIO(data)
            )
    found = [(one.name, data, one.mode, one.uid, one.mtime_ns) for one, data in read(out.getvalue(), piece)]
    assert found == [
        (("n" + name.rstrip("/")).encode(), data, mode, uid, mtime * 10**9) for name, data, mode, uid, mtime in files
    ]


def test_every_kind_of_thing_keeps_its_kind():
    data = tar(
        folder("d/"), entry("d/f", b"x"), hard("h", "d/f"), link("s", "../x"), entry("p", kind=tarfile.FIFOTYPE),
        entry("c", kind=tarfile.CHRTYPE),
    )  # fmt: skip
    assert [(one.kind, one.link) for one, _ in read(data)] == [
        (b"5", b""), (b"0", b""), (b"1", b"d/f"), (b"2", b"../x"), (b"6", b""), (b"3", b""),
    ]  # fmt: skip


def test_times_keep_their_nanoseconds_and_attributes_their_bytes():
    data = tar(entry("a", mtime=0, pax_headers={"mtime": "1700000000.123456789", "SCHILY.xattr.user.x": "\udcff\0é"}))
    ((one, _),) = read(data)
    assert one.mtime_ns == 1_700_000_000_123_456_789
    assert one.xattrs == {"user.x": b"\xff\0\xc3\xa9"}


def test_a_name_that_is_not_unicode_stays_what_it_is():
    assert names(tar(header(b"\xff\xfe"))) == [b"\xff\xfe"]
    assert names(tar(entry("\udcff" * 200))) == [b"\xff" * 200]


def test_the_numbers_of_gnu_in_base_256_are_read():
    assert tar_header.number(b"\x80" + bytes(10) + b"\x05") == 5
    assert tar_header.number(b"\xff" * 12, signed=True) == -1
    for wrong in (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\0", b"0000008\0"):
        with pytest.raises(InvalidError):
            tar_header.number(wrong)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (header(sum_by=1) + END, "somma di controllo"),
        (entry("a", b"x" * 600)[:-600] + b"", "finisce a metà"),
        (entry("a", b"x" * 600)[:700], "finisce a metà"),
        (entry("a")[:100], "finisce a metà"),
        (entry("a" * 200)[:1024], "finisce a metà"),
        (entry("a" * 200)[:1024] + END, "finisce a metà"),
        (header(size=b"-0000000001") + END, "ottale"),
        (header(size=b"\xff" * 12) + END, "impossibile"),
        (header(size=b"\x80" + b"\x7f" * 11) + END, "impossibile"),
        (header(kind=b"Q") + END, "sconosciuto"),
        (header(kind=b"2", size=b"00000000001") + bytes(512) + END, "ambiguo"),
        (header(kind=b"1", size=b"00000000001") + bytes(512) + END, "ambiguo"),
        (header(kind=b"g", size=b"00000000015") + b"13 path=/etc\n".ljust(512, b"\0") + header(b"b") + END, "globale"),
        (header(kind=b"x", size=b"00000000003") + b"xyz".ljust(512, b"\0") + header(b"b") + END, "pax"),
        (header(kind=b"x", size=b"00000000012") + b"99 path=abc".ljust(512, b"\0") + header(b"b") + END, "pax"),
        (header(kind=b"x", size=b"00000000013") + b"11 path=a\0\n".ljust(512, b"\0") + header(b"b") + END, "byte zero"),
        (header(kind=b"L", size=b"00000010000") + b"a" * 4096 + header(b"b") + END, "troppo lungo"),
        (tar(entry("a", pax_headers={"mtime": "oggi"})), "istante"),
        (tar(entry("a", pax_headers={"uid": "-5"})), "uid"),
        (tar(entry("a", pax_headers={"size": "1e3"})), "size"),
    ],
)  # fmt: skip
def test_a_broken_or_ambiguous_archive_is_refused(data, why):
    with pytest.raises(InvalidError, match=why):
        read(data)


def test_an_archive_may_end_without_its_zeros_but_not_in_the_middle_of_an_entry():
    assert names(entry("a")) == [b"a"]
    assert names(b"") == []
    assert names(tar(entry("a")) + b"qualunque cosa") == [b"a"]


def test_an_extended_header_without_end_takes_no_memory():
    def endless():
        yield header(kind=b"x", size=b"77777777777")
        while True:
            yield b"x" * 65536

    tracemalloc.start()
    with pytest.raises(InvalidError, match="intestazione estesa"):
        TarReader(endless()).next()
    many = header(kind=b"x", size=b"00003000000") + b"x".ljust(0o3000000, b"\n")  # 768 KiB each
    with pytest.raises(InvalidError):
        TarReader(iter([many, many])).next()
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


@given(st.binary(max_size=3000))
def test_whatever_bytes_come_are_read_or_refused(data):
    with contextlib.suppress(InvalidError):
        read(data)


@given(st.integers(0, 511), st.integers(0, 255))
def test_one_wrong_byte_in_a_header_is_always_noticed_or_harmless(where, value):
    good = entry("cartella/file", b"contenuto")
    broken = bytearray(good)
    broken[where] = value
    try:
        ((one, data),) = read(bytes(broken) + END)
    except InvalidError:
        return
    # The only byte that may change unseen: one that writes the same checksum in another way.
    assert (one.name, data) == (b"cartella/file", b"contenuto")


# ---------------------------------------------------------------- sparse files


@pytest.mark.parametrize("form", ["oldgnu", "pax:0.0", "pax:0.1", "pax:1.0"])
def test_the_sparse_files_of_gnu_tar_are_read_in_every_format(tmp_path, form):
    kind, _, version = form.partition(":")
    with open(tmp_path / "s", "wb") as file:
        for number in range(30):
            file.seek(number * 100_000)
            file.write(b"%04d" % number * 1500)
        file.truncate(4_000_000)
    options = [
        f"--format={'gnu' if kind == 'oldgnu' else 'pax'}",
        *([f"--sparse-version={version}"] if version else []),
    ]
    data = subprocess.run(["tar", "-C", tmp_path, "-S", *options, "-cf-", "s"], check=True, capture_output=True).stdout
    assert len(data) < 1_000_000, "il file non era sparso: la prova non dice niente"
    ((one, content),) = read(data)
    assert (one.name, one.length) == (b"s", 4_000_000)
    whole = bytearray(one.length)
    for piece in one.pieces or ():
        whole[piece.offset : piece.offset + piece.size] = content[: piece.size]
        content = content[piece.size :]
    assert bytes(whole) == (tmp_path / "s").read_bytes()


def sparse(**fields: str) -> bytes:
    return tar(entry("s", b"12345", pax_headers={f"GNU.sparse.{key}": value for key, value in fields.items()}))


@pytest.mark.parametrize(
    "fields",
    [
        {"map": "0,3", "size": "9"},
        {"map": "0,5,3,0", "size": "9"},
        {"map": "5,5", "size": "9"},
        {"map": "0", "size": "9"},
        {"map": "a,b", "size": "9"},
        {"map": "0,5"},
        {"map": "0,5", "size": "-1"},
        {"map": ",".join(["0"] * 140_000), "size": "9"},
        {"major": "1", "minor": "0", "realsize": "9"},
    ],
)
def test_a_sparse_map_that_cannot_be_is_refused(fields):
    with pytest.raises(InvalidError, match="sparso"):
        read(sparse(**fields))

"""Si decomprime per intero o si dice che cosa manca; una bomba resta piccola."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvalidError
from labkit.images.compression import PIECE, compress, decompressed, detect
from labkit.images.pipeline import Limits, ahead, bounded

DATA = random.Random(1).randbytes(300_000) + bytes(2_000_000)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("kind", ["", "gzip", "zstd"])
@pytest.mark.parametrize("size", [1000, PIECE, 10_000_000])
def test_what_was_compressed_comes_back_in_small_pieces(kind, size):
    packed = b"".join(compress(cut(DATA, 100_000), kind))
    assert detect(packed) == kind
    found = list(decompressed(cut(packed, size)))
    assert b"".join(found) == DATA
    assert max(map(len, found)) <= PIECE


@given(st.lists(st.binary(max_size=3000), max_size=4), st.sampled_from(["gzip", "zstd"]), st.integers(1, 50))
def test_many_members_are_one_stream_wherever_it_is_cut(parts, kind, size):
    packed = b"".join(b"".join(compress([part], kind)) for part in parts)
    assert b"".join(decompressed(cut(packed, size))) == b"".join(parts)


def test_zeros_after_gzip_are_padding_and_anything_else_is_damage():
    packed = gzip.compress(DATA)
    assert b"".join(decompressed([packed, bytes(700)])) == DATA
    with pytest.raises(InvalidError, match="rovinato"):
        list(decompressed([packed, b"altro"]))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@given(where=st.floats(0.001, 0.999))
def test_a_stream_that_is_cut_is_never_taken_for_a_whole_one(kind, where):
    packed = b"".join(compress([DATA[:5000]], kind))
    with pytest.raises(InvalidError, match="finisce a metà"):
        list(decompressed([packed[: max(4, int(len(packed) * where))]]))


def test_a_wrong_checksum_is_seen():
    packed = bytearray(gzip.compress(DATA))
    packed[-6] ^= 1
    with pytest.raises(InvalidError, match="rovinato"):
        list(decompressed([bytes(packed)]))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_stops_at_the_limit_and_takes_little_memory(kind):
    packed = b"".join(compress((bytes(1 << 20) for _ in range(200)), kind))
    assert len(packed) < 300_000
    tracemalloc.start()
    with pytest.raises(InvalidError, match="bomba"):
        for _ in bounded(decompressed([packed]), Limits(size=100 << 20)):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_a_window_larger_than_zstd_accepts_is_refused():
    # A frame that asks for a window of 2 GiB: magic, descriptor, window descriptor (exponent 21, RFC 8878 3.1.1.1.2).
    with pytest.raises(InvalidError, match="zstd"):
        list(decompressed([b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + bytes(20)]))


def test_too_slow_is_an_error_too():
    with pytest.raises(InvalidError, match="secondi"):
        list(bounded([b"x"], Limits(seconds=-1)))


def test_an_error_of_the_other_thread_arrives_here_and_the_thread_ends():
    def broken():
        yield b"a"
        raise InvalidError("rotto")

    with pytest.raises(InvalidError, match="rotto"), ahead(broken()) as pieces:
        list(pieces)


def test_who_stops_early_leaves_no_thread_behind():
    import threading

    before = threading.active_count()
    with ahead(bytes(10) for _ in range(10**9)) as pieces:
        assert next(pieces) == bytes(10)
    assert threading.active_count() == before


def test_the_same_bytes_are_compressed_the_same_way_without_a_time():
    assert b"".join(compress([DATA], "gzip"))[4:8] == bytes(4)
    assert zlib.decompress(b"".join(compress([b"x"], "gzip")), wbits=31) == b"x"

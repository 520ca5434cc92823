"""Le uscite ricordate di un container: in ordine, le ultime, entro un limite di memoria vera."""

import re
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from labkit.policy import LogLimits
from labkit.protocol import STDERR, STDOUT
from labkit.supervisor.log import PIECE_COST, Log, Piece, Stamper, lines, stamp

writes = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=50)), max_size=60)


def streams(pieces: Iterable[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Ogni byte con il suo flusso, in ordine."""
    return [(stream, byte) for stream, data in pieces for byte in data]


def kept(log: Log) -> list[tuple[int, int]]:
    return streams((piece.stream, piece.data) for piece in log.pieces)


@given(writes)
def test_nothing_is_lost_or_reordered_within_the_limit(what: list[tuple[int, bytes]]) -> None:
    log = Log()
    for stream, data in what:
        log.append(stream, data)
    assert kept(log) == streams(what)
    assert log.dropped == 0


@given(writes, st.integers(1024, 2000), st.integers(1, 3))
def test_past_the_limit_the_last_bytes_are_kept(what: list[tuple[int, bytes]], size: int, files: int) -> None:
    log = Log(LogLimits(size, files))
    for stream, data in what:
        log.append(stream, data)
    last, everything = kept(log), streams(what)
    assert last == everything[len(everything) - len(last) :]
    assert log.size <= size * files
    assert not what or last
    assert log.dropped == sum(byte == ord("\n") for _, byte in everything[: len(everything) - len(last)])


def test_a_write_larger_than_a_file_is_cut_and_not_lost() -> None:
    log = Log(LogLimits(1024, 3))
    log.append(STDOUT, b"x" * 2500)
    assert sum(len(piece.data) for piece in log.pieces) == 2500
    log.append(STDOUT, b"y" * 10_000)
    assert log.size <= 3 * 1024
    assert {byte for _, byte in kept(log)} == {ord("y")}


def test_one_byte_at_a_time_costs_little_more_than_all_at_once() -> None:
    log = Log()
    for _ in range(300_000):
        log.append(STDOUT, b"x")
    assert len(list(log.pieces)) < 100
    assert sum(len(piece.data) for piece in log.pieces) == 300_000


def test_two_streams_that_alternate_cannot_fill_the_memory() -> None:
    log = Log()
    for number in range(100_000):
        log.append((STDOUT, STDERR)[number % 2], b"x")
    assert len(list(log.pieces)) <= log.limits.max_size * log.limits.max_files // PIECE_COST


def test_every_line_keeps_its_own_moment() -> None:
    log = Log()
    for second, data in enumerate((b"uno\n", b"du", b"e\ntre\n", b"quattro")):
        log.append(STDOUT, data, float(second))
    assert list(lines(log.pieces)) == [
        Piece(0, STDOUT, b"uno\n"), Piece(1, STDOUT, b"due\n"), Piece(1, STDOUT, b"tre\n"), Piece(3, STDOUT, b"quattro")
    ]  # fmt: skip


@given(writes)
def test_lines_are_all_the_bytes_of_each_stream(what: list[tuple[int, bytes]]) -> None:
    found = list(lines(Piece(float(moment), *write) for moment, write in enumerate(what)))
    for stream in (STDOUT, STDERR):
        told = [line.data for line in found if line.stream == stream]
        assert b"".join(told) == b"".join(data for one, data in what if one == stream)
        assert all(b"\n" not in line[:-1] for line in told)
        assert all(line.endswith(b"\n") for line in told[:-1])


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_what_is_followed_is_stamped_once_a_line(pieces: list[bytes]) -> None:
    stamper = Stamper()
    stamped = b"".join(stamper(STDOUT, piece) for piece in pieces if piece).split(b"\n")
    text = b"".join(pieces).split(b"\n")
    written = text if text[-1] else text[:-1]
    length = len(stamp(0))
    assert [line[length:] for line in stamped[: len(written)]] == written
    stamps = [line[:length] for line in stamped[: len(written)]]
    assert all(re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", moment) for moment in stamps)

"""Le uscite ricordate di un container: in ordine, le ultime, entro un limite di memoria vera."""

from hypothesis import given
from hypothesis import strategies as st

from labkit.protocol import STDERR, STDOUT
from labkit.supervisor.state import LOG_LIMIT, Log

writes = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=50)), max_size=60)


def streams(pieces: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Ogni byte con il suo flusso, in ordine."""
    return [(stream, byte) for stream, data in pieces for byte in data]


@given(writes)
def test_nothing_is_lost_or_reordered_within_the_limit(what: list[tuple[int, bytes]]) -> None:
    log = Log()
    for stream, data in what:
        log.append(stream, data)
    assert streams(list(log.pieces)) == streams(what)


@given(writes, st.integers(200, 2000))
def test_past_the_limit_the_last_bytes_are_kept(what: list[tuple[int, bytes]], limit: int) -> None:
    log = Log(limit)
    for stream, data in what:
        log.append(stream, data)
    kept = streams(list(log.pieces))
    assert kept == streams(what)[len(streams(what)) - len(kept) :]
    assert log.size <= limit or len(log.pieces) == 1
    assert not what or kept


def test_one_byte_at_a_time_costs_little_more_than_all_at_once() -> None:
    log = Log()
    for _ in range(300_000):
        log.append(STDOUT, b"x")
    assert len(log.pieces) < 100
    assert sum(len(data) for _, data in log.pieces) == 300_000


def test_two_streams_that_alternate_cannot_fill_the_memory() -> None:
    log = Log()
    for number in range(100_000):
        log.append((STDOUT, STDERR)[number % 2], b"x")
    assert len(log.pieces) <= LOG_LIMIT // 128

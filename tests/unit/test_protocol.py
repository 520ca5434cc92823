"""Il filo: gli stessi byte danno le stesse cornici, comunque arrivino; quello che non è una cornice è un errore."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import ProtocolError
from labkit.protocol import HEADER, MAX_BODY, STDERR, STDIN, STDOUT, Decoder, Frame, Kind, pack, pack_json, pack_stdio

FRAMES = st.lists(
    st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=12
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(frames=FRAMES, cuts=st.lists(st.integers(0), max_size=20))
def test_bytes_cut_anywhere_give_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    decoder = Decoder()
    data = b"".join(pack(*frame) for frame in frames)
    assert [frame for piece in pieces(data, cuts) for frame in decoder.feed(piece)] == frames


@given(frames=FRAMES)
def test_one_byte_at_a_time_is_enough(frames: list[Frame]) -> None:
    decoder = Decoder()
    data = b"".join(pack(*frame) for frame in frames)
    assert [frame for byte in data for frame in decoder.feed(bytes((byte,)))] == frames


@given(st.binary(min_size=HEADER.size, max_size=200))
def test_any_bytes_are_frames_or_an_error(data: bytes) -> None:
    kind, _, length = HEADER.unpack_from(data)
    if kind not in list(Kind) or length > MAX_BODY:
        with pytest.raises(ProtocolError):
            list(Decoder().feed(data))
    elif len(data) < HEADER.size + length:
        assert list(Decoder().feed(data)) == []
    else:
        assert next(Decoder().feed(data)).body == data[HEADER.size : HEADER.size + length]


@pytest.mark.parametrize("kind", [0, 8, 200, 255])
def test_a_kind_that_does_not_exist_is_an_error(kind: int) -> None:
    with pytest.raises(ProtocolError, match="non è un messaggio del laboratorio"):
        list(Decoder().feed(HEADER.pack(kind, 1, 0)))


def test_a_frame_too_long_is_refused_at_its_header() -> None:
    with pytest.raises(ProtocolError):
        list(Decoder().feed(HEADER.pack(Kind.STDIO, 1, MAX_BODY + 1)))
    with pytest.raises(ProtocolError, match="è troppo grande per il filo"):
        pack(Kind.STDIO, 1, b"x" * (MAX_BODY + 1))
    assert len(pack(Kind.STDIO, 1, b"x" * MAX_BODY)) == HEADER.size + MAX_BODY


def test_what_came_before_an_error_is_not_lost() -> None:
    decoder = Decoder()
    stream = decoder.feed(pack(Kind.PING, 1) + pack(Kind.PING, 2) + HEADER.pack(99, 0, 0))
    assert [next(stream).channel, next(stream).channel] == [1, 2]
    with pytest.raises(ProtocolError):
        next(stream)


def test_a_reader_that_stops_half_way_finds_the_rest_later() -> None:
    decoder = Decoder()
    stream = decoder.feed(pack(Kind.PING, 1) + pack(Kind.PING, 2))
    assert next(stream).channel == 1
    stream.close()  # type: ignore[attr-defined]
    assert [frame.channel for frame in decoder.feed(b"")] == [2]


@given(JSON)
def test_json_comes_out_as_it_went_in(value: object) -> None:
    (frame,) = Decoder().feed(pack_json(Kind.RET, 1, value))
    assert frame.json() == json.loads(json.dumps(value))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"'a'"])
def test_a_body_that_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="non è JSON valido"):
        Frame(Kind.CALL, 1, body).json()


@given(stream=st.sampled_from([STDIN, STDOUT, STDERR]), data=st.binary())
def test_a_piece_of_a_stream_keeps_its_number(stream: int, data: bytes) -> None:
    (frame,) = Decoder().feed(pack_stdio(9, stream, data))
    assert (frame.kind, frame.channel, frame.stdio()) == (Kind.STDIO, 9, (stream, data))


def test_a_piece_of_no_stream_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="senza il numero del flusso"):
        Frame(Kind.STDIO, 1, b"").stdio()

"""Un canale che nessuno legge ferma al massimo il suo programma, mai le risposte degli altri."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from labkit.client.wire import Wire
from labkit.protocol import STDOUT, VERSION, WINDOW, Decoder, Kind, cost, pack_credit, pack_json, pack_stdio

PIECE = b"y\n" * 2048


class HandMadeLab:
    """Un laboratorio di soli messaggi: ``flood`` è un fiume che rispetta i permessi, il resto risponde subito."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.room: dict[int, int] = {}
        self.sent = 0
        self.received = b""
        self.changed = threading.Condition()
        self.writing = threading.Lock()  # two threads answer: a frame must not end up inside another
        sock.sendall(pack_json(Kind.RET, 0, {"version": VERSION}))
        threading.Thread(target=self.serve, daemon=True).start()

    def say(self, frame: bytes) -> None:
        with self.writing:
            try:
                self.sock.sendall(frame)
            except OSError:
                return  # the test is over

    def serve(self) -> None:
        decoder = Decoder()
        try:
            while data := self.sock.recv(65536):
                for frame in decoder.feed(data):
                    self.hear(frame.kind, frame.channel, frame)
        except OSError:
            return

    def hear(self, kind: Kind, channel: int, frame: object) -> None:
        if kind == Kind.CREDIT:
            with self.changed:
                self.room[channel] = self.room.get(channel, 0) + frame.json()  # type: ignore[attr-defined]
                self.changed.notify_all()
        elif kind == Kind.STDIO:
            self.received += frame.stdio()[1]  # type: ignore[attr-defined]
        elif frame.json()["verb"] == "flood":  # type: ignore[attr-defined]
            self.room[channel] = WINDOW
            threading.Thread(target=self.flood, args=(channel,), daemon=True).start()
        elif frame.json()["verb"] != "cat":  # type: ignore[attr-defined]
            self.say(pack_json(Kind.RET, channel, "ecco"))

    def flood(self, channel: int) -> None:
        for _ in range(2000):
            with self.changed:
                if not self.changed.wait_for(lambda: self.room[channel] > 0, timeout=10):
                    return
                self.room[channel] -= cost(PIECE)
            self.say(pack_stdio(channel, STDOUT, PIECE))
            self.sent += len(PIECE)
        self.say(pack_json(Kind.RET, channel, {"exit_code": 0}))


@pytest.fixture
def lab() -> Iterator[HandMadeLab]:
    ours, theirs = socket.socketpair()
    lab = HandMadeLab(theirs)
    lab.wire = Wire(ours)  # type: ignore[attr-defined]
    yield lab
    lab.wire.close()  # type: ignore[attr-defined]


def settled(lab: HandMadeLab) -> int:
    """Quanto ha mandato, quando non manda più."""
    before = -1
    while before != lab.sent:
        before = lab.sent
        time.sleep(0.1)
    return before


def test_a_channel_that_is_kept_and_not_read_stops_only_itself(lab: HandMadeLab) -> None:
    wire: Wire = lab.wire  # type: ignore[attr-defined]
    channel = wire.open("flood")
    assert 0 < settled(lab) <= WINDOW
    assert wire.call("ps") == "ecco"
    assert sum(len(data) for _, data in channel) == 2000 * len(PIECE), "whoever reads later has lost nothing"
    assert channel.result == {"exit_code": 0}


@pytest.mark.parametrize("how", ["discard", "drop"])
def test_a_flood_that_nobody_wants_ends_by_itself(lab: HandMadeLab, how: str) -> None:
    wire: Wire = lab.wire  # type: ignore[attr-defined]
    channel = wire.open("flood")
    settled(lab)
    if how == "discard":
        channel.discard()
        assert channel.result == {"exit_code": 0}
    else:
        del channel
    end = time.monotonic() + 10
    while lab.sent < 2000 * len(PIECE) and time.monotonic() < end:
        wire.call("ps")
    assert lab.sent == 2000 * len(PIECE)


def test_who_writes_waits_for_who_does_not_read(lab: HandMadeLab) -> None:
    wire: Wire = lab.wire  # type: ignore[attr-defined]
    channel = wire.open("cat")
    writer = threading.Thread(target=channel.send, args=(b"x" * 3 * WINDOW,), daemon=True)
    writer.start()
    writer.join(0.3)
    assert writer.is_alive()
    assert len(lab.received) <= WINDOW + 65536
    assert wire.call("ps") == "ecco"
    lab.say(pack_credit(channel.number, 4 * WINDOW))
    writer.join(5)
    assert not writer.is_alive()


def test_who_writes_to_what_has_ended_does_not_wait(lab: HandMadeLab) -> None:
    channel = lab.wire.open("cat")  # type: ignore[attr-defined]
    writer = threading.Thread(target=channel.send, args=(b"x" * 3 * WINDOW,), daemon=True)
    writer.start()
    writer.join(0.2)
    lab.say(pack_json(Kind.RET, channel.number, {"exit_code": 0}))
    writer.join(5)
    assert not writer.is_alive()

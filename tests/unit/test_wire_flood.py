"""Un canale che nessuno legge più non ferma le risposte degli altri."""

from __future__ import annotations

import socket
import threading

import pytest

from labkit.client.wire import Wire
from labkit.protocol import STDOUT, VERSION, Decoder, Kind, pack_json, pack_stdio


@pytest.fixture
def lab_end() -> socket.socket:
    """Un finto laboratorio: al primo canale risponde con un fiume che non finisce, agli altri subito."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        decoder = Decoder()
        theirs.sendall(pack_json(Kind.RET, 0, {"version": VERSION}))
        try:
            while data := theirs.recv(65536):
                for frame in decoder.feed(data):
                    if frame.json()["verb"] == "flood":
                        threading.Thread(target=flood, args=(frame.channel,), daemon=True).start()
                    else:
                        ended.set()
                        flooded.wait(10)
                        theirs.sendall(pack_json(Kind.RET, frame.channel, "ecco"))
        except OSError:
            return

    def flood(channel: int) -> None:
        try:
            while not ended.is_set():
                theirs.sendall(pack_stdio(channel, STDOUT, b"y\n" * 2048))
            theirs.sendall(pack_json(Kind.RET, channel, {"exit_code": 137}))
        except OSError:
            return
        finally:
            flooded.set()

    ended, flooded = threading.Event(), threading.Event()
    threading.Thread(target=serve, daemon=True).start()
    return ours


def test_after_discard_the_answers_of_other_channels_arrive(lab_end: socket.socket) -> None:
    wire = Wire(lab_end)
    channel = wire.open("flood")
    while not channel._frames.full():
        pass
    channel.discard()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(wire.call("interrupt")), daemon=True)
    asking.start()
    asking.join(10)
    assert answers == ["ecco"]
    assert channel.result == {"exit_code": 137}
    wire.close()

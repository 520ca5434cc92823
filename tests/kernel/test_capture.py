"""I pacchetti veri di un laboratorio: quello che è passato è nella cattura, quello che finisce non lascia niente."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from labkit import Lab
from labkit.client import capture as client
from labkit.client.capture import Capture
from labkit.errors import InvalidError, NotFoundError
from labkit.packets import Packet, Reader

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def shared() -> object:
    """Il laboratorio del corso, che ha la tabella viva; vive sul kernel di chi prova."""
    with Lab(backend="direct") as lab:
        yield lab


def told(packets: tuple[Packet, ...], *protocols: str) -> list[tuple[str, str, str]]:
    return [(p.source, p.target, p.info) for p in packets if p.protocol in protocols]


def test_a_ping_is_seen_whole_the_moment_it_is_over(lab: Lab) -> None:
    one, two = (lab.run("busybox", "sleep 100", detach=True) for _ in range(2))
    with lab.capture() as capture:
        assert one.exec(["ping", "-c", "2", "-i", "0.1", two.ip], quiet=True).ok
    assert told(capture.packets, "ICMP") == [
        (one.ip, two.ip, "eco, domanda numero 0"),
        (two.ip, one.ip, "eco, risposta numero 0"),
        (one.ip, two.ip, "eco, domanda numero 1"),
        (two.ip, one.ip, "eco, risposta numero 1"),
    ]
    assert capture.lost == 0
    times = [packet.time for packet in capture.packets]
    assert times == sorted(times)
    assert 0 <= time.time() - times[-1] < 60


def test_the_file_holds_the_same_packets(lab: Lab, tmp_path: Path) -> None:
    web = lab.run("busybox", "httpd -f -p 80 -h /etc", detach=True)
    ask = ["sh", "-c", f"until wget -q -O /dev/null http://{web.ip}/passwd; do sleep 0.1; done"]
    with lab.capture() as capture:
        assert lab.run("busybox", ask, quiet=True).ok
    path = capture.save(tmp_path / "rete.pcap")
    assert tuple(Reader().feed(path.read_bytes())) == capture.packets
    assert any("GET /passwd HTTP/1.1" in info for _, _, info in told(capture.packets, "HTTP"))
    assert any("HTTP/1.1 200 OK" in info for _, _, info in told(capture.packets, "HTTP"))
    if tcpdump := shutil.which("tcpdump"):
        read = subprocess.run([tcpdump, "-nr", path], capture_output=True, text=True, check=True, timeout=30)
        assert len(read.stdout.splitlines()) == len(capture.packets)
    with pytest.raises(InvalidError, match="non si può scrivere"):
        capture.save(tmp_path / "niente" / "x.pcap")


def test_on_the_loopback_a_packet_is_seen_once(lab: Lab) -> None:
    with lab.capture("lo") as capture, lab.process() as process:
        process.python("import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'ciao', ('127.0.0.1', 9))")
    assert [packet.protocol for packet in capture.packets] == ["UDP", "ICMP"]
    assert told(capture.packets, "UDP")[0][2].endswith("→ 9, 4 byte")


def test_it_ends_by_itself_at_its_limits_and_keeps_only_the_beginning_of_a_packet(lab: Lab) -> None:
    one, two = (lab.run("busybox", "sleep 100", detach=True) for _ in range(2))
    few, short = Capture(lab, "lab0", limit=2), Capture(lab, "lo", seconds=1)
    with lab.capture(snaplen=64) as cut:
        assert one.exec(["ping", "-c", "2", "-i", "0.1", "-s", "500", two.ip], quiet=True).ok
    end = time.monotonic() + 20
    while (few.running or short.running) and time.monotonic() < end:
        time.sleep(0.02)
    assert (few.running, short.running) == (False, False)
    assert len(few.packets) == 2
    echo = next(packet for packet in cut.packets if packet.protocol == "ICMP")
    assert (echo.size, len(echo.data)) == (542, 64)


def test_what_is_kept_has_a_bound_and_is_a_whole_file(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEPT", 3000)
    one, two = (lab.run("busybox", "sleep 100", detach=True) for _ in range(2))
    with lab.capture() as capture:
        assert one.exec(["ping", "-c", "4", "-i", "0.1", "-s", "800", two.ip], quiet=True).ok
    assert "già" in capture.capture.why
    assert 0 < len(told(capture.packets, "ICMP")) < 8
    path = capture.save(tmp_path / "rete.pcap")
    assert path.stat().st_size <= 3000
    assert tuple(Reader().feed(path.read_bytes())) == capture.packets


def test_what_cannot_be_listened_to_is_refused_and_the_lab_goes_on(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="lab0"):
        lab.capture("eth9")
    for wrong in ({"limit": 0}, {"seconds": 10**6}, {"snaplen": -1}, {"limit": True, "seconds": 1.5}):
        with pytest.raises(InvalidError):
            lab.capture(**wrong)
    nothing = Capture(lab, "lo")
    nothing.stop()
    nothing.stop()
    assert Reader().feed(nothing.save(tmp_path / "vuoto.pcap").read_bytes()) == []


def test_a_capture_in_progress_ends_with_its_lab() -> None:
    with Lab(backend="direct") as lab:
        capture = Capture(lab, "lo")
        assert capture.running
    capture._reader.join(timeout=10)
    assert not capture.running
    assert capture.stop() == ()

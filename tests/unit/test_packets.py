"""I pacchetti: ogni protocollo ha le sue parole, nessuna fila di byte fa sbagliare chi legge, la tabella si ferma."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import packets as table
from labkit.errors import InvalidError
from labkit.packets import Packet, Reader, describe, header, record
from labkit.widgets.packet_table import PacketTable

ETHERNET = bytes.fromhex("02420a58000302420a580002")
ENDS = bytes([10, 88, 0, 2, 10, 88, 0, 3])


def ipv4(protocol: int, inside: bytes, fragment: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inside), 1, fragment, 64, protocol, 0)
    return ETHERNET + b"\x08\x00" + head + ENDS + inside


def ipv6(protocol: int, inside: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(inside), protocol, 64)
    return ETHERNET + b"\x86\xdd" + head + bytes(15) + b"\x01" + bytes(15) + b"\x02" + inside


def tcp(flags: int, inside: bytes = b"") -> bytes:
    return ipv4(6, struct.pack("!HHIIBBHHH", 40000, 80, 1, 1, 5 << 4, flags, 0, 0, 0) + inside)


def udp(port: int, inside: bytes) -> bytes:
    return ipv4(17, struct.pack("!HHHH", 5000, port, 8 + len(inside), 0) + inside)


def dns(flags: int) -> bytes:
    return udp(53, struct.pack("!HHHHHH", 7, flags, 1, 0, 0, 0) + b"\x03web\x05corso\x00\x00\x01\x00\x01")


ECHO = struct.pack("!BBHHH", 8, 0, 0, 1, 3)
KNOWN = [
    (ipv4(1, ECHO), "ICMP", "eco, domanda numero 3"),
    (ipv4(1, b"\x03\x03" + bytes(6)), "ICMP", "non raggiungibile"),
    (ipv4(17, bytes(8), fragment=100), "IPv4", "un pezzo di un pacchetto più grande"),
    (ipv4(89, b""), "IP", "protocollo 89"),
    (tcp(0x02), "TCP", "40000 → 80 [SYN]"),
    (tcp(0x18, b"ciao"), "TCP", "40000 → 80 [PSH ACK] 4 byte"),
    (tcp(0x18, b"GET / HTTP/1.1\r\nHost: x\r\n"), "HTTP", "40000 → 80 [PSH ACK] GET / HTTP/1.1"),
    (udp(9, b"abc"), "UDP", "5000 → 9, 3 byte"),
    (dns(0x0100), "DNS", "domanda: web.corso"),
    (dns(0x8180), "DNS", "risposta: web.corso"),
    (dns(0x8183), "DNS", "risposta: web.corso non c'è"),
    (ipv6(58, b"\x87" + bytes(7)), "ICMPv6", "chi ha questo indirizzo?"),
    (ipv6(0, b"\x3a\x00" + bytes(6) + b"\x8f" + bytes(7)), "ICMPv6", "gruppi che ascolto"),
    (ETHERNET + b"\x88\xcc" + bytes(9), "Ethernet", "tipo 0x88cc"),
    (ipv4(6, b"\x00"), "Ethernet", "tagliato, o malfatto"),
]


@pytest.mark.parametrize(("data", "protocol", "info"), KNOWN)
def test_every_protocol_has_its_words(data: bytes, protocol: str, info: str) -> None:
    found = describe(data)
    assert (found.protocol, found.info, found.size) == (protocol, info, len(data))


def test_a_packet_says_who_sent_it_and_to_whom() -> None:
    assert (describe(tcp(2)).source, describe(tcp(2)).target) == ("10.88.0.2", "10.88.0.3")
    assert describe(ipv6(58, bytes(8))).target == "::2"
    assert describe(ETHERNET + b"\x88\xcc").source == "02:42:0a:58:00:02"


def test_a_padded_frame_has_no_more_bytes_than_its_packet() -> None:
    assert describe(tcp(0x10) + bytes(6)).info == "40000 → 80 [ACK]"


@given(st.binary(max_size=120), st.sampled_from([b"", *(data[:place] for data, _, _ in KNOWN for place in (14, 34))]))
def test_no_bytes_make_the_reader_fail(tail: bytes, head: bytes) -> None:
    found = describe(head + tail)
    ElementTree.fromstring(table.to_svg("lab0", [found], "ascolta", live=True))


@given(st.lists(st.binary(min_size=14, max_size=60), max_size=6), st.data())
def test_a_file_cut_anywhere_gives_the_same_packets(payloads: list[bytes], data: st.DataObject) -> None:
    whole = header(100) + b"".join(record(i * 10**9 + 5, one, len(one) + 1) for i, one in enumerate(payloads))
    cut = data.draw(st.integers(0, len(whole)))
    reader = Reader()
    found = [*reader.feed(whole[:cut]), *reader.feed(whole[cut:])]
    assert [packet.data for packet in found] == payloads
    assert [packet.size for packet in found] == [len(one) + 1 for one in payloads]
    assert reader.whole == len(whole)


@pytest.mark.parametrize("data", [bytes(24), header(100) + record(0, bytes(200), 200), b"x" * 40])
def test_what_is_not_a_capture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        Reader().feed(data)


class HandMade:
    """Un laboratorio e una cattura di soli dati."""

    interface = "lab0"
    closed = False
    lost = 0
    why = ""

    def __init__(self) -> None:
        self.packets: tuple[Packet, ...] = ()
        self.running = True

    def stop(self) -> tuple[Packet, ...]:
        self.running = False
        return self.packets

    def save(self, path: str | os.PathLike[str]) -> Path:
        return Path(path)


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_the_table_grows_while_packets_pass_and_stops_with_its_button() -> None:
    made = HandMade()
    shown = PacketTable(made, made, interval=0.01)
    assert "Finora non è passato niente." in words_of(shown.table.svg)
    shown._on_message(None, {"views": 1}, None)
    made.packets = (describe(tcp(2), time=5.0), describe(ipv4(1, ECHO), time=5.5))
    end = time.monotonic() + 5
    while "eco, domanda numero 3" not in words_of(shown.table.svg):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "0,5000" in words_of(shown.table.svg)
    assert shown.table.news == "ICMP da 10.88.0.2 a 10.88.0.3: eco, domanda numero 3, 42 byte."
    assert "Pacchetti su lab0 · ascolta" in words_of(shown.table.svg)
    shown.stop_button.click()
    assert not made.running
    assert "Pacchetti su lab0 · ferma" in words_of(shown.table.svg)
    assert repr(shown) == "Cattura dei pacchetti su «lab0»."
    assert str(shown).splitlines()[1] == "10.88.0.2  10.88.0.3  TCP        40000 → 80 [SYN]"
    shown.close()


def test_only_the_last_packets_are_drawn_and_all_are_counted() -> None:
    words = words_of(table.to_svg("lab0", [describe(tcp(2))] * 100, table.state(False, 2)))
    assert "100 pacchetti" in words
    assert words.count("TCP") == table.SHOWN
    assert "Pacchetti su lab0 · ferma, 2 pacchetti persi" in words

"""Il servizio di nomi: i messaggi byte per byte, e il suo ciclo fra prese di loopback."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from labkit.supervisor import dns
from labkit.supervisor.resolver import Resolver


def query(name: str, kind: int = dns.A, number: int = 7, flags: int = 0x0100) -> bytes:
    return struct.pack("!6H", number, flags, 1, 0, 0, 0) + dns.encode(name) + struct.pack("!2H", kind, 1)


def records(message: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """Il codice della risposta e i suoi valori."""
    _, flags, _, count, _, _ = struct.unpack_from("!6H", message)
    offset = message.index(b"\0", 12) + 5
    found = []
    for _ in range(count):
        _, kind, _, _, size = struct.unpack_from("!HHHIH", message, offset)
        found.append((kind, message[offset + 12 : offset + 12 + size]))
        offset += 12 + size
    return flags & 15, found


def test_a_question_is_read_whatever_its_letters() -> None:
    question = dns.read(query("Web.Interna", dns.AAAA))
    assert (question.id, question.name, question.kind, question.opcode) == (7, "web.interna", dns.AAAA, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x" * 11, query("web")[:-1], query("web")[:14], query("web", flags=0x8100),
        struct.pack("!6H", 1, 0, 2, 0, 0, 0) + query("web")[12:],
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\x01\0\x01",
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x01a" * 200 + b"\0\0\x01\0\x01",
        query("web")[:-2] + b"\0\x03",
    ],
    ids=["empty", "short", "cut", "cut name", "answer", "two", "pointer", "too long", "chaos"],
)  # fmt: skip
def test_what_is_no_question_is_no_question(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        dns.read(data)


def test_an_answer_holds_the_values_of_the_kind_that_is_asked() -> None:
    values = ["10.89.0.2", "fd89::2", "10.89.0.3"]
    four, six = socket.inet_aton("10.89.0.2"), socket.inet_pton(socket.AF_INET6, "fd89::2")
    assert records(dns.answer(dns.read(query("web")), values)) == (0, [(1, four), (1, socket.inet_aton("10.89.0.3"))])
    assert records(dns.answer(dns.read(query("web", dns.AAAA)), values)) == (0, [(28, six)])
    assert records(dns.answer(dns.read(query("web", 15)), values)) == (0, []), "it is known, and has no mail"
    assert records(dns.answer(dns.read(query("2.0.89.10.in-addr.arpa", dns.PTR)), ["web.interna"])) == (
        0, [(12, b"\x03web\x07interna\0")],
    )  # fmt: skip
    assert records(dns.refuse(dns.read(query("boh")), dns.NXDOMAIN)) == (3, [])


def test_the_name_of_an_address_says_which() -> None:
    six = ".".join(reversed(socket.inet_pton(socket.AF_INET6, "fd89::2").hex())) + ".ip6.arpa"
    assert [dns.address_of(name) for name in ("2.0.89.10.in-addr.arpa", six, "web", "1.ip6.arpa")] == [
        "10.89.0.2", "fd89::2", "", "",
    ]  # fmt: skip


def test_a_long_answer_is_cut_and_says_so() -> None:
    whole = dns.answer(dns.read(query("web")), ["10.89.0.2"] * 60)
    short = dns.shorten(whole)
    assert len(short) < 512 < len(whole)
    assert struct.unpack_from("!6H", short)[1] & 0x0200
    assert dns.shorten(short) == short


class Lab:
    """Il supervisore, per il servizio: conosce un nome solo, e manda gli altri a ``servers``."""

    def __init__(self) -> None:
        self.lab, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        tcp = socket.create_server(("127.0.0.1", 0))
        self.udp, self.tcp = udp.getsockname(), tcp.getsockname()
        self.resolver = Resolver(udp, tcp, theirs)
        self.servers: list[str] = []
        self.values: list[str] = ["10.89.0.2"]
        self.running = True

    def answer(self) -> None:
        """Tutto ciò che il servizio chiede finché c'è qualcosa da fare."""
        self.lab.setblocking(False)
        while self.running:
            for key, _ in self.resolver.selector.select(0.02):
                key.data(key.fileobj)
            try:
                asked = json.loads(self.lab.recv(4096))
            except BlockingIOError:
                continue
            known = self.values if asked["name"] == "web" else None
            self.lab.send(json.dumps({"id": asked["id"], "values": known, "servers": self.servers}).encode())


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    thread = threading.Thread(target=lab.answer)
    thread.start()
    yield lab
    lab.running = False
    thread.join(5)
    for sock in [*lab.resolver.clients, lab.resolver.udp, lab.resolver.tcp, lab.resolver.lab, lab.lab]:
        sock.close()
    lab.resolver.selector.close()


def by_udp(lab: Lab, data: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(data, lab.udp)
        return sock.recv(4096)


def test_a_name_is_answered_over_udp_and_tcp_and_the_others_do_not_exist(lab: Lab) -> None:
    assert records(by_udp(lab, query("web")))[1] == [(1, b"\x0aY\0\x02")]
    assert records(by_udp(lab, query("boh"))) == (dns.NXDOMAIN, [])
    assert records(by_udp(lab, query("web", flags=0x1000)))[0] == dns.NOTIMP
    lab.values = ["10.89.0.2"] * 60
    assert struct.unpack_from("!6H", by_udp(lab, query("web")))[1] & 0x0200
    with socket.create_connection(lab.tcp, timeout=5) as sock:
        for piece in (struct.pack("!H", len(query("web"))) + query("web")[:5], query("web")[5:]):
            sock.sendall(piece)
        reader = sock.makefile("rb")
        message = reader.read(int.from_bytes(reader.read(2)))
        assert len(records(message)[1]) == 60
        sock.sendall(struct.pack("!H", len(query("boh"))) + query("boh"))
        assert records(reader.read(int.from_bytes(reader.read(2))))[0] == dns.NXDOMAIN


def test_nobody_outside_is_a_failure_and_not_a_silence(lab: Lab) -> None:
    lab.servers = ["127.0.0.9"]  # nobody listens there
    assert records(by_udp(lab, query("www.esempio.it")))[0] == dns.SERVFAIL
    assert records(by_udp(lab, query("web")))[0] == dns.NOERROR, "and it goes on"

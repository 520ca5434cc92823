"""I pacchetti catturati: il formato pcap, e che cosa dice ognuno, in una riga.

Un pacchetto arriva da chiunque: qualunque fila di byte dà una riga, mai un errore. Si leggono Ethernet, ARP
(RFC 826), IPv4 e IPv6 (RFC 791, 8200), ICMP (RFC 792), TCP e UDP (RFC 9293, 768), i nomi chiesti in DNS (RFC 1035).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass

from labkit.errors import InvalidError

#: Il formato: pcap con i nanosecondi, pacchetti Ethernet (draft-ietf-opsawg-pcap).
MAGIC = 0xA1B23C4D
LINKTYPE_ETHERNET = 1
_HEADER = struct.Struct("=IHHiIII")
_RECORD = struct.Struct("=IIII")

_FLAGS = (("FIN", 0x01), ("SYN", 0x02), ("RST", 0x04), ("PSH", 0x08), ("ACK", 0x10))
_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination options: before what an IPv6 packet carries
_TEXTS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"HTTP/")


@dataclass(frozen=True)
class Packet:
    """Un pacchetto: quando è passato (secondi Unix), da chi, a chi, che cos'è, quanto è lungo, che cosa dice.

    ``size`` sono i byte del pacchetto, ``data`` quelli catturati, dall'intestazione Ethernet.
    """

    time: float
    source: str
    target: str
    protocol: str
    size: int
    info: str
    data: bytes = b""


def header(snaplen: int) -> bytes:
    """L'inizio di un file pcap, di pacchetti tagliati a ``snaplen`` byte."""
    return _HEADER.pack(MAGIC, 2, 4, 0, 0, snaplen, LINKTYPE_ETHERNET)


def record(nanoseconds: int, data: bytes, size: int) -> bytes:
    """Un pacchetto lungo ``size`` byte, di cui ``data`` sono quelli presi, come sta in un file pcap."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return _RECORD.pack(seconds, rest, len(data), size) + data


class Reader:
    """Un file pcap letto a pezzi, come arriva: :meth:`feed` dà i pacchetti finiti, ``whole`` quanti byte occupano.

    >>> reader = Reader()
    >>> reader.feed(header(100) + record(5 * 10**9, bytes(14), 14)[:10])
    []
    >>> [packet.time for packet in reader.feed(record(5 * 10**9, bytes(14), 14)[10:])]
    [5.0]
    """

    def __init__(self) -> None:
        self.whole = 0
        self._waiting = bytearray()
        self._snaplen = 0

    def feed(self, data: bytes) -> list[Packet]:
        """I pacchetti che questi byte completano; alza :class:`~labkit.errors.InvalidError` se non è un pcap."""
        self._waiting += data
        if not self._snaplen:
            if len(self._waiting) < _HEADER.size:
                return []
            magic, *_, self._snaplen, link = _HEADER.unpack_from(self._waiting)
            if magic != MAGIC or link != LINKTYPE_ETHERNET or not self._snaplen:
                raise InvalidError("Questo non è un file pcap scritto dal laboratorio.", "lab.capture().save('x.pcap')")
            del self._waiting[: _HEADER.size]
            self.whole = _HEADER.size
        found, place = [], 0
        while len(self._waiting) - place >= _RECORD.size:
            seconds, rest, taken, size = _RECORD.unpack_from(self._waiting, place)
            if taken > self._snaplen:
                raise InvalidError("Il file pcap è rovinato: un pacchetto è più lungo del permesso.")
            if len(self._waiting) - place < _RECORD.size + taken:
                break
            place += _RECORD.size
            found.append(describe(bytes(self._waiting[place : place + taken]), size, seconds + rest / 1e9))
            place += taken
        del self._waiting[:place]
        self.whole += place
        return found


def describe(data: bytes, size: int = 0, time: float = 0.0) -> Packet:
    """Che cosa dice un pacchetto Ethernet, anche tagliato a metà.

    >>> describe(bytes.fromhex("ffffffffffff02420a580002" "0806" "0001080006040001"
    ...     "02420a580002" "0a580002" "000000000000" "0a580003")).info
    'chi ha 10.88.0.3? Lo dica a 10.88.0.2'
    """
    source, target, protocol, info = _mac(data[6:12]), _mac(data[:6]), "Ethernet", f"{len(data)} byte"
    kind = int.from_bytes(data[12:14], "big")
    reader = {0x0806: _arp, 0x0800: _ipv4, 0x86DD: _ipv6}.get(kind)
    try:
        if reader:
            source, target, protocol, info = reader(data[14:], source, target)
        elif len(data) >= 14:
            info = f"tipo 0x{kind:04x}"
    except (struct.error, IndexError, ValueError):  # cut short, or made so on purpose
        info = "tagliato, o malfatto"
    return Packet(time, source, target, protocol, size or len(data), info, data)


_Told = tuple[str, str, str, str]


def _mac(data: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in data)


def _arp(data: bytes, source: str, target: str) -> _Told:
    operation = struct.unpack_from("!H", data, 6)[0]
    sender, asked = (str(ipaddress.IPv4Address(data[place : place + 4])) for place in (14, 24))
    if operation == 1:
        return source, target, "ARP", f"chi ha {asked}? Lo dica a {sender}"
    return source, target, "ARP", f"{sender} è {_mac(data[8:14])}"


def _ipv4(data: bytes, source: str, target: str) -> _Told:
    length, total, fragment, protocol = (data[0] & 15) * 4, *struct.unpack_from("!H2xHxB", data, 2)
    ends = tuple(str(ipaddress.IPv4Address(data[place : place + 4])) for place in (12, 16))
    if fragment & 0x1FFF:
        return *_pair(ends), "IPv4", "un pezzo di un pacchetto più grande"
    return _inside(_pair(ends), protocol, data[length:total], _ICMP)


def _ipv6(data: bytes, source: str, target: str) -> _Told:
    length, protocol = struct.unpack_from("!HB", data, 4)
    ends = tuple(str(ipaddress.IPv6Address(data[place : place + 16])) for place in (8, 24))
    inside = data[40 : 40 + length]
    while protocol in _EXTENSIONS:  # each one is shorter than what follows: it ends
        protocol, inside = inside[0], inside[(inside[1] + 1) * 8 :]
    return _inside(_pair(ends), protocol, inside, _ICMPV6)


def _pair(ends: tuple[str, ...]) -> tuple[str, str]:
    return ends[0], ends[1]


def _inside(ends: tuple[str, str], protocol: int, data: bytes, icmp: dict[int, str]) -> _Told:
    readers: dict[int, Callable[[bytes], tuple[str, str]]] = {6: _tcp, 17: _udp}
    if protocol in (1, 58):
        name, info = "ICMP" if protocol == 1 else "ICMPv6", _icmp(data, icmp)
    elif protocol in readers:
        name, info = readers[protocol](data)
    else:
        name, info = "IP", f"protocollo {protocol}"
    return *ends, name, info


_ICMP = {0: "eco, risposta", 3: "non raggiungibile", 5: "altra strada", 8: "eco, domanda", 11: "tempo scaduto"}
_ICMPV6 = {
    1: "non raggiungibile", 128: "eco, domanda", 129: "eco, risposta", 133: "cerco un router", 134: "sono un router",
    135: "chi ha questo indirizzo?", 136: "ce l'ho io", 143: "gruppi che ascolto",
}  # fmt: skip


def _icmp(data: bytes, words: dict[int, str]) -> str:
    kind = data[0]
    said = words.get(kind, f"tipo {kind}")
    return f"{said} numero {struct.unpack_from('!H', data, 6)[0]}" if said.startswith("eco") else said


def _tcp(data: bytes) -> tuple[str, str]:
    one, two, _, _, offset, flags = struct.unpack_from("!HHIIBB", data)
    said = data[(offset >> 4) * 4 :]
    words = " ".join(name for name, bit in _FLAGS if flags & bit)
    info = f"{one} → {two} [{words}]"
    if said.startswith(_TEXTS):
        return "HTTP", f"{info} {_line(said)}"
    return "TCP", f"{info} {len(said)} byte" if said else info


def _line(data: bytes) -> str:
    """La prima riga di un testo, che può contenere qualunque cosa."""
    return data.split(b"\r\n", 1)[0][:120].decode("ascii", "replace")


def _udp(data: bytes) -> tuple[str, str]:
    one, two, length = struct.unpack_from("!HHH", data)
    if 53 in (one, two):
        return "DNS", _dns(data[8:])
    return "UDP", f"{one} → {two}, {max(0, length - 8)} byte"


def _dns(data: bytes) -> str:
    flags = struct.unpack_from("!H", data, 2)[0]
    labels: list[str] = []
    place = 12
    while (length := data[place]) and len(labels) < 10:
        if length > 63:
            raise ValueError
        labels.append(data[place + 1 : place + 1 + length].decode("ascii", "replace"))
        place += 1 + length
    name = ".".join(labels)
    if not flags & 0x8000:
        return f"domanda: {name}"
    return f"risposta: {name}" if not flags & 15 else f"risposta: {name} non c'è"

"""Gli accessi ai registri di un dispositivo, letti dalla traccia di QEMU: quanti, quali, con che valore.

QEMU sa scrivere una riga ogni volta che il processore della macchina tocca un registro che non esiste, e che
perciò deve fingere lui. Le righe hanno un indirizzo; di chi è quell'indirizzo lo dice la macchina stessa.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_LINE = re.compile(
    rb"memory_region_ops_(read|write) cpu -?\d+ mr 0x[0-9a-f]+ addr 0x([0-9a-f]+) value 0x([0-9a-f]+) size (\d+)"
)

#: I registri di un canale IDE, per distanza dal primo (ATA/ATAPI, «task file»).
_IDE = ("dati", "opzioni", "quanti settori", "settore, 1", "settore, 2", "settore, 3", "quale disco", "comando e stato")
#: Quelli del DMA, per distanza dall'inizio del loro gruppo.
_BUS_MASTER = {0: "avvio del DMA", 2: "stato del DMA", 4: "dov'è la tabella del DMA"}
#: I registri di e1000 che un ping tocca davvero (Intel 8254x Software Developer's Manual, capitolo 13).
_E1000 = {
    0x0008: "stato", 0x00C0: "perché hai interrotto?", 0x00D0: "interruzioni sì", 0x00D8: "interruzioni no",
    0x2818: "coda in arrivo", 0x3818: "coda in partenza",
}  # fmt: skip
#: I quattro gruppi di registri di virtio su PCI, nel posto in cui QEMU li mette.
_VIRTIO = (
    (0x3000, "campanello"),
    (0x2000, "configurazione"),
    (0x1000, "perché hai interrotto?"),
    (0x0000, "accensione"),
)


@dataclass(frozen=True)
class Access:
    """Un accesso: ``kind`` è «legge» o «scrive», ``size`` in byte, ``register`` il nome di quello che tocca."""

    kind: str
    address: int
    size: int
    value: int
    register: str = ""

    def __str__(self) -> str:
        return f"{self.kind:6} {self.size} byte a {self.address:#x} ({self.register}): {self.value:#x}"


@dataclass(frozen=True)
class Window:
    """Gli indirizzi di un gruppo di registri: dal primo all'ultimo, compresi."""

    device: str
    kind: str
    first: int
    last: int

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last

    def name(self, address: int) -> str:
        """Come si chiama il registro a quell'indirizzo."""
        offset = address - self.first
        match self.kind:
            case "ide":
                return _IDE[offset]
            case "ide-control":
                return "stato, di nuovo"
            case "bus-master":
                return _BUS_MASTER.get(offset, f"DMA + {offset}")
            case "e1000":
                return _E1000.get(offset, "statistiche" if 0x4000 <= offset < 0x4100 else f"registro {offset:#06x}")
            case "virtio":
                return next(name for start, name in _VIRTIO if offset >= start)
        return self.kind


@dataclass(frozen=True)
class Counts:
    """Gli accessi ai registri durante ``requests`` richieste uguali a un dispositivo.

    ``size`` sono i byte di una richiesta, ``seconds`` il tempo passato con la traccia accesa, ``exits`` le
    uscite dalla macchina che KVM ha contato (``None`` dove KVM non c'è o non conta).

    >>> Counts("virtio-blk", 2, 4096, (Access("scrive", 1, 2, 0, "campanello"),) * 2).per_request
    1.0
    """

    device: str
    requests: int
    size: int
    accesses: tuple[Access, ...] = field(repr=False)
    seconds: float = field(default=0.0, repr=False, compare=False)
    exits: int | None = field(default=None, repr=False, compare=False)

    @property
    def total(self) -> int:
        """Gli accessi in tutto."""
        return len(self.accesses)

    @property
    def per_request(self) -> float:
        """Gli accessi per una richiesta sola."""
        return len(self.accesses) / self.requests

    def registers(self) -> dict[str, int]:
        """Quante volte ogni registro, dal più toccato."""
        return dict(Counter(f"{a.kind} {a.register}" for a in self.accesses).most_common())

    def carried(self) -> bytes:
        """I byte passati dal registro dei dati: il processore li ha portati a mano, uno per accesso."""
        data = (a for a in self.accesses if a.register == "dati" and a.kind == "legge")
        return b"".join(a.value.to_bytes(a.size, "little") for a in data)

    def __str__(self) -> str:
        rows = [f"{times:7}  {what}" for what, times in self.registers().items()]
        return "\n".join([f"{self.device}: {self.total} accessi in {self.requests} richieste", *rows])


def accesses(trace: bytes, windows: Sequence[Window]) -> Iterator[Access]:
    """Gli accessi scritti in ``trace`` che cadono in una delle finestre, in ordine."""
    for kind, place, value, size in _LINE.findall(trace):
        address = int(place, 16)
        window = next((w for w in windows if address in w), None)
        if window is not None:
            word = "legge" if kind == b"read" else "scrive"
            yield Access(word, address, int(size), int(value, 16), window.name(address))


def windows(device: str, resources: str) -> list[Window]:
    """Le finestre di un dispositivo PCI dal suo file ``resource`` di sysfs (una riga per BAR)."""
    found = []
    for number, line in enumerate(resources.splitlines()[:6]):
        first, last = (int(word, 16) for word in line.split()[:2])
        if device.startswith("ide"):
            found += _ide(device, number, first)
        elif last > first:
            found.append(Window(device, device.partition("-")[0], first, last))
    return found


def _ide(device: str, bar: int, first: int) -> list[Window]:
    """The legacy ports never move; the bus master block holds both channels, eight bytes each."""
    command, control, block = (0x1F0, 0x3F6, 0) if device == "ide-dma" else (0x170, 0x376, 8)
    if bar == 0:
        return [Window(device, "ide", command, command + 7), Window(device, "ide-control", control, control)]
    return [Window(device, "bus-master", first + block, first + block + 7)] if bar == 4 else []

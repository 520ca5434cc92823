"""Una cattura di pacchetti in corso: quelli arrivati fin qui, il file pcap, la fine.

Un thread legge il canale finché la cattura dura. Invariante: i byte tenuti sono un file pcap intero, e sono al
massimo :data:`KEPT`; quando non ce ne stanno più la cattura si ferma da sé, e lo dice.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from labkit.errors import InvalidError, LabError
from labkit.packets import Packet, Reader

if TYPE_CHECKING:
    from labkit.client.lab import Lab

#: Quanti byte di pacchetti si tengono.
KEPT = 16 << 20


class Capture:
    """Quello che passa su un'interfaccia del laboratorio, finché non si chiama :meth:`stop`.

    ``packets`` sono i pacchetti fin qui, dal più vecchio; ``lost`` quelli che il kernel ha buttato perché nessuno li
    leggeva in tempo (si sa alla fine); ``why`` perché è finita prima di :meth:`stop`, se è successo.
    """

    def __init__(self, lab: Lab, interface: str, limit: int = 10_000, seconds: int = 600, snaplen: int = 2048) -> None:
        self.interface = interface
        self.packets: tuple[Packet, ...] = ()
        self.lost = 0
        self.why = ""
        self._channel = lab.wire.open("capture", interface=interface, limit=limit, seconds=seconds, snaplen=snaplen)
        first = self._channel.receive()  # the beginning of the file: from here on whoever sends is heard
        if first is None:
            raise self._refused()
        self._data = bytearray(first[1])
        self._reader = threading.Thread(target=self._read, name="labkit-cattura", daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Se ascolta ancora."""
        return self._reader.is_alive()

    def stop(self) -> tuple[Packet, ...]:
        """Smette di ascoltare, e torna tutti i pacchetti. Due volte non fa danno."""
        if self.running:
            with contextlib.suppress(LabError):  # ended by itself just now, or with the lab
                self._channel.interrupt()
            self._reader.join(timeout=10)
        return self.packets

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Scrive i pacchetti in un file pcap, che Wireshark e tcpdump sanno aprire; torna il percorso."""
        target = Path(path)
        try:
            target.write_bytes(bytes(self._data))
        except OSError as problem:
            raise InvalidError(f"«{target}» non si può scrivere: {problem.strerror}.", "save('rete.pcap')") from None
        return target

    def _refused(self) -> LabError:
        """Perché la cattura non è cominciata."""
        try:
            _ = self._channel.result
        except LabError as problem:
            return problem
        return LabError(f"La cattura su «{self.interface}» è finita prima di cominciare.", "lab.capture('lab0')")

    def _read(self) -> None:
        reader = Reader()
        self.packets = tuple(reader.feed(bytes(self._data)))
        try:
            for stream, data in self._channel:
                if stream != "stdout" or self.why:
                    continue
                if len(self._data) + len(data) > KEPT:
                    self.why = f"i pacchetti tenuti sono già {KEPT >> 20} MiB"
                    self._data = self._data[: reader.whole]
                    self._channel.discard()
                    self._channel.interrupt()
                    continue
                self._data += data
                self.packets += tuple(reader.feed(data))
            self._data = self._data[: reader.whole]
            self.lost = int(self._channel.result["lost"])
        except LabError as problem:
            self._data = self._data[: reader.whole]
            self.why = self.why or problem.message

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Capture({self.interface!r})"

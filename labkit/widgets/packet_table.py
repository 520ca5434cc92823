"""La tabella viva di una cattura: i pacchetti compaiono mentre passano; vedi ``Lab.capture``."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

from labkit.draw import packets
from labkit.packets import Packet
from labkit.widgets.following import Cells, Following, HasEnd
from labkit.widgets.shell import button


class IsCapture(Protocol):
    """Quello che la tabella chiede a una cattura."""

    interface: str
    packets: tuple[Packet, ...]
    lost: int
    why: str

    @property
    def running(self) -> bool: ...
    def stop(self) -> tuple[Packet, ...]: ...
    def save(self, path: str | os.PathLike[str]) -> Path: ...


class PacketTable(Following):
    """La tabella, con un pulsante che ferma la cattura; :attr:`packets`, :meth:`stop` e :meth:`save` sono i suoi.

    Chi scrive ``with lab.capture() as cattura:`` la ferma alla fine del blocco.
    """

    def __init__(self, lab: HasEnd, capture: IsCapture, interval: float = 0.5) -> None:
        self.capture = capture
        self._told = 0
        self.table = Cells(svg=self._draw())
        super().__init__(lab, self.table, "Mostra adesso i pacchetti arrivati", interval)
        self.stop_button = button("Ferma", "Smette di ascoltare: i pacchetti presi restano")
        self.stop_button.on_click(lambda _: self.stop())
        controls = self.children[0]
        controls.children = [*controls.children, self.stop_button]

    @property
    def packets(self) -> tuple[Packet, ...]:
        """I pacchetti fin qui, dal più vecchio."""
        return self.capture.packets

    @property
    def lost(self) -> int:
        """I pacchetti che il kernel ha buttato perché nessuno li leggeva in tempo; si sa alla fine."""
        return self.capture.lost

    def stop(self) -> tuple[Packet, ...]:
        """Smette di ascoltare, e torna i pacchetti."""
        found = self.capture.stop()
        self.stop_button.disabled = True
        self.refresh()
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Scrive i pacchetti in un file pcap, che Wireshark e tcpdump sanno aprire; torna il percorso."""
        return self.capture.save(path)

    def words(self) -> str:
        return packets.text(self.capture.interface)

    def look(self) -> None:
        found = self.capture.packets
        if len(found) > self._told:
            self.table.news = packets.say(found[-1])
            self._told = len(found)
        self.table.svg = self._draw()

    def close(self) -> None:
        """Toglie la tabella dalla pagina, e ferma la cattura."""
        self.capture.stop()
        super().close()

    def _draw(self) -> str:
        state = packets.state(self.capture.running, self.capture.lost, self.capture.why)
        return packets.to_svg(self.capture.interface, self.capture.packets, state, live=True)

    def __str__(self) -> str:
        return packets.table(self.capture.packets)

    def __enter__(self) -> PacketTable:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

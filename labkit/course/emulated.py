"""La macchina della lezione 02 come la vede un notebook: quella vera, più la sua figura viva."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, ClassVar

from labkit.client.emulated import MEMORY, Machine

if TYPE_CHECKING:
    from labkit.widgets.access_meter import AccessMeter


class EmulatedMachine(Machine):
    """Una macchina virtuale piccola e vera, con dischi e schede di rete emulati e virtio, da misurare.

    Si accende quando nasce e si spegne con :meth:`close`, o con il notebook. Non servono né root né KVM::

        with EmulatedMachine() as macchina:
            print(macchina.count("virtio-blk", size=4096).per_request)

    Se ne tiene accesa una sola: chi riesegue la cella spegne quella di prima.
    """

    _last: ClassVar[weakref.ref[EmulatedMachine] | None] = None

    def __init__(self, memory: int = MEMORY, accelerator: str = "auto") -> None:
        # The cells' outputs remember every object that was shown: without this, nobody would end the old one.
        before = EmulatedMachine._last() if EmulatedMachine._last else None
        if before is not None:
            before.close()
        EmulatedMachine._last = weakref.ref(self)
        super().__init__(memory, accelerator)

    def meter(self) -> AccessMeter:
        """Gli accessi di ogni disco mentre si sposta la dimensione della richiesta."""
        from labkit.widgets.access_meter import AccessMeter  # only where there is something to show

        return AccessMeter(self, self.disks)

"""La macchina della lezione 02 come la vede un notebook: quella vera, più la sua figura viva."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.client.emulated import Machine

if TYPE_CHECKING:
    from labkit.widgets.access_meter import AccessMeter


class EmulatedMachine(Machine):
    """Una macchina virtuale piccola e vera, con dischi e schede di rete emulati e virtio, da misurare.

    Si accende quando nasce e si spegne con :meth:`close`, o con il notebook. Non servono né root né KVM::

        with EmulatedMachine() as macchina:
            print(macchina.count("virtio-blk", size=4096).per_request)
    """

    def meter(self) -> AccessMeter:
        """Gli accessi di ogni disco mentre si sposta la dimensione della richiesta."""
        from labkit.widgets.access_meter import AccessMeter  # only where there is something to show

        return AccessMeter(self, self.disks)

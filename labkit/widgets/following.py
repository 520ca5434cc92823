"""Un disegno che segue il laboratorio: si aggiorna da solo finché qualcuno lo guarda e il laboratorio esiste.

Il filo che chiede le novità nasce quando il disegno compare in una pagina, e finisce quando la pagina si
chiude, quando si toglie la spunta, quando il widget o il laboratorio si chiudono.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import ipywidgets

from labkit.errors import LabClosedError, LabError
from labkit.widgets.shell import Drawing, Shell, button, toggle


class HasEnd(Protocol):
    """Un laboratorio, che a un certo punto finisce."""

    @property
    def closed(self) -> bool: ...


class Cells(Drawing):
    """Un disegno fatto di celle che rispondono al puntatore e alla tastiera."""

    _esm = Path(__file__).with_name("cells.js")


class Following(Shell):
    """I comandi e il disegno; chi eredita dice come si guarda, con :meth:`look`."""

    def __init__(self, lab: HasEnd, cells: Cells, tooltip: str, interval: float) -> None:
        self._followed = lab
        self._cells = cells
        self._interval = interval
        self._views = 0
        self._stop = threading.Event()
        self._poller: threading.Thread | None = None
        self._lock = threading.RLock()
        self.refresh_button = button("Aggiorna", tooltip)
        self.automatic = toggle("aggiorna da sola", True)
        super().__init__([ipywidgets.HBox([self.refresh_button, self.automatic]), cells])
        self.refresh_button.on_click(lambda _: self.refresh())
        self.automatic.observe(lambda _: self._follow(), names="value")
        cells.on_msg(self._on_message)

    def look(self) -> None:
        """Chiede al laboratorio com'è adesso e aggiorna il disegno."""

    @property
    def polling(self) -> bool:
        """Vero se un filo sta seguendo il laboratorio."""
        return self._poller is not None and self._poller.is_alive()

    def refresh(self) -> None:
        """Guarda adesso; se il laboratorio dice di no, la frase compare sotto il disegno."""
        with self._lock:
            try:
                self.look()
            except LabClosedError:
                self._end()
            except LabError as error:
                self._cells.problem = str(error)
            else:
                self._cells.problem = ""

    def close(self) -> None:
        """Toglie il widget dalla pagina e ferma il suo filo."""
        self._stop.set()
        super().close()

    def _end(self) -> None:
        self._stop.set()
        closed = "Il laboratorio è chiuso: il disegno resta com'era. Rimedio: lab = Lab(), poi ripeti la cella."
        self._cells.problem = closed
        self.refresh_button.disabled = self.automatic.disabled = True

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        change = content.get("views") if isinstance(content, dict) else None
        if change in (1, -1):
            self._views = max(0, self._views + change)
            self._follow()

    def _follow(self) -> None:
        """Fa partire o fermare il filo, secondo chi guarda e la spunta."""
        wanted = self._views > 0 and self.automatic.value and not self.automatic.disabled
        if not wanted:
            self._stop.set()
        elif not self.polling or self._stop.is_set():
            self._stop = threading.Event()
            self._poller = threading.Thread(target=self._poll, args=(self._stop,), name="disegno", daemon=True)
            self._poller.start()

    def _poll(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval):
            if self._followed.closed:
                self._end()
                return
            self.refresh()

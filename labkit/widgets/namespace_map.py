"""La mappa viva dei namespace: si aggiorna da sola finché qualcuno la guarda e il laboratorio esiste.

Il filo che chiede le novità nasce quando la mappa compare in una pagina, e finisce quando la pagina si
chiude, quando si toglie la spunta, quando il widget o il laboratorio si chiudono.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import ipywidgets

from labkit.draw import namespaces, sharing
from labkit.errors import LabClosedError, LabError
from labkit.model import Snapshot
from labkit.widgets.shell import Drawing, Shell, button, toggle


class HasNamespaces(Protocol):
    """Quello che la mappa chiede a un laboratorio."""

    @property
    def closed(self) -> bool: ...

    def namespaces(self) -> Snapshot: ...


class NamespaceMap(Drawing):
    """Il disegno, con le celle che rispondono al puntatore e alla tastiera."""

    _esm = Path(__file__).with_suffix(".js")


class NamespaceWidget(Shell):
    """La mappa con i suoi comandi; vedi :func:`namespace_widget`."""

    def __init__(self, lab: HasNamespaces, interval: float = 1.0) -> None:
        self._lab = lab
        self._interval = interval
        self._snapshot = lab.namespaces()
        self._views = 0
        self._stop = threading.Event()
        self._poller: threading.Thread | None = None
        self._lock = threading.RLock()
        self.map = NamespaceMap(svg=namespaces.to_svg(self._snapshot, live=True))
        self.refresh_button = button("Aggiorna", "Chiede adesso al kernel chi sta in quale namespace")
        self.automatic = toggle("aggiorna da sola", True)
        super().__init__([ipywidgets.HBox([self.refresh_button, self.automatic]), self.map])
        self.refresh_button.on_click(lambda _: self.refresh())
        self.automatic.observe(lambda _: self._follow(), names="value")
        self.map.on_msg(self._on_message)

    @property
    def polling(self) -> bool:
        """Vero se un filo sta seguendo il laboratorio."""
        return self._poller is not None and self._poller.is_alive()

    def words(self) -> str:
        return namespaces.text(self._snapshot)

    def refresh(self) -> None:
        """Rilegge i namespace; se il laboratorio dice di no, la frase compare sotto la mappa."""
        with self._lock:
            try:
                snapshot = self._lab.namespaces()
            except LabClosedError:
                self._end()
            except LabError as error:
                self.map.problem = str(error)
            else:
                self._show(snapshot)

    def close(self) -> None:
        """Toglie il widget dalla pagina e ferma il suo filo."""
        self._stop.set()
        super().close()

    def _show(self, snapshot: Snapshot) -> None:
        self.map.problem = ""
        if snapshot != self._snapshot:
            news = sharing.changes(self._snapshot, snapshot)
            self._snapshot = snapshot
            self.map.svg = namespaces.to_svg(snapshot, live=True)
            self.map.news = news or self.map.news  # a new pid alone is no news for who listens

    def _end(self) -> None:
        self._stop.set()
        self.map.problem = "Il laboratorio è chiuso: la mappa resta com'era. Rimedio: lab = Lab(), poi ripeti la cella."
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
            self._poller = threading.Thread(target=self._poll, args=(self._stop,), name="mappa", daemon=True)
            self._poller.start()

    def _poll(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval):
            if self._lab.closed:
                self._end()
                return
            self.refresh()


def namespace_widget(lab: HasNamespaces) -> NamespaceWidget:
    """La mappa di chi condivide quale namespace, nel laboratorio ``lab``, aggiornata ogni secondo.

    Le celle con la stessa lettera nella stessa colonna sono lo stesso namespace (namespaces(7)): passaci
    sopra, o spostati con le frecce, e si accendono insieme.
    """
    return NamespaceWidget(lab)

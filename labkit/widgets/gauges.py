"""Il cruscotto vivo di un container: tre cursori che cambiano i suoi limiti veri, e quello che usa, adesso.

Il filo che guarda nasce con il widget e finisce con il container, con il laboratorio, o quando il widget si chiude.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import ipywidgets

from labkit.draw import gauges
from labkit.errors import LabClosedError, LabError, NotFoundError
from labkit.limits import Limits, Stats
from labkit.model import ContainerInfo
from labkit.widgets.shell import Drawing, Shell

#: Secondi fra un conto e il prossimo.
PERIOD = 0.5

_MIB = 1 << 20
_NONE = ("senza limite", 0)
MEMORY = (*((f"{size} MiB", size * _MIB) for size in (8, 12, 16, 24, 32, 48, 64, 128, 256, 512)), _NONE)
CPUS = (*((str(cpus).replace(".", ","), cpus) for cpus in (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0)), ("senza limite", 0.0))
PIDS = (*((str(count), count) for count in (2, 5, 10, 20, 50, 100)), _NONE)

#: Come si dice lo stato di chi non gira.
_STATES = {"paused": "in pausa", "exited": "finito", "created": "non ancora partito", "restarting": "sta per ripartire"}


class HasLimits(Protocol):
    """Quello che il cruscotto chiede a un container."""

    name: str

    def inspect(self) -> ContainerInfo: ...
    def stats(self) -> Stats: ...
    def update(self, **limits: Any) -> Limits: ...


class Gauges(Shell):
    """I cursori e il disegno; :attr:`history` sono i conti, dal più vecchio. Vedi ``Lab.gauges``."""

    def __init__(self, container: HasLimits, period: float = PERIOD) -> None:
        self._container = container
        self._lock = threading.RLock()
        self._stop = threading.Event()
        info = container.inspect()
        self.limits = self._born = info.limits
        self.history: list[Stats] = []
        self.memory = _slider("Memoria", MEMORY, info.limits.memory)
        self.cpus = _slider("CPU", CPUS, info.limits.cpus)
        self.pids = _slider("Processi", PIDS, info.limits.pids_limit)
        self.drawing = Drawing()
        for name, slider in (("memory", self.memory), ("cpus", self.cpus), ("pids_limit", self.pids)):
            slider.observe(lambda change, name=name: self.set(**{name: change["new"]}), names="value")
        super().__init__([ipywidgets.HBox([self.memory, self.cpus, self.pids]), self.drawing])
        self.look()
        self._watcher = threading.Thread(target=self._watch, args=(period,), name="cruscotto", daemon=True)
        self._watcher.start()

    @property
    def watching(self) -> bool:
        """Vero se un filo sta guardando il container."""
        return self._watcher.is_alive()

    def words(self) -> str:
        return gauges.text(self._container.name, self.limits)

    def set(self, **limits: Any) -> None:
        """Cambia un limite del container; se il kernel dice di no, la frase va sotto il disegno.

        Con la memoria cambia anche ``memory_swap``, così lo swap resta quello che il container aveva all'inizio.
        """
        if "memory" in limits:
            limits.setdefault("memory_swap", _swap_for(limits["memory"], self._born))
        with self._lock:
            try:
                self.limits = self._container.update(**limits)
                self.drawing.problem = ""
            except LabError as error:
                self.drawing.problem = str(error)
        self.look()

    def look(self) -> bool:
        """Chiede il conto e ridisegna; ``False`` quando non c'è più niente da guardare."""
        with self._lock:
            try:
                info = self._container.inspect()
                self.history = [*self.history, self._container.stats()][-gauges.SAMPLES :]
            except (LabClosedError, NotFoundError):
                return False
            except LabError as error:
                self.drawing.problem = str(error)
                return False
            self.limits = info.limits
            state = _STATES.get(info.state, "")
            if info.state == "exited":
                state = f"finito ({info.exit_code})" + (", la memoria non bastava" if info.oom_killed else "")
            self.drawing.svg = gauges.to_svg(self._container.name, self.history, self.limits, state)
            if news := gauges.say(self.history, self.limits):
                self.drawing.news = news
            return info.state != "exited"

    def close(self) -> None:
        """Toglie il widget dalla pagina e ferma il suo filo."""
        self._stop.set()
        super().close()

    def _watch(self, period: float) -> None:
        while not self._stop.wait(period) and self.look():
            pass


def _swap_for(memory: int, born: Limits) -> int:
    """``memory_swap`` da dare insieme a ``memory`` perché lo swap, da solo, resti quello di ``born``.

    >>> _swap_for(64, Limits(memory=48 << 20, memory_swap=48 << 20))
    64
    """
    if not memory:
        return 0
    return memory + born.memory_swap - born.memory if born.memory_swap > 0 else born.memory_swap


def _slider(label: str, options: tuple[tuple[str, float], ...], value: float) -> Any:
    """Un cursore fra i valori dati; parte dal più piccolo che non è meno di ``value``."""
    start = next((size for _, size in options if value and size >= value), 0)
    return ipywidgets.SelectionSlider(
        options=options,
        value=start,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout=ipywidgets.Layout(width="225px"),
    )

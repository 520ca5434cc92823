"""La gara di partenza: si preme «Via!», e processo, container e macchina virtuale fanno davvero lo stesso lavoro.

Corrono uno alla volta, per non rubarsi il processore; la barra di chi corre cresce mentre corre.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ipywidgets

from labkit.client.race import Finish
from labkit.draw import race
from labkit.draw.race import Lane
from labkit.errors import BackendError, LabError
from labkit.widgets.shell import Drawing, Shell, button

#: Secondi fra un disegno e il prossimo, mentre qualcuno corre.
TICK = 0.1

#: Fa correre uno: la funzione che gli si dà va chiamata allo sparo.
Runner = Callable[[Callable[[], None]], Finish]


class BootRace(Shell):
    """Le corsie e il pulsante; :attr:`results` sono gli arrivi, per nome. Vedi ``Lab.race``."""

    def __init__(self, runners: Mapping[str, Runner]) -> None:
        self._runners = dict(runners)
        self._lock = threading.RLock()
        self.lanes = {name: Lane(name) for name in runners}
        self.results: dict[str, Finish] = {}
        self.go = button("Via!", "Fa fare lo stesso lavoro a tutti, uno alla volta")
        self.track = Drawing()
        self.go.on_click(lambda _: self.run())
        super().__init__([ipywidgets.HBox([self.go]), self.track])
        self._draw()

    def words(self) -> str:
        return race.text(list(self.lanes.values()))

    def run(self) -> dict[str, Finish]:
        """La gara, dall'inizio: torna gli arrivi. Chi qui non può correre non c'è, e il motivo si legge."""
        self.go.disabled = True
        self.track.problem = ""
        self.lanes = {name: Lane(name) for name in self._runners}
        self.results = {}
        try:
            for name, runner in self._runners.items():
                self._one(name, runner)
        finally:
            self.go.disabled = False
            self._draw()
        return dict(self.results)

    def _one(self, name: str, runner: Runner) -> None:
        start = time.perf_counter()

        def grow() -> None:
            self._set(name, state="running", seconds=time.perf_counter() - start)

        with _every(TICK, grow):
            try:
                finish = runner(grow)
            except LabError as error:
                problem: LabError | None = error
            else:
                problem = None
        if problem is None:
            self.results[name] = finish
            self._set(name, state="done", seconds=finish.seconds, words=f"ha visto il kernel {finish.kernel}")
        elif isinstance(problem, BackendError):
            self._set(name, state="absent", words=str(problem))
        else:
            self.track.problem = str(problem)
            self._set(name, state="waiting", seconds=0.0)

    def _set(self, name: str, **changes: Any) -> None:
        with self._lock:
            self.lanes[name] = replace(self.lanes[name], **changes)
            self._draw()

    def _draw(self) -> None:
        lanes = list(self.lanes.values())
        self.track.svg = race.to_svg(lanes)
        self.track.news = race.say(lanes)


@contextlib.contextmanager
def _every(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Calls ``action`` again and again while the block lasts; when it is over, so is the thread."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(seconds):
            action()

    thread = threading.Thread(target=beat, name="gara", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

"""Un laboratorio che prende nota dei piani e non tocca il kernel: solo per le prove di unità.

Filo, verbi, nomi, stati ed errori sono quelli veri; di finto c'è solo chi fa nascere i processi. Non
si mostra mai a uno studente: ``auto`` non lo sceglie.
"""

from __future__ import annotations

from labkit.backends.base import Started, start_guard


class FakeBackend:
    """Lo stesso supervisore con un motore che recita (:mod:`labkit.supervisor.fake`)."""

    name = "fake"

    def start(self, lab_id: str) -> Started:
        return start_guard(self.name, lab_id)

"""Il laboratorio direttamente sul kernel di questa macchina, in un namespace utente: da root o da utente normale."""

from __future__ import annotations

from labkit.backends.base import Started, start_guard


class DirectBackend:
    """Il backend normale: gli oggetti del kernel sono di questa macchina, ma nessuno esce dal laboratorio."""

    name = "direct"

    def start(self, lab_id: str) -> Started:
        return start_guard(self.name, lab_id)

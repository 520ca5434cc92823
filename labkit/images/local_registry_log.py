"""Le domande fatte a un registro, con i byte che hanno viaggiato nei due versi: solo i corpi, senza intestazioni."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

#: How many requests are remembered.
MOST = 10_000
#: Seconds to wait for the requests that are being answered.
_PATIENCE = 2.0

_KINDS = (
    (re.compile(r"/v2/(.+)/manifests/([^/?]+)"), "manifesto"),
    (re.compile(r"/v2/(.+)/blobs/uploads/?([^/?]*)"), "invio"),
    (re.compile(r"/v2/(.+)/blobs/([^/?]+)"), "blob"),
    (re.compile(r"/v2/(.+)/tags/(list)"), "tag"),
    (re.compile(r"/v2/(.+)/referrers/([^/?]+)"), "chi ne parla"),
)


@dataclass(frozen=True)
class Request:
    """Una domanda: chi, che cosa, com'è andata; i byte ricevuti e mandati, e quando (secondi Unix)."""

    client: str
    method: str
    path: str
    status: int
    received: int
    sent: int
    moment: float = field(default_factory=time.time, compare=False)

    @property
    def what(self) -> tuple[str, str, str]:
        """Deposito, che cosa («manifesto», «blob», «invio», «tag»…) e quale (tag o impronta).

        >>> Request("", "GET", "/v2/corso/prova/manifests/1", 200, 0, 500).what
        ('corso/prova', 'manifesto', '1')
        """
        for pattern, kind in _KINDS:
            if found := pattern.match(self.path):
                return found[1], kind, found[2]
        return "", "registro", ""


class Requests:
    """Le ultime domande, e quante stanno ancora aspettando la risposta. Si usa da più thread."""

    def __init__(self, watch: Callable[[Request], None] = lambda request: None) -> None:
        self._watch = watch
        self._kept: deque[Request] = deque(maxlen=MOST)
        self._change = threading.Condition()
        self._open = self._total = 0

    def began(self) -> None:
        with self._change:
            self._open += 1

    def ended(self, request: Request) -> None:
        with self._change:
            self._open -= 1
            self._total += 1
            self._kept.append(request)
            self._watch(request)  # one at a time: it may be writing lines
            self._change.notify_all()

    def all(self) -> tuple[tuple[Request, ...], int]:
        """Quelle che si ricordano e quante sono state in tutto; chi ha già avuto una risposta la trova qui."""
        with self._change:
            self._change.wait_for(lambda: not self._open, _PATIENCE)
            return tuple(self._kept), self._total

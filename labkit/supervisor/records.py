"""I verbi che raccontano: quello che un container ha scritto (logs), quello che è successo (events)."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from labkit.errors import InvalidError
from labkit.model import Event, to_json
from labkit.supervisor.connection import Call
from labkit.supervisor.log import Piece, Stamper, lines, stamp

if TYPE_CHECKING:
    from labkit.supervisor.server import Server

#: Per che cosa si possono scegliere gli eventi, come ``docker events --filter``.
FILTERS = ("container", "event")


def logs(
    server: Server,
    call: Call,
    name: str,
    follow: bool = False,
    timestamps: bool = False,
    since: float | None = None,
    until: float | None = None,
    tail: int | None = None,
) -> None:
    """Le ultime uscite del container; con ``follow`` anche quelle che verranno, finché non resta fermo.

    ``since`` e ``until`` in secondi Unix, ``tail`` in righe; con ``timestamps`` ogni riga porta la sua ora. La
    risposta dice quante righe, le più vecchie, non ci sono più.
    """
    container = server.state.container(name)
    check(since, until, tail)
    for piece in _chosen(container.log.pieces, timestamps, since, until, tail):
        call.stdio(piece.stream, piece.data)
    answer = {"dropped": container.log.dropped}
    left = None if until is None else until - time.time()
    live = container.alive or container.state == "restarting"
    if not follow or not live or container.task is None or (left is not None and left <= 0):
        call.answer(answer)
        return
    call.task = container.task
    call.readonly = True
    call.rewrite = Stamper() if timestamps else None
    call.listen(container.audience)
    container.waiters.append(lambda code: call.answer(answer))
    if left is not None:
        server.loop.after(left, lambda: call.answer(answer))


def check(*numbers: float | None) -> None:
    """Istanti e quantità che si possono confrontare, o un :class:`~labkit.errors.InvalidError`."""
    for number in numbers:
        if number is not None and (not isinstance(number, (int, float)) or not math.isfinite(number)):
            raise InvalidError(f"«{number}» non è un numero di secondi, né di righe.", "since='5m', tail=10")


def _chosen(
    pieces: Iterable[Piece], timestamps: bool, since: float | None, until: float | None, tail: int | None
) -> Iterable[Piece]:
    """I pezzi chiesti. Senza scelte sono quelli di partenza; se no sono righe intere."""
    if not timestamps and since is None and until is None and tail is None:
        return pieces
    low, high = (0.0 if since is None else since), (float("inf") if until is None else until)
    found: Iterable[Piece] = (line for line in lines(pieces) if low <= line.time <= high)
    if tail is not None:
        found = deque(found, maxlen=tail)
    return (line._replace(data=stamp(line.time) + line.data) if timestamps else line for line in found)


def events(
    server: Server,
    call: Call,
    follow: bool = False,
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, list[str]] | None = None,
) -> None:
    """Gli eventi fin qui; con ``follow`` anche quelli che verranno, uno per EVENT.

    ``since`` e ``until`` in secondi Unix; ``filters`` come ``docker events --filter``: ``container`` (nome o id)
    ed ``event``.
    """
    check(since, until)
    wanted = {key: tuple(values) for key, values in (filters or {}).items()}
    if unknown := sorted(set(wanted) - set(FILTERS)):
        raise InvalidError(f"Non so scegliere gli eventi per {', '.join(unknown)}.", "filters={'event': ['die']}")

    def right(event: Event) -> bool:
        containers, actions = wanted.get("container"), wanted.get("event")
        return (
            (since is None or event.time >= since)
            and (until is None or event.time <= until)
            and (not actions or event.action in actions)
            and (not containers or event.name in containers or event.id.startswith(containers))
        )

    past = [event for event in server.state.events if right(event)]
    left = None if until is None else until - time.time()
    if not follow:
        call.answer([to_json(event) for event in past])
        return
    for event in past:
        call.event(to_json(event))
    if left is not None and left <= 0:
        call.answer()
        return
    server.follow(call, right)
    if left is not None:
        server.loop.after(left, call.answer)


RECORD_VERBS: dict[str, Callable[..., None]] = {"events": events, "logs": logs}

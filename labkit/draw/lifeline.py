"""La linea della vita: una riga per container, un tratto per ogni stato, dagli eventi veri del laboratorio.

Lo stato si legge dalla parola, dal tratteggio e dalla forma, non solo dal colore. Dove non succede niente per
molto tempo la linea si accorcia, e un segno dice di quanto.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from labkit.draw import svg
from labkit.draw.svg import Node
from labkit.draw.words import THIN, clean, fit, number, width_px
from labkit.model import Event

State = Literal["created", "running", "paused", "restarting", "exited"]

#: state → (la parola, la tinta, il tratteggio).
LOOKS: Final[dict[State, tuple[str, str, int]]] = {
    "created": ("creato", "hue0", 0),
    "running": ("gira", "hue3", 0),
    "paused": ("in pausa", "hue1", 4),
    "restarting": ("riparte", "hue2", 1),
    "exited": ("finito", "hue0", 0),
}

#: Un tempo morto più lungo di così si accorcia: in secondi, il primo e quanto ne resta.
_LONG, _SHORT = 6.0, 2.0

#: Finita l'ultima vita il disegno si ferma: ancora questi secondi, per leggere com'è finita.
_TAIL = 0.5

_DOTS: Final = {"stroke": "hue0", "stroke_width": "1.5", "stroke_dasharray": "2 4"}
_WIDTH, _LEFT, _RIGHT, _TOP, _LANE, _BAR = 860, 132, 24, 44, 58, 24
_TRACK: Final = _WIDTH - _LEFT - _RIGHT


@dataclass(frozen=True)
class Span:
    """Un tratto: lo stato, da quando a quando (secondi Unix), e il codice con cui è finito."""

    state: State
    start: float
    end: float
    code: int | None = None

    @property
    def words(self) -> str:
        word = LOOKS[self.state][0]
        return f"{word} ({self.code})" if self.state in ("exited", "restarting") and self.code is not None else word


@dataclass(frozen=True)
class Mark:
    """Una cosa successa in un istante: un segnale, una prova di salute, la memoria finita."""

    time: float
    words: str
    kind: Literal["note", "good", "bad"] = "note"


@dataclass(frozen=True)
class Lane:
    """La vita di un container; ``gone`` quando è stato tolto."""

    name: str
    spans: tuple[Span, ...] = ()
    marks: tuple[Mark, ...] = ()
    gone: bool = False


_BECOMES: Final[dict[str, State]] = {
    "create": "created", "start": "running", "pause": "paused", "unpause": "running", "die": "exited",
}  # fmt: skip


def lanes(events: Iterable[Event], now: float) -> tuple[Lane, ...]:
    """Le vite raccontate dagli eventi, fino a ``now``, nell'ordine in cui sono cominciate.

    >>> told = [Event(0, "create", "web", {}, "a"), Event(1, "start", "web", {}, "a")]
    >>> [(span.state, span.start, span.end) for span in lanes(told, 3)[0].spans]
    [('created', 0, 1), ('running', 1, 3)]
    """
    lives: dict[str, Lane] = {}
    last = 0.0
    for event in events:
        lives[event.id] = _after(lives.get(event.id, Lane(event.name)), event)
        last = event.time
    going = any(not lane.gone and lane.spans and lane.spans[-1].state != "exited" for lane in lives.values())
    end = now if going else min(now, last + _TAIL)
    return tuple(lane if lane.gone else _until(lane, end) for lane in lives.values())


def _after(lane: Lane, event: Event) -> Lane:
    lane = _until(replace(lane, name=event.name), event.time)
    state = _BECOMES.get(event.action)
    if state is not None:
        code = event.details.get("exit_code")
        waits = event.action == "die" and "restart_after" in event.details
        return replace(lane, spans=(*lane.spans, Span("restarting" if waits else state, event.time, event.time, code)))
    mark = _mark(event)
    return replace(lane, marks=(*lane.marks, *([mark] if mark else [])), gone=event.action == "destroy")


def _until(lane: Lane, moment: float) -> Lane:
    """L'ultimo tratto arriva fino a ``moment``."""
    if not lane.spans:
        return lane
    return replace(lane, spans=(*lane.spans[:-1], replace(lane.spans[-1], end=max(moment, lane.spans[-1].start))))


def _mark(event: Event) -> Mark | None:
    if event.action == "kill":
        return Mark(event.time, signal_name(event.details.get("signal")))
    if event.action == "health_status":
        return Mark(event.time, *_HEALTH.get(str(event.details.get("status")), ("salute", "note")))
    if event.action == "oom":
        return Mark(event.time, "memoria finita", "bad")
    return None


_HEALTH: Final[dict[str, tuple[str, Literal["good", "bad"]]]] = {
    "healthy": ("✔ sano", "good"), "unhealthy": ("✘ malato", "bad"),
}  # fmt: skip


def signal_name(value: object) -> str:
    """Il nome di un segnale.

    >>> signal_name(15), signal_name(99)
    ('SIGTERM', 'segnale 99')
    """
    try:
        return signal.Signals(int(str(value))).name
    except ValueError:
        return f"segnale {value}"


def text(found: Sequence[Lane]) -> str:
    """Le vite in parole: gli stati e ciò che è successo, in ordine, senza i tempi, che cambiano ogni volta."""
    if not found:
        return "Linea della vita: nessun container, finora."
    return "\n".join(f"{clean(lane.name)}: {' → '.join(_story(lane))}" for lane in found)


def _story(lane: Lane) -> list[str]:
    told = [(span.start, 0, span.words) for span in lane.spans]
    told += [(mark.time, 1, f"[{mark.words}]") for mark in lane.marks]
    return [words for _, _, words in sorted(told, key=lambda entry: entry[:2])] + (["tolto"] if lane.gone else [])


def news(before: Sequence[Lane], after: Sequence[Lane]) -> str:
    """Che cosa è cambiato, in una frase per chi ascolta; vuota se sono passati solo dei secondi."""
    old = {lane.name: _story(lane) for lane in before}
    changed = [f"{clean(lane.name)}: {_story(lane)[-1]}" for lane in after if _story(lane) != old.get(lane.name)]
    return f"{'; '.join(changed)}." if changed else ""


class Scale:
    """Dai secondi ai pixel, con i tempi morti accorciati."""

    def __init__(self, found: Sequence[Lane]) -> None:
        moments = {moment for lane in found for span in lane.spans for moment in (span.start, span.end)}
        moments |= {mark.time for lane in found for mark in lane.marks}
        self.moments = sorted(moments) or [0.0]
        self.start = self.moments[0]
        self._at = [0.0]
        for before, after in itertools.pairwise(self.moments):
            self._at.append(self._at[-1] + (_SHORT if after - before > _LONG else after - before))
        self._unit = _TRACK / max(self._at[-1], 0.5)

    def x(self, moment: float) -> float:
        """La posizione di un istante."""
        for index, (before, after) in enumerate(itertools.pairwise(self.moments)):
            if before <= moment <= after:
                share = (moment - before) / (after - before)
                return _LEFT + (self._at[index] + share * (self._at[index + 1] - self._at[index])) * self._unit
        return _LEFT + (0 if moment <= self.start else self._at[-1]) * self._unit

    def gaps(self) -> list[tuple[float, float]]:
        """I tempi morti accorciati: da quando a quando."""
        return [(before, after) for before, after in itertools.pairwise(self.moments) if after - before > _LONG]

    def ticks(self) -> list[float]:
        """Gli istanti da scrivere sotto, a distanza giusta, fuori dai tempi morti."""
        step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if s * self._unit >= 60), 100.0)
        whole = self.moments[-1] - self.start
        found, last = [], -1e9
        for count in range(min(2000, int(whole / step) + 1)):
            moment = self.start + count * step
            inside = any(before < moment < after for before, after in self.gaps())
            if not inside and self.x(moment) - last >= 50:
                found.append(moment)
                last = self.x(moment)
        return found


def to_svg(found: Sequence[Lane], *, live: bool = False) -> str:
    """Il disegno; con ``live`` i tratti si percorrono con le frecce."""
    height = _TOP + _LANE * max(1, len(found)) + 64
    scale = Scale(found)
    body = [_lane(lane, row, scale, live) for row, lane in enumerate(found)] or [
        svg.text(_LEFT, _TOP + 20, "Ancora nessun container: qui compariranno.", fill="soft")
    ]
    return svg.render(
        svg.document(
            _WIDTH,
            height,
            "La linea della vita dei container",
            text(found),
            svg.text(8, 22, "La linea della vita", 15, font_weight=600),
            *(_axis(scale, _TOP + _LANE * len(found)) if found else []),
            svg.group(*body, **({"role": "grid", "aria_label": "Gli stati dei container"} if live else {})),
            *_legend(height - 16),
            role="group" if live else "img",
        )
    )


def _axis(scale: Scale, bottom: float) -> list[Node]:
    nodes = []
    for moment in scale.ticks():
        x = scale.x(moment)
        nodes.append(svg.line(x, _TOP - 8, x, bottom, stroke="line"))
        nodes.append(svg.text(x, bottom + 16, f"{number(moment - scale.start, 3)}{THIN}s", 11, fill="soft",
                              text_anchor="middle"))  # fmt: skip
    for before, after in scale.gaps():
        x = (scale.x(before) + scale.x(after)) / 2
        nodes.append(svg.strokes([(x - 4, bottom + 2, x, _TOP - 8), (x + 2, bottom + 2, x + 6, _TOP - 8)],
                                 stroke="soft", stroke_width=1, stroke_dasharray="2 3"))  # fmt: skip
        nodes.append(svg.text(x, _TOP - 12, f"{number(after - before, 2)}{THIN}s", 10, fill="soft",
                              text_anchor="middle"))  # fmt: skip
    return nodes


def _lane(lane: Lane, row: int, scale: Scale, live: bool) -> Node:
    y = _TOP + row * _LANE
    label = svg.group(
        svg.title(clean(lane.name)),
        svg.text(8, y + 17, fit(clean(lane.name), _LEFT - 20, 13), font_weight=600),
        **({"role": "rowheader"} if live else {}),
    )
    spans = [_span(lane, row, column, y, scale, live) for column in range(len(lane.spans))]
    end = []
    if lane.gone and lane.spans:
        end = [svg.text(scale.x(lane.spans[-1].end) + 3, y + 17, "✕", 13, fill="soft")]
    return svg.group(label, *spans, *_marks(lane, y, scale), *end, **({"role": "row"} if live else {}))


def _span(lane: Lane, row: int, column: int, y: float, scale: Scale, live: bool) -> Node:
    span = lane.spans[column]
    _, hue, style = LOOKS[span.state]
    left, right = scale.x(span.start), scale.x(span.end)
    width = max(3.0, right - left)
    lasted = f"{number(max(0.0, span.end - span.start), 2)}{THIN}s"
    say = f"{clean(lane.name)}: {span.words}, {lasted}."
    face: list[Node] = []
    if span.state == "exited":
        face.append(
            svg.line(left, y + 12, left + width, y + 12, stroke="hue0", stroke_width=1.5, stroke_dasharray="2 4")
        )
        face.append(svg.rect(left, y + 2, 2.5, _BAR - 4, fill="ink"))
    else:
        empty = span.state == "created"
        dash = {"stroke_dasharray": "4 3"} if span.state == "restarting" else {}
        face.append(svg.rect(left, y, width, _BAR, rx=3, fill="paper"))
        face.append(svg.rect(left, y, width, _BAR, rx=3, fill=hue, fill_opacity=0 if empty else 0.18, stroke=hue,
                             stroke_width=1.5, **dash))  # fmt: skip
        if style and width > 10:
            face.append(svg.strokes(svg.hatch(style, left + 2, y + 2, left + width - 2, y + _BAR - 2), stroke=hue,
                                    stroke_opacity=0.5, stroke_width=1.25))  # fmt: skip
    if width_px(span.words, 12) + 10 <= width:
        shift = 8 if span.state == "exited" else 6
        face.append(svg.rect(left + shift - 2, y + 4, width_px(span.words, 12) + 2, _BAR - 8, rx=3, fill="paper",
                             fill_opacity=0.85))  # fmt: skip
        face.append(svg.text(left + shift, y + 16.5, span.words, 12))
    if not live:
        return svg.group(svg.title(say), *face)
    ring = svg.rect(left - 1.5, y - 3, width + 3, _BAR + 6, rx=5, fill="paper", fill_opacity=0, class_="lk-ring")
    return svg.group(
        svg.title(say), ring, *face, class_="lk-cell", role="gridcell",
        tabindex=0 if row == column == 0 else -1, data_row=row, data_col=column, data_group="", data_say=say,
        aria_label=say,
    )  # fmt: skip


def _marks(lane: Lane, y: float, scale: Scale) -> list[Node]:
    """I segni sotto la riga; una parola che finirebbe su un'altra si tace, il segno resta."""
    nodes: list[Node] = []
    ends = [
        Mark(span.start, f"{'✔' if span.code == 0 else '✘'} {span.code}", "good" if span.code == 0 else "bad")
        for span in lane.spans
        if span.state in ("exited", "restarting") and span.code is not None
    ]
    free = _LEFT - 10.0
    for mark in sorted((*lane.marks, *ends), key=lambda mark: mark.time):
        x = scale.x(mark.time)
        hue = {"note": "soft", "good": "good", "bad": "bad"}[mark.kind]
        nodes.append(svg.line(x, y + _BAR, x, y + _BAR + 5, stroke=hue, stroke_width=2))
        width = width_px(mark.words, 11)
        start = min(max(x - 4, free + 4), _WIDTH - width - 4)
        if start > free and start - x <= 14:
            nodes.append(svg.group(svg.title(mark.words), svg.text(start, y + _BAR + 17, mark.words, 11, fill=hue)))
            free = start + width
    return nodes


def _legend(y: float) -> list[Node]:
    nodes: list[Node] = []
    x = 8.0
    for state, (word, hue, style) in LOOKS.items():
        if state == "exited":
            nodes.append(svg.line(x, y - 4, x + 22, y - 4, **_DOTS))
        else:
            dash = {"stroke_dasharray": "4 3"} if state == "restarting" else {}
            nodes.append(svg.rect(x, y - 10, 22, 12, rx=3, fill=hue, fill_opacity=0 if state == "created" else 0.18,
                                  stroke=hue, stroke_width=1.5, **dash))  # fmt: skip
            if style:
                nodes.append(svg.strokes(svg.hatch(style, x + 2, y - 8, x + 20, y), stroke=hue, stroke_width=1.25))
        nodes.append(svg.text(x + 28, y, word, 12, fill="soft"))
        x += 28 + width_px(word, 12) + 22
    return nodes

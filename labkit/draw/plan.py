"""Il piano di un container: ogni passo con la sua chiamata di sistema, dove si fa, com'è andata, quanto è durato.

Lo stato si legge in tre modi insieme: il segno (○ ● ↺ ✘), la parola e il colore.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from labkit.draw import png, svg
from labkit.draw.svg import Node
from labkit.draw.words import THIN, clean, columns, count, number, pad, wrap
from labkit.model import Step

#: stato → (segno, parola, colore del segno)
STATES: Final = {
    "todo": ("○", "da fare", "soft"),
    "done": ("●", "fatto", "good"),
    "undone": ("↺", "annullato", "hue2"),
    "failed": ("✘", "fallito", "bad"),
}
WHERE: Final = {"lab": "nel laboratorio", "container": "nel container"}

_WIDTH, _HEAD = 680, 34
_SENTENCE_X, _SENTENCE_WIDTH, _CALL_WIDTH = 62, 525, 440
_BAR_WIDTH = _WIDTH - _SENTENCE_X - 10


def summary(steps: Sequence[Step], *, times: bool = True) -> str:
    """Quanti passi sono fatti, e in quanto tempo; di quelli fatti prima che servissero, a parte.

    >>> summary([Step(1, "uts", "Nuovo nome host.", "unshare", "unshare(2)", state="done", microseconds=12.4)])
    '1 passo fatto su 1, in 12\\u202fµs'
    """
    done = [s for s in steps if s.state == "done"]
    failed = sum(s.state == "failed" for s in steps)
    words = f"{count(len(done), 'passo fatto', 'passi fatti')} su {len(steps)}"
    if failed:
        words += f", {count(failed, 'fallito', 'falliti')}"
    total = sum(s.microseconds or 0.0 for s in done if not s.ahead)
    before = sum(s.microseconds or 0.0 for s in done if s.ahead)
    if times and total:
        words += f", in {duration(total)}"
    return f"{words}, più {duration(before)} già spesi prima" if times and before else words


def clock(step: Step) -> str:
    """Quanto è durato un passo, e se era già fatto prima che qualcuno lo chiedesse; niente se non è fatto.

    >>> clock(Step(1, "uts", "", "unshare", "unshare(2)", state="done", microseconds=12.4, ahead=True))
    'prima, 12\\u202fµs'
    """
    if step.microseconds is None:
        return ""
    return f"prima, {duration(step.microseconds)}" if step.ahead else duration(step.microseconds)


def duration(microseconds: float) -> str:
    """I microsecondi da leggere: interi, o con una cifra decimale sotto i 10.

    >>> duration(3.26), duration(15300)
    ('3,3\\u202fµs', '15\\u202f300\\u202fµs')
    """
    whole = round(microseconds, 1 if microseconds < 10 else 0)
    return f"{number(whole, 12)}{THIN}µs"


def text(steps: Sequence[Step], *, times: bool = False) -> str:
    """Il piano in parole, due righe per passo; senza ``times`` non cambia da un'esecuzione all'altra.

    >>> print(text([Step(1, "uts", "separa il nome host", "unshare", "unshare(2)")]))
     1  ○ da fare  Separa il nome host
                   unshare(2), nel container
    0 passi fatti su 1.
    """
    heads = []
    for step in steps:
        mark, word, _ = STATES[step.state]
        heads.append([f"{step.index:>2}", f"{mark} {word}"])
    width = max((columns(head[1]) for head in heads), default=0)
    clocks = [clock(step) for step in steps]
    clock_width = max(map(len, clocks), default=0)
    lines = []
    for step, head, spent in zip(steps, heads, clocks, strict=True):
        start = f"{head[0]}  {pad(head[1], width)}  "
        if times and clock_width:
            start += f"{spent.rjust(clock_width)}  "
        below = " " * columns(start)
        lines += [start + _sentence(step), f"{below}{_call(step)}, {WHERE[step.where]}"]
        if step.error:
            lines.append(f"{below}{clean(step.error)}")
    return "\n".join([*lines, f"{summary(steps, times=times)}."])


def drawing(steps: Sequence[Step], *, name: str = "Piano", times: bool = True, live: bool = False) -> Node:
    """Il disegno come nodo; con ``live=True`` ogni riga prende il fuoco e ha una frase da leggere."""
    longest = max((s.microseconds or 0.0 for s in steps), default=0.0)
    following = next((s.index for s in steps if s.state != "done"), None)
    y: float = _HEAD
    rows: list[Node] = []
    for step in steps:
        row, height = _row(step, y, longest if times else 0.0, step.index == following, live)
        rows.append(row)
        y += height
    label = clean(name)
    return svg.document(
        _WIDTH,
        y + 4,
        label,
        " ".join(say(step) for step in steps),
        svg.text(8, 22, label, 13, font_weight=700),
        svg.text(_WIDTH - 10, 22, summary(steps, times=times), 12, fill="soft", text_anchor="end"),
        *rows,
        role="list" if live else "img",
    )


def to_svg(steps: Sequence[Step], *, name: str = "Piano", times: bool = True, live: bool = False) -> str:
    """Il disegno scritto in SVG."""
    return svg.render(drawing(steps, name=name, times=times, live=live))


def mimebundle(steps: Sequence[Step], *, name: str = "Piano", times: bool = False) -> dict[str, Any]:
    """Il piano fermo per Jupyter: testo completo, SVG e PNG; senza ``times`` si può confrontare."""
    picture = drawing(steps, name=name, times=times)
    return {
        "text/plain": text(steps, times=times),
        "image/svg+xml": svg.render(picture),
        "image/png": png.render(picture),
    }


def say(step: Step) -> str:
    """Il passo in una frase, per chi ascolta.

    >>> say(Step(3, "proc", "Monta /proc", "mount", "mount(2)"))
    'Passo 3, da fare: Monta /proc.'
    """
    words = f"Passo {step.index}, {STATES[step.state][1]}: {_sentence(step)}."
    return f"{words} {clean(step.error)}" if step.error else words


def _call(step: Step) -> str:
    """La chiamata e la sua pagina di manuale, una volta sola se hanno lo stesso nome."""
    syscall, man = clean(step.syscall), clean(step.man)
    return man if man.partition("(")[0] == syscall else " · ".join(filter(None, (syscall, man)))


def _sentence(step: Step) -> str:
    words = clean(step.description).strip().rstrip(".")
    return words[:1].upper() + words[1:]


def _row(step: Step, top: float, longest: float, following: bool, live: bool) -> tuple[Node, float]:
    mark, word, colour = STATES[step.state]
    lines = wrap(_sentence(step), _SENTENCE_WIDTH, 13)
    calls = wrap(_call(step), _CALL_WIDTH, 11.5, mono=True)
    errors = wrap(clean(step.error), _BAR_WIDTH, 12) if step.error else []
    height = 17 * len(lines) + 16 * (len(calls) + len(errors)) + 12
    base = top + 19
    nodes = [svg.line(0, top, _WIDTH, top, stroke="line")]
    if following:
        nodes.append(svg.rect(0, top + 1, _WIDTH, height - 2, fill="focus", fill_opacity=0.08))
        nodes.append(svg.rect(0, top + 1, 3, height - 2, fill="focus"))
    nodes += [
        svg.text(30, base, str(step.index), 12, fill="soft", text_anchor="end"),
        svg.text(46, base + 1, mark, 16, fill=colour, font_weight=700, text_anchor="middle"),
    ]
    ink = "ink" if step.state in ("done", "failed") or following else "soft"
    nodes += [svg.text(_SENTENCE_X, base + 17 * i, words, 13, fill=ink) for i, words in enumerate(lines)]
    under = base + 17 * len(lines)
    nodes += [
        svg.text(_SENTENCE_X, under + 16 * i, words, 11.5, mono=True, fill="soft") for i, words in enumerate(calls)
    ]
    nodes.append(svg.text(_WIDTH - 10, under, f"{WHERE[step.where]} · {word}", 11.5, fill="soft", text_anchor="end"))
    under += 16 * len(calls)
    nodes += [svg.text(_SENTENCE_X, under + 16 * i, words, 12, fill="bad") for i, words in enumerate(errors)]
    if longest and step.microseconds is not None:
        nodes.append(svg.text(_WIDTH - 10, base, clock(step), 12, text_anchor="end"))
        length = max(1.5, _BAR_WIDTH * step.microseconds / longest)
        opacity = 0.3 if step.ahead else 0.75
        nodes.append(svg.rect(_SENTENCE_X, top + height - 4, length, 3, fill="hue1", fill_opacity=opacity))
    extra: dict[str, str | float] = {}
    if live:
        extra = {"class_": "lk-step", "role": "listitem", "tabindex": -1, "data_index": step.index}
        extra |= {"data_state": step.state, "aria_label": say(step)}
    return svg.group(svg.title(say(step)), *nodes, **extra), height

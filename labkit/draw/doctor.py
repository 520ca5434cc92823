"""La diagnosi della macchina: che cosa sa fare, perché no, e il comando esatto che ripara."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from labkit.draw.words import clean, columns, count, pad
from labkit.model import Feature

#: La parola accanto al segno: ✔ ✘ – non si affidano al colore.
WORDS = {True: "c'è", False: "manca", None: "non serve"}
#: Come si presenta il comando: quello che manca si ripara, quello che non serve si può volere.
REMEDY = {False: "rimedio", None: "se lo vuoi"}
_CELL = "text-align:left;vertical-align:top;padding:4px 14px 4px 2px"
_COLOURS = {True: "#0c8f6a", False: "#d64541", None: "#77808c"}


def summary(features: Iterable[Feature]) -> str:
    """Quante cose ci sono e quante mancano.

    >>> summary([Feature("a", "Root", True), Feature("b", "KVM", False), Feature("c", "UML", False)])
    '1 cosa a posto, 2 mancano'
    """
    oks = [f.ok for f in features]
    good, bad, rest = oks.count(True), oks.count(False), oks.count(None)
    words = [f"{count(good, 'cosa', 'cose')} a posto"]
    if bad:
        words.append(f"{count(bad, 'manca', 'mancano')}")
    if rest:
        words.append(count(rest, "non serve o non si sa", "non servono o non si sanno"))
    return ", ".join(words) if bad or rest else f"{words[0]}: non manca niente"


def text(features: Sequence[Feature]) -> str:
    """La diagnosi come testo: segno, nome, perché; sotto, il comando che ripara."""
    width = max((columns(clean(f.title)) for f in features), default=0)
    lines = []
    for feature in features:
        lines.append(f"{feature.mark} {pad(clean(feature.title), width)}  {clean(feature.reason)}".rstrip())
        if feature.remedy and not feature.ok:
            lines.append(f"  {' ' * width}  {REMEDY[feature.ok]}: {clean(feature.remedy)}")
    return "\n".join([*lines, "", f"{summary(features)}."])


def to_html(features: Sequence[Feature], *, only_missing: bool = False) -> str:
    """La diagnosi come tabella HTML, leggibile anche se un quaderno non fidato le toglie lo stile."""
    rows = "".join(_row(feature) for feature in features if feature.ok is False or not only_missing)
    rows = rows or '<tr><td></td><td colspan="2">Non manca niente.</td></tr>'
    return (
        f'<table style="border-collapse:collapse;text-align:left"><caption style="text-align:left">'
        f"<strong>La macchina:</strong> {escape(summary(features))}.</caption>"
        f'<thead><tr><th scope="col" style="{_CELL}"></th><th scope="col" style="{_CELL}">Che cosa</th>'
        f'<th scope="col" style="{_CELL}">Perché, e come si ripara</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def mimebundle(features: Sequence[Feature]) -> dict[str, Any]:
    """La diagnosi ferma per Jupyter: testo e tabella."""
    return {"text/plain": text(features), "text/html": to_html(features)}


def _row(feature: Feature) -> str:
    remedy = ""
    if feature.remedy and not feature.ok:
        offer = "" if feature.ok is False else f"{REMEDY[feature.ok].capitalize()}: "
        remedy = f"<br>{offer}<code>{escape(clean(feature.remedy))}</code>"
    mark = f'<span style="color:{_COLOURS[feature.ok]};font-weight:bold">{feature.mark}</span>'
    return (
        f'<tr><td title="{WORDS[feature.ok]}" style="{_CELL}">{mark}</td>'
        f'<th scope="row" style="{_CELL};white-space:nowrap">{escape(clean(feature.title))}</th>'
        f'<td style="{_CELL}">{escape(clean(feature.reason))}{remedy}</td></tr>'
    )

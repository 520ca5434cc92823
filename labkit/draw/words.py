"""Parole e numeri come si scrivono in italiano, e quanto posto occupano sullo schermo.

Il testo che arriva da fuori (nomi, comandi, errori) passa da :func:`clean` prima di essere mostrato.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

#: Spazio stretto che non va a capo: separa le migliaia e il numero dalla sua unità.
THIN = "\u202f"

_NARROW = set(" fijlrtI.,:;'|!()[]{}«»·’-")
_WIDE = set("mwMW@%—…◀▶▣")


def clean(text: object) -> str:
    """Il testo senza caratteri di controllo, invisibili o che capovolgono la lettura.

    >>> clean("web\\x1b[31m\\u202e\\n!")
    'web[31m !'
    """
    spaced = "".join(" " if c in "\t\n\r\v\f\u2028\u2029" else c for c in str(text))
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def number(value: float, digits: int = 3) -> str:
    """Il numero con ``digits`` cifre significative, la virgola decimale e le migliaia staccate.

    Le cifre intere non si perdono mai: l'arrotondamento tocca solo quelle dopo la virgola.

    >>> number(3.14159), number(0.25), number(1234567).replace(THIN, " ")
    ('3,14', '0,25', '1 234 567')
    """
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "–", "inf": "∞", "-inf": "−∞"}[str(float(value))]
    if value == 0:
        return "0"
    exponent = int(f"{abs(value):e}".partition("e")[2])
    text = f"{abs(value):.{max(0, digits - 1 - exponent)}f}"
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0")
    body = f"{int(whole):,}".replace(",", THIN) + ("," + decimals if decimals else "")
    return ("−" if value < 0 and body != "0" else "") + body


def listing(items: Sequence[str], last: str = "e") -> str:
    """Un elenco in italiano.

    >>> listing(["notebook", "web", "uno"])
    'notebook, web e uno'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def count(amount: int, one: str, many: str) -> str:
    """Il numero con il suo nome al singolare o al plurale.

    >>> count(1, "passo", "passi"), count(3, "passo", "passi")
    ('1 passo', '3 passi')
    """
    return f"{amount} {one if amount == 1 else many}"


def ago(seconds: float) -> str:
    """Una durata come la direbbe una persona.

    >>> ago(1), ago(75), ago(7300), ago(200000)
    ('1 secondo', '1 minuto', '2 ore', '2 giorni')
    """
    for size, one, many in (
        (365 * 86400, "anno", "anni"), (30 * 86400, "mese", "mesi"), (86400, "giorno", "giorni"), (3600, "ora", "ore"),
        (60, "minuto", "minuti"),
    ):  # fmt: skip
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {one if count == 1 else many}"
    count = max(0, int(seconds))
    return f"{count} {'secondo' if count == 1 else 'secondi'}"


def columns(text: str) -> int:
    """Quante colonne di terminale occupa il testo (due per gli ideogrammi)."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    marks = sum(bool(unicodedata.combining(c)) for c in text)
    return len(text) + wide - marks


def pad(text: str, width: int) -> str:
    """Il testo allungato con spazi fino a ``width`` colonne."""
    return text + " " * (width - columns(text))


def width_px(text: str, size: float, mono: bool = False) -> float:
    """Quanti pixel occupa il testo, circa: per eccesso, perché il carattere vero cambia da macchina a macchina."""
    total = 0.0
    for char in text:
        if unicodedata.east_asian_width(char) in "WF":
            total += 1.0
        elif mono:
            total += 0.61
        elif char in _NARROW:
            total += 0.38
        elif char in _WIDE:
            total += 0.95
        else:
            total += 0.7 if char.isupper() else 0.58
    return total * size


def fit(text: str, room: float, size: float, mono: bool = False) -> str:
    """Il testo, accorciato con «…» se non entra in ``room`` pixel."""
    if width_px(text, size, mono) <= room:
        return text
    while text and width_px(text + "…", size, mono) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(text: str, room: float, size: float, mono: bool = False) -> list[str]:
    """Il testo spezzato in righe larghe al massimo ``room`` pixel; una parola troppo lunga si taglia."""
    lines: list[str] = []
    line = ""
    for word in _pieces(text.split(), room, size, mono):
        trial = f"{line} {word}" if line else word
        if width_px(trial, size, mono) <= room or not line:
            line = trial
        else:
            lines.append(line)
            line = word
    return [*lines, line]


def _pieces(words: Iterable[str], room: float, size: float, mono: bool) -> Iterable[str]:
    for word in words:
        while width_px(word, size, mono) > room and len(word) > 1:
            cut = len(word) - 1
            while cut > 1 and width_px(word[:cut], size, mono) > room:
                cut -= 1
            yield word[:cut]
            word = word[cut:]
        yield word

"""La console di una macchina virtuale: che cosa ha scritto il suo kernel, e i momenti che contano.

Un kernel scrive centinaia di righe, e ogni versione ne scrive di diverse. Pochi momenti ci sono sempre: sono
quelli che si raccontano a parole.
"""

from __future__ import annotations

import re
from html import escape
from typing import Final

from labkit.draw.words import clean

#: (come comincia la riga, che cosa sta succedendo), nell'ordine in cui succede.
MOMENTS: Final = (
    (re.compile(r"\bLinux version \d"), "il kernel parte, e dice la sua versione"),
    (re.compile(r"\bKernel command line:"), "legge la riga di comando con cui è stato acceso"),
    (re.compile(r"\bMemory: \d"), "conta la sua memoria"),
    (re.compile(r"\bNET: Registered PF_INET\b"), "prepara la sua rete"),
    (re.compile(r"\bRun \S+ as init process"), "avvia il suo primo processo, il PID 1"),
    (re.compile(r"\bKernel panic - not syncing"), "va in panico, e si ferma"),
)

_PANIC: Final = re.compile(r"Kernel panic - not syncing: (.+)")
_LEVELS: Final = {"panic": "color:var(--jp-error-color1,#c62828);font-weight:600", "moment": "font-weight:600"}


def panic(text: str) -> str:
    """Il motivo per cui il kernel si è fermato, con le sue parole; vuoto se non è andato in panico.

    >>> panic("[    9.5] Kernel panic - not syncing: sysrq triggered crash\\n")
    'sysrq triggered crash'
    """
    found = _PANIC.search(text)
    return clean(found[1]).strip() if found else ""


def moments(text: str) -> list[str]:
    """I momenti che la console ha già raccontato, in ordine.

    >>> moments("Linux version 6.1.176\\n")
    ['il kernel parte, e dice la sua versione']
    """
    return [words for pattern, words in MOMENTS if pattern.search(text)]


def words(text: str) -> str:
    """La console in parole: i momenti, uno per riga, uguali a ogni accensione."""
    seen = moments(text)
    return "\n".join(["La console della macchina:", *(f"- {line}" for line in seen or ["ancora niente"])])


def to_html(text: str) -> str:
    """Le righe della console, con i momenti messi in evidenza."""
    return "".join(f"{_line(clean(line))}\n" for line in text.splitlines())


def _line(line: str) -> str:
    kind = "panic" if _PANIC.search(line) else "moment" if moments(line) else ""
    return f'<span style="{_LEVELS[kind]}">{escape(line)}</span>' if kind else escape(line)

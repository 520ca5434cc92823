"""Le uscite di un programma: mostrate mentre arrivano, ripulite, tenute entro un limite."""

from __future__ import annotations

import codecs
import re
import sys
import time
from dataclasses import dataclass
from queue import Empty
from typing import IO

from labkit.client.wire import Channel
from labkit.errors import CommandError, LabError

#: Quanti caratteri si mostrano nel notebook, e quanti byte si tengono per flusso.
SHOWN = 1 << 20
KEPT = 16 << 20

#: Secondi fra il Ctrl-C e il SIGKILL, per un programma che non ascolta SIGINT.
PATIENCE = 1.0

# Terminal escape sequences (ECMA-48: CSI, OSC and the short ones) and control characters.
# The short ones do not begin as a long one does: half of a long one must not be taken for a whole one.
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|(?![]\[PX^_])[ -/]*[0-~])"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
_UNFINISHED = re.compile(r"\x1b(?:[]PX^_][^\x1b]{0,200}\x1b?|[^\x1b]{0,200})\Z")


def clean(text: str) -> str:
    r"""Il testo senza sequenze di escape né caratteri di controllo.

    >>> clean("\x1b[31mrosso\x1b[0m\a")
    'rosso'
    """
    return _CONTROL.sub("", _ESCAPE.sub("", text))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C durante un comando: il comando è finito, il laboratorio no."""

    def _render_traceback_(self) -> list[str]:
        return ["Interrotto: il comando è stato fermato, il laboratorio è ancora aperto."]


@dataclass(frozen=True)
class Result:
    """Com'è finito un programma: ``exit_code`` come in Docker, ``output`` e ``stderr`` come testo.

    >>> Result(0, "ciao\\n").ok
    True
    """

    exit_code: int
    output: str = ""
    stderr: str = ""
    truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def __repr__(self) -> str:
        return f"Result(exit_code={self.exit_code})"

    def _ipython_display_(self) -> None:
        # A program that went well has already said what it had to say.
        if self.exit_code:
            print(f"[codice di uscita {self.exit_code}]")


class Logs(str):
    """Quello che un container ha scritto; ``dropped`` sono le righe, le più vecchie, che non ci sono più."""

    dropped: int

    def __new__(cls, text: str, dropped: int = 0) -> Logs:
        logs = super().__new__(cls, text)
        logs.dropped = dropped
        return logs


class _Screen:
    """Un flusso: decodifica, ripulisce, mostra fino a un limite, tiene fino a un altro."""

    def __init__(self, target: IO[str] | None) -> None:
        self.target = target
        self.kept: list[str] = []
        self.size = 0
        self.shown = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail = ""

    def feed(self, data: bytes, final: bool = False) -> None:
        text = _ESCAPE.sub("", self._tail + self._decoder.decode(data, final))
        unfinished = None if final else _UNFINISHED.search(text)
        self._tail = unfinished.group() if unfinished else ""
        text = _CONTROL.sub("", text[: len(text) - len(self._tail)])
        if self.size < KEPT:
            self.kept.append(text)
        self.size += len(text)
        if self.target and self.shown < SHOWN:
            self.target.write(text[: SHOWN - self.shown])
            self.shown += len(text)
            if self.shown >= SHOWN:
                self.target.write("\n… il resto non si mostra: è troppo.\n")
            self.target.flush()

    @property
    def text(self) -> str:
        return "".join(self.kept)


def consume(
    channel: Channel, *, quiet: bool = False, raise_errors: bool = False, target: IO[str] | None = None
) -> Result:
    """Percorre un canale fino alla fine mostrando le uscite (tutte e due su ``target``, se c'è); torna il risultato.

    Un comando che non parte (126, 127) è un risultato, con la frase su stderr; Ctrl-C ferma il
    comando e non il laboratorio.
    """
    out, err = (_Screen(None if quiet else target or usual) for usual in (sys.stdout, sys.stderr))
    try:
        for stream, data in channel:
            (out if stream == "stdout" else err).feed(data)
    except KeyboardInterrupt:
        _stop(channel)
        raise Interrupted() from None
    out.feed(b"", final=True)
    try:
        answer = channel.result
    except CommandError as problem:
        if raise_errors:
            raise
        err.feed(f"{problem}\n".encode(), final=True)
        return Result(problem.exit_code, out.text, err.text)
    err.feed(b"", final=True)
    code = answer.get("exit_code") if isinstance(answer, dict) else answer
    return Result(int(code or 0), out.text, err.text, out.size > KEPT or err.size > KEPT)


def _stop(channel: Channel) -> None:
    """SIGINT al comando, e SIGKILL se dopo un po' non è finito."""
    channel.discard()
    for signal in ("SIGINT", "SIGKILL"):
        try:
            channel.interrupt(signal)
        except LabError:
            return
        deadline = time.monotonic() + PATIENCE
        try:
            while not channel.closed:
                channel.receive(timeout=max(0.001, deadline - time.monotonic()))
                if time.monotonic() > deadline:  # it floods and does not listen
                    break
        except Empty:
            continue
        if channel.closed:
            return

"""Le istruzioni di un Containerfile: quali sono, che cosa vogliono, e una riga logica diventata un'istruzione.

Qui si controlla tutto ciò che si vede senza eseguire niente; le variabili si sostituiscono dopo, un'istruzione alla
volta, perché il loro valore dipende da quelle di prima.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from labkit.build.lines import Heredoc, Line, heredoc
from labkit.build.words import Word, WordError, expand, split

_STEP = re.compile(r"\S+")


@dataclass(frozen=True)
class Instruction:
    """Un'istruzione letta: la parola, le sue opzioni (``--nome=valore``), i suoi argomenti."""

    keyword: str
    line: Line = field(repr=False)
    #: Everything after the keyword and its options, as it is written.
    rest: Word
    words: tuple[Word, ...] = ()
    flags: Mapping[str, Word] = field(default_factory=dict)
    #: ``["a", "b"]`` is the exec form: words that no shell reads.
    exec_form: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    #: What ONBUILD keeps for later; the command of HEALTHCHECK.
    inner: Instruction | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Gli argomenti come sono scritti."""
        return tuple(word.text for word in self.words)

    def __str__(self) -> str:
        """L'istruzione su una riga, come si mostra."""
        options = "".join(f"--{name}={word.text} " for name, word in self.flags.items())
        return f"{self.keyword} {options}{self.rest.text}".rstrip()

    def error(self, message: str, remedy: str = "", word: Word | None = None) -> Exception:
        """L'errore da sollevare, con il segno sotto ``word`` o sotto l'istruzione."""
        if word is None:
            start = len(self.line.text) - len(self.line.text.lstrip())
            word = Word(self.keyword, start)
        return self.line.error(message, remedy, word.at, len(word.text) or 1)

    def expand(self, word: Word, values: Mapping[str, str]) -> str:
        """Il valore di una parola, con le variabili sostituite."""
        try:
            return expand(word.text, values, self.line.source.escape)
        except WordError as problem:
            raise self.line.error(f"{problem.message[:1].upper()}{problem.message[1:]}.",
                                  at=word.at + problem.at, length=len(word.text) - problem.at) from None  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """Che cosa vuole un'istruzione: quante parole, quali opzioni, se capisce la forma fra quadre."""

    least: int
    example: str
    flags: tuple[str, ...] = ()
    json: bool = False
    #: The argument is one text: spaces do not divide it.
    whole: bool = False
    most: int = 1 << 16


_HEALTH_FLAGS = ("interval", "timeout", "start-period", "start-interval", "retries")
KINDS: dict[str, _Kind] = {
    "ADD": _Kind(2, "ADD archivio.tar.gz /srv/", ("chown", "chmod"), json=True),
    "ARG": _Kind(1, "ARG VERSIONE=1.0"),
    "CMD": _Kind(0, 'CMD ["nginx", "-g", "daemon off;"]', json=True, whole=True),
    "COPY": _Kind(2, "COPY sito/ /srv/", ("from", "chown", "chmod"), json=True),
    "ENTRYPOINT": _Kind(0, 'ENTRYPOINT ["/avvia.sh"]', json=True, whole=True),
    "ENV": _Kind(1, "ENV PORTA=8080"),
    "EXPOSE": _Kind(1, "EXPOSE 80/tcp"),
    "FROM": _Kind(1, "FROM corso/base AS costruzione", ("platform",), most=3),
    "HEALTHCHECK": _Kind(1, "HEALTHCHECK --interval=5s CMD wget -q -O- localhost", _HEALTH_FLAGS),
    "LABEL": _Kind(1, 'LABEL autore="Anna"'),
    "MAINTAINER": _Kind(1, "LABEL org.opencontainers.image.authors=anna@example.org", whole=True),
    "ONBUILD": _Kind(1, "ONBUILD COPY . /app"),
    "RUN": _Kind(1, "RUN make install", ("network",), json=True, whole=True),
    "SHELL": _Kind(1, 'SHELL ["/bin/sh", "-e", "-c"]', json=True, whole=True),
    "STOPSIGNAL": _Kind(1, "STOPSIGNAL SIGQUIT", most=1),
    "USER": _Kind(1, "USER www-data", most=1),
    "VOLUME": _Kind(1, "VOLUME /var/lib/dati", json=True),
    "WORKDIR": _Kind(1, "WORKDIR /app", whole=True),
}
#: What Docker has and this builder has not, and what to write instead.
_REFUSED = {
    ("RUN", "mount"): "COPY prima del RUN, oppure un altro stadio (FROM … AS …)",
    ("RUN", "security"): "togli --security",
    ("COPY", "link"): "togli --link: il risultato è lo stesso",
    ("COPY", "parents"): "scrivi le cartelle nella destinazione",
    ("COPY", "exclude"): ".dockerignore",
    ("ADD", "checksum"): "scarica il file, controllalo con sha256sum, poi COPY",
    ("ADD", "keep-git-dir"): "git clone prima, poi COPY",
}


def instruction(line: Line) -> Instruction:
    """Legge una riga logica; un errore è un :class:`~labkit.build.lines.ContainerfileError`."""
    return _instruction(line, 0)


def _instruction(line: Line, start: int) -> Instruction:
    found = _STEP.search(line.text, start)
    assert found is not None  # a logical line is never empty, and ONBUILD counts its words first
    keyword = found[0].upper()
    if keyword not in KINDS:
        near = difflib.get_close_matches(keyword, KINDS, 1)
        remedy = f"scrivi {near[0]}" if near else f"una di queste: {', '.join(sorted(KINDS))}"
        raise line.error(f"«{found[0]}» non è un'istruzione.", remedy, found.start(), len(found[0]))
    kind = KINDS[keyword]
    flags, begin = _flags(line, keyword, kind, found.end())
    rest = Word(line.text[begin:], begin)
    made = Instruction(keyword, line, rest, flags=flags, heredocs=line.heredocs)
    if keyword == "ONBUILD":
        return _onbuild(made)
    if keyword == "HEALTHCHECK":
        return _healthcheck(made)
    words = _json(rest) if kind.json else None
    exec_form = words is not None
    if words is None:
        words = _words(keyword, rest, line.source.escape)
    made = Instruction(keyword, line, rest, tuple(words), flags, exec_form, line.heredocs)
    if len(words) < kind.least:
        missing = "manca un argomento" if not words else "gli argomenti sono pochi"
        raise made.error(f"A {keyword} {missing}.", kind.example)
    if len(words) > kind.most:
        raise made.error(f"{keyword} vuole meno parole.", kind.example, words[kind.most])
    if keyword in _CHECKS:
        _CHECKS[keyword](made)
    return made


def _flags(line: Line, keyword: str, kind: _Kind, start: int) -> tuple[dict[str, Word], int]:
    """Le opzioni ``--nome=valore`` in testa, e dove comincia il resto."""
    flags: dict[str, Word] = {}
    while found := re.compile(r"\s*(--\S*)").match(line.text, start):
        word = Word(found[1], found.start(1))
        if word.text == "--":
            start = found.end()
            break
        name, equals, value = word.text[2:].partition("=")
        if name not in kind.flags:
            why = _REFUSED.get((keyword, name))
            known = ", ".join(f"--{flag}" for flag in kind.flags)
            raise line.error(
                f"{keyword} qui non ha l'opzione --{name}." if why else f"{keyword} non ha l'opzione --{name}.",
                why or (f"quelle che ha: {known}" if known else kind.example), word.at, len(word.text),
            )  # fmt: skip
        if not equals or not value:
            raise line.error(f"A --{name} manca il valore.", f"--{name}=…", word.at, len(word.text))
        if name in flags:
            raise line.error(f"L'opzione --{name} c'è già.", "lasciane una sola", word.at, len(word.text))
        flags[name] = Word(value, word.at + len(name) + 3)
        start = found.end()
    rest = _STEP.search(line.text, start)
    return flags, rest.start() if rest else len(line.text)


def _words(keyword: str, rest: Word, escape: str) -> list[Word]:
    """Le parole come le divide Docker: solo ENV, LABEL e ARG guardano gli apici."""
    if KINDS[keyword].whole:
        return [rest] if rest.text else []
    if keyword in ("ENV", "LABEL", "ARG"):
        words = split(rest.text, escape, rest.at)
        if keyword == "ARG" or not words or "=" in words[0].text:
            return words
        most = 1  # the old form: a name, and all the rest is its value
    else:
        most = -1
    found = []
    start = 0
    for text in rest.text.split(None, most):
        start = rest.text.index(text, start)
        found.append(Word(text, rest.at + start))
        start += len(text)
    return found


def _json(rest: Word) -> list[Word] | None:
    """Le parole della forma fra quadre; ``None`` se non è quella (e allora la legge la shell)."""
    if not rest.text.startswith("["):
        return None
    try:
        values = json.loads(rest.text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        return None
    return [Word(value, rest.at) for value in values]


def _onbuild(made: Instruction) -> Instruction:
    if not made.rest.text:
        raise made.error("A ONBUILD manca l'istruzione da conservare.", KINDS["ONBUILD"].example)
    inner = _instruction(made.line, made.rest.at)
    if inner.keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise inner.error(f"{inner.keyword} non può stare dopo ONBUILD.", KINDS["ONBUILD"].example, made.rest)
    return Instruction("ONBUILD", made.line, made.rest, (made.rest,), heredocs=made.heredocs, inner=inner)


def _healthcheck(made: Instruction) -> Instruction:
    example = KINDS["HEALTHCHECK"].example
    first = _STEP.match(made.rest.text)
    kind = first[0].upper() if first else ""
    begin = made.rest.at + (first.end() if first else 0)
    text = made.line.text[begin:]
    command = Word(text.strip(), begin + len(text) - len(text.lstrip()))
    if kind == "NONE" and not command.text and not made.flags:
        return Instruction("HEALTHCHECK", made.line, made.rest, (made.rest,))
    if kind != "CMD":
        raise made.error("Dopo HEALTHCHECK e le sue opzioni ci vuole CMD, oppure NONE da solo.", example, made.rest)
    words = _json(command)
    if not (words or (words is None and command.text)):
        raise made.error("A HEALTHCHECK CMD manca il comando.", example)
    return Instruction(
        "HEALTHCHECK", made.line, made.rest, tuple(words or [command]), made.flags, exec_form=words is not None
    )


# ---------------------------------------------------------------- what is seen without running anything


def _check_from(made: Instruction) -> None:
    words = made.words
    if len(words) == 2 or (len(words) == 3 and words[1].text.upper() != "AS"):
        raise made.error("Dopo l'immagine ci può essere solo «AS nome».", KINDS["FROM"].example, words[1])
    if len(words) == 3 and (not re.fullmatch(r"[a-zA-Z][\w.-]*", words[2].text) or words[2].text.lower() == "scratch"):
        raise made.error(f"«{words[2].text}» non va bene come nome di uno stadio.", KINDS["FROM"].example, words[2])


def _check_pairs(made: Instruction) -> None:
    """``ENV`` e ``LABEL``: ``nome=valore …``, o la forma vecchia ``nome valore``."""
    first = made.words[0]
    if "=" not in first.text:
        if len(made.words) == 1:
            raise made.error(f"«{first.text}» non ha un valore.", KINDS[made.keyword].example, first)
        return
    for word in made.words:
        if "=" not in word.text or word.text.startswith("="):
            why = "non ha un nome" if word.text.startswith("=") else "non è nome=valore"
            raise made.error(
                f"«{word.text}» {why}.", f'un valore con degli spazi va fra apici: {made.keyword} NOME="a b"', word
            )


def _check_args(made: Instruction) -> None:
    for word in made.words:
        if not re.fullmatch(r"[a-zA-Z_]\w*", word.text.partition("=")[0], re.ASCII):
            raise made.error(f"«{word.text}» non va bene come nome di un argomento.", KINDS["ARG"].example, word)


def _check_shell(made: Instruction) -> None:
    if not made.exec_form:
        raise made.error("SHELL vuole la forma fra quadre.", KINDS["SHELL"].example, made.rest)


def _check_copy(made: Instruction) -> None:
    for word in made.words[:-1]:
        if made.keyword == "ADD" and re.match(r"(https?|ftp)://|git@|git://", word.text, re.IGNORECASE):
            raise made.error(
                "ADD qui non scarica: una costruzione che dipende dalla rete domani dà un'altra immagine.",
                "scarica il file nella cartella, controllalo con sha256sum, poi COPY", word,
            )  # fmt: skip
        if "from" in made.flags and heredoc(word, made.line.source.escape):
            raise made.error("Un testo scritto qui non viene da un altro stadio.", "togli --from", word)
    if "chmod" in made.flags and not re.fullmatch(r"[0-7]{1,4}|.*\$.*", made.flags["chmod"].text):
        raise made.error("--chmod vuole i permessi in ottale.", "--chmod=755", made.flags["chmod"])


def _check_run(made: Instruction) -> None:
    network = made.flags.get("network")
    if network and network.text not in ("none", "default"):
        raise made.error("--network di RUN può essere none o default.", "--network=none", network)


_CHECKS: dict[str, Callable[[Instruction], None]] = {
    "FROM": _check_from,
    "ENV": _check_pairs,
    "LABEL": _check_pairs,
    "ARG": _check_args,
    "SHELL": _check_shell,
    "COPY": _check_copy,
    "ADD": _check_copy,
    "RUN": _check_run,
}

"""I nomi delle immagini: ``nginx`` vuol dire ``docker.io/library/nginx:latest``.

Le regole sono quelle di Docker (distribution/reference): il primo pezzo è un registro solo se ha un punto
o i due punti, o se è ``localhost``. Un :class:`Reference` esiste solo se è scritto bene.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from labkit.errors import InvalidError
from labkit.images.digest import Digest

DEFAULT_REGISTRY = "docker.io"
OFFICIAL = "library"
DEFAULT_TAG = "latest"
#: Longest ``registry/repository`` (distribution/reference, NameTotalLengthMax).
LONGEST = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BARE_ID = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True)
class Reference:
    """Il nome intero di un'immagine: registro, deposito, e un tag o un'impronta (o tutti e due)."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if not _DOMAIN.fullmatch(self.registry):
            raise _wrong(self.registry, "il registro è un nome di macchina, con la porta se serve")
        if not _PATH.fullmatch(self.repository):
            why = "il deposito è fatto di lettere minuscole, cifre e . _ - fra l'una e l'altra"
            raise _wrong(self.repository, why, self.repository.lower())
        if len(f"{self.registry}/{self.repository}") > LONGEST:
            raise _wrong(self.repository[:40] + "…", f"il nome è più lungo di {LONGEST} caratteri")
        if self.tag and not _TAG.fullmatch(self.tag):
            raise _wrong(self.tag[:140], "il tag ha lettere, cifre e . _ -, al massimo 128")
        if not self.tag and not self.digest:
            raise _wrong(self.repository, "manca il tag")

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Registro e deposito, senza tag né impronta."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """Il nome come lo scrive chi ha fretta: ``nginx:1.27`` e non ``docker.io/library/nginx:1.27``.

        >>> parse("docker.io/library/nginx").familiar
        'nginx:latest'
        """
        text = str(self)
        for prefix in (f"{DEFAULT_REGISTRY}/{OFFICIAL}/", f"{DEFAULT_REGISTRY}/"):
            rest = text.removeprefix(prefix)
            if rest != text and _same(rest, self):
                return rest
        return text

    def with_digest(self, digest: Digest) -> Reference:
        """Lo stesso deposito, ma proprio quei byte."""
        return replace(self, tag="", digest=digest)

    def with_tag(self, tag: str) -> Reference:
        """Lo stesso deposito, con un altro tag."""
        return replace(self, tag=tag, digest=None)


def parse(text: str) -> Reference:
    """Legge un nome come lo legge Docker.

    >>> str(parse("nginx"))
    'docker.io/library/nginx:latest'
    >>> str(parse("localhost:5000/corso/prova:1"))
    'localhost:5000/corso/prova:1'
    """
    if not text or text != text.strip():
        raise _wrong(text, "è vuoto, o ha spazi attorno")
    if _BARE_ID.fullmatch(text):
        raise _wrong(text, "64 cifre esadecimali sono l'impronta di un'immagine, non un nome", f"sha256:{text}")
    rest, _, wanted = text.partition("@")
    digest = Digest(wanted) if "@" in text else None
    head, slash, tail = rest.partition("/")
    if slash and (any(mark in head for mark in ".:[") or head == "localhost" or head != head.lower()):
        registry, path = head, tail
    else:
        registry, path = DEFAULT_REGISTRY, rest
    if registry == "index.docker.io":  # its old name
        registry = DEFAULT_REGISTRY
    repository, colon, tag = path.partition(":")
    if colon and not tag:
        raise _wrong(text, "dopo i due punti manca il tag")
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"{OFFICIAL}/{repository}"
    try:
        return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)
    except InvalidError as problem:
        suggestion = text.lower() if text != text.lower() and _PATH.fullmatch(repository.lower()) else ""
        raise InvalidError(problem.message, f"prova con «{suggestion}»" if suggestion else problem.remedy) from None


def _same(text: str, reference: Reference) -> bool:
    """Se la forma breve si rilegge uguale: ``docker.io/x.y/z`` abbreviata diventerebbe un registro."""
    try:
        return parse(text) == reference
    except InvalidError:
        return False


def _wrong(text: str, why: str, suggestion: str = "") -> InvalidError:
    remedy = f"prova con «{suggestion}»" if suggestion else "un nome giusto: nginx, nginx:1.27, localhost:5000/prova:1"
    return InvalidError(f"«{text}» non va bene nel nome di un'immagine: {why}.", remedy)

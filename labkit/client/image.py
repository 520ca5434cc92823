"""Un'immagine di questo utente, come la usa chi studia; una lista di immagini è la tabella di ``docker images``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, overload

from labkit.client.table import Table
from labkit.draw.words import ago, clean
from labkit.images import image as oci
from labkit.images.config import History
from labkit.limits import show_bytes

if TYPE_CHECKING:
    from labkit.client.images import Images

#: Come Docker scrive un'immagine che ha perso il nome.
NAMELESS = "<none>"


@dataclass(frozen=True)
class Layer:
    """Uno strato: l'impronta dei byte come viaggiano e quanti sono; l'impronta del suo tar; chi lo ha fatto."""

    digest: str
    size: int
    diff_id: str
    created_by: str = ""


class Image:
    """Un'immagine che questo utente ha già: un nome (o nessuno) e un contenuto che non cambia."""

    def __init__(self, images: Images, name: str, content: oci.Image) -> None:
        self._images = images
        #: Il nome che le è stato chiesto, con il tag; vuoto se non ne ha più uno.
        self.name = name
        self._content = content

    @property
    def id(self) -> str:
        """L'impronta della configurazione: l'id di ``docker images``."""
        return self._content.id

    @property
    def digest(self) -> str:
        """L'impronta del manifesto: quella che un registro riconosce, e che si scrive dopo la ``@``."""
        return self._content.digest

    @property
    def size(self) -> int:
        """I byte degli strati come viaggiano, cioè compressi."""
        return self._content.size

    @property
    def created(self) -> str:
        """Quando è stata fatta (RFC 3339), o vuoto."""
        return self._content.config.created

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Gli strati, dal più basso."""
        made = [step.created_by for step in self._content.config.history if not step.empty_layer]
        made += [""] * len(self._content.layers)  # the history may be shorter than the truth
        pairs = zip(self._content.layers, made, strict=False)
        return tuple(Layer(str(o.descriptor.digest), o.descriptor.size, str(o.diff_id), by) for o, by in pairs)

    @property
    def config(self) -> Mapping[str, Any]:
        """Come parte: ``Env``, ``Cmd``, ``Entrypoint``, ``User``, ``Labels``… (image-spec, config.md)."""
        return dict(self._content.config.process)

    def history(self) -> Steps:
        """I passi che l'hanno fatta, dall'ultimo, come ``docker history``."""
        return Steps(self._content.history()[::-1])

    def inspect(self) -> dict[str, Any]:
        """Tutto, con i nomi di ``docker image inspect``."""
        found = dict(self._content.inspect())
        names = self._images.names(self.digest) or ([self.name] if self.name else [])
        tagged = [name for name in names if "@" not in name]
        pinned = sorted({f"{_repository(name)}@{self.digest}" for name in names})
        return {"Id": found.pop("Id"), "RepoTags": tagged, "RepoDigests": pinned, **found}

    def tag(self, name: str) -> Image:
        """Un altro nome per la stessa immagine."""
        return self._images.tag(self._handle, name)

    def push(self, target: str = "") -> Image:
        """La manda al registro del suo nome, o a quello di ``target``."""
        return self._images.push(self._handle, target)

    @property
    def _handle(self) -> str:
        """What finds this image again, whatever its name has become."""
        return self.name or self.digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and (self.name, self.digest) == (other.name, other.digest)

    def __hash__(self) -> int:
        return hash((self.name, self.digest))

    def __repr__(self) -> str:
        return repr(ImageList([self]))

    def _repr_html_(self) -> str:
        return ImageList([self])._repr_html_()

    def row(self) -> tuple[str, ...]:
        """La sua riga di ``docker images``: deposito, tag, id, quando, quanto pesa."""
        repository, tag = split(self.name)
        short = self.id.partition(":")[2][:12]
        return clean(repository), clean(tag), short, age(self.created), show_bytes(self.size)


class ImageList(Table, Sequence[Image]):
    """Una lista di immagini che si mostra come la tabella di ``docker images``."""

    HEADER = ("DEPOSITO", "TAG", "ID", "CREATA", "PESO")

    def __init__(self, found: Sequence[Image]) -> None:
        self._found = tuple(found)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def rows(self) -> list[tuple[str, ...]]:
        return [one.row() for one in self._found]


class Steps(Table, Sequence[tuple[History, int]]):
    """La storia di un'immagine: la tabella di ``docker history``, e le coppie (passo, byte dello strato)."""

    HEADER = ("CREATO", "DA CHE COSA", "PESO", "NOTA")

    def __init__(self, steps: Sequence[tuple[History, int]], whole: bool = False) -> None:
        self._steps, self._whole = tuple(steps), whole

    @overload
    def __getitem__(self, index: int) -> tuple[History, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[History, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[History, int] | Sequence[tuple[History, int]]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def whole(self) -> Steps:
        """La stessa storia con i comandi interi (``docker history --no-trunc``)."""
        return Steps(self._steps, whole=True)

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (age(step.created), self._cut(clean(step.created_by)), show_bytes(size), clean(step.comment))
            for step, size in self._steps
        ]

    def _cut(self, command: str) -> str:
        return command if self._whole or len(command) <= 45 else command[:44] + "…"


def split(name: str) -> tuple[str, str]:
    """Deposito e tag, come li vuole la tabella di Docker.

    >>> split("localhost:5000/prova:1"), split("")
    (('localhost:5000/prova', '1'), ('<none>', '<none>'))
    """
    if not name:
        return NAMELESS, NAMELESS
    if "@" in name:
        return _repository(name), NAMELESS
    repository, _, tag = name.rpartition(":")
    return repository, tag


def _repository(name: str) -> str:
    """Il nome senza tag e senza impronta.

    >>> _repository("localhost:5000/prova:1"), _repository("nginx@sha256:00")
    ('localhost:5000/prova', 'nginx')
    """
    whole = name.partition("@")[0]
    head, slash, last = whole.rpartition("/")
    return head + slash + last.partition(":")[0]


def age(moment: str) -> str:
    """Quanto tempo fa, o niente se l'immagine non lo dice (o finge di essere del 1970, perché l'impronta non cambi)."""
    try:
        made = datetime.fromisoformat(moment)
    except ValueError:
        return "–"
    made = made if made.tzinfo else made.replace(tzinfo=UTC)
    seconds = (datetime.now(UTC) - made).total_seconds()
    return "–" if made.year <= 1980 else f"{ago(seconds)} fa"

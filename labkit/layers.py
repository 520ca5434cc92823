"""Le cartelle di un container viste strato per strato: da dove viene ogni nome, e che cosa nasconde.

Gli strati si contano dall'alto: lo 0 è quello scrivibile, gli altri sono dell'immagine. Un nome è di un solo
strato, il più alto che lo ha; di una cartella si vede l'unione, se non è opaca (overlayfs, documentazione del kernel).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from labkit.errors import NotFoundError

#: Quello che un nome può essere; ``other`` sono i dispositivi, le prese e le code.
Kind = Literal["folder", "file", "link", "other"]


@dataclass(frozen=True)
class Entry:
    """Un nome dentro una cartella.

    ``layer`` è lo strato che decide; ``below`` quelli sotto che hanno lo stesso nome. Se ``kind`` è una cartella, e
    non è ``opaque``, i loro contenuti si vedono insieme; altrimenti sono nascosti. ``gone`` è una cancellazione
    (whiteout): il nome non si vede più. ``size`` in byte, 0 se non è un file.
    """

    name: str
    kind: Kind
    layer: int
    below: tuple[int, ...] = ()
    gone: bool = False
    opaque: bool = False
    size: int = 0

    @property
    def hides(self) -> bool:
        """Se qualcosa degli strati di sotto, per colpa di questo nome, non si vede."""
        return bool(self.below) and (self.kind != "folder" or self.opaque or self.gone)


@dataclass(frozen=True)
class Folder:
    """Una cartella: i nomi mostrati, in ordine, e di quelli taciuti quanti ne decide ogni strato (``rest``).

    ``complete`` è falso se i nomi erano troppi per leggerli tutti.
    """

    path: str
    entries: tuple[Entry, ...]
    rest: tuple[tuple[int, int], ...] = ()
    complete: bool = True

    def at(self, name: str) -> str:
        """Il percorso di un nome di questa cartella.

        >>> Folder("/", ()).at("etc"), Folder("/etc", ()).at("passwd")
        ('/etc', '/etc/passwd')
        """
        return f"{self.path.rstrip('/')}/{name}"

    def __getitem__(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise NotFoundError(f"In «{self.path}» non c'è «{name}».", f"browse({self.path!r}).folders")


@dataclass(frozen=True)
class LayerView:
    """Gli strati di un container, dall'alto, e le cartelle guardate: la radice, le cambiate, quelle chieste.

    ``changed`` sono i percorsi delle cartelle che lo strato scrivibile tocca; ``written`` i byte che occupa.
    ``complete`` è falso se le cose scritte erano troppe per guardarle tutte.
    """

    layers: tuple[str, ...]
    folders: tuple[Folder, ...]
    changed: tuple[str, ...] = ()
    written: int = 0
    complete: bool = True

    def __getitem__(self, path: str) -> Folder:
        for folder in self.folders:
            if folder.path == path:
                return folder
        raise NotFoundError(f"«{path}» non è una cartella che il container vede.", f"c.browse({path!r})")

    def __contains__(self, path: object) -> bool:
        return any(folder.path == path for folder in self.folders)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerView:
        folders = tuple(
            Folder(
                row["path"],
                tuple(Entry(**{**entry, "below": tuple(entry["below"])}) for entry in row["entries"]),
                tuple((layer, count) for layer, count in row["rest"]),
                row["complete"],
            )
            for row in data["folders"]
        )
        layers, changed = tuple(data["layers"]), tuple(data["changed"])
        return cls(layers, folders, changed, data["written"], data["complete"])

"""Le cartelle di un container guardate strato per strato, senza entrarci: il verbo ``browse``.

Si leggono gli strati uno alla volta, come fa overlay, e mai attraverso un link simbolico: chi scrive nel
container non può farne leggere un altro posto. Quanto si legge ha un limite, perché il laboratorio non aspetti.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit.engine.rootfs import ImageRoot, Tree, layer_name
from labkit.errors import InvalidError
from labkit.kernel.explain import from_os_error
from labkit.layers import Entry, Folder, Kind, LayerView
from labkit.model import to_json
from labkit.supervisor.connection import Call

if TYPE_CHECKING:
    from labkit.supervisor.server import Server

#: Names of one folder that are shown, and that are read; what is looked at in the writable layer.
MOST_SHOWN, MOST_READ, MOST_WRITTEN, MOST_CHANGED, MOST_ASKED, MOST_DEEP = 500, 20_000, 5_000, 64, 64, 30

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")


@dataclass(frozen=True)
class _Stack:
    """Gli strati di un albero, dall'alto: il numero che hanno nel container, la cartella."""

    target: str
    layers: tuple[tuple[int, str], ...]


@dataclass
class _Name:
    """Un nome mentre si scende: chi lo decide, chi lo ha sotto; ``closed`` se da lì in giù non conta più niente."""

    layer: int
    folder: int
    kind: Kind
    gone: bool = False
    closed: bool = False
    below: list[int] = field(default_factory=list)


def browse(server: Server, call: Call, name: str, folders: Sequence[str] = (), limit: int = 100) -> None:
    """La radice, le cartelle cambiate e quelle chieste, con al massimo ``limit`` nomi ciascuna.

    Di una cartella cambiata ma non chiesta si mostrano solo i nomi dello strato scrivibile. Una cartella chiesta che
    il container non vede non è nella risposta.
    """
    container = server.state.container(name)
    if not 0 < limit <= MOST_SHOWN or len(folders) > MOST_ASKED:
        raise InvalidError(
            f"In una volta si guardano al massimo {MOST_ASKED} cartelle, da 1 a {MOST_SHOWN} nomi ciascuna.",
            "c.browse('/etc', limit=100)",
        )
    asked = [_clean(path) for path in folders]
    try:
        call.answer(to_json(look(container.image, container.place.folder, asked, limit)))
    except OSError as problem:
        raise from_os_error(problem, "open") from None


def look(image: ImageRoot, folder: str, asked: Sequence[str], limit: int) -> LayerView:
    """Quello che risponde il verbo, per un'immagine e lo strato scrivibile in ``folder``."""
    titles, stacks = stack(image, folder)
    walk = _Walk()
    for one in stacks:
        walk.tree(one)
    found = []
    for path in dict.fromkeys(["/", *sorted({*walk.changed, *asked}, key=lambda path: path.split("/"))]):
        seen = _folder(stacks, path, limit, everything=path == "/" or path in asked)
        if seen is not None:
            found.append(seen)
    return LayerView(titles, tuple(found), tuple(walk.changed), walk.bytes, walk.complete)


def stack(image: ImageRoot, folder: str) -> tuple[tuple[str, ...], list[_Stack]]:
    """I nomi degli strati, dall'alto, e di quali è fatto ogni albero."""
    titles = ["strato scrivibile"]
    stacks = []
    for tree in image.trees:
        layers = [(0, f"{folder}/{layer_name(tree.target)}.upper")]
        for place, lower in enumerate(tree.lowers):
            title = _title(image, tree, place)
            if title not in titles:
                titles.append(title)
            layers.append((titles.index(title), lower))
        stacks.append(_Stack(tree.target, tuple(layers)))
    return tuple(titles), stacks


def _title(image: ImageRoot, tree: Tree, place: int) -> str:
    last = place == len(tree.lowers) - 1
    if tree.target:  # only the image «host» is made of pieces
        return f"/{tree.target} di questa macchina" if last else "host, preparata dal laboratorio"
    if len(tree.lowers) == 1:
        return "host, preparata dal laboratorio" if len(image.trees) > 1 else f"immagine {image.name}"
    return f"immagine, strato {len(tree.lowers) - place}"


def _clean(path: str) -> str:
    """Il percorso assoluto, senza pezzi da interpretare."""
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or "\0" in path:
        raise InvalidError(f"«{path}» non è il percorso di una cartella del container.", "c.browse('/etc')")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _folder(stacks: Sequence[_Stack], path: str, limit: int, *, everything: bool) -> Folder | None:
    """Una cartella della radice del container; ``None`` se non c'è, o non è una cartella."""
    inside = path.strip("/")
    mine = max((s for s in stacks if _within(inside, s.target)), key=lambda s: len(s.target))
    parts = inside.removeprefix(mine.target).strip("/").split("/")
    with contextlib.ExitStack() as held:
        opened = list(_open(mine, [part for part in parts if part], held))
        if not opened:
            return None
        names, complete = _merge(opened)
        for other in stacks:  # another tree is mounted on this name: it comes from there
            parent, _, name = other.target.rpartition("/")
            if other.target and parent == inside and name in names:
                names[name] = _Name(other.layers[-1][0], -1, "folder")
        first = sorted(names, key=lambda name: (names[name].layer > 0, name))  # what was written, before the rest
        kept = {name for name in first[:limit] if everything or names[name].layer == 0}
        entries = tuple(_entry(name, names[name]) for name in sorted(kept))
    rest = Counter(found.layer for name, found in names.items() if name not in kept)
    return Folder(path, entries, tuple(sorted(rest.items())), complete)


def _within(inside: str, target: str) -> bool:
    return not target or inside == target or inside.startswith(f"{target}/")


def _open(one: _Stack, parts: Sequence[str], held: contextlib.ExitStack) -> Iterator[tuple[int, int]]:
    """La stessa cartella in ogni strato che la ha, dall'alto, finché uno non nasconde quelli di sotto."""
    for layer, root in one.layers:
        fd, hidden = -1, False
        for part in [root, *parts]:
            try:
                fd = os.open(part, _FOLDER, dir_fd=None if fd < 0 else fd)
            except FileNotFoundError:
                fd = -1
                break
            except OSError as problem:
                if problem.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                fd, hidden = -1, True  # a file, a link or a whiteout: what is under it cannot be seen
                break
            held.callback(os.close, fd)
            hidden = hidden or _opaque(fd)
        if fd >= 0:
            yield layer, fd
        if hidden:
            return


def _opaque(fd: int) -> bool:
    for name in _OPAQUE:
        with contextlib.suppress(OSError):
            if os.getxattr(fd, name) == b"y":
                return True
    return False


def _merge(opened: Sequence[tuple[int, int]]) -> tuple[dict[str, _Name], bool]:
    """I nomi di una cartella e chi li decide; ``False`` se erano troppi per leggerli tutti."""
    names: dict[str, _Name] = {}
    budget = MOST_READ
    for layer, fd in opened:
        with os.scandir(fd) as entries:
            for entry in entries:
                budget -= 1
                if budget < 0:
                    return names, False
                kind, gone = _kind(entry)
                above = names.get(entry.name)
                if above is None:
                    names[entry.name] = _Name(layer, fd, kind, gone)
                elif not above.closed:
                    above.closed = gone or (kind != "folder" and above.kind == "folder")
                    if not gone:
                        above.below.append(layer)
    return names, True


def _kind(entry: os.DirEntry[str]) -> tuple[Kind, bool]:
    """Che cos'è, e se è il segno di una cancellazione: un dispositivo a caratteri 0:0."""
    if entry.is_symlink():
        return "link", False
    if entry.is_dir(follow_symlinks=False):
        return "folder", False
    if entry.is_file(follow_symlinks=False):
        return "file", False
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        info = entry.stat(follow_symlinks=False)
        return "other", stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
    return "other", False


def _entry(name: str, found: _Name) -> Entry:
    size, opaque = 0, False
    if found.folder >= 0:
        with contextlib.suppress(FileNotFoundError):
            if found.kind == "file":
                size = os.stat(name, dir_fd=found.folder, follow_symlinks=False).st_size
            elif found.kind == "folder" and found.below:
                fd = os.open(name, _FOLDER, dir_fd=found.folder)
                opaque = _opaque(fd)
                os.close(fd)
    return Entry(name, found.kind, found.layer, tuple(found.below), found.gone, opaque, size)


class _Walk:
    """Lo strato scrivibile percorso una volta: che cosa tocca, quanto occupa."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.bytes = 0
        self.complete = True
        self._budget = MOST_WRITTEN

    def tree(self, one: _Stack) -> None:
        try:
            fd = os.open(one.layers[0][1], _FOLDER)
        except FileNotFoundError:  # a container that has never started
            return
        self._down(fd, f"/{one.target}", 0)

    def _down(self, fd: int, path: str, depth: int) -> None:
        """La cartella ``fd``, che qui si chiude; un descrittore per livello, perciò i livelli hanno un limite."""
        try:
            with os.scandir(fd) as entries:
                found = list(itertools.islice(entries, self._budget + 1))
            self._budget -= len(found)
            if self._budget < 0 or len(self.changed) >= MOST_CHANGED or depth > MOST_DEEP:
                self.complete = False
                return
            if found or depth:  # the root of a tree is always there, empty or not
                self.changed.append(path)
            for entry in sorted(found, key=lambda entry: entry.name):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # changed meanwhile
                    if entry.is_dir(follow_symlinks=False):
                        self._down(os.open(entry.name, _FOLDER, dir_fd=fd), _join(path, entry.name), depth + 1)
                    else:
                        self.bytes += entry.stat(follow_symlinks=False).st_blocks * 512
        finally:
            os.close(fd)


BROWSE_VERBS: dict[str, Callable[..., None]] = {"browse": browse}

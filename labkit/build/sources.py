"""Da dove copia ``COPY``: la cartella del contesto, un'altra immagine, un testo scritto nel Containerfile.

Ognuna dà le sue cose (:class:`Thing`) nello stesso ordine ogni volta, e di loro si calcola l'impronta che decide se
il passo è già stato fatto: contano nomi, permessi e contenuto, mai l'ora.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from labkit.build.matching import Ignore, chosen, is_pattern, pattern
from labkit.build.view import View
from labkit.errors import InvalidError, NotFoundError
from labkit.images import tar_header as header

_PIECE = 1 << 18
_KINDS = {stat.S_IFREG: header.REGULAR, stat.S_IFDIR: header.DIRECTORY, stat.S_IFLNK: header.SYMLINK}


@dataclass(frozen=True)
class Thing:
    """Un file, una cartella o un link da copiare: ``path`` è relativo a ciò che si copia (vuoto per la cosa stessa)."""

    path: str
    kind: bytes
    mode: int
    mtime: int
    link: str = ""
    size: int = 0
    uid: int = 0
    gid: int = 0
    #: Its bytes, to be read before the next thing is asked for.
    data: Iterable[bytes] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Item:
    """Un argomento di COPY diventato ciò che è: il suo nome, se è una cartella, e le cose che contiene."""

    name: str
    is_folder: bool
    things: Callable[[], Iterator[Thing]] = field(repr=False)
    #: The file itself, where it can be opened: ADD looks whether it is an archive.
    file: str = ""

    @property
    def digest(self) -> str:
        """L'impronta di nomi, permessi, link e contenuto; non dell'ora, né di chi possiede i file."""
        seen = hashlib.sha256()
        for thing in self.things():
            content = hashlib.sha256()
            for piece in thing.data:
                content.update(piece)
            facts = (thing.path, thing.kind.decode(), thing.mode, thing.link, thing.size, content.hexdigest())
            seen.update(repr(facts).encode("utf-8", "backslashreplace") + b"\n")
        return seen.hexdigest()


class Context:
    """La cartella da cui si costruisce, meno ciò che il suo ``.dockerignore`` nasconde."""

    def __init__(self, folder: str, ignore: Ignore | None = None) -> None:
        self.folder = os.path.realpath(folder)
        self.ignore = ignore or Ignore()

    def items(self, wanted: str) -> list[Item]:
        """Ciò che un argomento di COPY sceglie. Errori: :class:`NotFoundError` se non c'è niente."""
        path = posixpath.normpath("/" + wanted).lstrip("/")
        if posixpath.normpath(wanted).startswith(".."):
            raise InvalidError(
                f"«{wanted}» è fuori dalla cartella da cui si costruisce: COPY vede solo quella.",
                "copia il file lì dentro, oppure costruisci da una cartella più in alto",
            )
        if is_pattern(path):
            names = chosen(pattern(path), self._paths(""))
            if not names:
                raise NotFoundError(f"Nessun file del contesto è come «{wanted}»{self._why()}.", "ls, e .dockerignore")
            return [self._item(name) for name in names]
        if not os.path.lexists(os.path.join(self.folder, path)) or (path and self.ignore.hides(path)):
            hidden = " (lo nasconde .dockerignore)" if os.path.lexists(os.path.join(self.folder, path)) else ""
            raise NotFoundError(f"«{wanted}» non c'è nella cartella da cui si costruisce{hidden}.", f"ls {self.folder}")
        return [self._item(path)]

    def _why(self) -> str:
        return ", tolti quelli che .dockerignore nasconde" if self.ignore.rules else ""

    def _item(self, path: str) -> Item:
        real = os.path.realpath(os.path.join(self.folder, path))
        if os.path.commonpath([real, self.folder]) != self.folder:
            raise InvalidError(
                f"«{path}» è un link che porta fuori dalla cartella da cui si costruisce.", "copia lì dentro il file"
            )
        inside = os.path.relpath(real, self.folder) if real != self.folder else ""
        is_folder = os.path.isdir(real)
        if not is_folder and not os.path.isfile(real):
            raise InvalidError(f"«{path}» non è un file, una cartella o un link: non si copia.")
        return Item(posixpath.basename(path), is_folder, lambda: self._things(inside), "" if is_folder else real)

    def _things(self, top: str) -> Iterator[Thing]:
        one = self._thing(top, "")
        yield one
        for path in self._paths(top) if one.kind == header.DIRECTORY else ():
            relative = path[len(top) :].lstrip("/")
            yield self._thing(path, relative)

    def _paths(self, top: str) -> Iterator[str]:
        """I percorsi sotto ``top``, in ordine, senza quelli nascosti."""
        with os.scandir(os.path.join(self.folder, top)) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = posixpath.join(top, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            hidden = self.ignore.hides(path)
            if not hidden:
                yield path
            if is_folder and (not hidden or self.ignore.may_keep):
                yield from self._paths(path)

    def _thing(self, path: str, relative: str) -> Thing:
        full = os.path.join(self.folder, path)
        try:
            info = os.lstat(full)
            kind = _KINDS.get(stat.S_IFMT(info.st_mode))
            if kind is None:
                raise InvalidError(f"«{path}» non è un file, una cartella o un link: non si copia.", ".dockerignore")
            link = os.readlink(full) if kind == header.SYMLINK else ""
        except OSError as problem:
            raise _unreadable(path, problem) from None
        size = info.st_size if kind == header.REGULAR else 0
        data = _Bytes(full, path, size) if kind == header.REGULAR else ()
        return Thing(relative, kind, stat.S_IMODE(info.st_mode), int(info.st_mtime), link, size, data=data)


@dataclass(frozen=True)
class _Bytes:
    """I byte di un file del contesto: si possono leggere più volte, e devono essere quanti erano."""

    full: str
    path: str
    size: int

    def __iter__(self) -> Iterator[bytes]:
        try:
            with open(self.full, "rb") as file:
                left = self.size
                while left and (data := file.read(min(left, _PIECE))):
                    left -= len(data)
                    yield data
        except OSError as problem:
            raise _unreadable(self.path, problem) from None
        if left:
            raise InvalidError(f"«{self.path}» è diventato più corto mentre lo leggevo.", "riprova")


def _unreadable(path: str, problem: OSError) -> Exception:
    return InvalidError(
        f"«{path}» non si può leggere: {problem.strerror}.", f"ls -l {path}, o nascondilo: .dockerignore"
    )


def combined(texts: Iterable[str]) -> str:
    """Un'impronta sola per più cose."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "backslashreplace")).hexdigest()


def from_image(view: View, wanted: str) -> list[Item]:
    """Ciò che un argomento di ``COPY --from`` sceglie in un'altra immagine."""
    path = posixpath.normpath("/" + wanted).lstrip("/")
    if is_pattern(path):
        names = chosen(pattern(path), view.nodes)
    else:
        resolved = view.resolve(path)
        names = [resolved] if resolved in view.nodes else []
    if not names:
        raise NotFoundError(f"«{wanted}» non c'è nell'immagine da cui si copia.")
    return [_image_item(view, posixpath.basename(path if len(names) == 1 else name), name) for name in names]


def _image_item(view: View, name: str, found: str) -> Item:
    top = view.resolve(found)
    if top not in view.nodes:
        raise NotFoundError(f"«/{found}» è un link a qualcosa che nell'immagine non c'è.")

    def things() -> Iterator[Thing]:
        paths = [top, *view.under(top)]
        files = [path for path in paths if view.nodes[path].kind == header.REGULAR]
        for path in paths:  # folders and links first: a file finds its folder ready
            if view.nodes[path].kind in (header.DIRECTORY, header.SYMLINK):
                yield thing(path)
            elif view.nodes[path].kind != header.REGULAR:
                raise InvalidError(f"«/{path}» non è un file, una cartella o un link: non si copia.")
        for path, size, data in view.contents(files):
            yield replace(thing(path), size=size, data=data)

    def thing(path: str) -> Thing:
        node = view.nodes[path]
        mtime = node.mtime_ns // 10**9
        return Thing(path[len(top) :].lstrip("/"), node.kind, node.mode, mtime, node.link, 0, node.uid, node.gid)

    return Item(name, view.is_folder(top), things)


def from_text(name: str, text: str, now: int) -> Item:
    """Un here-document: un file con quel nome e quel contenuto."""
    data = text.encode("utf-8", "surrogateescape")
    one = Thing("", header.REGULAR, 0o644, now, size=len(data), data=(data,))
    return Item(name, False, lambda: iter([one]))

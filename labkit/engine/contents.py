"""I file di un container visti da fuori: che cosa ha cambiato, il suo strato, la sua radice, un pezzo alla volta.

Ogni funzione si chiama in un processo a parte, che poi finisce: i mount e la radice sono solo suoi. Le modifiche, lo
strato e la radice intera si leggono dagli strati, che il container giri o no; i file di ``cp`` (:func:`get` e
:func:`put`) dalla radice di chi gira, con dentro i volumi, o da una rimontata com'era. Prima di seguire un percorso
della radice ci si entra (chroot(2)): nessun link e nessun «..» porta fuori, neanche se il programma li cambia in quel
momento.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from labkit.engine.operation import Context
from labkit.engine.rootfs import ImageRoot, MountOverlay, layer_name
from labkit.errors import InvalidError, LabError, NotFoundError
from labkit.images import pack
from labkit.images.blobs import write_all
from labkit.images.changes import Changes, changes
from labkit.images.compression import pieces, ready
from labkit.images.unpack import OWNERS, extract
from labkit.kernel import libc, mounts


@dataclass(frozen=True)
class View:
    """Il container da guardare: l'immagine, la cartella del suo strato (vuota se non c'è ancora).

    ``pid`` è il programma, 0 se non gira; ``mountpoint`` una cartella su cui montare; ``empty`` una vuota, il secondo
    strato di un overlay che ne avrebbe uno solo. ``userxattr``: se overlay scrive i suoi segni in attributi ``user.*``,
    e non ``trusted.*``; ``owners``: se dare a ogni file il suo proprietario (senza subuid non si può).
    """

    image: ImageRoot
    folder: str
    mountpoint: str
    empty: str
    userxattr: bool = True
    owners: bool = True
    pid: int = 0

    def upper(self, target: str) -> str:
        """Ciò che il container ha scritto in un albero dell'immagine; vuoto se lo strato non c'è ancora."""
        return f"{self.folder}/{layer_name(target)}.upper" if self.folder else ""


def changed(view: View) -> list[tuple[str, str]]:
    """Le modifiche come le dice ``docker diff``: il segno e il percorso."""
    found = []
    for tree, one in _changes(view):
        start = f"/{tree}/".replace("//", "/")
        found += [(kind, start + os.fsdecode(path)) for path, kind in one.items()]
    return found


def layer(view: View, out: int) -> dict[str, int]:
    """Scrive su ``out`` il tar dello strato del container; torna ciò che un tar non può portare, contato."""
    report = pack.Packed()
    if len(view.image.trees) > 1:
        raise InvalidError(
            f"L'immagine «{view.image.name}» è questa macchina, non una pila di strati: non se ne fa un'altra.",
            "parti da busybox, o da un'immagine (labkit images)",
        )
    for tree, one in _changes(view):  # one at most: there is a single tree
        pour(pack.diff(view.upper(tree), report, one), out)
        return dict(report.skipped)
    pour([bytes(1024)], out)
    return {}


def _changes(view: View) -> Iterable[tuple[str, Changes]]:
    _private_mounts()
    for tree in view.image.trees:
        upper = view.upper(tree.target)
        if not upper:
            continue
        if len(tree.lowers) == 1:
            yield tree.target, changes(upper, tree.lowers[0], tree.target)
            continue
        mounts.overlay(view.mountpoint, tree.lowers, userxattr=view.userxattr)
        try:
            yield tree.target, changes(upper, view.mountpoint, tree.target)
        finally:
            mounts.umount(view.mountpoint)


def export(view: View, out: int, below: bool = False) -> dict[str, int]:
    """Scrive su ``out`` il tar della radice intera (``docker export``): senza i volumi, senza /proc, /sys e /dev.

    Con ``below`` solo ciò che sta sotto lo strato del container.
    """
    _mount(replace(view, folder="") if below else view, writable=False)
    report = pack.Packed()
    enter(view.mountpoint)
    pour(pack.tree("/", report), out)
    return dict(report.skipped)


def get(view: View, path: str, out: int, tell: Any) -> dict[str, int]:
    """Scrive su ``out`` il tar di un file o di una cartella (``docker cp``); prima dice che cos'è con ``tell``.

    Con ``out`` negativo lo dice soltanto.
    """
    _enter_root(view, writable=False)
    name, exact = _named(path)
    try:
        info = os.lstat(exact)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"Nel container «{path}» non c'è.", "labkit exec NOME ls -la") from None
    link = os.readlink(exact) if stat.S_ISLNK(info.st_mode) else ""
    tell(stat={"name": os.fsdecode(name), "size": info.st_size, "mode": info.st_mode, "mtime": info.st_mtime,
               "linkTarget": link})  # fmt: skip
    report = pack.Packed()
    if out < 0:
        return {}
    pour(pack.resource(exact, name, report), out)
    return dict(report.skipped)


def _named(path: str) -> tuple[bytes, str]:
    """Il nome che avrà nell'archivio e il percorso vero; con «/» o «/.» in fondo un link si segue."""
    plain = os.path.normpath("/" + path)
    follow = path.endswith(("/", "/.")) or plain == "/"
    real = os.path.realpath(plain) if follow else os.path.join(os.path.realpath(os.path.dirname(plain)),
                                                              os.path.basename(plain))  # fmt: skip
    return os.fsencode(os.path.basename(plain) or "."), real


def put(view: View, path: str, source: BinaryIO) -> dict[str, int]:
    """Mette il contenuto di un tar nella cartella ``path``, che c'è già (``docker cp``).

    Torna quanti file non hanno avuto il loro proprietario, contati accanto al perché.
    """
    ready()
    _enter_root(view, writable=True)
    plain = os.path.realpath(os.path.normpath("/" + path))
    if not os.path.isdir(plain):
        why = "non è una cartella" if os.path.lexists(plain) else "non c'è"
        raise NotFoundError(f"Nel container «{path}» {why}: un archivio si apre in una cartella.", "mkdir prima")
    done = extract(pieces(source), "/", plain, view.owners)
    return {why: count for why, count in done.skipped.items() if why == OWNERS}


def _enter_root(view: View, *, writable: bool) -> None:
    if view.pid:
        enter(f"/proc/{view.pid}/root")
        return
    _mount(view, writable=writable)
    enter(view.mountpoint)


def _private_mounts() -> None:
    """Ciò che si monta da qui sparisce con questo processo, e nessun altro lo vede."""
    libc.unshare(libc.CLONE_NEWNS)


def _mount(view: View, *, writable: bool) -> None:
    """La radice del container sul suo posto; in sola lettura lo strato scrivibile è uno come gli altri."""
    _private_mounts()
    context = Context(mountpoint=view.mountpoint, userxattr=view.userxattr)
    for tree in view.image.trees:
        if writable:
            MountOverlay(tree, view.folder).execute(context)
            continue
        upper = view.upper(tree.target)
        lowers = ((upper,) if upper else ()) + tree.lowers
        target = f"{view.mountpoint}/{tree.target}".rstrip("/")
        # Overlay wants two layers at least, even to read.
        mounts.overlay(target, lowers if len(lowers) > 1 else (view.empty, *lowers), userxattr=view.userxattr)


def enter(root: str) -> None:
    """Da qui in poi per questo processo non c'è altro che ``root`` (chroot(2)), e non può più importare niente."""
    os.chroot(root)
    os.chdir("/")
    sys.path.clear()  # no import may find a file of the image


def pour(pieces: Iterable[bytes], out: int) -> None:
    """Scrive i pezzi di un archivio; se chi li voleva se n'è andato è un errore, e non un segnale."""
    try:
        for piece in pieces:
            write_all(out, piece)
    except BrokenPipeError:
        raise LabError("Chi voleva questi file se n'è andato.") from None

"""Da strato a cartella: lo stesso albero che c'è nel tar, e niente fuori dalla sua radice.

Lo chiama chi può cambiare proprietario ai file: un processo dentro il namespace utente del laboratorio.
Qui servono solo chiamate che ha la libreria standard. Si legge una volta sola: mentre si scrivono i file
si controllano l'impronta dei byte compressi e quella del tar. Chi chiama spacchetta in una cartella
provvisoria, e la butta se esce un errore.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from labkit.errors import InvalidError
from labkit.images import tar_header as header
from labkit.images.attributes import Facts, known_owner
from labkit.images.compression import decompressed, pieces
from labkit.images.digest import DiffID, Digest
from labkit.images.pipeline import Limits, ahead, bounded, hashed
from labkit.images.rooted import Rooted, parts, remove
from labkit.images.tar import TarReader
from labkit.images.tar_header import Entry
from labkit.images.whiteouts import NoWhiteouts, OverlayWhiteouts, Whiteouts, split

#: Why a file is not whose it should be.
OWNERS = "i proprietari diversi da root: senza subuid esiste un utente solo"
#: Why a device is not there: nothing is lost.
DEVICES = "i dispositivi: in un container li mette il laboratorio"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Unpacked:
    """Che cosa è stato fatto: voci, byte dei file, e ciò che qui non si poteva fare, contato per motivo."""

    entries: int = 0
    size: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Options:
    """Come spacchettare.

    ``owners``: se dare a ogni file il suo proprietario; senza subuid esiste un utente solo e non si può.
    ``below``: le cartelle degli strati di sotto, dall'alto, da cui prendere i permessi di una cartella che
    lo strato nomina senza descriverla. ``under`` e ``instead`` sono di :func:`extract`.
    """

    whiteouts: Whiteouts = field(default_factory=OverlayWhiteouts)
    owners: bool = True
    below: tuple[str, ...] = ()
    under: tuple[bytes, ...] = ()
    instead: tuple[bytes, ...] | None = None
    limits: Limits = field(default_factory=Limits)


def unpack(blob: BinaryIO, target: str, digest: Digest, diff_id: DiffID, options: Options | None = None) -> Unpacked:
    """Spacchetta lo strato ``blob`` nella cartella ``target``, che c'è già; solleva se le impronte non tornano.

    Errori: :class:`InvalidError` se l'archivio è rovinato, ambiguo, troppo grande, o non è quello
    promesso; :class:`OSError` se è il disco a dire di no.
    """
    options = options or Options()
    compressed, plain = digest.hasher(), diff_id.hasher()
    source = decompressed(hashed(pieces(blob), compressed))
    with ahead(bounded(source, options.limits)) as inflated, ahead(hashed(inflated, plain)) as checked:
        unpacker = _Unpacker(target, TarReader(checked), options)
        try:
            done = unpacker.run()
        finally:
            unpacker.tree.close()
    for wanted, found, what in ((digest, Digest.from_hasher(compressed), "i suoi byte"),
                                (diff_id, DiffID.from_hasher(plain), "il suo tar")):  # fmt: skip
        if found != wanted:
            raise InvalidError(
                f"Lo strato {digest.short} non è quello promesso: per {what} doveva essere {wanted}, ed è {found}.",
                "scarica di nuovo l'immagine",
            )
    return done


def extract(
    source: Iterable[bytes], root: str, under: str, owners: bool = True, instead: tuple[bytes, ...] | None = None
) -> Unpacked:
    """Mette nella cartella ``under`` di ``root`` il contenuto di un tar (anche compresso, a pezzi), come ``docker cp``.

    Si aggiunge a quello che c'è; un link che c'è già si segue, senza uscire da ``root``. Nessun nome vuol dire
    «cancellato». ``instead`` prende il posto del primo pezzo di ogni nome. Errori come :func:`unpack`; quello che è
    già scritto resta.
    """
    options = Options(NoWhiteouts(), owners, under=tuple(parts(os.fsencode(under))), instead=instead)
    with ahead(bounded(decompressed(source), options.limits)) as inflated:
        unpacker = _Unpacker(root, TarReader(inflated), options)
        try:
            return unpacker.run()
        finally:
            unpacker.tree.close()


class _Tree(Rooted):
    """La radice che si riempie: una cartella sottintesa prende i permessi di quella di sotto."""

    def __init__(self, path: str, options: Options, folders: dict[tuple[bytes, ...], Facts]) -> None:
        super().__init__(path)
        self._whiteouts, self._folders = options.whiteouts, folders
        self._below = [Rooted(lower) for lower in options.below]

    def close(self) -> None:
        for lower in self._below:
            lower.close()
        super().close()

    def give_way(self, folder: int, name: bytes) -> bool:
        if not self._whiteouts.placeholder(os.stat(name, dir_fd=folder, follow_symlinks=False)):
            return False
        os.unlink(name, dir_fd=folder)
        return True

    def made(self, names: list[bytes], folder: int, gave_way: bool) -> None:
        os.fchmod(folder, 0o755)  # whatever the umask
        if gave_way:
            self._whiteouts.fresh(folder)
            return
        for lower in self._below:
            try:
                found = lower.folder(names, create=False)
            except (OSError, InvalidError):
                continue
            self._folders.setdefault(tuple(names), Facts.of_folder(found))
            return


class _Unpacker:
    def __init__(self, target: str, reader: TarReader, options: Options) -> None:
        self._reader, self._options, self._whiteouts = reader, options, options.whiteouts
        #: Facts of folders wait for the end: what is put in a folder changes its time, and may need its permissions.
        self._folders: dict[tuple[bytes, ...], Facts] = {}
        self._done = Unpacked()
        self.tree = _Tree(target, options, self._folders)

    def run(self) -> Unpacked:
        if self._whiteouts.layer and not os.listdir(self.tree.fd):  # the root itself may be named by nobody
            self.tree.made([], self.tree.fd, False)
        for entry in self._reader:
            self._done.entries += 1
            if self._done.entries > self._options.limits.entries:
                raise InvalidError(f"Lo strato ha più di {self._options.limits.entries} voci: non lo apro.")
            try:
                self._one(entry)
            except OSError as problem:
                if problem.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EFBIG):
                    why = os.strerror(problem.errno)
                    raise InvalidError(f"Nello strato «{entry.shown}» non si può creare: {why}.") from None
                raise
        self._reader.drain()
        for names in sorted(self._folders):
            self._finish_folder(names, self._folders[names])
        # A folder that its own owner may not enter is closed only when all that is in it is done.
        closed = [names for names, facts in self._folders.items() if facts.mode & 0o700 != 0o700]
        for names in sorted(closed, reverse=True):
            with suppress(FileNotFoundError, InvalidError):  # a later entry took its place
                os.fchmod(self.tree.folder(list(names), create=False), self._folders[names].mode)
        return self._done

    def _one(self, entry: Entry) -> None:
        meaning, names = self._meaning(entry.name)
        if meaning == "file" and not self._options.owners and (entry.uid or entry.gid):
            self._skip(OWNERS)
        if meaning == "aufs":
            self._skip("i segni privati di AUFS")
        elif meaning != "file":
            if entry.kind not in (header.REGULAR, header.LINK):
                raise InvalidError(f"Nello strato «{entry.shown}» è una cancellazione, ma non è un file: è ambiguo.")
            (self._whiteouts.hide if meaning == "hide" else self._whiteouts.opaque)(self.tree, names)
        elif entry.kind == header.DIRECTORY:
            self._folder(names, entry)
        elif not names:
            raise InvalidError("Nello strato la radice non è una cartella.")
        elif entry.kind in (header.CHARACTER, header.BLOCK_DEVICE):
            self._skip(DEVICES)
        else:
            self._create(names, entry)

    def _meaning(self, name: bytes) -> tuple[str, list[bytes]]:
        if self._whiteouts.layer:
            return split(parts(name))
        found, instead = parts(name), self._options.instead
        if instead is not None:
            found[:1] = instead
        return "file", [*self._options.under, *found]

    def _skip(self, why: str) -> None:
        self._done.skipped[why] += 1

    # ------------------------------------------------------------ one thing in the tree

    def _folder(self, names: list[bytes], entry: Entry) -> None:
        if names:
            folder, name = self.tree.folder(names[:-1]), names[-1]
            try:
                os.mkdir(name, 0o755, dir_fd=folder)
            except FileExistsError:
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISDIR(info.st_mode):
                    self._make_room(folder, names)
                    os.mkdir(name, 0o755, dir_fd=self.tree.folder(names[:-1]))
                    self._whiteouts.fresh(self.tree.folder(names))
            self._whiteouts.note(self.tree, names)
        self._folders[tuple(names)] = Facts.of_entry(entry)

    def _create(self, names: list[bytes], entry: Entry) -> None:
        make: Callable[[int, bytes, Entry], None] = {
            header.REGULAR: self._file,
            header.SYMLINK: self._symlink,
            header.LINK: self._link,
            header.FIFO: self._fifo,
        }[entry.kind]
        folder = self.tree.folder(names[:-1])
        try:
            make(folder, names[-1], entry)
        except FileExistsError:
            if entry.kind == header.LINK and self._same(folder, names[-1], entry):
                return
            self._make_room(folder, names)
            make(self.tree.folder(names[:-1]), names[-1], entry)
        self._whiteouts.note(self.tree, names)

    def _make_room(self, folder: int, names: list[bytes]) -> None:
        """Un nome già preso: vince l'ultimo, come in ogni tar."""
        remove(folder, names[-1])
        self.tree.forget()
        gone = tuple(names)
        for known in [known for known in self._folders if known[: len(gone)] == gone]:
            del self._folders[known]

    def _file(self, folder: int, name: bytes, entry: Entry) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            if entry.pieces is None:
                for data in self._reader.data():
                    _write(fd, data)
            else:
                self._sparse(fd, entry)
            self._done.size += entry.size
            Facts.of_entry(entry).apply(fd, entry.shown, self._options.owners, self._skip)
        finally:
            os.close(fd)

    def _sparse(self, fd: int, entry: Entry) -> None:
        os.ftruncate(fd, entry.length)
        todo = iter(entry.pieces or ())
        piece, used = next(todo, None), 0
        for data in self._reader.data():
            while data and piece:
                part = data[: piece.size - used]
                os.lseek(fd, piece.offset + used, os.SEEK_SET)
                _write(fd, part)
                data, used = data[len(part) :], used + len(part)
                if used == piece.size:
                    piece, used = next(todo, None), 0

    def _symlink(self, folder: int, name: bytes, entry: Entry) -> None:
        if not entry.link:
            raise InvalidError(f"Nello strato il link «{entry.shown}» non dice dove porta.")
        os.symlink(entry.link, name, dir_fd=folder)
        self._own(name, entry, folder)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)
        for _ in entry.xattrs:
            self._skip("gli attributi di un link simbolico")

    def _fifo(self, folder: int, name: bytes, entry: Entry) -> None:
        os.mkfifo(name, 0o600, dir_fd=folder)
        self._own(name, entry, folder)
        # Opening it would wait for the other end: its name is ours and nobody else writes here.
        os.chmod(name, entry.mode, dir_fd=folder)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _target(self, entry: Entry) -> tuple[int, bytes]:
        """Il file a cui porta un collegamento: dentro la radice, e in questo strato."""
        meaning, names = self._meaning(entry.link)
        try:
            if meaning == "file" and names:
                folder = self.tree.folder(names[:-1], create=False)
                info = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISDIR(info.st_mode) and not self._whiteouts.placeholder(info):
                    return folder, names[-1]
        except FileNotFoundError:
            pass
        where = header.show(entry.link)
        raise InvalidError(
            f"Nello strato «{entry.shown}» è un collegamento a «{where}», che nello strato non è un file."
        )

    def _link(self, folder: int, name: bytes, entry: Entry) -> None:
        source, target = self._target(entry)
        os.link(target, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)

    def _same(self, folder: int, name: bytes, entry: Entry) -> bool:
        source, target = self._target(entry)
        one, other = (os.stat(n, dir_fd=f, follow_symlinks=False) for n, f in ((name, folder), (target, source)))
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)

    # ------------------------------------------------------------ whose it is, and what may be done with it

    def _own(self, name: bytes, entry: Entry, folder: int) -> None:
        if self._options.owners:
            with known_owner(entry.shown):
                os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)

    def _finish_folder(self, names: tuple[bytes, ...], facts: Facts) -> None:
        try:
            folder = self.tree.folder(list(names), create=False)
        except (FileNotFoundError, InvalidError):  # a later entry took its place
            return
        usable = replace(facts, mode=facts.mode | 0o700)
        usable.apply(folder, header.show(b"/".join(names)), self._options.owners, self._skip)


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]

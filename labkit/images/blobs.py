"""I byte di tutte le immagini, ciascuno sotto la propria impronta (image-layout.md, «blobs»).

Un blob si vede solo intero e controllato. Quello che si sta scrivendo sta in ``ingest/`` con un
lucchetto; uno rovinato va in ``corrupt/``: non si usa più, non si cancella di nascosto, e si può
scaricare di nuovo. Più processi scrivono insieme: lo stesso contenuto ha lo stesso nome.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from labkit.errors import CorruptError, InvalidError, NotFoundError
from labkit.images.compression import pieces
from labkit.images.descriptor import LARGEST_DOCUMENT, Descriptor
from labkit.images.digest import ALGORITHMS, Digest
from labkit.images.disk import explained, make_folder, sync_folder, try_lock

_PREFIX = "new-"


class Blobs:
    """La cartella dei blob sotto ``root``."""

    def __init__(self, root: str) -> None:
        self.root = root
        for name in (*(f"blobs/{algorithm}" for algorithm in ALGORITHMS), "ingest", "corrupt"):
            make_folder(f"{root}/{name}")

    def path(self, digest: Digest) -> str:
        return f"{self.root}/blobs/{digest.algorithm}/{digest.encoded}"

    def size(self, digest: Digest) -> int | None:
        """I byte di un blob, o ``None`` se non c'è."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return None

    def has(self, wanted: Descriptor) -> bool:
        """Se il blob c'è, con la misura giusta; uno di un'altra misura è rovinato, e va da parte."""
        size = self.size(wanted.digest)
        if size is not None and size != wanted.size:
            self.set_aside(wanted.digest)
            return False
        return size is not None

    def open(self, wanted: Descriptor) -> BinaryIO:
        """Il blob aperto in lettura. Chi lo usa ne controlla l'impronta mentre legge."""
        if not self.has(wanted):
            raise NotFoundError(f"Nella cartella delle immagini manca {wanted.digest}.", "scarica di nuovo l'immagine")
        return open(self.path(wanted.digest), "rb")

    def read(self, wanted: Descriptor) -> bytes:
        """Un documento (manifesto, indice, configurazione), con l'impronta controllata."""
        if wanted.size > LARGEST_DOCUMENT:
            raise InvalidError(f"Un documento di {wanted.size} byte è troppo grande: il massimo è {LARGEST_DOCUMENT}.")
        with self.open(wanted) as file:
            data = file.read(wanted.size + 1)
        hasher = wanted.digest.hasher()
        hasher.update(data)
        if Digest.from_hasher(hasher) != wanted.digest:
            raise self._corrupt(wanted.digest)
        return data

    def add(self, source: Iterable[bytes], wanted: Descriptor | None = None) -> tuple[Digest, int]:
        """Conserva i byte di ``source``; se non sono quelli di ``wanted`` non resta niente. Torna impronta e misura."""
        with explained("conservare un pezzo dell'immagine"), self._fresh() as (fd, temporary):
            hasher = (wanted.digest if wanted else Digest.of(b"")).hasher()
            size = 0
            for piece in source:
                hasher.update(piece)
                size += len(piece)
                if wanted and size > wanted.size:
                    break
                write_all(fd, piece)
            digest = Digest.from_hasher(hasher)
            if wanted and (size, digest) != (wanted.size, wanted.digest):
                raise mismatch(wanted, size, digest)
            self._publish(fd, temporary, digest)
        return digest, size

    def add_document(self, data: bytes) -> Digest:
        """Conserva un documento che è già in memoria."""
        digest = Digest.of(data)
        if self.size(digest) != len(data):
            self.add([data])
        return digest

    @contextmanager
    def _fresh(self) -> Iterator[tuple[int, str]]:
        path = f"{self.root}/ingest/{_PREFIX}{os.urandom(8).hex()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try_lock(fd)  # nobody else knows the name yet: this only tells the sweeper that it is in use
            yield fd, path
        finally:
            if os.path.exists(path):
                os.unlink(path)
            os.close(fd)

    def _publish(self, fd: int, temporary: str, digest: Digest) -> None:
        os.fchmod(fd, 0o444)
        os.fsync(fd)
        os.rename(temporary, self.path(digest))
        sync_folder(os.path.dirname(self.path(digest)))

    # ------------------------------------------------------------ a download that may stop and go on

    @contextmanager
    def partial(self, wanted: Descriptor, check: Callable[[], None] = lambda: None) -> Iterator[Partial | None]:
        """Un blob che arriva dalla rete: riprende da dove era arrivato, anche in un altro processo.

        Dà ``None`` se intanto è arrivato: di uno stesso blob c'è un solo scaricatore alla volta, e gli
        altri aspettano lui; ``check`` può interrompere l'attesa. Quello che è scritto resta per la
        prossima volta, tranne se il disco è pieno.
        """
        path = f"{self.root}/ingest/{wanted.digest.algorithm}-{wanted.digest.encoded}"
        while True:
            with explained("scaricare un pezzo dell'immagine"):
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not try_lock(fd):
                    check()
                    time.sleep(0.05)
                if self.has(wanted):
                    if _still(fd, path):
                        os.unlink(path)
                    yield None
                    return
                if not _still(fd, path):  # whoever had it has just thrown it away
                    continue
                with explained("scaricare un pezzo dell'immagine"):
                    partial = Partial(self, fd, path, wanted)
                    try:
                        yield partial
                    except OSError as problem:
                        if problem.errno in (errno.ENOSPC, errno.EDQUOT):  # what is half done gives its room back
                            os.unlink(path)
                        raise
                return
            finally:
                os.close(fd)

    # ------------------------------------------------------------ damage and sweeping

    def verify(self, digest: Digest) -> bool:
        """Rilegge un blob per intero; se non è più lui lo mette da parte."""
        hasher = digest.hasher()
        try:
            with open(self.path(digest), "rb") as file:
                for piece in pieces(file):
                    hasher.update(piece)
        except FileNotFoundError:
            return False
        if Digest.from_hasher(hasher) == digest:
            return True
        self.set_aside(digest)
        return False

    def set_aside(self, digest: Digest) -> None:
        """Un blob rovinato: non si usa, e resta da guardare in ``corrupt/``."""
        try:
            os.rename(self.path(digest), f"{self.root}/corrupt/{digest.algorithm}-{digest.encoded}")
        except FileNotFoundError:  # another process was quicker
            pass
        except OSError as problem:
            if problem.errno != errno.EROFS:  # a virtual machine only reads: whoever switched it on will set it aside
                raise

    def _corrupt(self, digest: Digest) -> CorruptError:
        self.set_aside(digest)
        return CorruptError(
            f"Un pezzo dell'immagine si è rovinato sul disco ({digest}): l'ho messo da parte in {self.root}/corrupt.",
            "scarica di nuovo l'immagine: prende solo quello che manca",
        )

    def all(self) -> Iterator[Digest]:
        """Le impronte di tutti i blob."""
        for algorithm in ALGORITHMS:
            for name in sorted(os.listdir(f"{self.root}/blobs/{algorithm}")):
                try:
                    yield Digest(f"{algorithm}:{name}")
                except InvalidError:  # somebody else's file: not ours to touch
                    continue

    def remove(self, digest: Digest) -> int:
        """Toglie un blob; torna i byte liberati."""
        size = self.size(digest) or 0
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            return 0
        return size

    def sweep(self) -> int:
        """Toglie ciò che è rimasto a metà e che nessuno sta scrivendo; torna i byte liberati."""
        freed = 0
        for name in os.listdir(f"{self.root}/ingest"):
            path = f"{self.root}/ingest/{name}"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:  # gone in the meantime
                continue
            try:
                if try_lock(fd) and _still(fd, path):
                    freed += os.fstat(fd).st_size
                    os.unlink(path)
            finally:
                os.close(fd)
        return freed


class Partial:
    """Un blob a metà: ``offset`` byte ci sono già, e sono contati nell'impronta."""

    def __init__(self, blobs: Blobs, fd: int, path: str, wanted: Descriptor) -> None:
        self._blobs, self._fd, self._path, self._wanted = blobs, fd, path, wanted
        self._hasher = wanted.digest.hasher()
        self.offset = 0
        while data := os.read(fd, 1 << 20):
            self._hasher.update(data)
            self.offset += len(data)
        if self.offset > wanted.size:
            self.restart()

    def restart(self) -> None:
        """Ricomincia da zero: quello che c'era non serve."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hasher, self.offset = self._wanted.digest.hasher(), 0

    def write(self, data: bytes) -> None:
        """Altri byte; più di quelli promessi è un errore, e si ricomincia da zero."""
        if self.offset + len(data) > self._wanted.size:
            self.restart()
            raise InvalidError(f"Arrivano più byte dei {self._wanted.size} promessi per {self._wanted.digest}.")
        write_all(self._fd, data)
        self._hasher.update(data)
        self.offset += len(data)

    def commit(self) -> None:
        """Il blob è intero: se è quello promesso diventa visibile, altrimenti sparisce."""
        digest = Digest.from_hasher(self._hasher)
        if (self.offset, digest) != (self._wanted.size, self._wanted.digest):
            size = self.offset
            self.restart()
            raise mismatch(self._wanted, size, digest)
        self._blobs._publish(self._fd, self._path, digest)


def mismatch(wanted: Descriptor, size: int, digest: Digest) -> InvalidError:
    if size != wanted.size:
        return InvalidError(f"Per {wanted.digest} erano promessi {wanted.size} byte, e ne arrivano {size}.")
    return InvalidError(f"I byte arrivati non sono quelli promessi: doveva essere {wanted.digest}, ed è {digest}.")


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _still(fd: int, path: str) -> bool:
    """Se ``path`` è ancora il file aperto: chi lo teneva può averlo pubblicato o tolto."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (here.st_dev, here.st_ino)

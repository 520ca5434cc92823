"""Leggere un tar in flusso e senza fidarsi: una voce alla volta, con memoria limitata.

Un archivio rovinato, tagliato o ambiguo è un errore, mai una fine anticipata: ``tarfile``, letto in
flusso, prende una somma sbagliata per la fine dell'archivio e accetta misure negative.
"""

from __future__ import annotations

from collections.abc import Iterator

from labkit.errors import InvalidError
from labkit.images import tar_header as header
from labkit.images import tar_sparse as sparse
from labkit.images.tar_header import BLOCK, PATH_MAX, Entry, show

#: The longest extended header that is read: for a file Linux allows 64 KiB of attributes and 4 KiB of name.
LARGEST_HEADER = 1 << 20


class TarReader:
    """Un tar da un flusso di pezzi: :meth:`next` dà una voce, :meth:`data` i suoi byte."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._piece = memoryview(b"")
        self._left = 0  # bytes of this entry that nobody has read yet
        self._padding = 0
        self._ended = False

    def __iter__(self) -> Iterator[Entry]:
        while entry := self.next():
            yield entry

    def next(self) -> Entry | None:
        """La prossima voce, con le estensioni già applicate; ``None`` alla fine dell'archivio."""
        if self._ended:
            return None
        names: dict[bytes, bytes] = {}
        pax: list[tuple[bytes, bytes]] = []
        extra = 0
        while True:
            self._skip()
            block = self._read(BLOCK, or_end=True)
            if not block.strip(b"\0"):
                if names or pax:
                    raise header.cut()
                self._ended = True
                return None
            entry, raw = header.parse(block)
            if raw not in header.EXTENSIONS:
                return self._finish(entry, raw, block, names, pax)
            # Many headers for one entry cost nothing to write and much to read: they are counted together.
            extra += entry.size
            if extra > LARGEST_HEADER:
                raise InvalidError(f"Il tar ha un'intestazione estesa di {extra} byte: il massimo è {LARGEST_HEADER}.")
            text = self._read(entry.size)
            self._padding = -entry.size % BLOCK
            if raw == header.PAX:
                pax = header.records(text)
            elif raw != header.PAX_GLOBAL:
                names[raw] = text.rstrip(b"\0")
            elif any(key != b"comment" for key, _ in header.records(text)):
                raise InvalidError(
                    "Il tar ha un'intestazione globale, che cambia tutte le voci: in uno strato non si usa."
                )

    def _finish(
        self, entry: Entry, raw: bytes, block: bytes, names: dict[bytes, bytes], pax: list[tuple[bytes, bytes]]
    ) -> Entry:
        entry.name, entry.link = names.get(header.LONG_NAME, entry.name), names.get(header.LONG_LINK, entry.link)
        header.apply(entry, pax)
        if entry.kind == header.REGULAR and entry.name.endswith(b"/"):  # how folders were written before POSIX
            entry.kind = header.DIRECTORY
        if entry.kind == header.DIRECTORY:  # POSIX: the size of a folder is only a hint, no data follows
            entry.size = 0
        elif entry.size and entry.kind != header.REGULAR:
            raise InvalidError(f"Nel tar «{entry.shown}» non è un file ma ha dei dati: è ambiguo.")
        entry.length, self._padding = entry.size, -entry.size % BLOCK
        if raw == header.SPARSE:
            entry.pieces, entry.length = sparse.old(block, self._read)
        elif pax and entry.kind == header.REGULAR:
            sparse.extended(entry, pax, self._read)
        if entry.pieces is not None:
            sparse.check(entry)
        self._left = entry.size
        for name in (entry.name, entry.link):
            if b"\0" in name or len(name) >= PATH_MAX:
                raise InvalidError(
                    f"Nel tar c'è un nome impossibile (troppo lungo, o con un byte zero): «{show(name)}»."
                )
        return entry

    def data(self) -> Iterator[memoryview]:
        """I byte della voce corrente, a pezzi; quelli che non si leggono li salta :meth:`next`."""
        while self._left:
            some = self._some(self._left)
            if not some:
                raise header.cut()
            self._left -= len(some)
            yield some

    def drain(self) -> None:
        """Legge il flusso fino in fondo: l'impronta di un archivio è di tutti i suoi byte."""
        self._skip()
        while self._some(1 << 20):
            pass

    def _skip(self) -> None:
        for _ in self.data():
            pass
        padding, self._padding = self._padding, 0
        self._read(padding)

    def _some(self, most: int) -> memoryview:
        """Al massimo ``most`` byte, senza copiarli; vuoto solo alla fine del flusso."""
        while not self._piece:
            found = next(self._source, None)
            if found is None:
                return self._piece
            self._piece = memoryview(found)
        some, self._piece = self._piece[:most], self._piece[most:]
        return some

    def _read(self, size: int, or_end: bool = False) -> bytes:
        """``size`` byte esatti; con ``or_end`` anche nessuno, se il flusso è finito proprio lì."""
        data = bytearray()
        while len(data) < size and (some := self._some(size - len(data))):
            data += some
        if len(data) != size and (data or not or_end):
            raise header.cut()
        return bytes(data)

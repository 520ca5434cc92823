"""I moduli di un kernel: quali ne servono e in che ordine si caricano.

L'ordine viene da ``modules.dep`` quando c'è; altrimenti dal campo ``depends=`` che ogni modulo porta in
sé (sezione ``.modinfo``): un pacchetto appena aperto non ha ancora ``modules.dep``.
"""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Iterable
from pathlib import Path

from labkit.backends.deb import unzstd
from labkit.errors import BackendError

#: Dipendenze che i moduli non dichiarano in ``depends=`` (softdep): chi calcola checksum vuole crc32c già pronto.
SOFT = {"libcrc32c": ("crc32c_generic",), "xt_LOG": ("nf_log_syslog",)}


def stem(path: str) -> str:
    """Il nome di un modulo dal suo file.

    >>> stem("kernel/lib/crc-ccitt.ko.xz")
    'crc_ccitt'
    """
    return os.path.basename(path).partition(".")[0].replace("-", "_")


class Modules:
    """I moduli che stanno sotto una cartella ``…/modules/VERSIONE``."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files = {stem(name): Path(base, name) for base, _, names in os.walk(self.folder)
                       for name in names if ".ko" in name}  # fmt: skip
        self._needs: dict[str, tuple[str, ...]] = {}
        index = self.folder / "modules.dep"
        if index.exists():
            for line in index.read_text().splitlines():
                path, _, needed = line.partition(":")
                self._needs[stem(path)] = tuple(stem(name) for name in needed.split())
        builtin = self.folder / "modules.builtin"
        self.builtin = {stem(line) for line in builtin.read_text().split()} if builtin.exists() else set()

    def order(self, names: Iterable[str]) -> list[Path]:
        """I file da caricare, ognuno dopo quelli di cui ha bisogno; quelli che il kernel ha già in sé si saltano."""
        found: dict[str, Path] = {}
        for name in names:
            self._visit(name.replace("-", "_"), found, ())
        return list(found.values())

    def available(self, names: Iterable[str]) -> list[str]:
        """Quelli fra ``names`` che questo kernel può avere, come modulo o in sé."""
        return [name for name in names if name.replace("-", "_") in self._files.keys() | self.builtin]

    def _visit(self, name: str, found: dict[str, Path], path: tuple[str, ...]) -> None:
        if name in found or name in path or name in self.builtin:
            return
        if name not in self._files:
            raise BackendError(f"Il modulo «{name}» non c'è fra quelli del kernel in «{self.folder}».",
                               "togli LABKIT_KERNEL e LABKIT_MODULES, o scegli il kernel generico")  # fmt: skip
        soft = [other for other in SOFT.get(name, ()) if other in self._files]
        for needed in (*soft, *self.needs(name)):
            self._visit(needed, found, (*path, name))
        found[name] = self._files[name]

    def needs(self, name: str) -> tuple[str, ...]:
        """I moduli che devono essere già nel kernel prima di ``name``."""
        if name not in self._needs:
            self._needs[name] = declared(content(self._files[name]))
        return self._needs[name]

    def prune(self, names: Iterable[str]) -> None:
        """Tiene sul disco solo quello che serve a ``names``, e scrive l'indice ``modules.dep`` di quello che resta."""
        kept = self.order(names)
        for path in set(self._files.values()) - set(kept):
            path.unlink()
        self._files = {stem(path.name): path for path in kept}
        relative = {name: str(path.relative_to(self.folder)) for name, path in self._files.items()}
        lines = []
        for name in relative:
            # As depmod(8) writes it: the needed ones in the order opposite to that of loading.
            needed = [relative[stem(file.name)] for file in reversed(self.order([name])[:-1])]
            lines.append(" ".join((f"{relative[name]}:", *needed)) + "\n")
        (self.folder / "modules.dep").write_text("".join(lines))


def content(path: Path) -> bytes:
    """Il modulo come lo vuole il kernel, non compresso."""
    data = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            return unzstd(data)
    return data


def declared(module: bytes) -> tuple[str, ...]:
    """Il campo ``depends=`` di un modulo: i nomi dei moduli che vuole già caricati.

    >>> declared(b"...\\0license=GPL\\0depends=stp,llc\\0name=bridge\\0")
    ('stp', 'llc')
    """
    # A closing NUL before the key: the word may also be inside another string of the module.
    _, mark, rest = module.partition(b"\0depends=")
    names = rest.partition(b"\0")[0].decode("ascii") if mark else ""
    return tuple(name.replace("-", "_") for name in names.split(",") if name)

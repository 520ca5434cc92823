"""Legge un pacchetto Debian (deb(5)) senza essere root e senza dpkg: un archivio ar che contiene un tar compresso.

Sul disco si estraggono solo file normali, scelti uno per uno da chi chiama: né collegamenti, né dispositivi,
né percorsi con «..» ci arrivano mai. Chi vuole tutto, con i proprietari e i collegamenti, legge le voci una a una.
"""

from __future__ import annotations

import gzip
import importlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from labkit.errors import BackendError

AR_MAGIC = b"!<arch>\n"


def unpack(package: Path, into: Path, keep: Callable[[str], bool]) -> list[str]:
    """Estrae i file per cui ``keep("usr/bin/programma")`` è vero; torna i loro percorsi, relativi a ``into``."""
    return [member.name for member, content in members(package) if _extract(member, content, into, keep)]


def members(package: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Le voci di un pacchetto, con il contenuto dei file normali, da leggere prima di passare alla voce dopo.

    I nomi sono senza il «./» davanti: ``usr/bin/programma``.
    """
    with package.open("rb") as file:
        data, compression = _find_data(file)
        with tarfile.open(fileobj=decompressed(data, compression), mode="r|") as tar:
            for member in tar:
                member.name = os.path.normpath(member.name)
                yield member, tar.extractfile(member) if member.isfile() else None


def _find_data(file: IO[bytes]) -> tuple[IO[bytes], str]:
    """The member ``data.tar.*`` and its compression: each member of an ar(5) has a header of 60 bytes of text."""
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise BackendError(f"«{file.name}» non è un pacchetto Debian.", "scaricalo di nuovo")
    while header := file.read(60):
        if len(header) < 60 or header[58:] != b"`\n":
            break
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return io.BytesIO(file.read(size)), name.removeprefix("data.tar").removeprefix(".")
        file.seek(size + size % 2, os.SEEK_CUR)
    raise BackendError(f"Il pacchetto «{file.name}» è rovinato: non ha un contenuto.", "scaricalo di nuovo")


def decompressed(file: IO[bytes], compression: str) -> IO[bytes]:
    """Un flusso compresso (``xz``, ``gz``, ``zst``, o vuoto) come flusso dei suoi byte veri.

    >>> decompressed(io.BytesIO(gzip.compress(b"ciao")), "gz").read()
    b'ciao'
    """
    match compression:
        case "":
            return file
        case "xz":
            return lzma.open(file)
        case "gz":
            return io.BufferedReader(gzip.GzipFile(fileobj=file))
        case "zst":
            return io.BytesIO(unzstd(file.read()))
    raise BackendError(f"Non so leggere la compressione «{compression}».", "sudo apt-get install dpkg")


def unzstd(data: bytes) -> bytes:
    """Scioglie dati zstd: con la libreria standard da Python 3.14, prima con il programma ``zstd``."""
    try:
        library = importlib.import_module("compression.zstd")
    except ImportError:
        program = shutil.which("zstd")
        if program is None:
            raise BackendError("Questo kernel è compresso con zstd, e qui non c'è il programma che lo scioglie.",
                               "sudo apt-get install zstd") from None  # fmt: skip
        done = subprocess.run([program, "-dcq"], input=data, capture_output=True)
        # The payload of a kernel has a trailer after the frame: zstd complains, but what it wrote is whole.
        if done.returncode != 0 and not done.stdout:
            raise BackendError(f"zstd non riesce a sciogliere il kernel: {done.stderr.decode().strip()}.") from None
        return done.stdout
    decompressor = library.ZstdDecompressor()
    return bytes(decompressor.decompress(data))


def _extract(member: tarfile.TarInfo, content: IO[bytes] | None, into: Path, keep: Callable[[str], bool]) -> bool:
    if content is None or member.name.startswith(("/", "..")) or not keep(member.name):
        return False
    target = into / member.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as output:
        shutil.copyfileobj(content, output)
    target.chmod(0o755 if member.mode & 0o111 else 0o644)
    return True

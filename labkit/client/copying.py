"""``labkit cp``: file fra questa macchina e un container, con le regole di ``docker cp``.

La destinazione dice il nome: se è una cartella ciò che si copia ci finisce dentro, se non c'è prende quel nome.
"""

from __future__ import annotations

import os
import stat
import tarfile
import threading
from typing import BinaryIO

from labkit.client.container import Container
from labkit.errors import ConflictError, InvalidError, NotFoundError
from labkit.images.disk import explained
from labkit.images.unpack import extract


def into(container: Container, source: str, target: str, *, owners: bool = False, follow: bool = False) -> None:
    """Copia ``source`` di questa macchina nel container; i file sono di root, o di chi erano con ``owners``."""
    with explained(f"leggere «{source}»"):
        info = os.stat(source) if follow or source.endswith(("/", "/.")) else os.lstat(source)
    directory = stat.S_ISDIR(info.st_mode)
    found = container.stat(target)
    there = found is not None and stat.S_ISDIR(found["mode"])
    _check(directory, source, target, found is not None, there)
    name = os.path.basename(os.path.abspath(source)) or "radice"
    contents = directory and source.endswith("/.")
    folder, last = (target, "." if contents else name) if there else _split(target)
    reader, writer = os.pipe()
    problem: list[BaseException] = []

    def write() -> None:
        try:
            with open(writer, "wb") as out, tarfile.open(fileobj=out, mode="w|", dereference=follow) as archive:
                archive.add(source, last, filter=None if owners else _of_root)
        except BrokenPipeError:  # whoever was reading says why
            pass
        except BaseException as failure:  # noqa: BLE001  told by whoever waits
            problem.append(failure)

    thread = threading.Thread(target=write, name="labkit-cp", daemon=True)
    thread.start()
    with open(reader, "rb") as archive:
        try:
            container.put_archive(folder, archive)
        finally:
            archive.close()
            thread.join()
            with explained(f"leggere «{source}»"):
                if problem:
                    raise problem[0]


def out_of(container: Container, source: str, target: str, *, owners: bool = False, follow: bool = False) -> None:
    """Copia ``source`` del container su questa macchina; i file sono di chi copia, o di chi erano con ``owners``."""
    pieces, info = container.get_archive(source.rstrip("/") + "/" if follow and source.strip("/") else source)
    directory = stat.S_ISDIR(info["mode"])
    there = os.path.isdir(target)
    _check(directory, source, target, os.path.lexists(target), there)
    if there:
        folder, name = target, () if directory and source.endswith("/.") else (os.fsencode(info["name"]),)
    else:
        folder, last = _split(target)
        name = (os.fsencode(last),)
    if not os.path.isdir(folder or "."):
        raise NotFoundError(f"La cartella «{folder}» non c'è.", f"mkdir -p {folder}")
    with explained(f"scrivere in «{folder or '.'}»"):
        extract(pieces, os.path.realpath(folder or "."), "", owners, name)


def archive_in(container: Container, target: str, source: BinaryIO) -> None:
    """``labkit cp - NOME:CARTELLA``: un tar dall'ingresso del comando."""
    container.put_archive(target, source)


def archive_out(container: Container, source: str, target: BinaryIO) -> None:
    """``labkit cp NOME:PERCORSO -``: un tar all'uscita del comando."""
    target.writelines(container.get_archive(source)[0])


def _check(directory: bool, source: str, target: str, exists: bool, there: bool) -> None:
    if exists and not there and directory:
        raise ConflictError(
            f"«{target}» è un file: una cartella («{source}») non ci può andare.", "un'altra destinazione"
        )
    if not there and not directory and target.endswith("/"):
        raise NotFoundError(f"La cartella «{target}» non c'è.", f"mkdir -p {target}")


def _split(path: str) -> tuple[str, str]:
    plain = path.rstrip("/")
    folder, name = os.path.split(plain)
    if name in ("", ".", ".."):
        raise InvalidError(f"«{path}» non è il nome di un file.", "labkit cp FILE NOME:/cartella/nome")
    return folder or ("/" if plain.startswith("/") else "."), name


def _of_root(one: tarfile.TarInfo) -> tarfile.TarInfo:
    one.uid = one.gid = 0
    one.uname = one.gname = ""
    return one

"""Uno strato fatto da pacchetti Debian e da file nostri: un tar che dagli stessi pacchetti è sempre lo stesso.

Nessuno script dei pacchetti viene eseguito: le poche cose che farebbero e che servono (utenti, cartelle,
collegamenti) le dice la ricetta. I tempi sono quelli dei pacchetti; i file nostri hanno quello dell'immagine.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from labkit.backends.deb import members
from labkit.backends.packages import Package

#: Debian is merging /bin and the others into /usr: some packages still ship the old names.
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

#: What a container does not read: documentation (licences stay), translations, what starts services on a machine.
_LEFT_OUT = re.compile(
    r"usr/share/doc/.*[^/](?<!/copyright)$|usr/share/(man|info|locale|lintian|linda|groff|bug|bash-completion|pixmaps|icons"
    r"|applications|apport|zoneinfo/(right|posix)|menu|vim)/"
    r"|usr/lib/systemd/|usr/lib/[^/]+/gconv/|usr/lib/[^/]+/perl-base/|usr/lib/tmpfiles\.d/|usr/lib/sysusers\.d/"
    r"|etc/(init\.d|logrotate\.d|cron[^/]*|systemd|init|apparmor\.d|ufw|default|pam\.d|insserv[^/]*|bash_completion\.d"
    r"|update-motd\.d|apport)/"
)
_PIECE = 1 << 18
_END = bytes(2 * 512)


@dataclass(frozen=True)
class Folder:
    """Una cartella da creare, con permessi e proprietario."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Step:
    """Un passo di una ricetta, cioè uno strato: i pacchetti (e quelli di cui hanno bisogno), poi ciò che è nostro.

    ``later`` sono i pacchetti che di questi aspettano un passo dopo: così le librerie, che in ogni distribuzione hanno
    nomi diversi, stanno in uno strato loro. ``without`` è ciò che dei pacchetti non serve (un'espressione regolare sui
    percorsi); ``files`` una cartella di ``recipes/files`` con i file come stanno nell'immagine; ``joined`` i file che
    sono altri file in fila.
    """

    title: str
    packages: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    without: str = ""
    files: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Folder] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    joined: Mapping[str, str] = field(default_factory=dict)


def newest(archives: Iterable[Path]) -> int:
    """L'istante della voce più recente di questi pacchetti; vale ``SOURCE_DATE_EPOCH`` se c'è."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return max((int(member.mtime) for archive in archives for member, _ in members(archive)), default=0)


def tar(step: Step, packages: Sequence[Package], archives: Sequence[Path], moment: int) -> Iterator[bytes]:
    """Il tar dello strato, a pezzi: le nostre cartelle, i pacchetti nell'ordine dato, il resto in ordine di nome."""
    return _Tar(step, moment).pieces(packages, archives)


class _Tar:
    def __init__(self, step: Step, moment: int) -> None:
        self._step, self._moment = step, moment
        self._seen: set[str] = set()
        self._joined: dict[str, bytes] = dict.fromkeys(step.joined, b"")

    def pieces(self, packages: Sequence[Package], archives: Sequence[Path]) -> Iterator[bytes]:
        for name, folder in sorted(self._step.folders.items()):  # first: of a folder the first description counts
            yield from self._folder(name, folder)
        for archive in archives:
            for member, content in members(archive):
                yield from self._packaged(member, content)
        for package in packages:  # as in images without dpkg: whoever looks for known flaws reads these
            status = f"Package: {package.name}\nStatus: install ok installed\nVersion: {package.version}\n"
            yield from self._text(f"var/lib/dpkg/status.d/{package.name}", status.encode())
        for name, target in sorted(self._step.links.items()):
            yield from self._above(name)
            yield from self._entry(_info(name, tarfile.SYMTYPE, 0o777, self._moment, target))
        for name, text in sorted(self._step.texts.items()):
            yield from self._text(name, text.encode())
        for name, data in sorted(self._joined.items()):
            yield from self._text(name, data)
        if self._step.files:
            yield from self._ours(Path(__file__).parent / "files" / self._step.files)
        yield _END

    def _packaged(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> Iterator[bytes]:
        name = merged(member.name)
        link = member.issym() and member.name in MERGED  # newer packages bring the link that the first step makes
        if name in self._seen or name == "." or name.startswith("..") or link or self._useless(member, name):
            return
        if member.islnk():
            member.linkname = merged(os.path.normpath(member.linkname))
            if member.linkname not in self._seen:  # its other name was left out, and the content with it
                return
        member.name, member.uname, member.gname, member.pax_headers = name, "", "", {}
        member.mtime = int(member.mtime)
        if content is None:
            yield from self._entry(member)
            return
        wanted = [target for target, pattern in self._step.joined.items() if re.fullmatch(pattern, name)]
        if wanted:
            data = content.read()
            for target in wanted:
                self._joined[target] += data
            content = io.BytesIO(data)
        yield from self._entry(member)
        while data := content.read(_PIECE):
            yield data
        yield bytes(-member.size % 512)

    def _useless(self, member: tarfile.TarInfo, name: str) -> bool:
        path = f"{name}/" if member.isdir() else name
        return bool(_LEFT_OUT.match(path) or (self._step.without and re.match(self._step.without, path)))

    def _ours(self, root: Path) -> Iterator[bytes]:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            data = path.read_bytes()
            mode = 0o755 if data.startswith(b"#!") else 0o644
            yield from self._text(path.relative_to(root).as_posix(), data, mode)

    def _folder(self, name: str, folder: Folder) -> Iterator[bytes]:
        yield from self._above(name)
        info = _info(name, tarfile.DIRTYPE, folder.mode, self._moment)
        info.uid, info.gid = folder.uid, folder.gid
        yield from self._entry(info)

    def _text(self, name: str, data: bytes, mode: int = 0o644) -> Iterator[bytes]:
        yield from self._above(name)
        info = _info(name, tarfile.REGTYPE, mode, self._moment)
        info.size = len(data)
        yield from self._entry(info)
        yield data + bytes(-len(data) % 512)

    def _above(self, name: str) -> Iterator[bytes]:
        """The folders above that no package and no step brought; what is ours replaces nothing in its own layer."""
        for parent in reversed(Path(name).parents[:-1]):
            if str(parent) not in self._seen:
                yield from self._entry(_info(str(parent), tarfile.DIRTYPE, 0o755, self._moment))

    def _entry(self, info: tarfile.TarInfo) -> Iterator[bytes]:
        self._seen.add(info.name)
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def merged(name: str) -> str:
    """Il nome dopo l'unione con /usr.

    >>> merged("bin/bash"), merged("usr/bin/env"), merged("sbin")
    ('usr/bin/bash', 'usr/bin/env', 'usr/sbin')
    """
    return f"usr/{name}" if name.split("/", 1)[0] in MERGED else name


def _info(name: str, kind: bytes, mode: int, moment: int, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.linkname = kind, mode, moment, target
    return info

"""I volumi dalla parte di chi li usa: ``lab.volume``, e i comandi ``labkit volume``.

Un volume sta sul disco di chi usa il laboratorio e gli sopravvive. Chi lo guarda o lo toglie è comunque il laboratorio:
dentro ci possono essere file di utenti che esistono solo là.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import json
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from labkit import rundir
from labkit.backends.choice import tell
from labkit.client.contents import send_all, write_whole
from labkit.errors import InvalidError, LabClosedError, LabError, NotFoundError
from labkit.limits import show_bytes
from labkit.model import to_json
from labkit.volumes import Volume, driver_refused

if TYPE_CHECKING:
    from labkit.client.lab import Lab


class VolumeList(list[Volume]):
    """I volumi, che si mostrano come una tabella."""

    def __repr__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(table(self))}</pre>"


class Volumes:
    """I volumi di questo utente, chiesti a un laboratorio (``docker volume``)."""

    def __init__(self, lab: Lab) -> None:
        self._reference = weakref.ref(lab)  # the laboratory has this object: it must be able to end

    @property
    def _lab(self) -> Lab:
        lab = self._reference()
        if lab is None:
            raise LabClosedError("Il laboratorio di questi volumi non c'è più.", "lab = Lab()")
        return lab

    def create(self, name: str = "", *, labels: Mapping[str, str] | None = None, driver: str = "local") -> Volume:
        """Fa un volume, o dà quello che c'è già con quel nome; senza nome è anonimo.

        Di driver c'è solo ``local``: una cartella di questa macchina.
        """
        if not isinstance(name, str):
            raise InvalidError(f"Il nome di un volume è un testo: {name!r} non lo è.", "lab.volume.create('dati')")
        pairs = list((labels or {}).items())
        return Volume.from_json(self._lab.wire.call("volume_create", name=name, labels=pairs, driver=driver))

    def ls(self) -> VolumeList:
        """Tutti i volumi, con i byte che occupano e i container di questo laboratorio che li montano."""
        return VolumeList(Volume.from_json(row) for row in self._lab.wire.call("volume_ls", size=True))

    def inspect(self, name: str) -> Volume:
        """Un volume; :class:`~labkit.errors.NotFoundError` se non c'è."""
        return Volume.from_json(self._lab.wire.call("volume_inspect", name=name))

    def rm(self, name: str) -> None:
        """Toglie un volume, con i suoi dati; :class:`~labkit.errors.ConflictError` se un container lo usa."""
        self._lab.wire.call("volume_rm", name=name)

    def prune(self, all: bool = False) -> list[str]:
        """Toglie i volumi senza nome che nessuno usa, con ``all`` anche quelli con un nome; torna quali."""
        return list(self._lab.wire.call("volume_prune", all=all)["names"])

    def backup(self, name: str, path: str | os.PathLike[str] | BinaryIO) -> int:
        """Scrive in un file il tar di ciò che c'è in un volume; torna i byte.

        Se un programma intanto ci scrive, la copia può cogliere un file a metà: prima fermalo.
        """
        return write_whole(self._lab.wire.open("volume_backup", name=name), path)

    def restore(self, name: str, path: str | os.PathLike[str] | BinaryIO) -> Volume:
        """Fa un volume nuovo con dentro un tar (anche compresso): o c'è tutto, o il volume non c'è."""
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(open(path, "rb")) if isinstance(path, (str, os.PathLike)) else path
            lost = send_all(self._lab.wire.open("volume_restore", name=name), source)
        for why, count in lost.items():
            tell(f"Nel volume «{name}» mancano: {why} ({count}).")
        return self.inspect(name)

    def __iter__(self) -> Iterator[Volume]:
        return iter(self.ls())

    def __repr__(self) -> str:
        return repr(self.ls())


HEADER = ("VOLUME", "MISURA", "USATO DA", "FATTO")


def table(volumes: list[Volume]) -> str:
    """La tabella dei volumi: nome, misura, chi li usa, da quando ci sono."""
    rows = [HEADER]
    for volume in volumes:
        name = volume.name if len(volume.name) <= 24 else volume.name[:12] + "…"
        users = ", ".join(volume.used_by) or ("un altro laboratorio" if volume.busy else "–")
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(volume.created_at))
        rows.append((name, show_bytes(volume.size), users, made))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


# ---------------------------------------------------------------- commands


@contextmanager
def _some_lab(wanted: str) -> Iterator[Lab]:
    """Il laboratorio aperto, o uno che vive quanto il comando: i volumi sono gli stessi."""
    from labkit.client.commands import connect
    from labkit.client.lab import Lab

    with connect(wanted) if wanted or rundir.live() else Lab() as lab:
        yield lab


def create(args: argparse.Namespace) -> int:
    """``labkit volume create``."""
    labels = dict(text.partition("=")[::2] for text in args.label)
    if args.opt:
        raise driver_refused(args.opt[0])
    with _some_lab(args.lab) as lab:
        print(Volumes(lab).create(args.name, labels=labels, driver=args.driver).name)
    return 0


def ls(args: argparse.Namespace) -> int:
    """``labkit volume ls``: la tabella, i nomi (``-q``) o i dati (``--json``)."""
    with _some_lab(args.lab) as lab:
        found = Volumes(lab).ls()
    if args.json:
        print(json.dumps(to_json(list(found)), ensure_ascii=False, indent=2))
    else:
        print("\n".join(volume.name for volume in found) if args.quiet else found)
    return 0


def inspect(args: argparse.Namespace) -> int:
    """``labkit volume inspect``: un elenco JSON, come Docker."""
    with _some_lab(args.lab) as lab:
        print(json.dumps([to_json(Volumes(lab).inspect(name)) for name in args.names], ensure_ascii=False, indent=2))
    return 0


def rm(args: argparse.Namespace) -> int:
    """``labkit volume rm``: i nomi di quelli tolti; gli altri spiegati."""
    with _some_lab(args.lab) as lab:
        return _each(args.names, Volumes(lab).rm)


def _each(names: list[str], action: Callable[[str], object]) -> int:
    failed = 0
    for name in names:
        try:
            action(name)
        except LabError as problem:
            print(problem, file=sys.stderr)
            failed = 1
        else:
            print(name)
    return failed


def prune(args: argparse.Namespace) -> int:
    """``labkit volume prune``."""
    with _some_lab(args.lab) as lab:
        answer = lab.wire.call("volume_prune", all=args.all)
    print("\n".join([*answer["names"], f"Liberati: {show_bytes(answer['freed'])}"]))
    return 0


def backup(args: argparse.Namespace) -> int:
    """``labkit volume backup``: il tar in un file, o sullo stdout."""
    with _some_lab(args.lab) as lab:
        if args.file == "-":
            Volumes(lab).backup(args.name, sys.stdout.buffer)
        else:
            print(f"{args.file}: {show_bytes(Volumes(lab).backup(args.name, args.file))}")
    return 0


def restore(args: argparse.Namespace) -> int:
    """``labkit volume restore``: un volume nuovo da un tar, di un file o dallo stdin."""
    if args.file != "-" and not os.path.isfile(args.file):
        raise NotFoundError(f"Il file «{args.file}» non c'è.", f"labkit volume backup {args.name} {args.file}")
    with _some_lab(args.lab) as lab:
        print(Volumes(lab).restore(args.name, sys.stdin.buffer if args.file == "-" else args.file).name)
    return 0

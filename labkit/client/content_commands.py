"""I comandi di ``labkit`` sui file di un container: diff commit export cp, con le opzioni di ``docker``."""

from __future__ import annotations

import argparse
import sys
from typing import BinaryIO

from labkit.client import copying
from labkit.client.commands import connect
from labkit.client.container import Container
from labkit.errors import ConflictError, InvalidError


def diff(args: argparse.Namespace) -> int:
    """``labkit diff``: una riga per modifica."""
    with connect(args.lab) as lab:
        for one in Container(lab, args.name).diff():
            print(one)
    return 0


def commit(args: argparse.Namespace) -> int:
    """``labkit commit``: scrive l'id dell'immagine fatta."""
    with connect(args.lab) as lab:
        made = Container(lab, args.name).commit(
            args.image or "", args.change, args.message, args.author, pause=args.pause
        )
        print(made.id)
    return 0


def export(args: argparse.Namespace) -> int:
    """``labkit export``: il tar della radice, in un file o all'uscita del comando."""
    with connect(args.lab) as lab:
        Container(lab, args.name).export(args.output or _out("labkit export -o FILE"))
    return 0


def cp(args: argparse.Namespace) -> int:
    """``labkit cp``: una delle due parti è NOME:PERCORSO."""
    (source_name, source), (target_name, target) = _place(args.source), _place(args.target)
    if bool(source_name) == bool(target_name):
        raise InvalidError("Una delle due parti, e una sola, è di un container.", "labkit cp file web:/srv/")
    how = {"owners": args.archive, "follow": args.follow_link}
    with connect(args.lab) as lab:
        container = Container(lab, source_name or target_name)
        if source == "-" and target_name:
            copying.archive_in(container, target, sys.stdin.buffer)
        elif target == "-" and source_name:
            copying.archive_out(container, source, _out("labkit cp NOME:PERCORSO FILE"))
        elif target_name:
            copying.into(container, source, target, **how)
        else:
            copying.out_of(container, source, target, **how)
    return 0


def _place(text: str) -> tuple[str, str]:
    """Il container e il percorso; senza container è un percorso di questa macchina."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith((".", "/")):
        return "", text
    return name, path or "/"


def _out(remedy: str) -> BinaryIO:
    if sys.stdout.isatty():
        raise ConflictError("Un archivio non si scrive sullo schermo.", remedy)
    return sys.stdout.buffer

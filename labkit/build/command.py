"""Il comando ``labkit build``, con le opzioni di ``docker build``."""

from __future__ import annotations

import argparse
import io
import sys
from contextlib import ExitStack

from labkit import rundir
from labkit.build.building import build as make
from labkit.build.telling import Printer
from labkit.build.workshop import LabWorkshop
from labkit.client.commands import connect
from labkit.client.images import Images
from labkit.client.lab import Lab
from labkit.errors import InvalidError


def build(args: argparse.Namespace) -> int:
    """``labkit build``: come ``docker build``. Usa il laboratorio aperto o, se un RUN ne ha bisogno, uno suo."""
    if args.folder == "-":
        raise InvalidError("Il contesto è una cartella: dall'ingresso qui non si legge.", "labkit build .")
    with ExitStack() as stack:
        opened: list[Lab] = []

        def lab() -> Lab:
            if not opened:
                opened.append(stack.enter_context(connect(args.lab) if args.lab or rundir.live() else Lab()))
            return opened[0]

        image = make(
            Images(),
            lambda store: LabWorkshop(store, lab),
            Printer(io.StringIO() if args.quiet else sys.stdout),
            args.folder,
            args.tag,
            file=args.file,
            build_args=_pairs(args.build_arg),
            target=args.target,
            no_cache=args.no_cache,
            network=args.network,
            pull=args.pull,
        )
    print(image.id)
    return 0


def _pairs(texts: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        found[name] = value if equals else None
    return found

"""Toglie quello che una macchina spenta di colpo può avere lasciato: cartelle di laboratori morti.

Tutto il resto di un laboratorio sta in namespace che il kernel distrugge con i suoi processi. Una
cartella si toglie solo se è nella base dei laboratori, è di questo utente, porta il segno di labkit e il
suo guardiano non c'è più; quelle degli altri, e quelle senza segno, non si toccano.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass

from labkit import rundir
from labkit.errors import LabError


@dataclass(frozen=True)
class Leftover:
    """Quello che resta di un laboratorio: la sua cartella e, se li aveva messi sul disco, i suoi strati."""

    lab: str
    folder: str
    scratch: str = ""

    @property
    def left(self) -> list[str]:
        """I percorsi che ci sono ancora."""
        return [path for path in (self.folder, self.scratch) if path and os.path.lexists(path)]


def leftovers() -> list[Leftover]:
    """Ciò che si può togliere: segno giusto, guardiano morto, cartella nostra."""
    return [
        Leftover(record.id, folder, record.scratch if os.path.lexists(record.scratch) else "")
        for folder, record in rundir.dead()
        if _ours(folder)
    ]


def _ours(folder: str) -> bool:
    """A real directory of ours, never a link to somewhere else."""
    return not os.path.islink(folder) and os.path.isdir(folder) and os.stat(folder).st_uid == os.geteuid()


def sweep() -> list[Leftover]:
    """Toglie ciò che :func:`leftovers` ha trovato, e dice che cosa era; :attr:`Leftover.left` è ciò che resta."""
    found = leftovers()
    if found:
        from labkit.client.lab import Lab

        # Layers on disk hold files of the subordinate users: only who is root in that user namespace
        # may remove them, and that is the guard of any laboratory, as the first thing it does.
        try:
            Lab().close()
        except LabError:
            for one in found:
                if not one.scratch:
                    rundir.remove(one.folder)
    return found


def clean(dry_run: bool = False) -> int:
    """Il comando ``labkit clean``: 0 se non resta niente, 1 se qualcosa non si è potuto togliere."""
    found = leftovers() if dry_run else sweep()
    if not found:
        print("Non è rimasto niente.")
        return 0
    stuck = []
    for one in found:
        where = " e ".join(path for path in (one.folder, one.scratch) if path)
        if dry_run:
            print(f"toglierei {where} (del laboratorio {one.lab}, che non c'è più)")
        elif one.left:
            stuck += one.left
        else:
            print(f"tolto {where} (del laboratorio {one.lab}, che non c'è più)")
    if stuck:
        names = " ".join(map(shlex.quote, stuck))
        print(f"Non ho potuto togliere tutto. Rimedio: sudo rm -r {names}", file=sys.stderr)
    return 1 if stuck else 0

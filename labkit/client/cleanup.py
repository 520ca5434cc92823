"""Toglie quello che una macchina spenta di colpo può avere lasciato: cartelle di laboratori morti.

Tutto il resto di un laboratorio sta in namespace che il kernel distrugge con i suoi processi. Una
cartella si toglie solo se è nella base dei laboratori, è di questo utente, porta il segno di labkit e il
suo guardiano non c'è più; quelle degli altri, e quelle senza segno, non si toccano.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from labkit import rundir


@dataclass(frozen=True)
class Leftover:
    """Una cartella rimasta: di quale laboratorio, e se è stata tolta."""

    lab: str
    folder: str
    removed: bool


def leftovers() -> list[tuple[str, str]]:
    """``(laboratorio, cartella)`` di ciò che si può togliere: segno giusto, guardiano morto, cartella nostra."""
    return [(record.id, folder) for folder, record in rundir.dead() if _ours(folder, record.id)]


def _ours(folder: str, lab: str) -> bool:
    """A real directory of ours, with the name that its mark says: never a link to somewhere else."""
    return (
        os.path.basename(folder) == lab
        and not os.path.islink(folder)
        and os.path.isdir(folder)
        and os.stat(folder).st_uid == os.geteuid()
    )


def sweep() -> list[Leftover]:
    """Toglie ciò che :func:`leftovers` ha trovato; dice che cosa non ci è riuscito a togliere."""
    swept = []
    for lab, folder in leftovers():
        rundir.remove(folder)
        swept.append(Leftover(lab, folder, not os.path.exists(folder)))
    return swept


def clean(dry_run: bool = False) -> int:
    """Il comando ``labkit clean``: 0 se non resta niente, 1 se qualcosa non si è potuto togliere."""
    if dry_run:
        found = leftovers()
        for lab, folder in found:
            print(f"toglierei {folder} (laboratorio {lab}, morto)")
        if not found:
            print("Non è rimasto niente.")
        return 0
    swept = sweep()
    for left in swept:
        if left.removed:
            print(f"tolto {left.folder}")
    stuck = [left.folder for left in swept if not left.removed]
    if not swept:
        print("Non è rimasto niente.")
    if stuck:
        import shlex
        import sys

        # An upper layer on disk may hold files of the subordinate users: only root may remove them.
        names = " ".join(map(shlex.quote, stuck))
        print(
            f"Non ho potuto togliere {names}: ci sono file di altri utenti. Rimedio: sudo rm -r {names}",
            file=sys.stderr,
        )
    return 1 if stuck else 0

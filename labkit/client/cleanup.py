"""Toglie quello che una macchina spenta di colpo può avere lasciato: cartelle di laboratori morti.

Tutto il resto di un laboratorio sta in namespace che il kernel distrugge con i suoi processi. Una
cartella si toglie solo se è nella base dei laboratori, è di questo utente, porta il segno di labkit e il
suo guardiano non c'è più; quelle degli altri, e quelle senza segno, non si toccano. I kernel scaricati
servono ancora: si tolgono solo se lo si chiede.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass

from labkit import rundir
from labkit.backends import packages
from labkit.errors import ConflictError, LabError


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
        # may remove them, and that is the guard of a laboratory on this kernel, as the first thing it does.
        try:
            Lab("direct").close()
        except LabError:
            for one in found:
                if not one.scratch:
                    rundir.remove(one.folder)
    return found


def clean(dry_run: bool = False, kernels: bool = False) -> int:
    """Il comando ``labkit clean``: 0 se non resta niente, 1 se qualcosa non si è potuto togliere.

    Dei kernel scaricati dice quanto occupano; li toglie solo con ``kernels``.
    """
    stuck = _clean_laboratories(dry_run) + _clean_kernels(dry_run, kernels)
    if stuck:
        names = " ".join(map(shlex.quote, stuck))
        print(f"Non ho potuto togliere tutto. Rimedio: sudo rm -r {names}", file=sys.stderr)
    return 1 if stuck else 0


def _clean_laboratories(dry_run: bool) -> list[str]:
    """Toglie i laboratori morti e lo racconta; torna i percorsi che sono rimasti."""
    found = leftovers() if dry_run else sweep()
    if not found:
        print("Non è rimasto niente.")
    stuck = []
    for one in found:
        where = " e ".join(path for path in (one.folder, one.scratch) if path)
        if dry_run:
            print(f"toglierei {where} (del laboratorio {one.lab}, che non c'è più)")
        elif one.left:
            stuck += one.left
        else:
            print(f"tolto {where} (del laboratorio {one.lab}, che non c'è più)")
    return stuck


def _clean_kernels(dry_run: bool, wanted: bool) -> list[str]:
    """Dice quanto occupano i kernel scaricati e, se si vuole, li toglie; torna ciò che è rimasto."""
    folder, size = str(packages.cache()), packages.occupied()
    if not size:
        if wanted:
            print(f"In {folder} non ci sono kernel scaricati.")
        return []
    room = f"{size / 1e6:.0f} MB"
    if not wanted:
        print(f"I kernel scaricati occupano {room} in {folder}: labkit clean --kernels li toglie.")
        return []
    using = [record.id for _, record in rundir.live() if record.mode == "vm"]
    if using:
        raise ConflictError(
            f"I kernel scaricati servono al laboratorio {using[0]}, che è acceso: non li tolgo.",
            "chiudi il notebook che lo tiene aperto, poi labkit clean --kernels",
        )
    if dry_run:
        print(f"toglierei i kernel scaricati: {room} in {folder}")
        return []
    packages.empty()
    print(f"tolti i kernel scaricati: {room} in {folder}. Al prossimo bisogno si scaricano di nuovo.")
    return [folder] if packages.occupied() else []

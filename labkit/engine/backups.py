"""La copia di sicurezza di un volume: un tar con tutto ciò che contiene, e il contrario.

Lo fa un processo a parte, che prima di toccare un nome entra nella cartella del volume (chroot(2)): un programma che
intanto ci scrive non lo può portare fuori con un link.
"""

from __future__ import annotations

from typing import BinaryIO

from labkit.engine.contents import enter, pour
from labkit.images import pack
from labkit.images.compression import pieces, ready
from labkit.images.unpack import OWNERS, extract


def backup(folder: str, out: int) -> dict[str, int]:
    """Scrive su ``out`` il tar di ciò che c'è in ``folder``; torna ciò che un tar non può portare, contato."""
    report = pack.Packed()
    enter(folder)
    pour(pack.tree("/", report), out)
    return dict(report.skipped)


def restore(folder: str, source: BinaryIO, *, owners: bool) -> dict[str, int]:
    """Mette in ``folder``, vuota, il contenuto di un tar (anche compresso); torna ciò che qui non si può avere."""
    ready()
    enter(folder)
    done = extract(pieces(source), "/", "/", owners)
    return {why: count for why, count in done.skipped.items() if why == OWNERS}

"""Le immagini del corso, una volta sola per tutti gli utenti delle prove.

Ogni utente temporaneo ha una casa nuova, e quindi nessuna immagine: senza questo ognuno le rifarebbe. Il seme è
una cartella di immagini che tutti leggono; chi ne ha bisogno ne riceve una sua, con gli stessi blob.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.images.archive import load, save
from labkit.images.store import Store, default_root
from labkit.recipes.book import RECIPES
from labkit.recipes.making import make

#: The folder with the seed: the driver makes it once and tells the processes that it starts.
SEED = "LABKIT_TEST_IMAGES"
#: The images of whoever tries the course, read before the tests have a folder of their own.
MINE = default_root()


@contextmanager
def shared() -> Iterator[None]:
    """Fa il seme e lo dice nell'ambiente, se non c'è già; alla fine lo toglie."""
    if SEED in os.environ:
        yield
        return
    mine = Store(MINE)
    make(mine, say=functools.partial(print, flush=True))
    folder = Path(tempfile.mkdtemp(prefix="lk-images-"))
    try:
        load(Store(str(folder)), io.BytesIO(b"".join(save(mine, list(RECIPES)))))
        folder.chmod(0o755)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.environ[SEED] = str(folder)
        yield
    finally:
        os.environ.pop(SEED, None)
        shutil.rmtree(folder, ignore_errors=True)


def give(root: Path, uid: int = -1, gid: int = -1) -> None:
    """Fa di ``root`` la cartella delle immagini di quell'utente, con dentro quelle del corso."""
    seed = Path(os.environ[SEED])
    for folder in (root, root / "blobs", root / "blobs/sha256"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for blob in (seed / "blobs/sha256").iterdir():
        try:  # a blob never changes: the same file, in another folder
            os.link(blob, root / "blobs/sha256" / blob.name)
        except OSError:  # of somebody else, or on another disk
            shutil.copyfile(blob, root / "blobs/sha256" / blob.name)
    for name in ("oci-layout", "index.json"):
        shutil.copyfile(seed / name, root / name)
    for path in (root, root / "blobs", root / "blobs/sha256", root / "index.json", root / "oci-layout"):
        os.chown(path, uid, gid)

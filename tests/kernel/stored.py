"""Un'immagine piccola per le prove: un busybox statico, due utenti, due strati."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkit import Lab
from labkit.images.config import History
from labkit.images.image import Image, Layer
from labkit.images.reference import parse
from labkit.images.store import Store
from tests.unit.images.tars import entry, folder, link, tar

APPLETS = ("cat", "echo", "env", "id", "ls", "mkdir", "pwd", "rm", "sh", "sleep", "stat", "touch", "true", "chmod")


def base() -> Image:
    """Un busybox statico, due utenti, e una cartella di un utente che non è root."""
    program = Path(next(path for name in ("busybox", "busybox-static") if (path := shutil.which(name)))).read_bytes()
    root, owner = {"uid": 0, "gid": 0}, {"uid": 33, "gid": 33}
    passwd = b"root:x:0:0::/root:/bin/sh\napp:x:33:33::/casa:/bin/sh\n"
    first = tar(
        folder("bin", **root), entry("bin/busybox", program, mode=0o755, **root),
        *(link(f"bin/{name}", "busybox", **root) for name in APPLETS),
        folder("etc", **root), entry("etc/passwd", passwd, **root), entry("etc/vecchio", **root),
        folder("dati", **owner), entry("dati/suo", b"suo", **owner),
    )  # fmt: skip
    second = tar(entry("etc/.wh.vecchio"), entry("etc/nuovo", b"nuovo", **root))
    image = Image.empty()
    for data in (first, second):
        image = image.append(Layer.from_tar(data), History(created_by="prova"))
    return image.with_process(History(empty_layer=True), Cmd=["cat", "/etc/nuovo"], Env=["PATH=/bin", "COLORE=verde"])


def variant(store: Store, name: str, *layers: bytes, **process: object) -> str:
    """«prova:1» con altri strati e un altro modo di partire, sotto un altro nome."""
    image = store.image("prova:1")
    for data in layers:
        image = image.append(Layer.from_tar(data), History())
    store.put(image.with_process(History(empty_layer=True), **process), parse(name))
    return name


@contextmanager
def stored(place: Path) -> Iterator[Store]:
    """La cartella delle immagini di un modulo di prove, con dentro «prova:1»; alla fine spariscono anche gli strati."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_IMAGES", str(place))
        store = Store()
        store.put(base(), parse("prova:1"))
        yield store
        with Lab(backend="direct") as lab, lab.process() as root:  # the files of subordinate users are not ours
            root.run(["rm", "-rf", f"{place}/layers"], quiet=True)

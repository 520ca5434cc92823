"""La cache della costruzione: dallo stesso genitore e la stessa istruzione viene la stessa immagine.

La chiave è quella di Docker prima di BuildKit: l'immagine di partenza, il testo dell'istruzione, e per COPY e ADD
l'impronta di ciò che copiano. La cache non tiene in vita niente: un passo vale finché i suoi strati sono fra le
immagini, e ``rmi`` libera i byte che deve.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any

from labkit.errors import LabError
from labkit.images.config import ImageConfig
from labkit.images.descriptor import Descriptor
from labkit.images.disk import explained, make_folder, replace_file
from labkit.images.image import Image, Layer
from labkit.images.manifest import Manifest
from labkit.images.store import Store

#: How many steps are remembered; a record is a few kilobytes.
MOST = 2000
_NAME = re.compile(r"[0-9a-f]{64}")
#: Changes when what a record or a layer holds changes.
_VERSION = 1


def key(parent: str, text: str, *facts: Any) -> str:
    """La chiave di un passo: ``parent`` è l'id dell'immagine di partenza, ``facts`` ciò che il testo non dice."""
    return sha256(json.dumps([_VERSION, parent, text, *facts], ensure_ascii=True).encode()).hexdigest()


class Cache:
    """I passi già fatti con le immagini di ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = f"{store.root}/build"

    def find(self, wanted: str) -> Image | None:
        """L'immagine di quel passo; ``None`` se non è mai stato fatto, o se qualche suo strato non c'è più."""
        path = f"{self._folder}/{wanted}"
        try:
            with open(path, "rb") as file:
                record = json.load(file)
            config = ImageConfig(record["config"].encode("utf-8", "surrogatepass"))
            found = [Descriptor.from_dict(one, "la cache della costruzione") for one in record["layers"]]
            pairs = list(zip(found, config.diff_ids, strict=True))
        except (OSError, LabError, ValueError, KeyError, TypeError, AttributeError):
            return None  # a step that was never done and one whose record is damaged are the same: it is done again
        if not all(self._store.blobs.has(one) for one in found):
            with suppress(OSError):
                os.unlink(path)
            return None
        layers = tuple(Layer(one, diff_id, partial(self._store.blobs.open, one)) for one, diff_id in pairs)
        with suppress(OSError):
            os.utime(path)  # the steps that nobody uses go first
        return Image(Manifest.of(config.descriptor, tuple(found)), config, layers)

    def keep(self, made: str, image: Image) -> None:
        """Ricorda un passo: i suoi strati sono già fra le immagini."""
        layers = [layer.descriptor.to_dict() for layer in image.layers]
        record = {"config": image.config.raw.decode("utf-8", "surrogatepass"), "layers": layers}
        with explained("ricordare un passo della costruzione"):
            make_folder(self._folder)
            replace_file(f"{self._folder}/{made}", json.dumps(record, ensure_ascii=True).encode())
            self._forget()

    def _forget(self) -> None:
        names = [name for name in os.listdir(self._folder) if _NAME.fullmatch(name)]
        if len(names) <= MOST:
            return
        ages = []
        for name in names:
            with suppress(FileNotFoundError):  # another build forgets at the same time
                ages.append((os.stat(f"{self._folder}/{name}").st_mtime_ns, name))
        for _, name in sorted(ages)[: len(ages) - MOST]:
            with suppress(FileNotFoundError):
                os.unlink(f"{self._folder}/{name}")

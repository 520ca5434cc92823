"""Costruire un'immagine da una cartella: il lavoro intero, da ``lab.build`` in giù.

Finché dura, nessuno fa pulizia fra le immagini: i passi a metà aspettano il loro nome.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from labkit.build.builder import Builder, Options
from labkit.build.containerfile import Containerfile, parse
from labkit.build.lines import LARGEST
from labkit.build.matching import Ignore
from labkit.build.scope import EPOCH, PROXIES, top
from labkit.build.sources import Context
from labkit.build.steps import Watcher, Workshop
from labkit.client.image import Image
from labkit.client.images import Images
from labkit.errors import InvalidError, NotFoundError
from labkit.images import image as oci
from labkit.images.descriptor import Platform
from labkit.images.disk import explained
from labkit.images.reference import parse as reference
from labkit.images.store import Store

#: The names that are looked for, in order, when nobody says one.
NAMES = ("Containerfile", "Dockerfile")
NETWORKS = ("none", "bridge", "default")


class Teller(Watcher, Protocol):
    """Chi racconta la costruzione, e alla fine dice com'è andata."""

    def warn(self, text: str) -> None:
        """Qualcosa di chiesto non serve a niente: mai in silenzio."""

    def end(self, name: str) -> None:
        """La costruzione è riuscita: il nome dell'immagine, o vuoto."""


def build(
    images: Images,
    workshop: Callable[[Store], Workshop],
    teller: Teller,
    folder: str | os.PathLike[str],
    tag: str | Sequence[str] = "",
    file: str = "",
    build_args: Mapping[str, str | None] | None = None,
    target: str = "",
    no_cache: bool = False,
    network: str = "none",
    pull: bool = False,
) -> Image:
    """Costruisce l'immagine della cartella ``folder``; ``workshop`` dà chi esegue i RUN. Vedi ``Lab.build``."""
    names = [reference(one) for one in ([tag] if isinstance(tag, str) else tag) if one]
    if any(one.digest for one in names):
        raise InvalidError("Il nome di un'immagine nuova non può avere un'impronta.", "tag='corso/prova:1'")
    if network not in NETWORKS:
        raise InvalidError(f"network può essere {', '.join(NETWORKS)}: «{network}» no.", "network='none'")
    context, parsed = opened(folder, file)
    args = _arguments(build_args or {})
    if unused := _unused(parsed, args):
        teller.warn(f"In {parsed.source.name} nessun ARG si chiama {unused}: quel valore non serve a niente.")
    store = images.store
    options = Options(args, target, no_cache, "none" if network == "none" else "bridge", _epoch(args))
    with store.writing():
        builder = Builder(parsed, context, store, workshop(store), _resolver(images, store, pull), teller, options)
        made = builder.build()
        descriptor = store.put(made, names[0] if names else None)
        for one in names[1:]:
            store.name(descriptor, one)
    teller.end(names[0].familiar if names else "")
    return images.image(str(names[0]) if names else str(descriptor.digest))


def opened(folder: str | os.PathLike[str], file: str = "") -> tuple[Context, Containerfile]:
    """Il contesto e il Containerfile di una cartella; ``file`` è cercato lì, o è un percorso."""
    root = os.path.abspath(os.path.expanduser(os.fspath(folder)))
    if not os.path.isdir(root):
        raise NotFoundError(
            f"«{os.fspath(folder)}» non è una cartella.", "la cartella con il Containerfile e i suoi file"
        )
    wanted = [os.path.join(root, name) for name in ((file,) if file else NAMES)] + (
        [os.path.abspath(file)] if file else []
    )
    found = next((path for path in wanted if os.path.isfile(path)), None)
    if found is None:
        raise NotFoundError(f"In «{os.fspath(folder)}» non c'è {f'«{file}»' if file else 'un Containerfile'}.",
                            "file='NOME' dice come si chiama")  # fmt: skip
    with explained(f"leggere «{found}»"), open(found, "rb") as opened_file:
        data = opened_file.read(LARGEST + 1)
    return Context(root, _ignore(root, found)), parse(os.path.basename(found), data)


def _ignore(root: str, file: str) -> Ignore:
    """Il ``.dockerignore`` del Containerfile, se ne ha uno suo, o della cartella."""
    for path in (f"{file}.dockerignore", f"{root}/.dockerignore", f"{root}/.containerignore"):
        if os.path.isfile(path):
            with explained(f"leggere «{path}»"), open(path, encoding="utf-8", errors="surrogateescape") as opened_file:
                return Ignore.parse(opened_file.read(), os.path.basename(path))
    return Ignore()


def _arguments(given: Mapping[str, str | None]) -> dict[str, str]:
    """Gli argomenti; uno senza valore lo prende da questo ambiente, se c'è."""
    found = {}
    for name, value in given.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", str(name), re.ASCII):
            raise InvalidError(f"«{name}» non va bene come nome di un argomento.", "build_args={'VERSIONE': '1.0'}")
        value = os.environ.get(name) if value is None else value
        if value is not None:
            found[name] = str(value)
    return found


def _epoch(args: Mapping[str, str]) -> int | None:
    text = args.get(EPOCH, os.environ.get(EPOCH, ""))
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 11):
        raise InvalidError(f"{EPOCH} è un numero di secondi dal 1970: «{text}» non lo è.", f"export {EPOCH}=0")
    return int(text)


def _unused(file: Containerfile, args: Mapping[str, str]) -> str:
    declared = {
        word.text.partition("=")[0]
        for one in (*file.args, *(step for stage in file.stages for step in stage.steps))
        if one.keyword == "ARG"
        for word in one.words
    }
    return ", ".join(sorted(set(args) - declared - PROXIES - {EPOCH} - set(top((), {}))))


def _resolver(images: Images, store: Store, pull: bool) -> Callable[[str, str], oci.Image]:
    """Dà l'immagine di un FROM: quella che c'è già o, se manca, quella del suo registro."""

    def resolve(name: str, platform: str) -> oci.Image:
        wanted = Platform.parse(platform) if platform else None
        try:
            if pull:
                raise NotFoundError("si chiede sempre al registro")
            found = store.image(name, wanted)
            if wanted and not found.config.platform.suits(wanted):
                raise NotFoundError(f"«{name}» qui è per {found.config.platform}.")
            return found
        except NotFoundError:
            images.pull(name, platform)
            return store.image(name, wanted)

    return resolve

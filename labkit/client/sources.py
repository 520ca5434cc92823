"""Da quale immagine nasce un container: una di quelle che ha ogni laboratorio, una cartella, o una conservata.

Chi conserva le immagini è l'utente, non il laboratorio: qui si cerca il nome nella sua cartella, e al laboratorio si
manda l'impronta. Così il nome può cambiare mentre il container nasce, e il container no.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from labkit.errors import InvalidError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from labkit.client.images import Images

#: Le immagini che ogni laboratorio sa fare da sé.
BUILT_IN = ("busybox", "host")

#: Come cominciano i nomi delle immagini che il corso fa da sé.
COURSE = "corso/"

#: Quando scaricare, come ``docker run --pull``.
PULLS = ("missing", "always", "never")


def named(image: Any) -> Any:
    """Un nome (anche di un'immagine in mano), o il percorso intero di una cartella: il laboratorio parte da un'altra.

    Una cartella è un ``Path``, un testo che comincia con «/», «.» o «~», o uno con «/» che qui è una cartella.
    """
    if isinstance(image, os.PathLike):
        return os.path.abspath(os.path.expanduser(os.fspath(image)))
    if isinstance(image, str) and (image.startswith(("/", ".", "~")) or ("/" in image and _is_folder(image))):
        return os.path.abspath(os.path.expanduser(image))
    if hasattr(image, "digest") and hasattr(image, "name"):
        return image.name or image.id
    return image


def _is_folder(path: str) -> bool:
    return "\0" not in path and os.path.isdir(path)


def stored(
    image: Any, pull: str = "missing", platform: str = "", images: Images | None = None
) -> dict[str, Any] | None:
    """Dov'è un'immagine conservata, come lo vuole il laboratorio; ``None`` per le sue e per le cartelle.

    ``pull`` dice quando ``images`` la scarica: ``missing`` (se manca), ``always`` o ``never``.
    """
    name, digest = named(image), getattr(image, "digest", "")
    if pull not in PULLS:
        raise InvalidError(f"pull può essere {', '.join(PULLS)}: «{pull}» no.", "pull='missing'")
    if name in BUILT_IN or name.startswith("/"):
        return None
    from labkit.client.images import Images  # only who asks for a stored image pays for it

    images = images or Images()
    store = images.store
    if pull == "always" and not digest:
        images.pull(name, platform)
    try:
        found = store.find(digest or name).descriptor
    except NotFoundError:
        if pull == "never" or digest:
            raise
        if name.startswith(COURSE):
            raise NotFoundError(
                f"L'immagine «{name}» qui non c'è, e i nomi «{COURSE}…» sono del corso: nessun registro li ha.",
                "labkit course-images",
            ) from None
        try:
            images.pull(name, platform)
        except RegistryError as problem:
            why = f"L'immagine «{name}» qui non c'è, e non si può scaricare. {problem.message}"
            raise RegistryError(why, problem.remedy, problem.status) from None
        found = store.find(name).descriptor
    descriptor = {"mediaType": found.media_type, "digest": str(found.digest), "size": found.size}
    return {"store": os.path.realpath(store.root), "descriptor": descriptor, "name": name, "platform": platform}

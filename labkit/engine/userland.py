"""Le immagini che non si scaricano: ``busybox``, ``host`` (questa macchina) e una cartella qualunque.

Sono cartelle di sola lettura che il laboratorio prepara la prima volta che servono. Dell'host un
container vede /usr e /etc, e di /etc solo quello che potrebbe leggere qualunque altro utente della
macchina: mai /home, /root, /var, mai una chiave privata.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from labkit.elf import is_static
from labkit.engine.rootfs import ImageRoot, Tree
from labkit.errors import InvalidError, LabError, NotFoundError
from labkit.kernel.mounts import overlay, umount

#: Le cartelle vuote che ogni radice si aspetta, con i loro permessi.
_SKELETON = {
    "proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "tmp": 0o1777, "root": 0o700, "home": 0o755,
    "mnt": 0o755, "srv": 0o755, "opt": 0o755, "var": 0o755, "var/tmp": 0o1777, "var/log": 0o755,
    "var/cache": 0o755, "var/lib": 0o755,
}  # fmt: skip

#: Le cartelle di primo livello che su molte macchine sono link a /usr (filesystem-hierarchy).
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def names() -> tuple[str, ...]:
    """Le immagini che si possono nominare senza scaricare niente."""
    return ("busybox", "host")


def resolve(name: str, folder: str) -> ImageRoot:
    """L'immagine ``name``, preparata sotto ``folder`` se è la prima volta."""
    maker: dict[str, Callable[[str], ImageRoot]] = {"busybox": busybox, "host": host}
    if name in maker:
        return maker[name](folder)
    if "/" in name:
        return directory(name)
    raise unknown(name)


def unknown(name: str) -> NotFoundError:
    """L'errore di chi chiede un'immagine che non c'è."""
    return NotFoundError(
        f"L'immagine «{name}» non c'è: per ora ci sono {' e '.join(names())}, oppure il percorso di una cartella.",
        "lab.run('busybox', 'hostname')",
    )


def directory(path: str) -> ImageRoot:
    """Una cartella con dentro una radice (come ``podman run --rootfs``)."""
    if not os.path.isdir(path):
        why = "non è una cartella" if os.path.exists(path) else "non c'è"
        raise NotFoundError(
            f"«{path}» {why}: come immagine ci vuole una cartella con dentro una radice.", "ls -ld " + path
        )
    whole = os.path.abspath(path)
    if whole.split("/")[1] in ("", "proc", "sys", "dev"):
        raise InvalidError(
            f"«{path}» non può fare da immagine: overlay non sovrappone la radice né i filesystem del kernel.",
            "per i programmi di questa macchina: lab.run('host', …)",
        )
    return ImageRoot(path, (Tree("", (whole,)),))


def busybox(folder: str) -> ImageRoot:
    """Un solo programma statico con i nomi di trecento comandi: la radice più piccola che si possa usare."""
    root = f"{folder}/busybox"
    if not os.path.isdir(root):
        program = _static_busybox()
        applets = _applets(program)
        building = _skeleton(f"{root}.new")
        os.mkdir(f"{building}/bin", 0o755)
        os.mkdir(f"{building}/etc", 0o755)
        _copy(program, f"{building}/bin/busybox", 0o755)
        for applet in applets:
            if applet != "busybox":
                os.symlink("busybox", f"{building}/bin/{applet}")
        _write(f"{building}/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        _write(f"{building}/etc/group", "root:x:0:\nnogroup:x:65534:\n")
        os.rename(building, root)
    return ImageRoot("busybox", (Tree("", (root,)),), ("/bin/sh",))


def host(folder: str) -> ImageRoot:
    """I programmi di questa macchina, in sola lettura: niente da scaricare, niente da copiare."""
    root = f"{folder}/host"
    if not os.path.isdir(root):
        building = _skeleton(f"{root}.new")
        for name in ("usr", "etc"):
            os.mkdir(f"{building}/{name}", 0o755)
        for name in _MERGED:
            if os.path.islink(f"/{name}"):
                os.symlink(os.readlink(f"/{name}"), f"{building}/{name}")
            elif os.path.isdir(f"/{name}"):
                os.mkdir(f"{building}/{name}", 0o755)
        # The rest of /usr comes from packages, which have no secrets; /usr/local is the owner's.
        for name, owned in (("etc", "etc"), ("usr", "usr/local")):
            os.mkdir(f"{building}.{name}", 0o755)
            if os.path.isdir(f"/{owned}") and not os.path.islink(f"/{owned}"):
                os.makedirs(f"{building}.{owned}", 0o755, exist_ok=True)
                _hide_private(f"/{owned}", f"{building}.{owned}")
            os.rename(f"{building}.{name}", f"{root}.{name}")
        os.rename(building, root)
    trees = [Tree("", (root,))]
    trees += [Tree(name, (f"{root}.{name}", _lower(f"/{name}", folder))) for name in ("usr", "etc")]
    trees += [
        Tree(name, (_lower(f"/{name}", folder),))
        for name in _MERGED
        if not os.path.islink(f"{root}/{name}") and os.path.isdir(f"{root}/{name}")
    ]
    return ImageRoot("host", tuple(trees), ("/bin/sh",))


def _lower(path: str, folder: str) -> str:
    """``path`` se può fare da strato, altrimenti una sua copia leggibile.

    Dentro Docker /etc ha dei mount bloccati (resolv.conf…) e overlay la rifiuta con EINVAL.
    """
    copy = f"{folder}/copy{path}"
    if os.path.isdir(copy):
        return copy
    probe = f"{folder}/probe"
    os.makedirs(probe, exist_ok=True)
    try:
        overlay(probe, (path, folder))
    except OSError:
        import shutil

        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copytree(path, f"{copy}.new", symlinks=True, ignore=_unreadable, dirs_exist_ok=True)
        os.rename(f"{copy}.new", copy)
        return copy
    umount(probe)
    return path


def _unreadable(folder: str, entries: list[str]) -> list[str]:
    return [name for name in entries if _private(os.lstat(f"{folder}/{name}"))]


def _private(info: os.stat_result) -> bool:
    """Se un altro utente della macchina non potrebbe leggerlo (o non è né file né cartella né link)."""
    if stat.S_ISLNK(info.st_mode):
        return False
    if stat.S_ISDIR(info.st_mode):
        return info.st_mode & 0o005 != 0o005
    return not stat.S_ISREG(info.st_mode) or not info.st_mode & 0o004


def _hide_private(source: str, mask: str) -> None:
    """Mette in ``mask`` un whiteout (dispositivo 0:0) per ogni cosa di ``source`` che non è di tutti.

    Uno strato così, sopra quello vero, la fa sparire: nessun permesso dentro il container la riporta.
    """
    try:
        entries = list(os.scandir(source))
    except PermissionError:
        return
    for entry in entries:
        target = f"{mask}/{entry.name}"
        info = entry.stat(follow_symlinks=False)
        if _private(info):
            os.mknod(target, stat.S_IFCHR | 0o600, 0)
        elif entry.is_dir(follow_symlinks=False):
            os.mkdir(target, 0o755)
            _hide_private(entry.path, target)
            if not os.listdir(target):
                os.rmdir(target)


def _skeleton(root: str) -> str:
    """Una radice vuota da riempire; quello che un tentativo fallito avesse lasciato sparisce."""
    if os.path.isdir(root):
        import shutil  # slow to import, and almost never needed

        for left in (root, f"{root}.etc", f"{root}.usr"):
            shutil.rmtree(left, ignore_errors=True)
    os.makedirs(root, 0o755)
    for name, mode in _SKELETON.items():
        os.mkdir(f"{root}/{name}")
        os.chmod(f"{root}/{name}", mode)
    os.chmod(root, 0o755)
    return root


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o644)


def _copy(source: str, target: str, mode: int) -> None:
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while os.sendfile(writer.fileno(), reader.fileno(), None, 1 << 24):
            pass
    os.chmod(target, mode)


def _static_busybox() -> str:
    for folder in (*os.environ.get("PATH", os.defpath).split(os.pathsep), "/bin", "/usr/bin", "/usr/lib/busybox"):
        for name in ("busybox", "busybox-static", "busybox.static"):
            path = f"{folder}/{name}"
            if os.access(path, os.X_OK) and is_static(path):
                return path
    raise NotFoundError(
        "Per l'immagine busybox serve un busybox statico, e su questa macchina non c'è.",
        "sudo apt install busybox-static",
    )


def _applets(program: str) -> list[str]:
    reader, writer = os.pipe()
    pid = os.posix_spawn(program, [program, "--list"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    with open(reader, encoding="ascii") as lines:
        applets = lines.read().split()
    if os.waitpid(pid, 0)[1]:  # half a list would make an image without its commands
        raise LabError(f"Il programma {program} non ha saputo dire i suoi comandi.", f"{program} --list")
    return applets

"""Il programma di test_layers_overlay: da root del proprio namespace utente, stampa gli alberi che vede.

Argomenti: il modo (``root``, ``user``, ``nosub``) e una cartella. Quello che monta sparisce con lui.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

from labkit.images.config import History
from labkit.images.image import Image, Layer
from labkit.images.layers import Layers, Unpacking
from labkit.images.pack import diff
from labkit.images.store import Store
from labkit.images.unpack import Options, unpack
from labkit.images.whiteouts import RemovingWhiteouts
from labkit.kernel import libc, mounts
from labkit.supervisor.idmap import enter_user_namespace
from tests.unit.images.tars import entry, folder, hard, link, tar

#: CAP_NET_BIND_SERVICE, permitted and effective, as the file of a program has it (linux/capability.h, revision 2).
CAPABILITY = b"\x01\x00\x00\x02\x00\x04" + bytes(14)


def layers(uid: int) -> list[bytes]:
    below = tar(
        folder("d", mode=0o1777), entry("d/a", b"a", uid=uid), entry("d/b"), folder("via"), entry("via/x"),
        entry("via/y/z"), entry("tolto"), folder("rifatta"), entry("rifatta/vecchio"), link("s", "d/a"),
        hard("h", "d/a"), folder("f"), entry("f/1"),
        entry("cap", b"x", pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode()}),
    )  # fmt: skip
    middle = tar(
        entry("d/.wh.b"), entry("via/.wh..wh..opq"), entry("via/n"), entry(".wh.tolto"), entry(".wh.rifatta"),
        folder("rifatta"), entry("rifatta/nuovo"), entry("f", b"ora un file"), entry(".wh.niente"),
    )  # fmt: skip
    above = tar(
        entry("via/.wh.n"), folder("tolto", mode=0o700), entry("tolto/q", uid=uid, mode=0o4755), entry(".wh.s"),
        entry("d/c", b"c"),
    )  # fmt: skip
    return [below, middle, above]


def described(root: str) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for where, folders, files in os.walk(root):
        for path in (os.path.join(where, name) for name in folders + files):
            info = os.lstat(path)
            what = os.readlink(path) if stat.S_ISLNK(info.st_mode) else ""
            if stat.S_ISREG(info.st_mode):
                with open(path, encoding="utf-8") as file:
                    what = file.read()
            power = ""
            if "security.capability" in os.listxattr(path, follow_symlinks=False):
                power = os.getxattr(path, "security.capability").hex()
            found[os.path.relpath(path, root)] = [oct(info.st_mode), info.st_uid, info.st_gid, what, power]
    return found


def main(mode: str, base: str) -> None:
    enter_user_namespace(mode)
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("tmpfs", base, "tmpfs", 0, "mode=755")
    owners = mode != "nosub"
    store = Store(f"{base}/immagini")
    image = Image.empty()
    for data in layers(33 if owners else 0):
        image = image.append(Layer.from_tar(data), History())
    store.put(image)
    for name in ("plain", "merged", "upper", "work"):
        os.mkdir(f"{base}/{name}", 0o755)
    for layer in image.layers:
        with layer.open() as blob:
            options = Options(RemovingWhiteouts(), owners=owners)
            unpack(blob, f"{base}/plain", layer.descriptor.digest, layer.diff_id, options)
    merged = f"{base}/merged"
    how = Unpacking("prova", owners=owners)
    with Layers(store, how).use(image) as ready:
        lowers = tuple(one.folder for one in reversed(ready))
        mounts.overlay(merged, lowers, f"{base}/upper", f"{base}/work", True)
        before = described(merged)
        change = "rm -r via d/a && mkdir via && echo x > via/altro && echo y >> d/c && ln d/c d/l"
        subprocess.run(change, shell=True, check=True, cwd=merged)
        changed = described(merged)
        mounts.umount(merged)
    # What a container changed becomes a layer, and the layer on top of the others gives the same tree again.
    image = image.append(Layer.from_tar(b"".join(diff(f"{base}/upper"))), History())
    store.put(image)
    with Layers(store, how).use(image) as ready:
        mounts.overlay(merged, tuple(one.folder for one in reversed(ready)), userxattr=True)
        again = described(merged)
    print(json.dumps([described(f"{base}/plain"), before, changed, again]))


if __name__ == "__main__":
    main(*sys.argv[1:])

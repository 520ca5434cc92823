"""Le immagini del corso si fanno da pacchetti Debian senza essere root, sempre uguali. Niente rete: apt è finto."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from labkit import cli
from labkit.backends import deb, packages
from labkit.errors import BackendError, NotFoundError
from labkit.images.config import History
from labkit.images.image import Image, Layer
from labkit.images.local_registry import LocalRegistry
from labkit.images.reference import parse
from labkit.images.registry_push import push
from labkit.images.store import Store
from labkit.recipes import book, layer, making
from labkit.recipes.layer import Folder, Step

MOMENT = 1_700_000_000

#: Name → (depends, files); a text that begins with -> is a link, = another name of the same file.
ARCHIVE: dict[str, tuple[str, dict[str, str]]] = {
    "libc9": ("debconf | debconf-2.0", {"./lib/libc.so": "la libreria"}),
    "shell": (
        "libc9 (>= 1.2), editor | libc9",
        {"./bin/sh": "#!/bin/sh", "./bin/other": "=./bin/sh", "./sbin": "->usr/sbin", "./usr/share/man/man1/sh.1": "!"},
    ),
    "certs": (
        "shell:any",
        {
            "./usr/share/certs/a.crt": "A\n",
            "./usr/share/certs/b.crt": "B\n",
            "./usr/share/doc/certs/copyright": "libero",
            "./usr/share/doc/certs/changelog": "lungo",
            "./usr/share/useless/x": "no",
        },
    ),
}


def archive(name: str) -> bytes:
    """Il pacchetto ``name`` di :data:`ARCHIVE`, con tempi e proprietari come li fa dpkg-deb."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in ARCHIVE[name][1].items():
            info = tarfile.TarInfo(path)
            info.mtime, info.mode, info.uname = MOMENT, 0o755 if "bin/" in path else 0o644, "root"
            if text.startswith(("->", "=")):
                info.type = tarfile.SYMTYPE if text.startswith("->") else tarfile.LNKTYPE
                info.linkname = text.lstrip("->=")
                tar.addfile(info)
            else:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    data = lzma.compress(buffer.getvalue())
    return deb.AR_MAGIC + f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Un apt finto che conosce i pacchetti di :data:`ARCHIVE`; ``asked`` conta le domande."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ARCHIVE:
        data = archive(name)
        (tmp_path / f"{name}.deb").write_bytes(data)
        (tmp_path / f"{name}.record").write_text(
            f"Package: {name}\nVersion: 2:1.2.3-1\nSize: {len(data)}\nDepends: {ARCHIVE[name][0]}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
        )
    program(folder / "apt-cache", f'echo >> {tmp_path}/asked; shift 2; cd {tmp_path}; '
            'for name; do cat "$name.record"; done 2> /dev/null')  # fmt: skip
    program(folder / "apt-get", f'shift 2; for name; do cp {tmp_path}/"${{name%%=*}}".deb .; done')
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


BASE = book.Recipe(
    "corso/base", "una base", base="", version="shell", public="", process={"Cmd": ["sh"]},
    steps=(
        Step("la libreria", ("libc9",), folders={"tmp": Folder(0o1777)}, links={"lib": "usr/lib"}),
        Step("la shell", ("shell",)),
    ),
)  # fmt: skip
ABOVE = book.Recipe(
    "corso/nginx", "una cosa sopra", base="corso/base", version="7.0-beta", public="", process={"Env": ["B=2"]},
    steps=(
        Step("tutto", ("certs",), without=r"usr/share/useless/", joined={"etc/all.crt": r"usr/share/certs/.*"},
             texts={"etc/mine": "mio\n"}),
    ),
)  # fmt: skip


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "RECIPES", {"corso/base": BASE, "corso/nginx": ABOVE})


def content(image_layer: Layer) -> dict[str, tarfile.TarInfo]:
    with image_layer.open() as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
        found = tar.getmembers()
        assert len({one.name for one in found}) == len(found), "una voce c'è due volte"
        return {one.name: one for one in found}


def read(image_layer: Layer, name: str) -> bytes:
    with image_layer.open() as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
        found = tar.extractfile(name)
        assert found
        return found.read()


def test_whom_a_package_needs_comes_with_it_and_apt_is_asked_once_for_each(apt: Path) -> None:
    index: dict[str, packages.Package] = {}
    found = packages.closure(["certs"], {"debconf"}, index)
    assert [one.name for one in found] == ["certs", "libc9", "shell"]
    asked = (apt / "asked").read_text()
    assert packages.closure(["certs"], {"debconf", "libc9"}, index) == [found[0], found[2]]
    assert (apt / "asked").read_text() == asked


def test_a_package_that_is_missing_is_named(apt: Path) -> None:
    with pytest.raises(BackendError, match=r"«debconf» non è nell'indice.*sudo apt-get update"):
        packages.closure(["shell"], (), {})


def test_a_layer_has_what_a_container_reads_in_the_merged_folders(apt: Path, recipes: None, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    making.make(store)
    first, second, third = store.image("corso/nginx").layers
    assert content(first)["tmp"].mode == 0o1777
    assert content(first)["usr/lib/libc.so"].mtime == MOMENT
    assert content(first)["lib"].linkname == "usr/lib"
    shell = content(second)
    assert shell["usr/bin/other"].linkname == "usr/bin/sh"
    assert shell["usr/bin/sh"].mode == 0o755
    assert {"sbin", "usr/sbin", "usr/share/man/man1/sh.1"} & set(shell) == set()
    certs = content(third)
    assert "usr/share/doc/certs/copyright" in certs
    assert {"usr/share/doc/certs/changelog", "usr/share/useless/x"} & set(certs) == set()
    assert read(third, "etc/all.crt") == b"A\nB\n"
    assert read(third, "etc/mine") == b"mio\n"
    assert b"Version: 2:1.2.3-1" in read(third, "var/lib/dpkg/status.d/certs")
    assert all(one.uid == one.gid == 0 and not one.uname for one in certs.values())


def test_an_image_shares_the_layers_of_its_base_and_adds_to_its_configuration(
    apt: Path, recipes: None, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    assert making.make(store, ["nginx"]) == ["corso/base", "corso/nginx"]  # the base too: it stands on it
    base, above = store.image("corso/base:1.2"), store.image("corso/nginx:7.0")
    assert above.layers[:2] == base.layers
    assert len(above.layers) == 3  # libc9 and shell are in the base already
    assert above.config.env == (("B", "2"),)
    assert above.config.command == ("sh",)
    assert [step.created_by for step, _ in above.history()][-2:] == ["corso: tutto", "corso: come parte"]
    assert "certs=2:1.2.3-1" in above.config.process["Labels"][making.PACKAGES]
    assert store.image("corso/nginx").id == above.id


def test_the_same_packages_give_the_same_digests(apt: Path, recipes: None, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        store = Store(str(tmp_path / name))
        making.make(store)
        digests.append([store.image(image).digest for image in ("corso/base", "corso/nginx")])
    assert digests[0] == digests[1]
    assert Store(str(tmp_path / "one")).image("corso/base").config.created == "2023-11-14T22:13:20Z"


def test_what_is_there_is_not_made_again_unless_asked(apt: Path, recipes: None, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert making.missing(store) == ["corso/base", "corso/nginx"]
    making.make(store)
    assert making.missing(store) == []
    assert making.make(store) == []
    assert making.make(store, ["corso/nginx"], again=True) == ["corso/nginx"]


def test_libraries_have_a_layer_of_their_own_whatever_their_names(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = (Step("le librerie", ("certs",), later=("certs",)), Step("il resto", ("certs",)))
    monkeypatch.setattr(making, "RECIPES", {"corso/base": book.Recipe(**{**vars(BASE), "steps": split})})
    store = Store(str(tmp_path / "store"))
    making.make(store)
    libraries, rest = (content(one) for one in store.image("corso/base").layers)
    assert {"usr/lib/libc.so", "usr/bin/sh"} <= set(libraries)
    assert not any("certs" in name for name in libraries)
    assert "usr/share/certs/a.crt" in rest
    assert "usr/bin/sh" not in rest


def test_a_name_that_is_no_image_of_the_course_says_which_there_are(recipes: None, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"«corso/nginz» non è un'immagine del corso: ci sono corso/base"):
        making.make(Store(str(tmp_path / "store")), ["nginz"])


def test_without_apt_the_image_comes_from_a_registry_and_the_reason_is_told(
    recipes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    said: list[str] = []
    with LocalRegistry(str(tmp_path / "registry")) as registry:
        reference = parse(f"{registry.address}/library/debian:stable-slim")
        origin, store = Store(str(tmp_path / "origin")), Store(str(tmp_path / "store"))
        origin.put(Image.empty().append(Layer.from_tar(bytes(1024)), History("x")), reference)
        push(origin, str(reference))
        ours = (Step("il nostro", texts={"mine": "mio"}),)
        public = book.Recipe(**{**vars(BASE), "public": str(reference), "over": ours})
        monkeypatch.setattr(making, "RECIPES", {"corso/base": public})
        assert making.make(store, say=said.append) == ["corso/base"]
    image = store.image("corso/base")
    assert image.layers[:-1] == origin.image(str(reference)).layers
    assert read(image.layers[-1], "mine") == b"mio"
    assert image.config.command == ("sh",)
    assert any("non c'è apt" in line and "registro pubblico" in line for line in said)


def test_every_recipe_stands_on_one_that_is_made_before_it() -> None:
    made: list[str] = []
    for name, recipe in book.RECIPES.items():
        assert recipe.base in ("", *made)
        assert parse(recipe.public).registry == "docker.io"
        made.append(name)


def test_our_files_are_where_the_recipes_look_for_them() -> None:
    for recipe in book.RECIPES.values():
        for step in recipe.steps:
            assert not step.files or any((Path(layer.__file__).parent / "files" / step.files).rglob("*")), step


def test_the_command_lists_what_is_ready_and_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_IMAGES", str(tmp_path / "store"))
    assert cli.main(["course-images", "--list"]) == 0
    assert next(line.split()[:3] for line in capsys.readouterr().out.splitlines()) == ["corso/base", "da", "fare"]
    assert cli.main(["course-images", "mysql"]) == 1
    assert "labkit course-images" in capsys.readouterr().err

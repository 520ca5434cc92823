"""I verbi delle immagini, senza laboratorio: lo stesso da Python e dal comando ``labkit``."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import cli
from labkit.client.image import age, split
from labkit.client.images import Images, mirrors
from labkit.client.registry import CourseRegistry
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError
from labkit.images.registry_auth import stored_credentials

EPOCH = "1600000000"


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.setenv("LABKIT_IMAGES", str(tmp_path / "immagini"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    return Images()


@pytest.fixture(scope="module")
def registry() -> Iterator[CourseRegistry]:
    with CourseRegistry() as registry:
        yield registry


def root(words: str = "ciao") -> io.BytesIO:
    """Il tar di una radice con un file solo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("saluto")
        member.size = len(words)
        tar.addfile(member, io.BytesIO(words.encode()))
    out.seek(0)
    return out


def labkit(*line: str) -> int:
    return cli.main(line)


def test_an_imported_root_is_an_image_with_a_name_a_history_and_one_layer(images: Images) -> None:
    made = images.import_image(root(), "corso/prova:1", message="fatta a mano")
    assert made.name == "corso/prova:1"
    assert images.image("corso/prova:1") == made == images.image(made.id) == images.image(made.digest)
    assert [one.diff_id for one in made.layers] == made.inspect()["RootFS"]["Layers"]
    assert made.size == made.layers[0].size > 0
    assert [step.comment for step, _ in made.history()] == ["fatta a mano"]
    assert made.inspect()["RepoTags"] == ["corso/prova:1"]
    assert made.inspect()["RepoDigests"] == [f"corso/prova@{made.digest}"]
    assert repr(made).splitlines()[0].split() == ["DEPOSITO", "TAG", "ID", "CREATA", "PESO"]
    assert "<td style='text-align:left'>corso/prova</td>" in made._repr_html_()


def test_the_same_bytes_at_the_same_date_are_the_same_image(images: Images) -> None:
    assert images.import_image(root(), "a:1").digest == images.import_image(root(), "b:1").digest
    assert images.import_image(root("altro"), "c:1").digest != images.image("a:1").digest


def test_a_tag_moves_and_a_digest_does_not(images: Images) -> None:
    first = images.import_image(root("uno"), "corso/prova:1")
    second = images.import_image(root("due"), "corso/prova:1")
    assert images.image("corso/prova:1").digest == second.digest
    assert images.image(first.digest).name == "", "chi ha perso il nome resta"
    assert [one.name for one in images.images()] == ["corso/prova:1", ""]
    assert images.images().rows()[1][:2] == ("<none>", "<none>")
    assert images.prune_images() > 0
    assert [one.name for one in images.images()] == ["corso/prova:1"]


def test_an_image_with_many_names_goes_with_the_last_one(images: Images) -> None:
    made = images.import_image(root(), "a:1")
    made.tag("b:1")
    assert images.names(made.digest) == ["a:1", "b:1"]
    with pytest.raises(ConflictError, match="più nomi"):
        images.rmi(made.id)
    assert images.rmi("a:1") == ["Untagged: a:1"]
    assert images.rmi("b:1") == ["Untagged: b:1", f"Deleted: {made.digest}"]
    assert images.df().usage.blobs == 0
    made = images.import_image(root(), "a:1")
    made.tag("b:1")
    assert images.rmi(made.id, force=True) == ["Untagged: a:1", "Untagged: b:1", f"Deleted: {made.digest}"]


def test_what_is_pushed_comes_back_the_same(images: Images, registry: CourseRegistry) -> None:
    made = images.import_image(root(), "corso/andata:1")
    made.push(registry.name("corso/andata:1"))
    images.rmi("corso/andata:1")
    back = images.pull(registry.name("corso/andata:1"))
    assert (back.digest, back.id, back.layers) == (made.digest, made.id, made.layers)


def test_a_transfer_says_what_travels_and_what_was_there(
    images: Images, registry: CourseRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    images.import_image(root("viaggio"), "corso/viaggio:1").push(registry.name("corso/viaggio:1"))
    first = capsys.readouterr().out
    assert first.count("mandato") == 2, "lo strato e la configurazione"
    images.push("corso/viaggio:1", registry.name("corso/viaggio:2"))
    assert capsys.readouterr().out.count("c'era già") == 2
    images.push("corso/viaggio:1", registry.name("corso/altro:1"))
    assert capsys.readouterr().out.count("mandato") == 2, "per un altro deposito, che qui nessuno conosce, viaggia"


def test_save_and_load_keep_names_and_digests(images: Images, tmp_path: Path) -> None:
    made = images.import_image(root(), "corso/prova:1")
    made.tag("corso/prova:2")
    written = images.save(["corso/prova:1", "corso/prova:2"], tmp_path / "a.tar")
    assert written == os.path.getsize(tmp_path / "a.tar")
    assert os.listdir(tmp_path / "immagini" / "ingest") == []
    images.rmi(made.id, force=True)
    loaded = images.load(tmp_path / "a.tar")
    assert sorted(one.name for one in loaded) == ["corso/prova:1", "corso/prova:2"]
    assert {one.digest for one in loaded} == {made.digest}


def test_a_save_that_fails_leaves_no_file_and_keeps_the_old_one(images: Images, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"prima")
    with pytest.raises(NotFoundError, match="nessuna"):
        images.save("nessuna:1", tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == b"prima"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.tar"]


def test_a_registry_ends_with_whoever_lit_it_and_takes_its_folder_away() -> None:
    with CourseRegistry() as registry:
        folder, address = registry.folder, registry.address
        assert os.path.isdir(folder)
    assert registry.closed
    assert not os.path.exists(folder)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == errno.ECONNREFUSED


def test_a_wrong_name_is_said_before_anything_is_asked(images: Images) -> None:
    with pytest.raises(InvalidError, match="MAIUSCOLO"):
        images.pull("MAIUSCOLO")
    with pytest.raises(InvalidError, match="non è una piattaforma"):
        images.pull("nginx", "windows")
    with pytest.raises(NotFoundError) as caught:
        images.image("corso/niente")
    assert caught.value.remedy == "labkit pull corso/niente:latest"


def test_mirrors_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_MIRRORS", "http://10.0.0.1:5000, https://specchio.example")
    assert mirrors() == {"docker.io": ["http://10.0.0.1:5000", "https://specchio.example"]}
    monkeypatch.setenv("LABKIT_MIRRORS", "10.0.0.1:5000")
    with pytest.raises(InvalidError) as caught:
        mirrors()
    assert caught.value.remedy == "export LABKIT_MIRRORS=http://10.0.0.1:5000"


def test_a_mirror_gives_what_docker_hub_has(
    images: Images, registry: CourseRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = images.import_image(root("specchio"), "corso/specchio:1")
    made.push(registry.name("corso/specchio:1"))
    images.rmi("corso/specchio:1")
    monkeypatch.setenv("LABKIT_MIRRORS", f"http://{registry.address}")
    assert images.pull("corso/specchio:1").digest == made.digest


# ---------------------------------------------------------------- the command


def test_the_commands_say_what_docker_says(
    images: Images, registry: CourseRegistry, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "radice.tar").write_bytes(root("comando").getvalue())
    name, there = "corso/comando:1", registry.name("corso/comando:1")
    assert labkit("import", "-m", "nota", str(tmp_path / "radice.tar"), name) == 0
    made = images.image(name)
    assert capsys.readouterr().out == f"{made.id}\n"
    assert labkit("tag", name, there) == 0
    assert labkit("push", "-q", there) == 0
    assert capsys.readouterr().out == f"{there}\n"
    assert labkit("images", "-q") == 0
    assert capsys.readouterr().out == f"{made.id[7:19]}\n" * 2
    assert labkit("rmi", name, there) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Untagged: {name}", f"Untagged: {there}", f"Deleted: {made.digest}",
    ]  # fmt: skip
    assert labkit("pull", there) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"Impronta: {made.digest}", there]
    assert labkit("history", there) == 0
    assert "nota" in capsys.readouterr().out
    assert labkit("inspect", there) == 0
    assert json.loads(capsys.readouterr().out)[0]["Id"] == made.id
    assert labkit("save", "-o", str(tmp_path / "a.tar"), there) == 0
    assert labkit("load", "-i", str(tmp_path / "a.tar")) == 0
    assert capsys.readouterr().out == f"Caricata: {there}\n"
    assert labkit("system", "df") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["Immagini", "1"]
    assert labkit("image", "prune", "-f") == 0
    assert capsys.readouterr().out.startswith("Spazio recuperato: ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("image", "labkit image: manca che cosa fare: prune"),
        ("pull", "labkit pull: manca IMMAGINE"),
        ("pull --tls-verify=forse x", "vuole true o false, non «forse»"),
        ("pull --platform=qui x", "non è una piattaforma"),
        ("rmi niente:1", "L'immagine «niente:1» non c'è"),
        ("history niente:1", "Rimedio: labkit pull niente:1"),
        ("inspect niente:1", "«niente:1» non è né un container né un'immagine"),
        ("inspect --type image niente:1", "L'immagine «niente:1» non c'è"),
        ("load -i /non/esiste.tar", "/non/esiste.tar"),
        ("push niente:1", "L'immagine «niente:1» non c'è"),
        ("login", "Rimedio: labkit login -u NOME --password-stdin"),
    ],
)
def test_a_wrong_line_is_one_sentence_with_its_remedy(
    line: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert labkit(*line.split()) != 0
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_credentials_are_tried_kept_where_docker_keeps_them_and_forgotten(
    registry: CourseRegistry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config = tmp_path / "docker" / "config.json"
    config.parent.mkdir()
    config.write_text('{"altro": 1}')
    monkeypatch.setattr("sys.stdin", io.StringIO("parola-segreta\n"))
    assert labkit("login", "-u", "anna", "--password-stdin", registry.address) == 0
    said = capsys.readouterr()
    assert "parola-segreta" not in said.out + said.err
    assert "in chiaro" in said.err
    known = stored_credentials(registry.address)
    assert known is not None
    assert (known.username, known.password) == ("anna", "parola-segreta")
    assert json.loads(config.read_text())["altro"] == 1
    assert config.stat().st_mode & 0o777 == 0o600
    assert labkit("logout", registry.address) == 0
    assert stored_credentials(registry.address) is None
    assert json.loads(config.read_text())["altro"] == 1
    assert labkit("logout", registry.address) == 0
    assert "non ce n'erano" in capsys.readouterr().out


def test_a_name_is_split_as_docker_splits_it() -> None:
    assert split("localhost:5000/corso/prova:1") == ("localhost:5000/corso/prova", "1")
    assert split("nginx@sha256:00") == ("nginx", "<none>")


def test_an_image_that_hides_its_date_has_none() -> None:
    assert age("") == age("1970-01-01T00:00:00Z") == age("ieri") == "–"
    assert age("2020-01-01T00:00:00Z").endswith("anni fa")


def test_a_damaged_image_does_not_hide_the_others(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = images.import_image(root("male"), "male:1")
    images.import_image(root("bene"), "bene:1")
    blob = tmp_path / "immagini" / "blobs" / "sha256" / bad.digest[7:]
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert [one.name for one in images.images()] == ["bene:1"]
    assert "si è rovinato" in capsys.readouterr().err
    with pytest.raises(LabError, match="si è rovinato|manca"):
        images.image("male:1")

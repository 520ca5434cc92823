"""I file di un container visti da fuori: diff, commit, export, cp; mai partito, mentre gira, o finito."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Lab
from labkit.client.container import Container
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError
from labkit.images.store import Store
from tests.kernel.stored import stored
from tests.unit.images.tars import entry, folder, hard, link, tar

pytestmark = pytest.mark.kernel

ROOT = {"uid": 0, "gid": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with stored(tmp_path_factory.mktemp("immagini")) as store:
        yield store


@pytest.fixture(scope="module")
def shared(store: Store) -> Iterator[Lab]:
    with Lab(backend="direct") as lab:
        yield lab


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    yield shared
    for container in shared.ps(all=True):
        container.rm(force=True)
    assert shared.run("prova:1", quiet=True).output == "nuovo"


def done(lab: Lab, script: str, **options: object) -> Container:
    """Un container che ha finito di eseguire ``script``."""
    container = lab.create("prova:1", ["sh", "-c", script], **options)
    container.start()
    assert container.wait(timeout=20) == 0, container.logs()
    return container


def running(lab: Lab, script: str) -> Container:
    """Uno che ha eseguito ``script`` e gira ancora."""
    container = lab.run("prova:1", ["sleep", "60"], detach=True)
    assert container.exec(["sh", "-c", script], quiet=True).exit_code == 0
    return container


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def got(container: Container, path: str) -> bytes:
    return b"".join(container.get_archive(path)[0])


# ---- diff

CHANGES = [
    ("touch /dati/altro", ["C /dati", "A /dati/altro"]),
    ("echo xx > /etc/nuovo", ["C /etc", "C /etc/nuovo"]),
    ("chmod 600 /etc/nuovo", ["C /etc", "C /etc/nuovo"]),
    ("rm /etc/nuovo", ["C /etc", "D /etc/nuovo"]),
    ("rm -r /dati", ["D /dati"]),
    ("rm -r /dati; mkdir /dati; touch /dati/a", ["C /dati", "A /dati/a", "D /dati/suo"]),
    ("rm -r /dati; touch /dati", ["C /dati"]),
    ("rm /etc/nuovo; mkdir -p /etc/nuovo/x", ["C /etc", "C /etc/nuovo", "A /etc/nuovo/x"]),
    ("mkdir -p /a/b; touch /a/b/c", ["A /a", "A /a/b", "A /a/b/c"]),
    ("touch /etc/passeggero; rm /etc/passeggero", []),
    ("echo 127.0.0.1 tutti >> /etc/hosts", []),
    ("true", []),
]


@pytest.mark.parametrize(("script", "changes"), CHANGES, ids=[script for script, _ in CHANGES])
def test_a_change_is_told_as_docker_tells_it(lab: Lab, script: str, changes: list[str]) -> None:
    if script.startswith("rm -r /dati; mkdir"):  # its owner is no longer the same, or there is only one
        changes = ["C /dati", *changes[1:]]
    assert [str(one) for one in done(lab, script).diff()] == changes


def test_who_runs_and_who_has_not_begun_have_a_diff_too(lab: Lab) -> None:
    container = lab.create("prova:1")
    assert list(container.diff()) == []
    assert repr(container.diff()) == "(nessuna modifica)"
    assert [str(one) for one in running(lab, "rm /etc/nuovo").diff()] == ["C /etc", "D /etc/nuovo"]
    host = lab.create("host", ["touch", "/usr/x", "/etc/y", "/z"])
    host.start()
    host.wait(timeout=20)
    assert sorted(map(str, host.diff())) == ["A /etc/y", "A /usr/x", "A /z"]


# ---- commit


def test_a_commit_runs_and_its_changes_are_only_its_own(lab: Lab, store: Store) -> None:
    container = running(lab, "mkdir /n; echo x > /n/f; rm /etc/nuovo; rm -r /dati; mkdir /dati; touch /dati/z")
    made = container.commit(
        "fatta:1", ['CMD ["cat", "/n/f"]', "ENV COLORE=blu B=${COLORE}", "WORKDIR giù"], "ciao", "io"
    )
    assert container.status == "running"
    assert lab.run("fatta:1", quiet=True).output == "x\n"
    seen = lab.run("fatta:1", ["sh", "-c", "ls /etc /dati; pwd; echo $COLORE $B"], quiet=True).output
    assert "nuovo" not in seen
    assert "suo" not in seen
    assert seen.endswith("/giù\nblu verde\n")
    image = store.image("fatta:1")
    assert image.layers[:2] == store.image("prova:1").layers
    step = image.config.history[-1]
    assert (step.created_by, step.comment, step.author) == ("sleep 60", "ciao", "io")
    with image.layers[2].open() as file, tarfile.open(fileobj=file) as archive:
        assert sorted(archive.getnames()) == ["dati", "dati/.wh.suo", "dati/z", "etc", "etc/.wh.nuovo", "n", "n/f"]
    assert made.digest == image.digest


def test_what_the_container_was_asked_is_how_the_image_starts(lab: Lab, store: Store) -> None:
    container = lab.create("prova:1", ["-c", "true"], env={"A": "1"}, workdir="/dati", entrypoint=["sh"])
    process = store.image(container.commit().digest).config.process
    assert process == {
        "Cmd": ["-c", "true"], "Entrypoint": ["sh"], "Env": ["PATH=/bin", "COLORE=verde", "A=1"],
        "WorkingDir": "/dati",
    }  # fmt: skip


def test_a_commit_of_a_container_without_changes_has_an_empty_layer(lab: Lab, store: Store) -> None:
    for container in (lab.create("prova:1"), done(lab, "true")):
        image = store.image(container.commit().digest)
        assert str(image.layers[-1].diff_id).endswith(
            "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
        )


def test_a_folder_becomes_an_image_and_this_machine_does_not(lab: Lab, store: Store) -> None:
    container = lab.create("busybox", ["sh", "-c", "echo ciao > /saluto"])
    container.start()
    container.wait(timeout=20)
    assert len(container.commit("dabusybox:1").layers) == 2
    assert lab.run("dabusybox:1", ["cat", "/saluto"], quiet=True).output == "ciao\n"
    with pytest.raises(InvalidError, match="è questa macchina"):
        lab.create("host", "true").commit()


@pytest.mark.parametrize("wrong", ["RUN true", "CMD [", "COPY a b", "WORKDIR", "ENV", "EXPOSE porta"])
def test_a_change_that_makes_no_sense_is_refused_and_nothing_is_kept(lab: Lab, store: Store, wrong: str) -> None:
    before = len(store.images())
    container = lab.create("prova:1")
    if wrong != "CMD [":  # a shell reads it, and will say so itself
        with pytest.raises(LabError):
            container.commit("sbagliata:1", [wrong])
        assert len(store.images()) == before


def test_who_is_being_read_is_paused_and_then_goes_on(lab: Lab) -> None:
    container = running(lab, "true")
    container.commit()
    said = [event.action for event in lab.events(filters={"container": container.name})]
    group = lab.features["freeze"].ok if "freeze" in lab.features else "pause" in said
    assert ("pause" in said and "unpause" in said) == bool(group)
    assert container.status == "running"


# ---- export


def test_the_whole_root_in_one_archive(lab: Lab, tmp_path: Path) -> None:
    container = running(lab, "touch /nuovo; rm -r /dati; busybox ln -s /etc/passwd /colle")
    size = container.export(tmp_path / "radice.tar")
    data = (tmp_path / "radice.tar").read_bytes()
    assert len(data) == size
    assert {"nuovo", "bin/busybox", "etc/passwd", "colle"} <= set(names(data))
    assert not any(name.startswith(("dati", "proc/", "sys/", "dev/")) for name in names(data))
    assert os.listdir(tmp_path) == ["radice.tar"]
    assert "bin/busybox" in names(exported(lab.create("prova:1")))
    lab.import_image(tmp_path / "radice.tar", "importata:1")
    assert lab.run("importata:1", ["/bin/ls", "/nuovo"], quiet=True).ok


def exported(container: Container) -> bytes:
    out = io.BytesIO()
    container.export(out)
    return out.getvalue()


# ---- cp


def test_files_go_in_and_come_out_whether_it_runs_or_not(lab: Lab) -> None:
    data = tar(
        folder("cartella", **ROOT), entry("cartella/a", b"uno", mode=0o640, **ROOT), link("l", "cartella/a", **ROOT)
    )
    later = lab.create("prova:1", ["cat", "/dati/cartella/a"])
    for container in (later, running(lab, "true"), done(lab, "true")):
        container.put_archive("/dati", data)
        assert content(got(container, "/dati/cartella"), "cartella/a") == b"uno"
        pieces, stat = container.get_archive("dati/l")
        assert (stat["name"], stat["linkTarget"], names(b"".join(pieces))) == ("l", "cartella/a", ["l"])
        assert names(got(container, "/dati/cartella/.")) == ["cartella", "cartella/a"]
        assert "suo" in "".join(names(got(container, "/dati"))), "quello che c'era resta"
    later.start()
    assert later.wait(timeout=20) == 0
    assert later.logs() == "uno"
    assert [str(one) for one in later.diff()][:2] == ["C /dati", "A /dati/cartella"]


def test_what_goes_in_stays_inside_the_root_of_the_container(lab: Lab, tmp_path: Path) -> None:
    container = done(lab, f"busybox ln -s {tmp_path} /fuori; busybox ln -s ../../../../.. /su; mkdir /sotto; "
                          "busybox ln -s /sotto /dati/altrove")  # fmt: skip
    (tmp_path / "segreto").write_text("no")
    for where in ("/fuori", "/fuori/segreto", "/su/../" + str(tmp_path)):
        with pytest.raises(NotFoundError):
            container.put_archive(where, tar(entry("x", b"x", **ROOT)))
        with pytest.raises(NotFoundError):
            got(container, where + "/")
    container.put_archive("/su", tar(entry("x", b"x", **ROOT)))
    assert content(got(container, "/x"), "x") == b"x"
    with pytest.raises(LabError, match="salire"):
        container.put_archive("/dati", tar(entry("../x", **ROOT)))
    container.put_archive("/dati", tar(link("via", str(tmp_path), **ROOT), entry("via/x", **ROOT)))
    container.put_archive("/dati", tar(entry("altrove/y", b"y", **ROOT)))
    assert content(got(container, "/sotto/y"), "y") == b"y", "un link che c'era si segue, dentro"
    assert os.listdir(tmp_path) == ["segreto"]


def test_an_archive_may_be_compressed_large_and_with_any_name(lab: Lab) -> None:
    container = running(lab, "true")
    big = os.urandom(3 << 20)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in (("grande", big), (".wh.niente", b""), ("a b", b"x")):
            one = tarfile.TarInfo(name)
            one.size = len(data)
            archive.addfile(one, io.BytesIO(data))
    container.put_archive("/dati", io.BytesIO(out.getvalue()))
    back = got(container, "/dati/grande")
    assert content(back, "grande") == big
    assert "a b" in container.exec(["ls", "-a", "/dati"], quiet=True).output
    with pytest.raises(LabError, match="vuol dire"):  # in a layer that name means something else
        container.commit()
    assert container.status == "running"


def test_what_cannot_be_copied_says_why(lab: Lab) -> None:
    container = lab.create("prova:1")
    with pytest.raises(NotFoundError, match="«/manca» non c'è"):
        container.put_archive("/manca", b"")
    with pytest.raises(NotFoundError, match="non è una cartella"):
        container.put_archive("/etc/passwd", tar())
    with pytest.raises(NotFoundError, match="«/manca» non c'è"):
        container.get_archive("/manca")
    with pytest.raises(LabError, match=r"rovinat|tagliat|tar"):
        container.put_archive("/dati", b"questo non e' un archivio" * 100)
    with pytest.raises(ConflictError, match="sola lettura"):
        lab.create("prova:1", read_only=True).put_archive("/dati", tar())
    with pytest.raises(ZeroDivisionError):
        container.put_archive("/dati", broken())
    assert lab.ps() is not None


def broken() -> Iterator[bytes]:
    yield bytes(512)
    raise ZeroDivisionError


def test_a_container_does_not_start_while_files_go_in(lab: Lab) -> None:
    container = lab.create("prova:1", "true")
    channel = lab.wire.open("archive_put", name=container.name, path="/dati")
    channel.send(entry("a", b"x" * 1000, **ROOT)[:600])
    with pytest.raises(ConflictError, match="sta copiando"):
        container.start()
    with pytest.raises(ConflictError, match="sta già usando"):
        container.put_archive("/dati", tar())
    channel.send(entry("a", b"x" * 1000, **ROOT)[600:] + bytes(1024))
    channel.close_stdin()
    assert channel.result == {}
    container.start()
    assert container.wait(timeout=20) == 0


def test_removing_a_container_ends_who_reads_it(lab: Lab) -> None:
    container = running(lab, "true")
    channel = lab.wire.open("archive_put", name=container.name, path="/dati")
    container.rm(force=True)
    with pytest.raises(LabError):
        _ = channel.result


def test_a_program_that_moves_its_folders_does_not_lead_a_copy_outside(lab: Lab) -> None:
    container = lab.run(
        "prova:1", ["sh", "-c", "mkdir -p /q/a/b; while true; do busybox mv /q/a /q2; busybox mv /q2 /q/a; "
                    "rm -rf /q/l; busybox ln -s / /q/l; done"], detach=True,
    )  # fmt: skip
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for path in ("/q/a/b", "/q/l/etc/passwd", "/q/l/../../../../etc/passwd"):
                try:
                    data = got(container, path)
                except LabError:
                    continue
                if path.endswith("passwd"):
                    assert b"app:x:33" in data

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(0.7)
    stop.set()
    reader.join(10)
    assert not reader.is_alive()
    assert container.status == "running"


@pytest.mark.subuid
def test_owners_go_and_come_back_the_same(lab: Lab) -> None:
    container = lab.create("prova:1")
    container.put_archive(
        "/", tar(folder("m", uid=33, gid=7), entry("m/x", b"x", uid=33, gid=9, mode=0o4711), hard("m/y", "m/x"))
    )
    with tarfile.open(fileobj=io.BytesIO(got(container, "/m"))) as archive:
        assert [(m.name, m.uid, m.gid, m.mode) for m in archive][:2] == [("m", 33, 7, 0o755), ("m/x", 33, 9, 0o4711)]
        assert archive.getmember("m/y").linkname == "m/x"


# ---- the commands


def labkit(lab: Lab, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "labkit", words[0], "--lab", lab.id, *words[1:]]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=30)


@pytest.mark.once
def test_the_commands_are_those_of_docker(lab: Lab, store: Store, tmp_path: Path) -> None:
    name = running(lab, "rm /etc/nuovo").name
    assert labkit(lab, "diff", name).stdout.decode().splitlines() == ["C /etc", "D /etc/nuovo"]
    made = labkit(lab, "commit", "-c", 'CMD ["cat", "/etc/passwd"]', "-m", "prova", name, "comando:1")
    assert made.stdout.decode().strip() == store.image("comando:1").id
    whole = labkit(lab, "export", name)
    assert "bin/busybox" in names(whole.stdout)
    assert labkit(lab, "export", "-o", str(tmp_path / "r.tar"), name).stdout == b""
    assert (tmp_path / "r.tar").stat().st_size == len(whole.stdout)
    wrong = labkit(lab, "cp", str(tmp_path), str(tmp_path))
    assert wrong.returncode
    assert "è di un container" in wrong.stderr.decode()


@pytest.mark.once
def test_cp_names_what_it_copies_as_docker_does(lab: Lab, tmp_path: Path) -> None:
    container = running(lab, "mkdir /c; echo due > /c/due; busybox ln -s c/due /l")
    here = tmp_path / "qui"
    (here / "d").mkdir(parents=True)
    (here / "d" / "uno").write_text("uno")
    for words in (
        (f"{here}/d/uno", f"{container.name}:/c"), (f"{here}/d/uno", f"{container.name}:/c/rinominato"),
        (f"{here}/d", f"{container.name}:/c"), (f"{here}/d", f"{container.name}:/nuova"),
        (f"{here}/d/.", f"{container.name}:/c"), (f"{container.name}:/c/due", str(here)),
        (f"{container.name}:/c/due", f"{here}/tre"), (f"{container.name}:/c", str(here)),
        (f"{container.name}:/c", f"{here}/copia"), (f"{container.name}:/c/.", f"{here}/d"),
        (f"{container.name}:/l", str(here)), ("-L", f"{container.name}:/l", f"{here}/seguito"),
    ):  # fmt: skip
        done = labkit(lab, "cp", *words)
        assert done.returncode == 0, (words, done.stderr)
    found = container.exec(["ls", "/c", "/c/d", "/nuova"], quiet=True).output.split()
    assert found == ["/c:", "d", "due", "rinominato", "uno", "/c/d:", "uno", "/nuova:", "uno"]
    assert sorted(os.listdir(here)) == ["c", "copia", "d", "due", "l", "seguito", "tre"]
    assert sorted(os.listdir(here / "d")) == sorted(os.listdir(here / "c")) == ["d", "due", "rinominato", "uno"]
    assert os.readlink(here / "l") == "c/due"
    assert (here / "seguito").read_text() == (here / "tre").read_text() == "due\n"
    assert container.exec(["stat", "-c", "%u", "/c/uno"], quiet=True).output == "0\n"
    for words in ((f"{here}/manca", f"{container.name}:/c"), (f"{here}/d", f"{container.name}:/c/due"),
                  (f"{here}/due", f"{container.name}:/manca/"), (f"{container.name}:/manca", str(here))):  # fmt: skip
        assert labkit(lab, "cp", *words).returncode


@pytest.mark.once
def test_cp_takes_and_gives_an_archive(lab: Lab) -> None:
    container = lab.create("prova:1")
    done = labkit(lab, "cp", "-", f"{container.name}:/dati", stdin=tar(entry("a", b"a", **ROOT)))
    assert done.returncode == 0, done.stderr
    assert content(labkit(lab, "cp", f"{container.name}:/dati/a", "-").stdout, "a") == b"a"

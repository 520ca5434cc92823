"""Volumi, cartelle della macchina, tmpfs: i dati restano senza il container, e nessuno esce dalla radice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Lab
from labkit.client.output import Result
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError

pytestmark = pytest.mark.kernel


def sh(lab: Lab, script: str, image: str | Path = "busybox", **options: object) -> Result:
    return lab.run(image, ["sh", "-c", script], quiet=True, **options)


@pytest.fixture(autouse=True)
def no_volumes(lab: Lab) -> Iterator[None]:
    yield
    for container in lab.ps(all=True):
        container.rm(force=True)
    lab.volume.prune(all=True)
    assert list(lab.volume) == []


@pytest.fixture
def shared_folder(tmp_path: Path) -> Path:
    """Una cartella della macchina, che si può leggere anche da dentro."""
    folder = tmp_path / "sito"
    folder.mkdir()
    (folder / "pagina.html").write_text("ciao\n")
    return folder


# ---- volumes


def test_what_is_in_a_volume_outlives_the_container_and_the_laboratory(lab: Lab) -> None:
    sh(lab, "echo uno > /dati/f", volumes="prova:/dati")
    assert sh(lab, "cat /dati/f", volumes={"prova": "/dati"}).output == "uno\n"
    assert sh(lab, "ls /dati").exit_code != 0, "without the volume there is nothing"
    with Lab(backend="direct") as other:
        assert sh(other, "cat /dati/f; echo due >> /dati/f", volumes="prova:/dati").output == "uno\n"
    assert sh(lab, "cat /dati/f", volumes="prova:/dati:ro").output == "uno\ndue\n"


def test_a_read_only_volume_cannot_be_written_not_even_by_root(lab: Lab) -> None:
    lab.volume.create("prova")
    script = "echo x > /dati/f; mount -o remount,rw,bind /dati /dati; echo x > /dati/f; ls /dati"
    assert sh(lab, script, volumes="prova:/dati:ro").output == ""


def test_a_new_volume_takes_what_the_image_has_there(lab: Lab, root: Path) -> None:
    (root / "dati" / "sotto").mkdir(parents=True)
    (root / "dati" / "sotto" / "f").write_text("dell'immagine\n")
    (root / "dati" / "link").symlink_to("sotto/f")
    os.link(root / "dati" / "sotto" / "f", root / "dati" / "gemello")
    (root / "dati").chmod(0o750)
    script = "stat -c %a /dati; cat /dati/link; stat -c %h /dati/gemello; readlink /dati/link"
    assert sh(lab, script, root, volumes="prova:/dati").output == "750\ndell'immagine\n2\nsotto/f\n"
    sh(lab, "rm -r /dati/*", root, volumes="prova:/dati")
    assert sh(lab, "ls /dati", root, volumes="prova:/dati").output == "", "a used volume keeps what it has"
    assert sh(lab, "ls /dati", root, volumes="altro:/dati:nocopy").output == ""


def test_a_copy_that_stopped_half_way_begins_again(lab: Lab, root: Path) -> None:
    (root / "dati").mkdir()
    (root / "dati" / "f").write_text("intero\n")
    volume = lab.volume.create("prova")
    half = Path(volume.mountpoint) / "f"
    half.write_text("int")
    assert sh(lab, "cat /dati/f", root, volumes="prova:/dati").output == "intero\n"


@pytest.mark.subuid
def test_owners_are_those_of_the_image(lab: Lab) -> None:
    sh(lab, "echo x > /dati/f; chown 33:33 /dati /dati/f", volumes="prova:/dati")
    assert sh(lab, "stat -c '%u %g' /dati /dati/f", volumes="prova:/dati", user="33").output == "33 33\n33 33\n"
    assert sh(lab, "echo y >> /dati/f && wc -l < /dati/f", volumes="prova:/dati", user="33").output == "2\n"


def test_a_volume_in_use_is_not_taken_away(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], volumes="prova:/dati", detach=True, name="chi")
    assert lab.volume.inspect("prova").used_by == ("chi",)
    with pytest.raises(ConflictError, match="è usato da un container"):
        lab.volume.rm("prova")
    assert lab.volume.prune(all=True) == []
    with Lab(backend="direct") as other:
        assert other.volume.inspect("prova").busy
        with pytest.raises(ConflictError):
            other.volume.rm("prova")
    container.stop(0)
    with pytest.raises(ConflictError):
        lab.volume.rm("prova")  # a stopped container may start again
    container.rm()
    lab.volume.rm("prova")
    with pytest.raises(NotFoundError, match="labkit volume create prova"):
        lab.volume.inspect("prova")


def test_an_anonymous_volume_goes_with_its_container_only_if_asked(lab: Lab) -> None:
    sh(lab, "echo x > /dati/f", volumes="/dati")
    assert list(lab.volume) == [], "--rm takes it along"
    for volumes in (False, True):
        container = lab.run("busybox", ["sleep", "60"], volumes="/dati", detach=True)
        container.rm(force=True, volumes=volumes)
        assert len(list(lab.volume)) == (not volumes)
        assert len(lab.volume.prune()) == (not volumes)


def test_a_restart_finds_the_same_volume(lab: Lab) -> None:
    container = lab.run("busybox", ["sh", "-c", "echo x >> /dati/f; exec sleep 60"], volumes="/dati", detach=True)
    script = "for i in $(seq 100); do [ $(wc -l < /dati/f) = {} ] && echo fatto && exit; sleep 0.1; done"
    for lines in (1, 2):
        assert container.exec(["sh", "-c", script.format(lines)], quiet=True).output == "fatto\n"
        container.restart(grace=0)


def test_the_volumes_of_another_container(lab: Lab) -> None:
    container = lab.create("busybox", "true", volumes=["prova:/dati", "/altro"], tmpfs="/memoria")
    sh(lab, "echo x > /altro/f; echo x > /dati/f", volumes_from=container.name)
    result = sh(lab, "ls /dati /altro; ls /memoria || echo no; echo y > /dati/g", volumes_from=f"{container.name}:ro")
    assert result.output == "/altro:\nf\n\n/dati:\nf\nno\n"
    with pytest.raises(NotFoundError, match="nessuno"):
        sh(lab, "true", volumes_from="nessuno")


# ---- backup and restore


def test_a_volume_is_copied_and_made_again(lab: Lab, tmp_path: Path) -> None:
    script = "mkdir /dati/sotto; echo uno > /dati/sotto/f; ln -s sotto/f /dati/link; chmod 640 /dati/sotto/f"
    sh(lab, script, volumes="prova:/dati")
    size = lab.volume.backup("prova", tmp_path / "prova.tar")
    assert size == (tmp_path / "prova.tar").stat().st_size
    restored = lab.volume.restore("copia", tmp_path / "prova.tar")
    assert (restored.name, restored.busy) == ("copia", False)
    assert sh(lab, "cat /dati/link; stat -c %a /dati/sotto/f", volumes="copia:/dati").output == "uno\n640\n"
    with pytest.raises(ConflictError, match="c'è già"):
        lab.volume.restore("copia", tmp_path / "prova.tar")


def test_half_a_copy_makes_no_volume(lab: Lab, tmp_path: Path) -> None:
    sh(lab, "head -c 300000 /dev/urandom > /dati/f", volumes="prova:/dati")
    lab.volume.backup("prova", tmp_path / "prova.tar")
    half = tmp_path / "metà.tar"
    half.write_bytes((tmp_path / "prova.tar").read_bytes()[:100_000])
    with pytest.raises(LabError):
        lab.volume.restore("copia", half)
    assert [volume.name for volume in lab.volume] == ["prova"]


def test_an_archive_does_not_write_outside_its_volume(lab: Lab, tmp_path: Path) -> None:
    import io
    import tarfile

    (tmp_path / "fuori").mkdir()
    with tarfile.open(tmp_path / "cattivo.tar", "w") as archive:
        for name, link in (("via", str(tmp_path / "fuori")), ("su", "../..")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)
        for name in ("via/x", "su/x", "../x"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    try:
        lab.volume.restore("prova", tmp_path / "cattivo.tar")
    except LabError:
        pass
    assert list((tmp_path / "fuori").iterdir()) == []
    found = [str(path) for path in Path(os.environ["LABKIT_VOLUMES"]).rglob("x") if "_data" not in str(path)]
    assert found == []


# ---- folders of the machine


def test_a_bind_is_the_same_folder_both_ways(lab: Lab, shared_folder: Path) -> None:
    assert sh(lab, "cat /srv/pagina.html; echo nuovo > /srv/n", volumes=f"{shared_folder}:/srv").output == "ciao\n"
    assert (shared_folder / "n").read_text() == "nuovo\n"
    container = lab.run("busybox", ["sleep", "60"], volumes=f"{shared_folder}:/srv:ro", detach=True)
    (shared_folder / "pagina.html").write_text("cambiata\n")
    assert container.exec(["cat", "/srv/pagina.html"], quiet=True).output == "cambiata\n"
    assert container.exec(["touch", "/srv/x"], quiet=True).exit_code != 0


def test_a_bind_of_one_file(lab: Lab, shared_folder: Path) -> None:
    page = shared_folder / "pagina.html"
    assert sh(lab, "cat /etc/passwd /nuova/una", volumes=[f"{page}:/etc/passwd", f"{page}:/nuova/una:ro"]).output == (
        "ciao\nciao\n"
    )


def test_a_link_of_the_image_does_not_lead_out_of_its_root(lab: Lab, root: Path, shared_folder: Path) -> None:
    outside = shared_folder.parent / "fuori"
    outside.mkdir()
    (root / "var/dati").mkdir(parents=True)
    (root / "dentro").symlink_to("var/dati")
    (root / str(outside)[1:]).mkdir(parents=True)
    (root / "assoluto").symlink_to(outside)
    (root / "vuoto").symlink_to("niente")
    (root / "processi").symlink_to("/proc/sys")
    script = "cat /var/dati/pagina.html; ls " + str(outside)
    result = sh(lab, script, root, volumes=[f"{shared_folder}:/dentro", f"{shared_folder}:/assoluto/qui"])
    assert result.output == "ciao\nqui\n", "it is followed, but from the container's own root"
    assert list(outside.iterdir()) == []
    with pytest.raises(InvalidError, match="non porta a niente"):
        sh(lab, "true", root, volumes=f"{shared_folder}:/vuoto")
    with pytest.raises(InvalidError, match="del kernel"):
        sh(lab, "true", root, volumes=f"{shared_folder}:/processi")


def test_a_link_outside_does_not_lead_to_the_kernel_s_files(lab: Lab, tmp_path: Path) -> None:
    for name, target in (("radice", "/"), ("processi", "/proc")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(LabError, match="non si dà a un container"):
            sh(lab, "true", volumes=f"{tmp_path / name}:/x")


def test_propagation_is_that_of_the_kernel(lab: Lab, shared_folder: Path) -> None:
    for kind, sign in (("rprivate", ""), ("rshared", "shared:")):
        line = sh(lab, "grep ' /srv ' /proc/self/mountinfo", volumes=f"{shared_folder}:/srv:{kind}").output
        assert ("shared:" in line) == bool(sign)


def test_nobody_becomes_root_or_opens_a_device_from_a_mount(lab: Lab, shared_folder: Path) -> None:
    volumes = [f"{shared_folder}:/srv", "prova:/dati"]
    for line in sh(lab, "grep -E ' /(srv|dati) ' /proc/self/mountinfo", volumes=volumes).output.splitlines():
        assert {"nosuid", "nodev"} <= set(line.split()[5].split(","))


# ---- memory


def test_a_tmpfs_has_its_size_and_is_empty_every_time(lab: Lab) -> None:
    script = "ls /t; head -c 2000000 /dev/zero > /t/x; wc -c < /t/x; stat -c %a /t"
    for _ in range(2):
        assert sh(lab, script, tmpfs="/t:size=1m,mode=700").output == "1048576\n700\n"
    line = sh(lab, "grep ' /t ' /proc/self/mountinfo", mounts="type=tmpfs,target=/t,readonly").output
    assert "ro," in line
    assert "noexec" in line


# ---- bad input


@pytest.mark.parametrize(
    ("volumes", "why"),
    [
        ("/:/x", "non si dà"), ("/proc/1:/x", "non si dà"), ("dati:/proc/x", "del kernel"), ("a:/b:zz", "zz"),
        ("x:dati", "comincia con"), ("x:/../y", "Sopra"), ("a:/b:c:d", "Non capisco"), ("é:/b", "nome di un volume"),
        (["aa:/b", "cc:/b/"], "stesso posto"), ("aa:/b:z", "SELinux"), (3, "testo"), ("aa:/b:rshared", "propagazione"),
        ([f"v{n}:/v{n}" for n in range(70)], "al massimo"),
    ],
)  # fmt: skip
def test_what_cannot_be_mounted_is_refused_with_a_sentence(lab: Lab, volumes: object, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        sh(lab, "true", volumes=volumes)


def test_a_folder_that_is_not_there_is_refused_and_nothing_is_born(lab: Lab, tmp_path: Path) -> None:
    for warm in (False, True):
        with pytest.raises(NotFoundError, match="mkdir -p"):
            sh(lab, "true", volumes=f"{tmp_path}/no:/x")
        assert not lab.ps(all=True)
        assert sh(lab, "echo", volumes="prova:/x").exit_code == 0, warm


def test_other_drivers_are_refused(lab: Lab) -> None:
    with pytest.raises(InvalidError, match="solo «local»"):
        lab.volume.create("dati", driver="nfs")


# ---- the command


def test_the_commands(lab: Lab, tmp_path: Path) -> None:
    def labkit(*words: str) -> subprocess.CompletedProcess[str]:
        import sys

        command = [sys.executable, "-m", "labkit", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert labkit("volume", "create", "prova").stdout == "prova\n"
    done = labkit("run", "--lab", lab.id, "--rm", "-v", "prova:/dati", "busybox", "sh", "-c", "echo x > /dati/f")
    assert (done.returncode, done.stderr) == (0, "")
    assert "prova" in labkit("volume", "ls").stdout
    assert '"name": "prova"' in labkit("volume", "inspect", "prova").stdout
    assert labkit("volume", "rm", "prova", "nessuno").stdout == "prova\n"
    assert labkit("volume", "rm", "nessuno").returncode == 1
    assert "create, ls, inspect" in labkit("volume").stderr

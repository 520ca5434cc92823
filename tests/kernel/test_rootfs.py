"""La radice di un container: gli strati sotto restano intatti, quello che si scrive resta suo, e sparisce con lui."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labkit import Lab
from labkit.client.output import Result

pytestmark = pytest.mark.kernel


def sh(lab: Lab, image: str | Path, script: str, **options: object) -> Result:
    return lab.run(image, ["sh", "-c", script], quiet=True, **options)


def picture(folder: Path) -> dict[str, tuple[object, ...]]:
    """Tutto quello che si può sapere di una cartella: tipi, permessi, proprietari, date, contenuti."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = os.readlink(path) if path.is_symlink() else ""
        found[str(path)] = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns, content, target)
    return found


# ---- what is below


def test_a_folder_used_as_an_image_is_never_written(lab: Lab, root: Path) -> None:
    (root / "dati").mkdir()
    (root / "dati" / "uno").write_text("uno\n")
    (root / "dati" / "due").write_text("due\n")
    before = picture(root)
    script = """
    echo in più >> /dati/uno; rm /dati/due; mkdir /nuova; echo 3 > /nuova/tre
    chmod 777 /dati; mv /dati/uno /dati/quattro
    cat /dati/quattro; ls /dati /nuova; touch /bin/busybox
    """
    result = sh(lab, root, script)
    assert result.output == "uno\nin più\n/dati:\nquattro\n\n/nuova:\ntre\n"
    assert picture(root) == before


def test_the_host_s_own_programs_are_never_written(lab: Lab, mode: str) -> None:
    victims = [Path("/etc/passwd"), Path("/etc/hostname"), Path("/usr/bin/env")]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in victims if path.exists()}
    result = sh(lab, "host", "echo intruso >> /etc/passwd; rm -f /usr/bin/env; tail -n 1 /etc/passwd; ls /usr/bin/env")
    # Files of a user outside the map belong to nobody there: a plain user's container cannot even copy them up.
    assert (result.output == "intruso\n") == (mode == "root")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    again = sh(lab, "host", "tail -n 1 /etc/passwd; ls /usr/bin/env").output
    assert again.endswith("/usr/bin/env\n")
    assert "intruso" not in again


def test_no_writable_way_leads_to_the_layers_below(lab: Lab) -> None:
    rows = sh(lab, "host", "cat /proc/self/mountinfo").output.splitlines()
    kinds = {row.split()[4]: row.partition(" - ")[2].split()[0] for row in rows}
    assert {kinds[path] for path in ("/", "/usr", "/etc")} == {"overlay"}
    assert set(kinds.values()) <= {"overlay", "proc", "tmpfs", "devpts", "mqueue", "sysfs", "devtmpfs"}, kinds
    for row in rows:
        left, _, right = row.partition(" - ")
        if right.split()[0] in ("sysfs", "devtmpfs") and left.split()[4] == "/sys":
            assert "ro" in left.split()[5].split(",")


# ---- what is above


def test_a_copy_up_keeps_what_was_there(lab: Lab, root: Path) -> None:
    (root / "lungo").write_bytes(b"riga\n" * 100_000)
    (root / "lungo").chmod(0o640)
    result = sh(lab, root, "echo fine >> /lungo; stat -c '%a %s' /lungo")
    assert result.output == "640 500005\n"


def test_a_whiteout_hides_for_good(lab: Lab, root: Path) -> None:
    (root / "cartella").mkdir()
    (root / "cartella" / "vecchio").write_text("x")
    script = "rm -r /cartella; ls /cartella; mkdir /cartella && touch /cartella/nuovo; ls /cartella"
    result = sh(lab, root, script)
    assert result.output == "nuovo\n"
    assert (root / "cartella" / "vecchio").exists()


def test_a_folder_of_the_image_can_be_renamed(lab: Lab, root: Path) -> None:
    (root / "prima").mkdir()
    (root / "prima" / "file").write_text("resta\n")
    assert sh(lab, root, "mv /prima /dopo && cat /dopo/file; ls -d /prima 2>/dev/null").output == "resta\n"


def test_two_containers_of_one_image_do_not_see_each_other(lab: Lab) -> None:
    one = lab.run("busybox", ["sleep", "60"], detach=True)
    two = lab.run("busybox", ["sleep", "60"], detach=True)
    one.exec(["sh", "-c", "echo mio > /tmp/file; rm /bin/vi"], quiet=True)
    assert two.exec(["sh", "-c", "ls /tmp; ls /bin/vi"], quiet=True).output == "/bin/vi\n"


def test_what_was_written_goes_with_the_container(lab: Lab, nothing_half_made: None) -> None:
    container = lab.run(
        "busybox", ["sh", "-c", "mkdir -p /a/b/c; echo x > /a/b/c/d; ln -s /etc /a/e; sleep 60"], detach=True
    )
    wait = "until [ -L /a/e ]; do sleep 0.01; done; cat /a/b/c/d"
    assert container.exec(["sh", "-c", wait], quiet=True).output == "x\n"
    container.rm(force=True)


def test_a_layer_of_thousands_of_files_goes_too(lab: Lab, nothing_half_made: None) -> None:
    script = "mkdir /m; i=0; while [ $i -lt 3000 ]; do : > /m/$i; i=$((i+1)); done; chmod 000 /m; echo fatto"
    assert sh(lab, "busybox", script).output == "fatto\n"


def test_a_stopped_container_keeps_what_it_wrote_until_rm(lab: Lab, process: object) -> None:
    container = lab.run("busybox", ["sh", "-c", "echo ricordo"], detach=True)
    container.wait(timeout=20)
    assert container.status == "exited"
    assert container.logs() == "ricordo\n"


# ---- read only


@pytest.mark.parametrize("image", ["busybox", "host"])
def test_a_read_only_root_is_read_only_everywhere(lab: Lab, image: str) -> None:
    script = (
        "for d in / /etc /usr /bin /tmp /root /var /dev /sys /proc; do touch $d/x 2>/dev/null && echo $d; done; true"
    )
    assert sh(lab, image, script, read_only=True).output == ""
    assert "Read-only file system" in sh(lab, image, "touch /x", read_only=True).stderr


def test_a_read_only_root_still_has_shared_memory_and_a_name(lab: Lab) -> None:
    result = sh(lab, "busybox", "touch /dev/shm/x && cat /etc/hostname", read_only=True, hostname="fermo")
    assert result.output == "fermo\n"


def test_a_root_may_be_written_if_nobody_says_otherwise(lab: Lab) -> None:
    assert sh(lab, "busybox", "touch /x /etc/x /bin/x && echo si").output == "si\n"


# ---- what is in it


def test_the_image_host_shows_no_private_file(lab: Lab) -> None:
    result = sh(lab, "host", "ls -A /home /root /var/lib /mnt /srv; cat /etc/shadow 2>&1 || true")
    listed = [line for line in result.output.splitlines() if line and not line.endswith(":")]
    assert len(listed) == 1
    assert "No such file" in listed[0]


def test_the_identity_files_are_the_container_s(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], hostname="io.esempio", detach=True)
    assert container.exec("cat /etc/hostname", quiet=True).output == "io.esempio\n"
    hosts = container.exec("cat /etc/hosts", quiet=True).output
    assert "127.0.0.1\tlocalhost" in hosts
    assert f"{container.ip}\tio.esempio" in hosts
    assert container.exec("hostname", quiet=True).output == "io.esempio\n"


def test_identity_files_are_written_over_links_and_never_through_them(lab: Lab, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "fuori"
    target.write_text("intatto")
    (root / "etc").mkdir()
    (root / "etc" / "hostname").symlink_to(target)
    os.mkfifo(root / "etc" / "hosts")
    (root / "etc" / "resolv.conf").symlink_to("/dev/full")
    assert sh(lab, root, "cat /etc/hostname", hostname="dentro").output == "dentro\n"
    assert target.read_text() == "intatto"


@pytest.mark.parametrize("name", ["due:punti", "virgola,", "barra\\rovesciata", "spazio dentro", "è accentata"])
def test_the_name_of_a_folder_can_hold_anything(lab: Lab, root: Path, name: str) -> None:
    odd = root.rename(root.parent / name)
    assert sh(lab, odd, "echo qui").output == "qui\n"


def test_a_folder_is_meant_as_seen_from_the_notebook(lab: Lab, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    for image in ("./radice", Path("radice"), "../" + root.parent.name + "/radice"):
        assert sh(lab, image, "echo qui").output == "qui\n"
    monkeypatch.setenv("HOME", str(root.parent))
    assert sh(lab, "~/radice", "echo casa").output == "casa\n"

"""Gli strati di un container vero: quello che si legge da fuori è quello che il kernel mostra dentro."""

from __future__ import annotations

import os

import pytest

from labkit import Lab
from labkit.client.container import Container
from labkit.errors import InvalidError, NotFoundError

pytestmark = pytest.mark.kernel

#: Every way of hiding something, twice over: removed, replaced by another kind, emptied and made again.
CHANGES = """
rm /bin/vi /etc/group; echo nuovo > /etc/passwd; ln -s /etc /finta
rm -r /var/lib; mkdir /var/lib; echo x > /var/lib/dentro
rm -r /var/cache; echo file > /var/cache
rm -r /var/log; mkdir /var/log; rm -r /var/log; mkdir /var/log
mkdir -p /srv/a/b; mv /srv/a/b /srv/c; chmod 700 /opt
rm -r /mnt; ln -s /etc /mnt
"""


def seen_inside(container: Container, folder: str) -> set[str]:
    return set(container.exec(["ls", "-A", folder], quiet=True).output.split())


def seen_outside(container: Container, folder: str) -> set[str]:
    return {entry.name for entry in container.browse(folder, limit=500)[folder].entries if not entry.gone}


def test_from_outside_one_sees_what_the_container_sees(lab: Lab) -> None:
    container = lab.run("busybox", "sleep 100", name="cavia", detach=True)
    assert container.exec(["sh", "-c", CHANGES]).ok
    for folder in ("/", "/bin", "/etc", "/var", "/var/lib", "/var/log", "/srv", "/srv/a", "/srv/c", "/opt", "/tmp"):
        assert seen_outside(container, folder) == seen_inside(container, folder), folder
    view = container.browse("/bin", "/mnt", "/finta", "/var/cache", "/var/lib")
    assert view["/bin"]["vi"].gone
    assert view["/bin"]["vi"].below == (1,)
    assert view["/var"]["lib"].opaque
    assert view["/var"]["cache"].hides
    assert view["/etc"]["passwd"].size == 6
    assert not {"/mnt", "/finta", "/var/cache"} & {folder.path for folder in view.folders}
    container.stop(grace=0)
    assert container.browse("/var/lib")["/var/lib"]["dentro"].size == 2, "a container that has ended is still there"


def test_the_image_host_shows_the_files_of_this_machine_and_hides_the_private_ones(lab: Lab) -> None:
    container = lab.create("host", "true")
    view = container.browse("/usr", "/etc", limit=500)
    assert view.layers[0] == "strato scrivibile"
    assert "/usr di questa macchina" in view.layers
    assert view.layers[view["/usr"]["bin"].layer] == "/usr di questa macchina"
    assert view.changed == ()
    if os.path.exists("/etc/shadow"):
        assert view["/etc"]["shadow"].gone
        assert view.layers[view["/etc"]["shadow"].layer] == "host, preparata dal laboratorio"


def test_what_cannot_be_asked_is_refused_and_the_lab_goes_on(lab: Lab) -> None:
    container = lab.create("busybox", "true")
    for wrong in ({"folders": ["etc"]}, {"folders": ["/.."]}, {"limit": 0}, {"limit": 10**6}, {"folders": ["/x"] * 99}):
        with pytest.raises(InvalidError):
            lab.wire.call("browse", name=container.name, **wrong)
    with pytest.raises(NotFoundError):
        lab.wire.call("browse", name="nessuno")
    assert "/niente" not in container.browse("/niente")


def test_a_folder_for_passing_files_carries_an_overlay_and_is_the_laboratorys(lab: Lab) -> None:
    with lab.process() as process:
        said = process.python(OPAQUE_BY_HAND, quiet=True)
    assert said.output == "['nuovo']\n"
    assert not os.path.exists(f"{lab.wire.hello['folder']}/lab/tmp/casa")


OPAQUE_BY_HAND = """
import os, tempfile
from labkit import kernel
casa = tempfile.gettempdir() + "/casa"
for nome in ("sotto/x", "sopra", "lavoro", "insieme"):
    os.makedirs(f"{casa}/{nome}")
open(f"{casa}/sotto/x/vecchio", "w").close()
kernel.overlay(f"{casa}/insieme", (f"{casa}/sotto",), f"{casa}/sopra", f"{casa}/lavoro")
os.unlink(f"{casa}/insieme/x/vecchio")
os.rmdir(f"{casa}/insieme/x")
os.mkdir(f"{casa}/insieme/x")
open(f"{casa}/insieme/x/nuovo", "w").close()
print(os.listdir(f"{casa}/insieme/x"))
kernel.umount(f"{casa}/insieme")
"""

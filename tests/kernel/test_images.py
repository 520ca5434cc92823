"""I container delle immagini conservate: nascono e ripartono dagli strati che tutti i laboratori condividono."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Lab
from labkit.errors import CorruptError, NotFoundError
from labkit.images.image import Image
from labkit.images.layers import Layers, Unpacking
from labkit.images.reference import parse
from labkit.images.store import Store
from tests import users
from tests.kernel.stored import stored, variant
from tests.unit.images.tars import entry, tar

pytestmark = pytest.mark.kernel


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


def test_a_container_sees_the_layers_of_its_image_one_upon_the_other(lab: Lab, store: Store) -> None:
    assert lab.run("prova:1", quiet=True).output == "nuovo"
    assert lab.run("prova:1", ["ls", "/etc"], quiet=True).output.split() == sorted(
        ["hostname", "hosts", "nuovo", "passwd", "resolv.conf"]
    )
    info = lab.run("prova:1", ["sleep", "60"], detach=True).inspect()
    stored = store.image("prova:1")
    assert (info.image, info.image_id, info.image_digest) == ("prova:1", stored.id, stored.digest)


@pytest.mark.subuid
def test_its_files_are_of_whom_the_image_says(lab: Lab) -> None:
    assert lab.run("prova:1", ["stat", "-c", "%u:%g", "/dati", "/dati/suo"], quiet=True).output == "33:33\n33:33\n"


def test_with_one_user_what_is_lost_is_told_once(lab: Lab, mode: users.Mode, store: Store) -> None:
    name = variant(store, "persi:1", Cmd=["true"])
    warned = [lab.run(name, ["sleep", "60"], detach=True).inspect().warnings for _ in range(2)]
    if mode == "nosub":
        assert warned[0] == (
            "Dell'immagine «persi:1» mancano: i proprietari diversi da root: senza subuid esiste un utente solo (2).",
        )
        assert lab.run(name, ["stat", "-c", "%u", "/dati/suo"], quiet=True).output == "0\n"
        warned[0] = ()
    assert warned == [(), ()]


@pytest.mark.subuid
def test_what_is_not_asked_is_what_the_image_says(lab: Lab, store: Store) -> None:
    name = variant(
        store, "config:1", Entrypoint=["sh", "-c"], Cmd=["id -u; pwd; echo $COLORE"], User="app", WorkingDir="/dati",
        Labels={"di": "immagine", "a": "1"}, StopSignal="SIGQUIT", ExposedPorts={"80/tcp": {}},
        Healthcheck={"Test": ["CMD", "true"], "Interval": 5_000_000_000},
    )  # fmt: skip
    assert lab.run(name, quiet=True).output == "33\n/dati\nverde\n"
    own = lab.run(name, ["id -u; pwd; echo $COLORE"], user="0", workdir="/etc", env={"COLORE": "blu"}, quiet=True)
    assert own.output == "0\n/etc\nblu\n"
    container = lab.run(name, ["sleep 60"], detach=True)
    info = container.inspect()
    assert (dict(info.labels), info.exposed, info.user, info.workdir) == (
        {"di": "immagine", "a": "1"}, ("80/tcp",), "app", "/dati",
    )  # fmt: skip
    assert container.health == "starting"
    assert container.exec(["id", "-u"], quiet=True).output == "33\n"
    assert lab.run(name, entrypoint="echo ciao", quiet=True).output == "ciao\n", "il comando era per l'altro entrypoint"


def test_the_signal_of_the_image_stops_it(lab: Lab, store: Store) -> None:
    name = variant(store, "segnale:1", StopSignal="SIGHUP")
    assert lab.run(name, ["sleep", "60"], detach=True, init=True).stop(grace=5) == 128 + signal.SIGHUP
    assert lab.run(name, ["sleep", "60"], detach=True, init=True, stop_signal="SIGINT").stop(grace=5) == 130


def test_a_restart_finds_what_the_program_had_written_and_another_container_does_not(lab: Lab) -> None:
    container = lab.create("prova:1", ["sh", "-c", "echo x >> /dati/suo; cat /dati/suo; rm /etc/nuovo"])
    for code in (0, 1):  # the second time there is nothing left to remove
        container.start()
        assert container.wait(timeout=10) == code
    assert container.logs().startswith("suox\nsuox\nx\n")
    assert lab.run("prova:1", ["cat", "/dati/suo", "/etc/nuovo"], quiet=True).output == "suonuovo"


def test_the_second_start_of_an_image_is_warm(lab: Lab) -> None:
    lab.run("prova:1", "true", quiet=True)
    end = time.monotonic() + 5
    while not lab.run("prova:1", ["sleep", "60"], detach=True).inspect().warm:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_image_without_layers_is_an_empty_root(lab: Lab, store: Store) -> None:
    store.put(Image.empty(), parse("vuota:1"))
    made = lab.create("vuota:1", ["/niente"])
    with pytest.raises(Exception, match="niente"):
        made.start()


def test_two_hundred_layers_are_one_root(lab: Lab, store: Store) -> None:
    layers = [tar(entry(f"strati/{number}", b"x", uid=0, gid=0)) for number in range(198)]
    name = variant(store, "alta:1", *layers)
    assert lab.run(name, ["sh", "-c", "ls /strati | cat; cat /etc/nuovo"], quiet=True).output.count("\n") == 198


def test_a_plan_made_step_by_step_and_a_container_for_later_have_the_same_image(lab: Lab) -> None:
    plan = lab.plan("prova:1", ["sleep", "60"])
    plan.run()
    assert lab.container(plan.name).exec(["cat", "/etc/nuovo"], quiet=True).output == "nuovo"
    made = lab.create("prova:1")
    made.start()
    assert made.wait(timeout=10) == 0
    assert made.logs() == "nuovo"


def test_the_lab_answers_others_while_an_image_is_made_ready(lab: Lab, store: Store) -> None:
    big = tar(*(entry(f"molti/{number}", b"x" * 500, uid=0, gid=0) for number in range(1500)))
    name = variant(store, "grande:1", big)
    channel = lab.wire.open("run", attach=True, **request(name, ["true"]))
    while not channel.events:  # it has begun
        channel.receive(10)
    asked = 0
    while not any("started" in event for event in channel.events):
        lab.ps()
        asked += 1
        time.sleep(0.005)
        while channel._frames.qsize():
            channel.receive(1)
    assert channel.result["exit_code"] == 0
    assert asked > 3
    told = [event["unpacking"] for event in channel.events if "unpacking" in event]
    assert [(one["layer"], one["layers"]) for one in told] == [(3, 3)], "i primi due erano già pronti"


def request(image: str, command: list[str]) -> dict[str, object]:
    from labkit.client import options

    return options.request(image, command)


def test_two_who_ask_together_unpack_once_and_both_start(lab: Lab, store: Store) -> None:
    name = variant(store, "insieme:1", tar(*(entry(f"i/{number}", uid=0, gid=0) for number in range(500))))
    channels = [lab.wire.open("run", attach=True, **request(name, ["true"])) for _ in range(3)]
    assert [channel.result["exit_code"] for channel in channels] == [0, 0, 0]


def test_two_labs_share_the_layers_on_disk(lab: Lab) -> None:
    with Lab(backend="direct") as other:
        seen = [one.rootfs("prova:1") for one in (lab, other)]
        assert seen[0] == seen[1]
        assert other.run("prova:1", quiet=True).output == "nuovo"


def unpacked(lab: Lab, store: Store) -> str:
    """La cartella degli strati di questo laboratorio."""
    return os.path.dirname(os.path.dirname(os.path.dirname(lab.rootfs("prova:1"))))


@pytest.mark.root
def test_layers_in_use_stay_and_those_of_an_ended_lab_go(store: Store) -> None:
    name = variant(store, "breve:1", tar(entry("breve", uid=0, gid=0)))
    with Lab(backend="direct") as lab:
        lab.run(name, "true", quiet=True)
        layers = Layers(store, Unpacking(os.path.basename(unpacked(lab, store))))
        before = len(os.listdir(f"{layers.root}/ready"))
        layers.prune()
        kept = len(os.listdir(f"{layers.root}/ready"))
        assert 3 <= kept <= before
        assert lab.run(name, ["ls", "/breve"], quiet=True).ok
    layers.prune()
    assert len(os.listdir(f"{layers.root}/ready")) < kept


@pytest.mark.root
@pytest.mark.serial
def test_a_killed_lab_leaves_no_lock(store: Store) -> None:
    name = variant(store, "uccisa:1", tar(entry("uccisa", uid=0, gid=0)))
    script = f"""
import time
from labkit import Lab
lab = Lab(backend="direct")
lab.run({name!r}, "true", quiet=True)
print(lab.rootfs({name!r}), flush=True)
time.sleep(60)
"""
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert client.stdout
    place = client.stdout.readline().strip()
    client.kill()
    client.wait()
    client.stdout.close()
    layers = Layers(store, Unpacking(os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(place))))))
    top = store.image(name).chain_ids[-1].encoded
    end = time.monotonic() + 10
    while os.path.isdir(f"{layers.root}/ready/{top}") and time.monotonic() < end:
        layers.prune()
        time.sleep(0.05)
    assert not os.path.isdir(f"{layers.root}/ready/{top}")


def test_a_damaged_layer_is_named_and_the_lab_goes_on(lab: Lab, store: Store) -> None:
    name = variant(store, "guasta:1", tar(entry("guasta", b"x" * 5000, uid=0, gid=0)))
    digest = store.image(name).layers[-1].descriptor.digest
    path = Path(store.blobs.path(digest))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=digest.encoded):
        lab.run(name, "true", quiet=True)
    with pytest.raises(NotFoundError, match="manca"):
        lab.run(name, "true", quiet=True)
    assert lab.run("prova:1", quiet=True).output == "nuovo"


def test_who_stops_waiting_for_an_image_gets_no_container(lab: Lab, store: Store) -> None:
    name = variant(store, "attesa:1", tar(*(entry(f"a/{number}", b"x" * 500, uid=0, gid=0) for number in range(3000))))
    channel = lab.wire.open("run", attach=True, **request(name, ["sleep", "60"]))
    while not channel.events:
        channel.receive(10)
    channel.interrupt()
    with pytest.raises(Exception, match="Interrotto"):
        _ = channel.result
    assert lab.run(name, "true", quiet=True).ok, "l'immagine intanto è arrivata"
    assert len(lab.ps(all=True)) == 0


def test_two_threads_and_many_images_at_once(lab: Lab, store: Store) -> None:
    names = [variant(store, f"molte:{number}", tar(entry(f"m{number}", uid=0, gid=0))) for number in range(4)]
    said: list[int] = []
    threads = [
        threading.Thread(target=lambda name=name: said.append(lab.run(name, "true", quiet=True).exit_code))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert said == [0] * 4


def test_a_volume_that_the_image_declares_is_there_unless_another_is(lab: Lab, store: Store) -> None:
    name = variant(store, "volumi:1", Cmd=["sleep", "60"], Volumes={"/dati": {}})
    container = lab.run(name, detach=True)
    (volume,) = (one for one in lab.volume if container.name in one.used_by)
    assert volume.anonymous
    assert container.exec(["cat", "/dati/suo"], quiet=True).output == "suo", (
        "it is filled with what the image has there"
    )
    other = lab.run(name, detach=True, volumes="prova:/dati")
    assert {volume.name for volume in lab.volume if other.name in volume.used_by} == {"prova"}
    for one in (container, other):
        one.rm(force=True, volumes=True)
    assert volume.name not in [one.name for one in lab.volume]
    lab.volume.rm("prova")


def test_pruning_takes_the_unpacked_layers_of_images_that_are_no_more(lab: Lab, store: Store) -> None:
    kept, gone = (variant(store, f"{name}:1", tar(entry(name, uid=0, gid=0))) for name in ("resta", "sparita"))
    with Lab(backend="direct") as other:  # ours holds what it uses for as long as it lives
        folders = [other.rootfs(kept)]
        places = [os.path.dirname(os.path.dirname(folders[0]))]
        tops = [store.image(name).chain_ids[-1].encoded for name in (kept, gone)]
        other.run(kept, "true", quiet=True)
        other.run(gone, "true", quiet=True)
    store.remove(gone)
    lab.prune_images()
    seen = lab.process("spia").run(["ls", places[0]], quiet=True).output.split()
    assert tops[0] in seen
    assert tops[1] not in seen

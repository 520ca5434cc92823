"""La macchina che si misura: la traccia letta bene, il monitor, la riga di comando, e che cosa dice chi non ha QEMU."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from labkit import EmulatedMachine, check
from labkit.backends import emulated
from labkit.backends.emulated import PLACES, Parts, Wires
from labkit.backends.kernels import LinuxKernel
from labkit.client.monitor import EVENTS, Monitor
from labkit.client.registers import Access, Counts, accesses, windows
from labkit.errors import BackendError, InvalidError, LabError

IDE = "0x0 0x0 0x0\n" * 4 + "0xc040 0xc04f 0x40101\n"
IDE = IDE.replace("0x0 0x0 0x0", "0x1f0 0x1f7 0x110", 1)
VIRTIO = (
    "0xc000 0xc07f 0x40101\n0xfebd1000 0xfebd1fff 0x40200\n0x0 0x0 0x0\n0x0 0x0 0x0\n0xfe000000 0xfe003fff 0x14220c\n"
)

#: As QEMU 7.2 writes it, and as QEMU 6.2 did, without the name of the region.
TRACE = b"""1@1.5:memory_region_ops_write cpu 0 mr 0x55 addr 0x1f7 value 0x20 size 1 name 'ide'
1@1.6:memory_region_ops_read cpu 0 mr 0x55 addr 0x1f0 value 0x746e6544 size 4
memory_region_ops_read cpu -1 mr 0x55 addr 0x1f0 value 0x6f72 size 2 name 'ide'
memory_region_ops_read cpu 0 mr 0x55 addr 0x177 value 0x50 size 1 name 'ide'
qemu-system-x86_64: warning: something else
memory_region_ops_write cpu 0 mr 0x66 addr 0xfe003000 value 0x0 size 2 name 'virtio-pci-notify-virtio-blk'
memory_region_ops_read cpu 0 mr 0x77 addr 0xfee000b0 value 0x0 size 4 name 'apic-msi'
"""


def test_an_access_belongs_to_the_device_that_has_its_address() -> None:
    ide = list(accesses(TRACE, windows("ide-dma", IDE)))
    assert [(a.kind, a.register) for a in ide] == [("scrive", "comando e stato"), ("legge", "dati"), ("legge", "dati")]
    bell = list(accesses(TRACE, windows("virtio-blk", VIRTIO)))
    assert bell == [Access("scrive", 0xFE003000, 2, 0, "campanello")]
    assert [a.address for a in accesses(TRACE, windows("ide-pio", IDE))] == [0x177]


def test_the_two_ide_channels_share_one_block_of_dma_registers() -> None:
    first = {w.first for w in windows("ide-dma", IDE) if w.kind == "bus-master"}
    second = {w.first for w in windows("ide-pio", IDE) if w.kind == "bus-master"}
    assert (first, second) == ({0xC040}, {0xC048})


def test_a_count_tells_its_registers_and_the_bytes_that_went_by() -> None:
    found = Counts("ide-dma", 1, 6, tuple(accesses(TRACE, windows("ide-dma", IDE))))
    assert found.total == found.per_request == 3
    assert found.carried() == b"Dentro"
    assert found.registers() == {"legge dati": 2, "scrive comando e stato": 1}
    assert str(found).splitlines() == [
        "ide-dma: 3 accessi in 1 richieste",
        "      2  legge dati",
        "      1  scrive comando e stato",
    ]
    assert repr(found) == "Counts(device='ide-dma', requests=1, size=6)"


class HandMadeQemu:
    """Il capo di QEMU del monitor: risponde con quello che ``replies`` dice, comando per comando."""

    def __init__(self, replies: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
        self.replies = replies
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[dict[str, Any]] = [{"QMP": {}}]

    def send(self, data: bytes) -> None:
        message = json.loads(data)
        self.asked.append((message["execute"], message["arguments"]))
        stale = {"return": {"stale": True}, "id": message["id"] - 1}
        event = {"event": "BALLOON_CHANGE", "data": {"actual": 1}}
        self.lines += [event, stale, {**self.replies(*self.asked[-1]), "id": message["id"]}]

    def line(self) -> bytes:
        return json.dumps(self.lines.pop(0)).encode()


def test_events_and_answers_for_others_are_not_taken_for_the_answer() -> None:
    qemu = HandMadeQemu(lambda command, _: {"return": {"done": command}})
    monitor = Monitor(qemu.send, qemu.line)
    monitor.greet()
    assert monitor.ask("query-balloon") == {"done": "query-balloon"}


def test_a_refusal_is_a_sentence() -> None:
    qemu = HandMadeQemu(lambda *_: {"error": {"class": "GenericError", "desc": "no"}})
    with pytest.raises(LabError, match="QEMU rifiuta «balloon»: no"):
        Monitor(qemu.send, qemu.line).ask("balloon", value=1)


def test_the_trace_is_switched_event_by_event() -> None:
    qemu = HandMadeQemu(lambda *_: {"return": [{"state": "disabled"}]})
    qemu.lines.clear()
    Monitor(qemu.send, qemu.line).trace(True)
    switched = [arguments for command, arguments in qemu.asked if command == "trace-event-set-state"]
    assert switched == [{"name": name, "enable": True} for name in EVENTS]


@pytest.mark.parametrize("states", [[], [{"state": "unavailable"}]])
def test_a_qemu_without_the_trace_says_which_one_has_it(states: list[dict[str, str]]) -> None:
    qemu = HandMadeQemu(lambda *_: {"return": states})
    qemu.lines.clear()
    with pytest.raises(BackendError, match="senza la traccia") as refused:
        Monitor(qemu.send, qemu.line).trace(True)
    assert "apt-get install" in refused.value.remedy


def test_the_exits_of_kvm_are_summed_over_its_processors() -> None:
    one = {"provider": "kvm", "stats": [{"name": "io_exits", "value": 3}, {"name": "mmio_exits", "value": 4}]}
    qemu = HandMadeQemu(lambda *_: {"return": [one, one]})
    qemu.lines.clear()
    assert Monitor(qemu.send, qemu.line).exits() == 14


@pytest.mark.parametrize("reply", [{"return": []}, {"error": {"class": "CommandNotFound", "desc": "no"}}])
def test_who_cannot_tell_the_exits_says_none(reply: dict[str, Any]) -> None:
    qemu = HandMadeQemu(lambda *_: reply)
    qemu.lines.clear()
    assert Monitor(qemu.send, qemu.line).exits() is None


def command(accel: str = "tcg") -> list[str]:
    parts = Parts("qemu", LinuxKernel("vmlinux", "modules", "6.1"), b"", accel)
    return emulated.command(parts, Wires(10, 11, 12, {"ide-pio": 13, "ide-dma": 14, "virtio-blk": 15}), 384)


def test_nothing_of_the_machine_has_a_name_on_the_host() -> None:
    argv = command()
    assert "/proc/self/fd/12" in argv
    files = [word for word in argv if "filename=" in word]
    assert len(files) == 3
    assert all("filename=/dev/fdset/" in word for word in files)
    assert {"fd=13,set=2", "fd=14,set=1", "fd=15,set=3"} <= set(argv)
    assert "socket,id=commands,fd=10" in argv
    assert "-nodefaults" in argv


def test_a_virtio_request_is_not_hidden_in_an_eventfd() -> None:
    devices = [word for word in command() if word.startswith(("virtio-blk-pci", "virtio-net-pci"))]
    assert len(devices) == 3
    assert all("ioeventfd=off" in word for word in devices)


def test_every_card_is_where_the_counting_looks_for_it() -> None:
    words = " ".join(command())
    for name in ("e1000", "e1000-far", "virtio-net", "virtio-net-far"):
        assert f"netdev={name},addr={PLACES[name][8:10]}" in words


def test_kvm_uses_the_processor_that_there_is() -> None:
    argv = command("kvm")
    assert argv[argv.index("-cpu") + 1] == "host"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> EmulatedMachine:
    def refuse(*_: Any, **__: Any) -> Parts:
        raise BackendError("QEMU non è installato.", "sudo apt-get install qemu-system-x86")

    monkeypatch.setattr(emulated, "prepare", refuse)
    machine = EmulatedMachine()
    said = capsys.readouterr().err
    assert said == "QEMU non è installato. Rimedio: sudo apt-get install qemu-system-x86\n"
    return machine


def test_without_qemu_the_lesson_goes_on_and_every_step_says_why(absent: EmulatedMachine) -> None:
    assert absent.closed
    assert "spenta" in repr(absent)
    steps: list[Callable[[], Any]] = [
        lambda: absent.run("true"),
        lambda: absent.count("virtio-blk"),
        lambda: absent.ping_count("e1000"),
        lambda: absent.balloon(128),
        absent.host_memory,
        absent.clock_count,
        lambda: absent.clocksources,
    ]
    for step in steps:
        with pytest.raises(BackendError, match="QEMU non è installato"):
            step()
    absent.close()


def test_without_qemu_a_check_says_why_and_gives_the_command(absent: EmulatedMachine) -> None:
    verdict = check("es-02-1", absent)
    assert not verdict.ok
    assert verdict.found == "QEMU non è installato"
    assert verdict.hint == "sudo apt-get install qemu-system-x86"


def test_a_meter_without_qemu_shows_the_sentence(absent: EmulatedMachine) -> None:
    meter = absent.meter()
    assert "apt-get install" in meter.drawing.problem
    meter.measure_all()
    assert meter.history == {}


@pytest.mark.parametrize(("memory", "accelerator"), [(1, "auto"), (384, "hvf")])
def test_a_wrong_machine_is_refused_before_it_is_made(memory: int, accelerator: str) -> None:
    with pytest.raises(InvalidError):
        EmulatedMachine(memory, accelerator)

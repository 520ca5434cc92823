"""La macchina della lezione 02, accesa davvero: i suoi conti, i suoi esercizi fatti bene e male, la sua fine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import EmulatedMachine, check, parameter
from labkit.course.exercises import Verdict
from labkit.errors import BackendError, InvalidError, LabClosedError, LabError

pytestmark = [pytest.mark.kernel, pytest.mark.machine, pytest.mark.slow]

VIRTIO_PCI = "/sys/bus/pci/drivers/virtio-pci"
#: A client that lights a machine, says who is who, and waits to be killed.
CLIENT = """
import time
from labkit import EmulatedMachine
machine = EmulatedMachine()
keeper = machine._kept.keeper.pid
print(machine.pid, keeper, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[EmulatedMachine]:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("serve QEMU: sudo apt-get install qemu-system-x86")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_STUDENT", "prova")
        machine = EmulatedMachine()
        if machine.problem is not None:
            pytest.skip(str(machine.problem))
        try:
            yield machine
        finally:
            machine.close()


def refused(verdict: Verdict, found: str, hint: str) -> None:
    assert not verdict.ok
    assert found in verdict.found, verdict
    assert hint in verdict.hint, verdict


def test_the_counts_of_the_three_disks(machine: EmulatedMachine) -> None:
    pio, dma, virtio = (machine.count(disk, 4096, 10) for disk in ("ide-pio", "ide-dma", "virtio-blk"))
    assert virtio.per_request <= 2
    assert dma.per_request >= 10 * virtio.per_request
    assert pio.per_request >= 20 * dma.per_request


def test_the_counts_are_the_same_when_they_are_taken_again(machine: EmulatedMachine) -> None:
    for disk in machine.disks:
        assert machine.count(disk, 8192, 5).registers() == machine.count(disk, 8192, 5).registers()


def test_only_pio_pays_for_every_byte(machine: EmulatedMachine) -> None:
    small = {disk: machine.count(disk, 4096, 4).per_request for disk in machine.disks}
    large = {disk: machine.count(disk, 32768, 4).per_request for disk in machine.disks}
    assert large["ide-pio"] > 7 * small["ide-pio"]
    assert large["ide-dma"] < 2 * small["ide-dma"]
    assert large["virtio-blk"] <= 2


def test_what_goes_by_the_data_register_is_what_is_on_the_disk(machine: EmulatedMachine) -> None:
    carried = machine.count("ide-pio", 4096, 2).carried()
    assert len(carried) == 8192
    assert carried[:33] == b"Dentro i container, lezione 02: q"
    assert machine.count("ide-dma").carried() == machine.count("virtio-blk").carried() == b""


def test_the_three_disks_hold_the_same(machine: EmulatedMachine) -> None:
    sums = machine.run("md5sum /dev/sda /dev/sdb /dev/vda", quiet=True).output.split()
    assert len(set(sums[::2])) == 1


def test_a_ping_costs_a_real_card_more(machine: EmulatedMachine) -> None:
    real, para = machine.ping_count("e1000"), machine.ping_count("virtio-net")
    assert para.per_request <= 4
    assert real.per_request >= 5 * para.per_request


def test_a_clock_made_of_registers_is_paid_at_every_reading(machine: EmulatedMachine) -> None:
    chosen = machine.clocksource
    assert machine.clock_count().per_request < 0.5
    machine.clocksource = "acpi_pm"
    try:
        assert machine.clock_count().per_request >= 1
    finally:
        machine.clocksource = chosen
    with pytest.raises(InvalidError, match="acpi_pm"):
        machine.clocksource = "cucù"


def test_the_balloon_gives_memory_back_and_takes_it_again(machine: EmulatedMachine) -> None:
    machine.run("dd if=/dev/zero of=/tmp/big bs=1M count=150 status=none; rm /tmp/big", quiet=True)
    before = machine.host_memory()
    machine.balloon(160)
    assert machine.balloon_size() == 160
    assert before - machine.host_memory() > 100
    machine.balloon(machine.memory)
    assert machine.balloon_size() == machine.memory
    with pytest.raises(InvalidError):
        machine.balloon(1)


def test_without_kvm_there_are_no_exits_to_tell(machine: EmulatedMachine) -> None:
    assert machine.accelerator == "kvm" or machine.count("ide-dma", 4096, 10).exits is None


def test_a_command_answers_with_its_code_and_its_words(
    machine: EmulatedMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    result = machine.run("echo uno; echo due >&2; exit 7")
    assert (result.exit_code, result.output) == (7, "uno\ndue\n")
    assert capsys.readouterr().out == "uno\ndue\n"
    assert machine.run("head -c 300000 /dev/zero | tr '\\0' x", quiet=True).output == "x" * 300_000


def test_who_interrupts_a_command_does_not_get_its_answer_later(machine: EmulatedMachine) -> None:
    def give_up(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            machine.run("sleep 1; echo vecchia", quiet=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert machine.run("echo nuova", quiet=True).output == "nuova\n"
    assert machine.count("virtio-blk", 4096, 3).per_request <= 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m: m.count("floppy"),
        lambda m: m.count("virtio-blk", size=512),
        lambda m: m.count("virtio-blk", size=5000),
        lambda m: m.count("virtio-blk", requests=0),
        lambda m: m.ping_count("ne2000"),
    ],
)
def test_what_the_machine_has_not_is_refused(
    machine: EmulatedMachine, wrong: Callable[[EmulatedMachine], object]
) -> None:
    with pytest.raises(InvalidError):
        wrong(machine)


def test_a_disk_without_its_driver_is_missed_in_words(machine: EmulatedMachine) -> None:
    machine.run(f"echo 0000:00:04.0 > {VIRTIO_PCI}/unbind", quiet=True)
    try:
        with pytest.raises(LabError, match="No such file"):
            machine.count("virtio-blk")
    finally:
        machine.run(f"echo 0000:00:04.0 > {VIRTIO_PCI}/bind", quiet=True)
    assert machine.count("virtio-blk").per_request <= 2


def test_the_meter_draws_what_the_machine_counts(machine: EmulatedMachine) -> None:
    meter = machine.meter()
    meter.slider.value = 8192
    assert meter.history[8192]["ide-pio"] > 2000
    assert meter.drawing.problem == ""


def test_the_diet_is_exact(machine: EmulatedMachine) -> None:
    wanted = parameter("es-02-1")
    machine.balloon(machine.memory)
    refused(check("es-02-1", machine), f"{machine.memory} MiB", "sezione 9")
    machine.balloon(wanted - 8)
    refused(check("es-02-1", machine), f"{wanted - 8} MiB", "un altro")
    machine.balloon(wanted)
    assert check("es-02-1", machine).ok


def test_any_clock_without_registers_will_do(machine: EmulatedMachine) -> None:
    chosen = machine.clocksource
    for slow in ("acpi_pm", "hpet"):
        machine.clocksource = slow
        refused(check("es-02-2", machine), f"l'orologio {slow}", "clock_count")
    machine.run(f"echo {chosen} > /sys/devices/system/clocksource/clocksource0/current_clocksource", quiet=True)
    assert check("es-02-2", machine).ok


def test_the_sum_is_compared_with_a_measure(machine: EmulatedMachine) -> None:
    size = parameter("es-02-3")
    refused(check("es-02-3", machine, None), "None", "quanti byte")
    refused(check("es-02-3", machine, "mille"), "'mille'", "quanti byte")
    refused(check("es-02-3", machine, size * 1024), "lontano", "4 byte")
    assert check("es-02-3", machine, size * 1024 // 4).ok


def test_a_card_without_driver_is_not_a_card_switched_off(machine: EmulatedMachine) -> None:
    def tell(place: str, order: str) -> None:
        machine.run(f"echo {place} > {VIRTIO_PCI}/{order}", quiet=True)

    near = machine.run("ls /sys/bus/pci/devices/0000:00:07.0/virtio*/net", quiet=True).output.split()[0]
    machine.run(f"ip link set {near} down", quiet=True)
    refused(check("es-02-4", machine), "2 schede", "spenta")
    tell("0000:00:07.0", "unbind")
    refused(check("es-02-4", machine), "1 schede", "due")
    tell("0000:00:08.0", "unbind")
    assert check("es-02-4", machine).ok
    machine.run("echo 0000:00:05.0 > /sys/bus/pci/drivers/e1000/unbind", quiet=True)
    refused(check("es-02-4", machine), "non rispondono più", "e1000")
    machine.run("echo 1 > /sys/bus/pci/devices/0000:00:07.0/remove", quiet=True)
    refused(check("es-02-4", machine), "il posto vuoto", "driver")


def test_a_closed_machine_says_so_and_leaves_nothing(machine: EmulatedMachine) -> None:
    # The last of those that share the machine: what follows lights its own.
    pid, descriptors = machine.pid, len(os.listdir("/proc/self/fd"))
    machine.close()
    assert not Path(f"/proc/{pid}").exists()
    assert len(os.listdir("/proc/self/fd")) < descriptors
    with pytest.raises(LabClosedError, match="spenta"):
        machine.run("true")
    machine.close()


@pytest.mark.parametrize("victim", ["client", "keeper"])
def test_whoever_is_killed_nothing_is_left(machine: EmulatedMachine, victim: str) -> None:
    client = subprocess.Popen([sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    try:
        qemu, keeper = map(int, client.stdout.readline().split())
        assert alive(qemu)
        os.kill(client.pid if victim == "client" else keeper, signal.SIGKILL)
        end = time.monotonic() + 20
        while alive(qemu) or alive(keeper):
            assert time.monotonic() < end, f"ucciso {victim}: vivi QEMU {alive(qemu)}, custode {alive(keeper)}"
            time.sleep(0.02)
    finally:
        client.kill()
        client.wait()
        client.stdout.close()


def alive(pid: int) -> bool:
    """A zombie is dead: only nobody has been told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_machine_that_dies_says_its_last_words(machine: EmulatedMachine) -> None:
    with EmulatedMachine() as another:
        with pytest.raises(BackendError, match="si è spenta"):
            another.run("echo c > /proc/sysrq-trigger")
        assert another.closed
        with pytest.raises(LabClosedError):
            another.run("true")

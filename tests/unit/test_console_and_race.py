"""La console e la gara di partenza, senza macchine: che cosa si legge, che cosa si disegna, che cosa si dice."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.client import weight
from labkit.client.console import Console
from labkit.client.race import Finish
from labkit.draw import console as story
from labkit.draw import race
from labkit.draw.race import Lane
from labkit.errors import BackendError, LabError
from labkit.widgets.boot_race import BootRace
from labkit.widgets.console_view import ConsoleView

BOOT = """Linux version 6.1.176 (buildd@somewhere)
Kernel command line: mem=512M
Memory: 501172K/684064K available
NET: Registered PF_INET protocol family
Run /init as init process
"""
PANIC = "[   10.2] Kernel panic - not syncing: sysrq triggered crash\r\nCPU: 0 PID: 120\n"


def until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_the_story_of_a_boot_is_told_in_order_and_only_as_far_as_it_went() -> None:
    assert len(story.moments(BOOT)) == 5
    assert story.moments(BOOT.splitlines()[0]) == story.moments(BOOT)[:1]
    assert story.words("") == "La console della macchina:\n- ancora niente"
    assert story.words(BOOT + PANIC).endswith("- va in panico, e si ferma")


def test_a_panic_is_told_with_the_words_of_the_kernel() -> None:
    assert story.panic(BOOT) == ""
    assert story.panic(BOOT + PANIC) == "sysrq triggered crash"


def test_what_a_kernel_writes_cannot_become_markup() -> None:
    html = story.to_html("<script>alert(1)</script>\n" + PANIC)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<span") == 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_RUN", str(tmp_path))
    (tmp_path / "vm-1").mkdir()
    return tmp_path / "vm-1"


def test_a_console_is_read_clean_and_also_after_its_machine_has_gone(folder: Path) -> None:
    console = Console("vm-1")
    assert console.text() == ""
    (folder / "console").write_bytes(b"\x1b[31mciao\x1b[0m\r\n")
    assert console.text() == "ciao\n"
    (folder / "console").unlink()
    assert console.text() == "ciao\n"
    assert console.panic() == ""


def test_the_live_console_follows_until_the_machine_ends_and_reads_its_last_words(folder: Path) -> None:
    alive = True
    (folder / "console").write_text(BOOT)
    view = ConsoleView(Console("vm-1"), lambda: alive, interval=0.01)
    assert "avvia il suo primo processo" in view.words()
    assert view.screen.news == story.moments(BOOT)[-1]
    with (folder / "console").open("a") as file:
        file.write("ancora una riga\n")
    assert until(lambda: "ancora una riga" in view.screen.html)
    with (folder / "console").open("a") as file:
        file.write(PANIC)
    alive = False
    assert until(lambda: not view.following)
    assert "va in panico" in view.words()


def test_a_closed_console_stops_its_thread(folder: Path) -> None:
    view = ConsoleView(Console("vm-1"), lambda: True, interval=0.01)
    assert view.following
    view.close()
    assert until(lambda: not view.following)


def finish(name: str, seconds: float) -> Finish:
    return Finish(name, seconds, 1 << 20, 0, "6.1", 1 << 30)


def test_a_race_runs_everybody_one_at_a_time_and_tells_the_order_not_the_times() -> None:
    running: list[str] = []

    def runner(name: str, seconds: float) -> Callable[[Any], Finish]:
        def run(started: Callable[[], None]) -> Finish:
            started()
            running.append(contest.lanes[name].state)
            return finish(name, seconds)

        return run

    contest = BootRace({"lento": runner("lento", 2.5), "svelto": runner("svelto", 0.002)})
    before = contest.words()
    assert "arrivo" not in before
    assert list(contest.run()) == ["lento", "svelto"]
    assert running == ["running", "running"]
    assert contest.words() == f"{before}\nOrdine di arrivo: svelto, lento."
    assert "2,5\u202fs" in contest.track.news
    assert not contest.go.disabled


def test_who_cannot_race_here_is_told_why_and_the_others_run() -> None:
    def refuses(started: Callable[[], None]) -> Finish:
        raise BackendError("QEMU non è installato.", "sudo apt-get install qemu-system-x86")

    def breaks(started: Callable[[], None]) -> Finish:
        raise LabError("Il laboratorio è chiuso.", "lab = Lab()")

    contest = BootRace({"qemu": refuses, "rotto": breaks, "processo": lambda started: finish("processo", 0.01)})
    assert list(contest.run()) == ["processo"]
    assert "apt-get install" in contest.lanes["qemu"].words
    assert contest.track.problem == "Il laboratorio è chiuso. Rimedio: lab = Lab()"
    assert contest.words().endswith("Ordine di arrivo: processo.\nQui non può correre: qemu.")


def test_a_longer_time_is_a_longer_bar_and_nothing_leaves_the_track() -> None:
    times = [1e-6, 0.001, 0.05, 2.0, 100.0, 5000.0]
    places = [race._x(seconds) for seconds in times]
    assert places == sorted(places)
    assert places[0] == places[1]
    assert places[-1] == places[-2] <= race._WIDTH
    assert "parte…" in race.to_svg([Lane("uno", "running", 0.5)])


def test_the_weight_of_processes_counts_the_living_and_forgives_the_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in weight.descendants(os.getpid())
        assert child.pid in weight.inside(os.stat("/proc/self/ns/pid").st_ino)
        assert until(lambda: weight.pss([child.pid]) > 100_000)
        child.kill()
    assert weight.pss([child.pid]) == 0
    assert child.pid not in weight.descendants(os.getpid())


def test_a_file_without_a_name_weighs_once_whoever_holds_it() -> None:
    with tempfile.TemporaryFile() as memory:
        memory.write(bytes(8 << 20))
        memory.flush()
        os.fsync(memory.fileno())
        holders = [subprocess.Popen(["sleep", "100"], pass_fds=[memory.fileno()]) for _ in range(2)]
        try:
            assert 8 << 20 <= weight.pss([holder.pid for holder in holders]) < 16 << 20
        finally:
            for holder in holders:
                holder.kill()
                holder.wait()


def test_the_files_of_a_command_line_are_found_with_their_size(tmp_path: Path) -> None:
    image = tmp_path / "kernel"
    image.write_bytes(b"x" * 10_000)
    argv = [sys.executable, "-c", "input()", f"file={image},locking=off", "/nessun/file"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as child:
        assert until(lambda: str(image) in weight.files([child.pid]))
        assert weight.files([child.pid])[str(image)] >= 10_000
        assert "/nessun/file" not in weight.files([child.pid])
        child.kill()

"""La figura degli accessi: ogni disco ha il suo segno e il suo numero, e il cursore misura davvero una volta sola."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.draw import accesses
from labkit.draw.words import THIN
from labkit.errors import InvalidError, LabError
from labkit.widgets.access_meter import AccessMeter

SIZES = (4096, 8192, 16384)
ROW = {"ide-pio": 1043.0, "ide-dma": 26.0, "virtio-blk": 1.0}


def words_of(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_the_drawing_names_every_disk_with_its_count() -> None:
    words = words_of(accesses.to_svg({4096: ROW}, SIZES, 4096))
    assert {"ide-pio", "ide-dma", "virtio-blk", "26 accessi", "1 accesso", f"1{THIN}043 accessi"} <= set(words)


def test_who_does_not_see_hears_every_measure() -> None:
    svg = accesses.to_svg({4096: ROW, 8192: {**ROW, "ide-pio": 2067.0}}, SIZES, 4096)
    described = next(node.text or "" for node in ElementTree.fromstring(svg) if node.tag.endswith("desc"))
    assert f"Per 4{THIN}KiB: ide-pio 1{THIN}043, ide-dma 26 e virtio-blk 1." in described
    assert f"2{THIN}067" in described


def test_a_size_without_measures_is_drawn_without_numbers() -> None:
    assert "–" in words_of(accesses.to_svg({4096: ROW}, SIZES, 16384))
    assert words_of(accesses.to_svg({}, SIZES, 4096))[0] == "Accessi ai registri per una richiesta"


def test_in_words_there_are_magnitudes_and_no_number_that_may_change() -> None:
    one, other = accesses.text({4096: ROW}), accesses.text({4096: {**ROW, "ide-pio": 1051.0, "ide-dma": 31.0}})
    assert one == other
    assert "ide-pio migliaia, ide-dma decine, virtio-blk meno di dieci" in one


@given(st.dictionaries(st.sampled_from(SIZES), st.dictionaries(st.text(max_size=8), st.floats(0, 1e6), max_size=4)))
def test_any_measure_gives_well_formed_xml(history: dict[int, dict[str, float]]) -> None:
    ElementTree.fromstring(accesses.to_svg(history, SIZES, 8192))


@dataclass
class Found:
    per_request: float


class HandMadeMachine:
    """Conta quante volte le si chiede; ``error`` è quello che risponde."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.error: LabError | None = None

    def count(self, device: str, size: int, requests: int) -> Found:
        if self.error:
            raise self.error
        self.asked.append((device, size, requests))
        return Found(size / 4 if device == "ide-pio" else 1.0)


def test_moving_the_slider_measures_each_size_once() -> None:
    machine = HandMadeMachine()
    meter = AccessMeter(machine, ["ide-pio", "virtio-blk"], SIZES)
    assert machine.asked == [("ide-pio", 4096, 1), ("virtio-blk", 4096, 1)]
    meter.slider.value = 16384
    assert meter.history[16384] == {"ide-pio": 4096.0, "virtio-blk": 1.0}
    assert meter.drawing.news.startswith(f"Per 16{THIN}KiB: ide-pio 4{THIN}096")
    meter.slider.value = 4096
    assert len(machine.asked) == 4
    assert meter.drawing.news.startswith(f"Per 4{THIN}KiB")


def test_the_button_measures_what_is_missing() -> None:
    machine = HandMadeMachine()
    meter = AccessMeter(machine, ["virtio-blk"], SIZES)
    meter.every.click()
    assert sorted(meter.history) == list(SIZES)
    assert [size for _, size, _ in machine.asked] == list(SIZES)


def test_a_machine_that_says_no_is_heard_and_then_forgiven() -> None:
    machine = HandMadeMachine()
    meter = AccessMeter(machine, ["virtio-blk"], SIZES)
    machine.error = LabError("La macchina emulata è spenta.", "macchina = EmulatedMachine()")
    meter.slider.value = 8192
    assert meter.drawing.problem == "La macchina emulata è spenta. Rimedio: macchina = EmulatedMachine()"
    assert meter.drawing.news == ""
    machine.error = None
    meter.measure()
    assert meter.drawing.problem == ""
    assert 8192 in meter.history


def test_the_widget_in_a_cell_is_also_words() -> None:
    meter = AccessMeter(HandMadeMachine(), ["virtio-blk"], SIZES)
    assert meter._repr_mimebundle_()["text/plain"] == repr(meter) == accesses.text({4096: {"virtio-blk": 1.0}})


def test_one_size_is_no_line() -> None:
    with pytest.raises(InvalidError):
        AccessMeter(HandMadeMachine(), ["virtio-blk"], [4096, 4096])

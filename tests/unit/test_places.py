"""Dove il laboratorio mette i container: cartelle, cavi e indirizzi tutti diversi, resi e ridati."""

from __future__ import annotations

import pytest

from labkit.errors import BackendError
from labkit.supervisor import sandbox
from labkit.supervisor.sandbox import Sandbox


@pytest.fixture
def lab() -> Sandbox:
    return Sandbox("/lab", "fake")


def test_every_place_is_different(lab: Sandbox) -> None:
    places = [lab.place("bridge") for _ in range(300)]
    for what in ("folder", "link", "ip"):
        assert len({getattr(place, what) for place in places}) == 300
    assert "10.88.0.1" not in {place.ip for place in places}, "the gateway is taken"
    assert all(place.gateway == "10.88.0.1" for place in places)
    assert all(len(place.link) < 16 for place in places), "IFNAMSIZ"


def test_without_a_network_there_is_no_address_to_give(lab: Sandbox) -> None:
    place = lab.place("none")
    assert (place.ip, place.link, place.gateway) == ("", "", "")
    lab.release(place)
    assert lab.addresses == set()


def test_an_address_released_is_given_again_when_the_others_are_gone(
    lab: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_LAST_ADDRESS", 5)
    places = [lab.place("bridge") for _ in range(4)]
    with pytest.raises(BackendError, match="Gli indirizzi della rete del laboratorio sono finiti") as caught:
        lab.place("bridge")
    assert caught.value.remedy
    lab.release(places[2])
    assert lab.place("bridge").ip == places[2].ip

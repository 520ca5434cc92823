"""Le reti sono le stesse in ogni laboratorio: stessi nomi, stessi indirizzi, stessi no."""

from __future__ import annotations

import pytest

from labkit import Lab
from labkit.errors import ConflictError, InvalidError, NotFoundError


def test_a_network_is_born_is_joined_is_left_and_disappears(lab: Lab) -> None:
    una = lab.network.create("una", subnet="10.100.0.0/24", internal=True)
    assert [info.name for info in lab.network.ls()] == ["bridge", "host", "none", "una"]
    a = lab.run(
        "busybox", ["sleep", "60"], name="a", network={"una": {"aliases": ["web"], "ip": "10.100.0.9"}}, detach=True
    )
    b = lab.run("busybox", ["sleep", "60"], name="b", detach=True)
    una.connect(b)
    info = una.inspect()
    assert (info.subnet, info.gateway, info.internal, info.bridge) == ("10.100.0.0/24", "10.100.0.1", True, "br-una")
    assert [(m.container, m.interface, m.ip, m.aliases) for m in info.members] == [
        ("a", "eth0", "10.100.0.9", ("web",)), ("b", "eth1", "10.100.0.2", ()),
    ]  # fmt: skip
    with pytest.raises(ConflictError, match="è in uso: ci sono a, b"):
        una.rm()
    una.disconnect(b)
    a.rm(force=True)
    assert [event.action for event in lab.events() if event.name == "b"][-2:] == ["connect", "disconnect"]
    una.rm()
    with pytest.raises(NotFoundError, match="La rete «una» non c'è"):
        una.inspect()


def test_networks_that_nobody_uses_are_pruned(lab: Lab) -> None:
    for name in ("una", "altra"):
        lab.network.create(name)
    assert lab.network.prune() == ["una", "altra"]
    assert lab.network.prune() == []


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"name": "bridge"}, ConflictError),
        ({"name": "x", "subnet": "10.88.0.0/16"}, ConflictError),
        ({"name": "x", "subnet": "10.1.0.1/16"}, InvalidError),
        ({"name": "x", "driver": "macvlan"}, InvalidError),
        ({"name": "x", "driver": "none"}, InvalidError),
        ({"name": "x", "mtu": True}, InvalidError),
    ],
)
def test_a_network_that_cannot_be_is_refused(lab: Lab, wrong: dict[str, object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        lab.network.create(**wrong)  # type: ignore[arg-type]
    assert len(lab.network.ls()) == 3

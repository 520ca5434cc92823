"""Le reti come dati, e chi ha quale indirizzo: niente kernel."""

from __future__ import annotations

import itertools

import pytest

from labkit.client import options
from labkit.engine.container import Placement
from labkit.errors import BackendError, ConflictError, InvalidError, LabError, NotFoundError
from labkit.networks import Attachment, Subnet
from labkit.supervisor.networks import Networks

PLACE = Placement("1", "/x")


@pytest.fixture
def networks() -> Networks:
    counter = itertools.count(1)
    return Networks(lambda: f"veth{next(counter)}")


def made(networks: Networks, name: str, **options: object) -> object:
    network = networks.design(name, **options)  # type: ignore[arg-type]
    network.index = 7
    return network


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/31", "10.0.0.1/24", "x/24", "10.0.0.0/-1", "::1/64"]
)
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Subnet.parse(text)
    assert caught.value.remedy


def test_a_subnet_that_begins_elsewhere_says_which_it_would_be() -> None:
    with pytest.raises(InvalidError) as caught:
        Subnet.parse("10.89.3.7/16")
    assert caught.value.remedy == "subnet='10.89.0.0/16'"


def test_networks_that_nobody_chooses_never_overlap(networks: Networks) -> None:
    found = [networks.design(f"rete-{n}") for n in range(256)]
    assert len({str(network.subnet) for network in found}) == 256
    assert len({network.bridge for network in found}) == 256
    assert all(len(network.bridge) <= 15 for network in found), "IFNAMSIZ"
    with pytest.raises(BackendError, match="Non c'è più posto") as caught:
        networks.design("una-di-troppo")
    assert "subnet=" in caught.value.remedy


@pytest.mark.parametrize("subnet", ["10.88.4.0/24", "10.0.0.0/8", "10.100.0.0/24", "10.100.0.128/25"])
def test_overlapping_addresses_are_a_conflict(networks: Networks, subnet: str) -> None:
    made(networks, "prima", subnet="10.100.0.0/24")
    with pytest.raises(ConflictError, match="ha indirizzi in comune"):
        networks.design("seconda", subnet=subnet)
    assert list(networks.known) == ["prima"]


@pytest.mark.parametrize("name", ["prima", "bridge", "host", "none"])
def test_a_name_already_taken_is_a_conflict(networks: Networks, name: str) -> None:
    made(networks, "prima")
    with pytest.raises(ConflictError, match="C'è già una rete"):
        networks.design(name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": ""},
        {"gateway": "10.1.0.1"},
        {"mtu": 10},
        {"ipv6": "10.1.0.0/24"},
        {"subnet": "fd00::/64"},
    ],
)
def test_a_network_badly_described_is_refused(networks: Networks, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        networks.design(**{"name": "x", **wrong})  # type: ignore[arg-type]
    assert networks.known == {}


def test_every_container_has_its_own_address_until_they_are_over(networks: Networks) -> None:
    made(networks, "piccola", subnet="10.100.0.0/29")
    places = [networks.join(PLACE, (Attachment("piccola"),)) for _ in range(5)]
    assert [place.endpoints[0].ip for place in places] == [f"10.100.0.{n}" for n in range(2, 7)]
    with pytest.raises(BackendError, match="sono finiti"):
        networks.join(PLACE, (Attachment("piccola"),))
    networks.release(places[2].endpoints[0])
    assert networks.join(PLACE, (Attachment("piccola"),)).endpoints[0].ip == "10.100.0.4"


@pytest.mark.parametrize("ip", ["10.100.0.1", "10.100.0.5"])
def test_an_address_taken_is_a_conflict_and_holds_nothing(networks: Networks, ip: str) -> None:
    network = made(networks, "altra", subnet="10.100.0.0/24")
    made(networks, "prima")
    networks.join(PLACE, (Attachment("altra", ip="10.100.0.5"),))
    before = set(network.taken), set(networks.known["prima"].taken)  # type: ignore[attr-defined]
    with pytest.raises(ConflictError, match=f"{ip} .*è già di qualcuno"):
        networks.join(PLACE, (Attachment("prima"), Attachment("altra", ip=ip)))
    assert (network.taken, networks.known["prima"].taken) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("ip", ["10.100.1.5", "10.100.0.0", "10.100.0.255"])
def test_an_address_of_another_network_is_refused(networks: Networks, ip: str) -> None:
    made(networks, "altra", subnet="10.100.0.0/24")
    with pytest.raises(InvalidError, match="che va da 10.100.0.1 a 10.100.0.254"):
        networks.join(PLACE, (Attachment("altra", ip=ip),))


def test_the_first_network_that_leads_out_gives_the_road(networks: Networks) -> None:
    made(networks, "chiusa", internal=True)
    made(networks, "aperta")
    ends = networks.join(PLACE, (Attachment("chiusa"), Attachment("aperta"))).endpoints
    assert [end.interface for end in ends] == ["eth0", "eth1"]
    assert [bool(end.gateway) for end in ends] == [False, True]
    assert [bool(end.names) for end in ends] == [True, False], "names are asked through the first"


def test_who_is_on_the_network_of_all_keeps_its_road(networks: Networks) -> None:
    made(networks, "altra")
    place = Placement("1", "/x", "veth9", "10.88.0.2", 16, "10.88.0.1")
    (end,) = networks.join(place, (Attachment("bridge"), Attachment("altra"))).endpoints
    assert (end.interface, end.gateway, end.names) == ("eth1", "", "")


def test_a_network_that_is_not_there_is_said_with_those_that_are(networks: Networks) -> None:
    networks.design("in-arrivo")  # its bridge is not there yet
    with pytest.raises(NotFoundError, match="«in-arrivo» non c'è. Quelle che ci sono: bridge, host, none"):
        networks.join(PLACE, (Attachment("in-arrivo"),))


def test_the_address_of_the_second_family_has_the_same_number(networks: Networks) -> None:
    made(networks, "doppia", ipv6="auto")
    assert networks.join(PLACE, (Attachment("doppia", ip="10.89.0.10"),)).endpoints[0].ip6 == "fd89::a"
    made(networks, "sola")
    with pytest.raises(InvalidError, match="non ha indirizzi IPv6"):
        networks.join(PLACE, (Attachment("sola", ip6="fd89::5"),))


def test_a_hardware_address_is_of_one(networks: Networks) -> None:
    made(networks, "altra")
    networks.join(PLACE, (Attachment("altra", mac="02:00:00:00:00:01"),))
    with pytest.raises(ConflictError, match="MAC"):
        networks.join(PLACE, (Attachment("altra", mac="02:00:00:00:00:01"),))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("altra", Attachment("altra")),
        ("name=altra,alias=a,alias=b,ip=10.1.0.2", Attachment("altra", ("a", "b"), "10.1.0.2")),
        ("name=altra,mac-address=02:00:00:00:00:01", Attachment("altra", mac="02:00:00:00:00:01")),
    ],
)
def test_a_network_is_written_as_docker_writes_it(text: str, found: Attachment) -> None:
    assert Attachment.parse(text) == found


@pytest.mark.parametrize(
    "value",
    ["name=", "alias=x", "name=a,name=b", "name=a,colore=blu", ["bridge", "none"], ["a", "a"], [], 5, [5],
     {"a": {"colore": 1}}, {"a": {"ip": "x"}}, {"a": {"mac": "03:00:00:00:00:01"}}, {"bridge": {"ip": "10.88.0.9"}},
     {"none": {"aliases": ["x"]}}, {"a": {"aliases": ["a b"]}}],
)  # fmt: skip
def test_networks_badly_written_are_refused(value: object) -> None:
    with pytest.raises(LabError):
        options.spec("busybox", None, network=value)


def test_the_usual_network_is_described_as_ever() -> None:
    spec = options.spec("busybox", None)
    assert (spec.network, spec.attachments) == ("bridge", ())
    assert options.spec("busybox", None, network="altra").networks == (Attachment("altra"),)
    assert options.spec("busybox", None, network="altra", network_alias="web").networks == (
        Attachment("altra", ("web",)),
    )
    assert options.spec("busybox", None, network="container:web").networks == ()

"""Le reti del laboratorio: nascono, si uniscono mentre i container girano, non si vedono fra loro, spariscono."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from labkit import Lab
from labkit.client.container import Container
from labkit.client.process import Process
from labkit.errors import BackendError, ConflictError, NotFoundError
from tests.kernel.conftest import Rest

pytestmark = pytest.mark.kernel


@pytest.fixture(autouse=True)
def no_networks(lab: Lab) -> Iterator[None]:
    """Dopo ogni prova nel laboratorio restano le tre reti di sempre."""
    yield
    for container in lab.ps(all=True):
        container.rm(force=True)
    lab.network.prune()
    assert [info.name for info in lab.network.ls()] == ["bridge", "host", "none"]


def sleeper(lab: Lab, name: str, **options: object) -> Container:
    return lab.run("busybox", ["sleep", "60"], name=name, detach=True, **options)


def reaches(one: Container, ip: str) -> bool:
    return one.exec(["ping", "-c1", "-W1", ip], quiet=True).ok


def told(container: Container, command: str) -> str:
    return container.exec(command, quiet=True).output


def test_containers_of_one_network_see_each_other_and_nobody_else(lab: Lab) -> None:
    lab.network.create("una")
    lab.network.create("altra")
    a, b = sleeper(lab, "a", network="una"), sleeper(lab, "b", network="una")
    c, d = sleeper(lab, "c", network="altra"), sleeper(lab, "d")
    assert reaches(a, b.ip)
    assert not reaches(a, c.ip)
    assert not reaches(c, d.ip)
    assert not reaches(d, a.ip)


def test_a_container_lives_on_several_networks(lab: Lab) -> None:
    lab.network.create("una", subnet="10.100.0.0/24", mtu=1400)
    lab.network.create("altra", internal=True)
    lab.network.create("terza")
    web = sleeper(lab, "web", network={"altra": None, "una": {"ip": "10.100.0.77", "mac": "02:00:00:00:00:07"}})
    shown = told(web, "ip addr show eth1")
    assert "inet 10.100.0.77/24" in shown
    assert "02:00:00:00:00:07" in shown
    assert "mtu 1400" in shown
    assert "default via 10.100.0.1 dev eth1" in told(web, "ip route"), "the internal network leads nowhere"
    for name in ("una", "altra"):
        assert reaches(sleeper(lab, f"vicino-{name}", network=name), lab.network.inspect(name).members[0].ip)
    assert [member.interface for member in web.inspect().networks] == ["eth0", "eth1"]


def test_a_container_is_connected_and_disconnected_while_it_runs(lab: Lab) -> None:
    una, altra = lab.network.create("una"), lab.network.create("altra")
    a, b = sleeper(lab, "a", network=una.name), sleeper(lab, "b", network=altra.name)
    member = altra.connect(a, aliases=["vecchio"])
    assert (member.interface, member.aliases) == ("eth1", ("vecchio",))
    assert reaches(a, b.ip)
    una.disconnect(a)
    assert told(a, "ls /sys/class/net").split() == ["eth1", "lo"]
    assert "default via" in told(a, "ip route"), "the road passes by the network that is left"
    altra.disconnect(a)
    assert told(a, "ls /sys/class/net") == "lo\n"
    assert una.connect(a).interface == "eth0"
    assert "default via" in told(a, "ip route")


def test_who_starts_again_finds_its_networks_and_its_address(lab: Lab) -> None:
    una, altra = lab.network.create("una"), lab.network.create("altra")
    a = sleeper(lab, "a", network=una.name)
    altra.connect(a)
    before = a.inspect().networks
    a.restart(grace=0)
    assert [(m.network, m.interface, m.ip) for m in a.inspect().networks] == [
        (m.network, m.interface, m.ip) for m in before
    ]
    assert told(a, "ls /sys/class/net").split() == ["eth0", "eth1", "lo"]


def test_a_container_not_started_yet_is_connected_when_it_starts(lab: Lab) -> None:
    una = lab.network.create("una")
    a = lab.create("busybox", ["sleep", "60"], name="a")
    una.connect(a)
    a.start()
    assert told(a, "ls /sys/class/net").split() == ["eth0", "eth1", "lo"]
    a.stop(grace=0)
    una.disconnect(a)
    a.start()
    assert told(a, "ls /sys/class/net").split() == ["eth0", "lo"]


def test_leaving_the_usual_network_frees_its_address(lab: Lab) -> None:
    una, a = lab.network.create("una"), sleeper(lab, "a")
    una.connect(a)
    lab.network.disconnect("bridge", a)
    assert told(a, "ls /sys/class/net").split() == ["eth1", "lo"]
    assert a.ip.startswith("10.89.")
    assert reaches(sleeper(lab, "b", network="una"), a.ip)


def test_a_container_can_live_in_the_network_of_another(lab: Lab) -> None:
    web = sleeper(lab, "web")
    assert lab.run("busybox", "ip -o addr", network="container:web", quiet=True).output == told(web, "ip -o addr")
    with pytest.raises(ConflictError, match="non ha una rete sua"):
        lab.network.connect("bridge", sleeper(lab, "ospite", network="container:web"))


def test_a_container_can_live_in_the_network_of_the_lab(lab: Lab) -> None:
    assert "lab0" in lab.run("busybox", "ls /sys/class/net", network="host", quiet=True).output


def test_the_network_of_a_container_that_does_not_run_cannot_be_shared(lab: Lab, nothing_half_made: None) -> None:
    lab.create("busybox", "true", name="fermo")
    for name, kind in {"nessuno": NotFoundError, "fermo": ConflictError}.items():
        with pytest.raises(kind, match=name):
            lab.run("busybox", "true", network=f"container:{name}")
    lab.container("fermo").rm()


def test_a_network_in_use_is_not_removed(lab: Lab) -> None:
    una = lab.network.create("una")
    lab.network.create("vuota")
    sleeper(lab, "a", network="una")
    with pytest.raises(ConflictError, match="è in uso: ci sono a"):
        una.rm()
    assert lab.network.prune() == ["vuota"]
    with pytest.raises(ConflictError, match="c'è sempre"):
        lab.network.rm("bridge")


def test_what_cannot_be_done_says_why_and_leaves_nothing(lab: Lab, nothing_half_made: None) -> None:
    una = lab.network.create("una", subnet="10.100.0.0/29")
    a = sleeper(lab, "a", network="una")
    with pytest.raises(ConflictError, match="è già sulla rete"):
        una.connect(a)
    with pytest.raises(ConflictError, match="è già di qualcuno"):
        lab.run("busybox", "true", network="una", ip=a.ip)
    with pytest.raises(NotFoundError, match="non è sulla rete «bridge»"):
        lab.network.disconnect("bridge", a)
    for number in range(4):
        sleeper(lab, f"b{number}", network="una")
    with pytest.raises(BackendError, match="sono finiti"):
        lab.run("busybox", "true", network="una")
    for container in lab.ps(all=True):
        container.rm(force=True)


def test_containers_of_one_network_know_each_other_by_name(lab: Lab) -> None:
    una = lab.network.create("una")
    lab.network.create("altra")
    a = sleeper(lab, "a", network={"una": {"aliases": ["primo"]}})
    b, c, d = sleeper(lab, "b", network="una"), sleeper(lab, "c", network="altra"), sleeper(lab, "d")
    for name in ("a", "primo", "a.una", a.id[:12]):
        assert f"PING {name} ({a.ip})" in told(b, f"ping -c1 -W1 {name}")
        assert not c.exec(["ping", "-c1", "-W1", name], quiet=True).ok, "on another network it has no name"
    assert f"name = a.{una.name}" in told(b, f"nslookup {a.ip}")
    assert not d.exec("ping -c1 -W1 a", quiet=True).ok
    una.connect(d, aliases=["ultimo"])
    assert d.exec("ping -c1 -W1 a", quiet=True).ok
    a.rename("nuovo")
    assert not b.exec("ping -c1 -W1 a", quiet=True).ok
    assert b.exec("ping -c1 -W1 nuovo", quiet=True).ok
    d.stop(grace=0)
    assert not b.exec("ping -c1 -W1 ultimo", quiet=True).ok, "who does not run has no address"


def test_the_files_of_names_are_those_of_docker(lab: Lab) -> None:
    lab.network.create("una")
    a = sleeper(lab, "a", network=["bridge", "una"])
    hosts = told(a, "cat /etc/hosts").splitlines()
    assert hosts[0] == "127.0.0.1\tlocalhost"
    assert [line for line in hosts if line.endswith("\ta")] == [f"{m.ip}\ta" for m in a.inspect().networks]
    assert "nameserver 10.88.0.1\noptions ndots:0\n" in told(a, "cat /etc/resolv.conf")
    assert "nameserver" not in told(sleeper(lab, "sola", network="none"), "cat /etc/resolv.conf")


def test_two_families_of_addresses(lab: Lab) -> None:
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("questo kernel non ha IPv6")
    lab.network.create("doppia", ipv6=True)
    a, b = sleeper(lab, "a", network="doppia"), sleeper(lab, "b", network="doppia")
    assert reaches(a, b.inspect().networks[0].ip6)


def test_a_plan_on_a_network_goes_step_by_step_and_back(lab: Lab, nothing_half_made: None) -> None:
    lab.network.create("una")
    plan = lab.plan("busybox", ["sleep", "60"], network="una")
    names = [step.name for step in plan.steps]
    wanted = names.index("ConfigureEndpoint") + 1
    for _ in range(wanted):
        plan.step()
    plan.undo()
    plan.undo()
    plan.run()
    assert told(lab.container(plan.name), "ls /sys/class/net") == "eth0\nlo\n"
    lab.container(plan.name).rm(force=True)


def worker(process: Process) -> int:
    """Il PID, nel laboratorio, del processo delle reti: l'unico che ha pyroute2 in memoria."""
    script = (
        "import os\n"
        "for p in os.listdir('/proc'):\n"
        "    if p.isdecimal() and p not in ('1', str(os.getpid())):\n"
        "        try:\n"
        "            if 'labkit-reti' == open(f'/proc/{p}/comm').read().strip(): print(p)\n"
        "        except OSError: pass\n"
    )
    channel = process.lab.wire.open("process_ask", label=process.label, verb="cell", args={"source": script})
    return int(b"".join(data for _, data in channel))


@pytest.mark.serial
@pytest.mark.parametrize("moment", ["fermo", 0.0, 0.01, 0.03])
def test_the_worker_killed_while_containers_connect_leaves_nothing_half_connected(
    lab: Lab, rest: Rest, moment: str | float
) -> None:
    una = lab.network.create("una")
    people = [sleeper(lab, f"c{n}") for n in range(8)]
    victim, refused, why = worker(rest.spy), [], ""
    if moment == "fermo":  # it is holding a plan, and has not begun it
        rest.spy.run(["kill", "-STOP", str(victim)])
    asked = [lab.wire.open("network_connect", container=c.name, attachment={"network": "una"}) for c in people]
    time.sleep(0 if moment == "fermo" else float(moment))
    rest.spy.run(["kill", "-KILL", str(victim)])
    for channel, container in zip(asked, people, strict=True):
        try:
            channel.result  # noqa: B018  its answer, or its error
        except BackendError as problem:
            refused.append(container)
            why = problem.message
    assert not refused or "è finito mentre lavorava" in why
    assert len(refused) == 1 if moment == "fermo" else len(refused) <= 1, "only the plan that was being done"
    members = {member.container for member in una.inspect().members}
    for container in people:
        inside = told(container, "ls /sys/class/net").split()
        assert inside == (["eth0", "lo"] if container in refused else ["eth0", "eth1", "lo"])
        assert (container.name in members) == (container not in refused)
    for container in refused:
        assert reaches(container, una.connect(container).ip), "another one does the work"
    una.disconnect(people[0])
    assert worker(rest.spy) != victim

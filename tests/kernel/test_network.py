"""La rete del laboratorio: i container si raggiungono, e dall'host si entra solo dalle porte pubblicate."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from labkit import Lab
from labkit.client.container import Container
from labkit.errors import ConflictError, InvalidError, NotFoundError

pytestmark = pytest.mark.kernel

#: Un server che dà la stessa pagina a chiunque, finché non lo fermano.
SERVER = "mkdir -p /www; echo $0 > /www/index.html; exec httpd -f -p 80 -h /www"


def server(lab: Lab, word: str = "ciao", **options: object) -> Container:
    container = lab.run("busybox", ["sh", "-c", SERVER, word], detach=True, init=True, **options)
    end = time.monotonic() + 20
    while "httpd" not in repr(container.top()) and time.monotonic() < end:
        time.sleep(0.01)
    return container


def get(port: int, timeout: float = 20) -> bytes:
    """Quello che risponde la porta di 127.0.0.1, riprovando finché il server non è pronto."""
    end = time.monotonic() + timeout
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionResetError:
            answer = b""
        if answer or time.monotonic() > end:
            return answer
        time.sleep(0.02)


def listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def closed_soon(port: int) -> bool:
    end = time.monotonic() + 20
    while listening(port) and time.monotonic() < end:
        time.sleep(0.01)
    return not listening(port)


@contextlib.contextmanager
def taken() -> Iterator[int]:
    """Una porta che qualcuno tiene; finito il blocco, una porta libera."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield holder.getsockname()[1]


# ---- between containers


def test_a_container_reaches_another_by_its_address(lab: Lab) -> None:
    web = server(lab)
    result = lab.run("busybox", ["wget", "-qO-", f"http://{web.ip}/"], quiet=True)
    assert (result.exit_code, result.output) == (0, "ciao\n")


def test_a_container_sees_its_cable_and_its_address(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    shown = container.exec("ip addr", quiet=True).output
    assert f"inet {container.ip}/16" in shown
    assert container.exec("ip route", quiet=True).output.startswith("default via 10.88.0.1 dev eth0")
    assert lab.run("busybox", ["ping", "-c1", "-W2", container.ip], quiet=True).ok


def test_without_a_network_there_is_only_oneself(lab: Lab) -> None:
    web = server(lab)
    lonely = lab.run("busybox", ["sleep", "60"], network="none", detach=True)
    assert lonely.exec("ls /sys/class/net", quiet=True).output == "lo\n"
    assert lonely.ip == ""
    assert lonely.exec(["ping", "-c1", "-W1", "127.0.0.1"], quiet=True).ok
    assert not lonely.exec(["wget", "-qO-", "-T1", f"http://{web.ip}/"], quiet=True).ok


def test_no_container_reaches_the_machine_s_own_network(lab: Lab) -> None:
    with taken() as port:
        for address in ("127.0.0.1", "10.88.0.1"):
            assert not lab.run("busybox", ["nc", "-w1", address, str(port)], quiet=True).ok


# ---- published ports


def test_a_published_port_answers_on_the_loopback(lab: Lab) -> None:
    web = server(lab, "pubblica", publish="80")
    port = web.ports[80]
    assert port > 0
    assert get(port).endswith(b"pubblica\n")
    assert web.url() == f"http://localhost:{port}/"
    assert str(web.inspect().ports[0]) == f"127.0.0.1:{port}->80/tcp"


def test_a_port_can_be_chosen(lab: Lab) -> None:
    with taken() as port:
        pass
    web = server(lab, publish=f"{port}:80")
    assert web.ports == {80: port}
    assert get(port).endswith(b"ciao\n")


def test_every_container_has_its_own_ports(lab: Lab) -> None:
    one, two = server(lab, "uno", publish="80"), server(lab, "due", publish={80: None})
    assert get(one.ports[80]).endswith(b"uno\n")
    assert get(two.ports[80]).endswith(b"due\n")


def test_a_port_is_only_of_the_loopback(lab: Lab) -> None:
    port = server(lab, publish="80").ports[80]
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", port))  # it would be taken, if the port were open on every address


def test_a_big_answer_arrives_whole(lab: Lab) -> None:
    script = "mkdir /www; head -c 20000000 /dev/zero > /www/index.html; exec httpd -f -p 80 -h /www"
    web = lab.run("busybox", ["sh", "-c", script], publish="80", detach=True)
    body = get(web.ports[80], timeout=10).partition(b"\r\n\r\n")[2]
    assert len(body) == 20_000_000


def test_many_clients_at_once_are_all_served(lab: Lab) -> None:
    port = server(lab, publish="80").ports[80]
    assert get(port)
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(30)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    for client in clients:
        assert b"".join(iter(lambda c=client: c.recv(65536), b"")).endswith(b"ciao\n")
        client.close()


def test_clients_that_leave_early_do_not_close_the_port(lab: Lab) -> None:
    port = server(lab, publish="80").ports[80]
    assert get(port)
    for turn in range(60):
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n" * (turn % 3))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        client.close()
    # Its queue is short, and a machine that is busy may have to knock again.
    assert get(port, timeout=20).endswith(b"ciao\n")


def test_a_port_waits_for_a_program_that_is_slow_to_listen(lab: Lab) -> None:
    container = lab.run("busybox", ["sh", "-c", f"sleep 0.3; {SERVER}", "lento"], publish="80", detach=True)
    assert get(container.ports[80]).endswith(b"lento\n")


def test_nobody_behind_a_port_is_an_end_and_not_a_wait(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], publish="80", detach=True)
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", container.ports[80]), timeout=20) as client:
        try:
            answer = client.recv(10)
        except ConnectionResetError:
            answer = b""
    assert answer == b""
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("how", ["stop", "kill", "rm", "end"])
def test_a_port_closes_with_its_container(lab: Lab, how: str) -> None:
    container = lab.run("busybox", ["sleep", "0.3" if how == "end" else "60"], publish="80", init=True, detach=True)
    port = container.ports[80]
    assert listening(port)
    if how == "rm":
        container.rm(force=True)
    elif how != "end":
        getattr(container, how)()
    assert closed_soon(port)
    again = lab.run("busybox", ["sleep", "60"], publish=f"{port}:80", detach=True)
    assert again.ports == {80: port}


def test_a_port_of_a_container_that_was_not_born_is_closed(lab: Lab, nothing_half_made: None) -> None:
    with taken() as port:
        pass
    assert lab.run("busybox", "comando-che-non-c-è", publish=f"{port}:80", quiet=True).exit_code == 127
    assert closed_soon(port)


@pytest.mark.parametrize("detach", [True, False])
def test_a_port_already_taken_is_a_conflict(lab: Lab, nothing_half_made: None, detach: bool) -> None:
    with taken() as port, pytest.raises(ConflictError, match="non si può pubblicare: l'indirizzo è già") as caught:
        lab.run("busybox", ["sleep", "60"], name="web", publish=f"{port}:80", detach=detach)
    assert "publish='80'" in caught.value.remedy
    assert lab.run("busybox", ["true"], name="web", publish=f"{port}:80").ok, "neither the name nor the port is held"


def test_one_port_taken_closes_those_opened_before_it(lab: Lab, nothing_half_made: None) -> None:
    with taken() as free:
        pass
    with taken() as port, pytest.raises(ConflictError):
        lab.run("busybox", ["sleep", "60"], publish=[f"{free}:80", f"{port}:81"], detach=True)
    assert closed_soon(free)


def test_the_same_port_twice_is_a_conflict(lab: Lab, nothing_half_made: None) -> None:
    with taken() as port:
        pass
    first = lab.run("busybox", ["sleep", "60"], publish=f"{port}:80", detach=True)
    with pytest.raises(ConflictError):
        lab.run("busybox", ["sleep", "60"], publish=f"{port}:80", detach=True)
    assert listening(port)
    first.rm(force=True)


def test_who_holds_a_port_is_named(lab: Lab) -> None:
    with taken() as port, pytest.raises(ConflictError, match=rf"La tiene «.+» \(PID {os.getpid()}\)"):
        lab.run("busybox", "true", publish=f"{port}:80")
    port = server(lab, name="web", publish="80").ports[80]
    with pytest.raises(ConflictError, match="La tiene il container «web»"):
        lab.run("busybox", "true", publish=f"{port}:80")


def test_a_port_may_carry_packets(lab: Lab) -> None:
    script = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53))\n"
        "while True: s.sendto(*s.recvfrom(100))"
    )
    echo = lab.run("host", ["python3", "-c", script], publish="53/udp", detach=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        end = time.monotonic() + 5
        answer = b""
        while answer != b"ciao" and time.monotonic() < end:
            client.sendto(b"ciao", ("127.0.0.1", echo.ports[53]))
            with contextlib.suppress(TimeoutError):
                answer = client.recv(100)
    assert answer == b"ciao"
    assert str(echo.inspect().ports[0]).endswith("->53/udp")


def test_a_row_of_ports_is_published_together(lab: Lab) -> None:
    web = lab.run("busybox", ["sleep", "60"], publish="80-82", detach=True)
    assert sorted(web.ports) == [80, 81, 82]
    assert all(map(listening, web.ports.values()))


def test_a_port_leads_to_a_container_on_a_network_of_its_own(lab: Lab) -> None:
    lab.network.create("chiusa", internal=True)
    web = server(lab, "dentro", network="chiusa", publish="80")
    assert get(web.ports[80]).endswith(b"dentro\n")
    with pytest.raises(ConflictError, match="Le porte pubblicate di .* passano dalla rete"):
        lab.network.disconnect("chiusa", web)
    web.rm(force=True)
    lab.network.rm("chiusa")


def test_a_plan_opens_its_port_when_it_becomes_a_process(lab: Lab) -> None:
    plan = lab.plan("busybox", ["sleep", "60"], publish="80")
    container = lab.container(plan.name)
    assert container.ports == {}
    for _ in range(sum(step.where == "lab" for step in plan.steps)):
        plan.step()
    port = container.ports[80]
    assert listening(port)
    plan.undo()
    assert closed_soon(port)
    plan.run()
    assert listening(container.ports[80])
    plan.rollback()


@pytest.mark.parametrize("wrong", ["0", "65536", "-1", "80:-1", "80/sctp", "otto", "1:2:3:4", ":", "8080:", "x:80:80"])
def test_a_port_that_does_not_exist_is_refused(lab: Lab, wrong: str) -> None:
    with pytest.raises(InvalidError) as caught:
        lab.run("busybox", "true", publish=wrong)
    assert "publish='" in caught.value.remedy
    assert len(lab.ps(all=True)) == 0


def test_a_port_without_a_network_is_refused(lab: Lab) -> None:
    with pytest.raises(InvalidError, match="Una porta si pubblica solo se il container ha una rete"):
        lab.run("busybox", "true", publish="80", network="none")
    with pytest.raises(NotFoundError, match="La rete «wifi» non c'è"):
        lab.run("busybox", "true", network="wifi")


def test_the_address_of_a_port_that_is_not_published_is_not_known(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], name="web", detach=True)
    with pytest.raises(NotFoundError, match="«web» non pubblica la porta 80") as caught:
        container.url()
    assert caught.value.remedy == "publish='8080:80'"

"""Che cosa ritrova nel kernel un container che riparte, e chi raccoglie chi dentro di lui."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from labkit import Lab
from labkit.client.container import Container
from tests.kernel.conftest import Rest


def refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def until(true: Callable[[], Any], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return False


def shell(lab: Lab, script: str, **options: Any) -> Container:
    return lab.run("busybox", ["sh", "-c", script], detach=True, **options)


def bound(taken: socket.socket, port: int) -> bool:
    try:
        taken.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def said(port: int) -> bytes:
    """Quello che dice chi risponde alla porta; vuoto se il programma non è ancora in ascolto."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        try:
            return client.recv(10)
        except ConnectionResetError:
            return b""


# ---- what stays


def test_a_container_that_starts_again_finds_what_it_wrote(lab: Lab, nothing_half_made: None) -> None:
    container = shell(lab, "echo giro >> /giri; cat /giri; rm -f /bin/vi; ls /bin/vi")
    container.wait(timeout=20)
    for _ in range(3):
        container.start().wait(timeout=20)
    counts = [line for line in container.logs().splitlines() if line == "giro"]
    assert len(counts) == 1 + 2 + 3 + 4
    container.rm()


def test_many_restarts_leave_nothing_behind(lab: Lab, rest: Rest, nothing_half_made: None) -> None:
    container = shell(lab, "echo x >> /tanto", init=True)
    container.wait(timeout=20)
    for _ in range(20):
        container.start().wait(timeout=20)
    container.rm()


def test_the_neighbours_find_it_again_at_once(lab: Lab) -> None:
    web = shell(lab, "sleep 60", init=True)
    other = shell(lab, "sleep 60", init=True)
    ping = ["ping", "-c", "1", "-W", "2", web.ip]
    assert other.exec(ping, quiet=True).ok
    for _ in range(3):
        web.restart()
        assert other.exec(ping, quiet=True).ok, "the neighbour still remembers the old card"


def test_a_published_port_is_published_again(lab: Lab) -> None:
    web = shell(lab, "while true; do echo ciao | nc -l -p 80; done", publish="80", init=True)
    for _ in range(2):
        assert until(lambda: said(web.ports[80]) == b"ciao\n")
        web.restart()
    web.stop()
    assert web.ports[80]
    assert until(lambda: refused(web.ports[80]))


def test_a_port_taken_meanwhile_keeps_it_down_and_says_why(lab: Lab) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    web = shell(lab, "sleep 0.2", publish=f"{port}:80", restart="always")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert until(lambda: bound(taken, port)), "between two runs the port is free"
        taken.listen()
        assert until(lambda: web.status == "exited")
    assert "non si può pubblicare" in web.inspect().error
    web.start()
    assert web.status == "running"


# ---- health


def test_the_check_runs_inside(lab: Lab) -> None:
    web = shell(lab, "sleep 60", init=True, health_cmd="test -e /pronto && echo qui", health_interval=0.05)
    time.sleep(0.3)
    assert web.health != "healthy"
    web.exec(["touch", "/pronto"])
    assert until(lambda: web.health == "healthy")
    assert web.inspect().health.log[-1].output == "qui\n"  # type: ignore[union-attr]
    web.exec(["rm", "/pronto"])
    assert until(lambda: web.health == "unhealthy")


def test_a_check_that_hangs_leaves_no_process(lab: Lab) -> None:
    web = shell(lab, "sleep 60", init=True, health_cmd="sleep 77 | sleep 78", health_interval=0.05, health_timeout=0.1,
                health_retries=1)  # fmt: skip
    assert until(lambda: web.health == "unhealthy")
    web.stop()
    web.start()
    time.sleep(0.5)
    assert sum("sleep 7" in command for _, command in web.top()) <= 3


# ---- PID 1


def test_a_program_that_is_pid_1_does_not_hear_sigterm(lab: Lab) -> None:
    deaf = lab.run("busybox", ["sleep", "60"], detach=True)
    assert deaf.stop(grace=0.2) == 137
    hears = lab.run("busybox", ["sleep", "60"], detach=True, init=True)
    assert hears.stop(grace=5) == 143


@pytest.mark.parametrize("init", [False, True])
def test_only_an_init_buries_the_dead(lab: Lab, init: bool) -> None:
    # The shell starts a child that starts another and leaves it: an orphan, that becomes pid 1's.
    container = shell(lab, "(sleep 0.1 & ) ; exec sleep 60", init=init)
    state = "cat /proc/[0-9]*/stat | grep -c ' Z '"
    assert until(lambda: container.exec(["sh", "-c", state], quiet=True).output.strip() == ("0" if init else "1"))
    time.sleep(0.2)
    assert container.exec(["sh", "-c", state], quiet=True).output.strip() == ("0" if init else "1")


@pytest.mark.parametrize("init", [False, True])
def test_the_exit_code_is_the_main_program_s(lab: Lab, init: bool) -> None:
    container = shell(lab, "sh -c 'exit 4' & sleep 0.1; exit 7", init=init)
    assert container.wait(timeout=20) == 7


def test_when_the_program_ends_all_its_processes_end(lab: Lab) -> None:
    container = shell(lab, "sleep 60 & sleep 60 & sleep 0.2")
    assert container.wait(timeout=20) == 0
    container.start()
    assert len(container.top()) <= 4, "those of the run before are gone"


# ---- attach and logs


def test_a_terminal_is_shared_by_those_who_attach(lab: Lab) -> None:
    container = lab.run("busybox", ["sh"], detach=True, interactive=True, tty=True)
    one = container.attach()
    one.send(b"echo $((6*7))\n")
    seen = b""
    for _, data in one:
        seen += data
        if b"42" in seen:
            break
    one.detach()
    assert container.status == "running"
    two = container.attach()
    two.send(b"exit 3\n")
    assert two.result["exit_code"] == 3


def test_both_streams_have_their_moments(lab: Lab) -> None:
    container = shell(lab, "echo uno; sleep 0.2; echo due >&2; sleep 0.2; echo tre")
    container.wait(timeout=20)
    lines = container.logs(timestamps=True).splitlines()
    moments = [line.split()[0] for line in lines]
    assert [line.split()[1] for line in lines] == ["uno", "due", "tre"]
    assert moments == sorted(moments)
    assert container.logs(since=moments[1]) == "due\ntre\n"


def test_what_is_followed_is_stamped_too(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    container = shell(lab, "sleep 0.2; echo uno; sleep 0.1; echo due")
    lines = container.logs(follow=True, timestamps=True).splitlines()
    assert [line.split()[1] for line in lines] == ["uno", "due"]
    assert capfd.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("tty", [True, False])
def test_the_program_of_an_init_has_a_group_of_its_own_and_the_terminal(lab: Lab, tty: bool) -> None:
    # A Ctrl-C goes to one group: with init in it, the program would hear it twice.
    channel = lab.open_run("busybox", ["cat", "/proc/self/stat"], init=True, tty=tty, remove=True)
    output = b"".join(data for _, data in channel).decode()
    pid, (_, parent, group, _, _, foreground) = output.split()[0], output.rpartition(")")[2].split()[:6]
    assert (parent, group) == ("1", pid)
    assert foreground == (pid if tty else "-1")

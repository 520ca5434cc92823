"""La vita di un container, come la vede chi lo usa: nomi, stati, codici di uscita, uscite, fine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from labkit import Lab
from labkit.client.container import Container
from labkit.client.output import Interrupted
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError


def sleeper(lab: Lab, name: str = "", **options: object) -> Container:
    return lab.run("busybox", ["sleep", "60"], detach=True, name=name, **options)


@contextlib.contextmanager
def ctrl_c_cancelled(timer: threading.Timer) -> Iterator[None]:
    """Se il comando è finito da sé, il Ctrl-C non deve arrivare a pytest."""
    try:
        yield
    finally:
        timer.cancel()


def quickly(container: Container, state: str) -> bool:
    """Se il container arriva in quello stato."""
    end = time.monotonic() + 20
    while container.status != state and time.monotonic() < end:
        time.sleep(0.005)
    return container.status == state


# ---- exit codes


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("false", 1), ("sh -c 'exit 42'", 42), ("sh -c 'exit 126'", 126), ("sh -c 'exit 255'", 255)],
)
def test_the_exit_code_is_the_program_s(lab: Lab, command: str, code: int) -> None:
    result = lab.run("busybox", command)
    assert result.exit_code == code
    assert result.ok == (code == 0)


def test_a_command_that_is_not_there_is_127_and_one_sentence(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    result = lab.run("busybox", ["comando-che-non-c-è"], name="vuoto")
    assert result.exit_code == 127
    assert "«comando-che-non-c-è» non c'è in questa immagine" in result.stderr
    assert "Rimedio: " in result.stderr
    assert capfd.readouterr().err == result.stderr
    assert [c.name for c in lab.ps(all=True)] == []


def test_kill_gives_137(lab: Lab) -> None:
    container = sleeper(lab)
    container.kill()
    assert container.wait(timeout=20) == 137
    assert container.exit_code == 137


@pytest.mark.parametrize("name", ["SIGTERM", "TERM", "term", 15])
def test_a_signal_has_many_names(lab: Lab, name: str | int) -> None:
    container = sleeper(lab, init=True)
    container.kill(name)
    assert container.wait(timeout=20) == 143


def test_stop_is_sigterm(lab: Lab) -> None:
    container = sleeper(lab, init=True)
    assert container.stop(grace=5) == 143
    assert container.status == "exited"


def test_the_stop_signal_can_be_chosen(lab: Lab) -> None:
    assert sleeper(lab, init=True, stop_signal="SIGHUP").stop(grace=5) == 129


def test_stopping_what_has_ended_gives_its_code_again(lab: Lab) -> None:
    container = lab.run("busybox", "sh -c 'exit 3'", detach=True)
    assert container.wait(timeout=20) == 3
    assert container.stop() == 3


# ---- states


def test_a_detached_container_runs_until_its_program_ends(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "0.3"], detach=True)
    assert container.status == "running"
    assert container.pid > 0
    assert container.exit_code is None
    assert container.wait(timeout=20) == 0
    assert (container.status, container.pid, container.exit_code) == ("exited", 0, 0)


def test_an_attached_container_is_gone_when_run_returns(lab: Lab) -> None:
    lab.run("busybox", "true", name="breve")
    assert [c.name for c in lab.ps(all=True)] == []


def test_an_attached_container_can_be_kept(lab: Lab) -> None:
    lab.run("busybox", ["echo", "resto"], name="breve", remove=False, quiet=True)
    kept = lab.container("breve")
    assert kept.status == "exited"
    assert kept.logs() == "resto\n"


def test_a_detached_container_can_go_by_itself(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "0.1"], detach=True, remove=True)
    assert quickly(container, "removed")


def test_inspect_tells_it_all(lab: Lab) -> None:
    container = sleeper(lab, "web", hostname="sito", network="none")
    info = container.inspect()
    assert re.fullmatch("[0-9a-f]{12}", info.id)
    assert info.id == container.id
    assert (info.name, info.image, info.command) == ("web", "busybox", ("sleep", "60"))
    assert (info.state, info.hostname, info.user, info.network) == ("running", "sito", "0", "none")
    assert (info.ip, info.ports, info.exit_code) == ("", (), None)
    assert 0 < time.time() - info.created_at < 60
    assert 0 <= info.uptime < 60
    assert info.first_instruction_ms > 0
    assert [step.index for step in info.steps] == list(range(1, len(info.steps) + 1))
    assert {step.state for step in info.steps} == {"done"}
    assert all(step.microseconds is not None and step.microseconds >= 0 for step in info.steps[:-1])


def test_a_bridge_gives_everyone_an_address_of_their_own(lab: Lab) -> None:
    one, two = sleeper(lab), sleeper(lab)
    assert re.fullmatch(r"10\.88\.\d+\.\d+", one.ip)
    assert one.ip != two.ip


# ---- names


def test_names_that_nobody_chose_are_all_different(lab: Lab) -> None:
    names = {sleeper(lab).name for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch(r"container-\d+", name) for name in names)


def test_a_container_is_found_by_its_name_or_the_start_of_its_id(lab: Lab) -> None:
    container = sleeper(lab, "web")
    assert lab.container("web").id == container.id
    assert lab.container(container.id[:6]).name == "web"
    for wrong in ("", "we", "Web", "zzz"):
        with pytest.raises(NotFoundError, match="non c'è. Quelli che ci sono: web") as caught:
            lab.container(wrong)
        assert caught.value.remedy == "lab.ps(all=True)"


def test_a_name_belongs_to_one_container_at_a_time(lab: Lab) -> None:
    first = sleeper(lab, "web")
    for again in (
        lambda: sleeper(lab, "web"),
        lambda: lab.run("busybox", "true", name="web"),
        lambda: lab.plan("busybox", "true", name="web"),
    ):
        with pytest.raises(ConflictError, match="C'è già un container di nome «web»") as caught:
            again()
        assert "rm" in caught.value.remedy
    assert [c.id for c in lab.ps(all=True)] == [first.id]
    first.rm(force=True)
    assert sleeper(lab, "web").id != first.id


def test_a_name_stays_taken_after_the_program_ended(lab: Lab) -> None:
    lab.run("busybox", "true", name="web", detach=True).wait(timeout=20)
    with pytest.raises(ConflictError):
        sleeper(lab, "web")


# ---- ps


def test_ps_shows_who_runs_and_with_all_the_others_too(lab: Lab) -> None:
    sleeper(lab, "vivo")
    lab.run("busybox", "true", name="finito", detach=True).wait(timeout=20)
    lab.plan("busybox", "true", name="piano")
    assert [c.name for c in lab.ps()] == ["vivo"]
    assert [(c.name, c.status) for c in lab.ps(all=True)] == [
        ("vivo", "running"),
        ("finito", "exited"),
        ("piano", "created"),
    ]


def test_ps_draws_a_table(lab: Lab) -> None:
    sleeper(lab, "web")
    lab.run("busybox", "false", name="rotto", detach=True).wait(timeout=20)
    table = lab.ps(all=True)
    header, *rows = repr(table).splitlines()
    assert header.split() == ["NOME", "IMMAGINE", "COMANDO", "STATO", "PORTE"]
    assert [row.split() for row in rows] == [
        ["web", "busybox", "sleep", "60", "gira"],
        ["rotto", "busybox", "false", "finito", "(1)"],
    ]
    assert table._repr_html_().count("<tr>") == 3
    assert len(lab.ps()) == 1
    assert lab.ps()[0].name == "web"


def test_the_table_shows_a_command_and_does_not_obey_it(lab: Lab) -> None:
    sleeper(lab, "web")
    lab.run("busybox", ["echo", "<script>alert(1)</script>\x1b[2J\n"], name="furbo", detach=True).wait(timeout=20)
    table = lab.ps(all=True)
    assert "<script>" not in table._repr_html_()
    assert "\x1b" not in repr(table)
    assert len(repr(table).splitlines()) == 3


# ---- output and input


def test_the_output_is_shown_and_kept(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    assert lab.run("busybox", ["echo", "ciao", "a tutti"]).output == "ciao a tutti\n"
    assert capfd.readouterr().out == "ciao a tutti\n"


def test_quiet_keeps_without_showing(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    assert lab.run("busybox", ["echo", "piano"], quiet=True).output == "piano\n"
    assert lab.run("busybox", ["niente"], quiet=True).exit_code == 127
    assert capfd.readouterr() == ("", "")


def test_a_command_may_be_one_text(lab: Lab) -> None:
    assert lab.run("busybox", "echo 'due  spazi' \"e l'apice\"", quiet=True).output == "due  spazi e l'apice\n"


@pytest.mark.parametrize("data", ["perché no?\n", b"perch\xc3\xa9 no?\n"])
def test_stdin_reaches_the_program(lab: Lab, data: str | bytes) -> None:
    assert lab.run("busybox", "cat", stdin=data, quiet=True).output == "perché no?\n"


def test_an_empty_stdin_is_an_end(lab: Lab) -> None:
    assert lab.run("busybox", "cat", stdin="", quiet=True).output == ""


def test_without_stdin_there_is_nothing_to_read(lab: Lab) -> None:
    assert lab.run("busybox", "cat", quiet=True).output == ""


def test_a_program_that_does_not_read_its_stdin_ends_all_the_same(lab: Lab) -> None:
    assert lab.run("busybox", "true", stdin=b"x" * (8 << 20)).exit_code == 0


def test_a_channel_left_open_is_written_when_one_likes(lab: Lab) -> None:
    channel = lab.open_run("busybox", ["cat"], interactive=True, remove=True)
    pieces = iter(channel)
    for word in (b"uno\n", b"due\n"):
        channel.send(word)
        assert next(pieces) == ("stdout", word)
    channel.close_stdin()
    assert list(pieces) == []
    assert channel.result["exit_code"] == 0
    assert [name for event in channel.events for name in event] == ["started"]


def test_logs_are_what_was_written(lab: Lab) -> None:
    container = lab.run("busybox", ["echo", "scritto"], detach=True)
    container.wait(timeout=20)
    assert container.logs() == "scritto\n"
    assert container.logs() == "scritto\n"


def test_following_the_logs_ends_with_the_program(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    container = lab.run("busybox", ["sleep", "0.2"], detach=True)
    started = time.monotonic()
    assert container.logs(follow=True) == ""
    assert time.monotonic() - started > 0.1
    assert container.status == "exited"


# ---- wait


def test_wait_has_a_deadline_and_does_no_harm(lab: Lab) -> None:
    container = sleeper(lab, "web")
    with pytest.raises(TimeoutError, match="«web» gira ancora: sono passati 0.05 secondi"):
        container.wait(timeout=0.05)
    assert container.status == "running"


def test_everyone_who_waits_is_answered(lab: Lab) -> None:
    container = sleeper(lab)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(container.wait(timeout=20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    container.kill()
    for thread in threads:
        thread.join(5)
    assert codes == [137] * 4


# ---- rm


def test_what_runs_is_not_removed_by_mistake(lab: Lab) -> None:
    container = sleeper(lab, "web")
    with pytest.raises(ConflictError, match="«web» gira ancora") as caught:
        container.rm()
    assert "stop" in caught.value.remedy
    assert container.status == "running"
    container.rm(force=True)
    assert container.status == "removed"


@pytest.mark.parametrize("act", ["inspect", "logs", "wait", "stop", "kill", "rm", "top", "exec"])
def test_a_removed_container_is_not_found(lab: Lab, act: str) -> None:
    container = sleeper(lab, "web")
    container.rm(force=True)
    with pytest.raises(NotFoundError, match="Il container «web» non c'è"):
        container.exec("true") if act == "exec" else getattr(container, act)()


def test_whoever_waits_is_answered_when_the_container_is_removed(lab: Lab) -> None:
    container = sleeper(lab)
    waiting = lab.wire.open("wait", name=container.name)
    container.rm(force=True)
    assert waiting.result == 137


# ---- exec


def test_exec_is_one_more_program(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    container = sleeper(lab)
    assert container.exec(["echo", "dentro"]).output == "dentro\n"
    assert capfd.readouterr().out == "dentro\n"
    assert container.exec("sh -c 'exit 9'").exit_code == 9
    assert container.exec("cat", stdin="eco", quiet=True).output == "eco"
    assert container.status == "running"


def test_exec_of_nothing_is_127(lab: Lab) -> None:
    result = sleeper(lab).exec("comando-che-non-c-è", quiet=True)
    assert result.exit_code == 127
    assert "non c'è in questa immagine" in result.stderr


@pytest.mark.parametrize("state", ["exited", "created"])
@pytest.mark.parametrize("act", ["exec", "kill", "top"])
def test_what_does_not_run_cannot_be_entered_nor_killed(lab: Lab, state: str, act: str) -> None:
    if state == "exited":
        container = lab.run("busybox", "true", name="fermo", detach=True)
        container.wait(timeout=20)
    else:
        lab.plan("busybox", "true", name="fermo")
        container = lab.container("fermo")
    with pytest.raises(ConflictError, match=rf"Il container «fermo» non gira \({state}\)"):
        container.exec("true") if act == "exec" else getattr(container, act)()


def test_exec_without_a_command_is_refused(lab: Lab) -> None:
    container = sleeper(lab)
    for nothing in ("", [], None):
        with pytest.raises(LabError, match="exec ha bisogno di un comando"):
            container.exec(nothing)


# ---- signals and interrupts


@pytest.mark.parametrize("how", ["run", "exec", "logs"])
def test_ctrl_c_ends_the_command_and_not_the_lab(lab: Lab, how: str) -> None:
    container = sleeper(lab, "web", init=True)
    ctrl_c = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    ctrl_c.start()
    with ctrl_c_cancelled(ctrl_c), pytest.raises(Interrupted):
        if how == "run":
            lab.run("busybox", ["sleep", "60"], init=True)
        elif how == "exec":
            container.exec(["sleep", "60"])
        else:
            container.logs(follow=True)
    assert [c.name for c in lab.ps()] == ["web"], "whoever only looked has stopped nothing"


@pytest.mark.parametrize("wrong", ["SIGFINTO", "", "0", "-9", "999", "KILL -9"])
def test_a_signal_that_does_not_exist_is_refused(lab: Lab, wrong: str) -> None:
    container = sleeper(lab)
    with pytest.raises(InvalidError, match=f"Il segnale «{wrong}» non esiste") as caught:
        container.kill(wrong)
    assert caught.value.remedy
    with pytest.raises(InvalidError):
        sleeper(lab, "altro", stop_signal=wrong or "SIG")
    assert [c.status for c in lab.ps(all=True)] == ["running"]


@pytest.mark.parametrize("grace", [0, 0.0, 1e9, float("inf")])
def test_any_patience_is_good_even_an_endless_one(lab: Lab, grace: float) -> None:
    container = sleeper(lab, init=True)
    assert container.stop(grace=grace) in (137, 143)


# ---- events


def test_events_tell_a_life(lab: Lab) -> None:
    before = len(lab.events())
    container = sleeper(lab, "web", init=True)
    container.kill("TERM")
    container.wait(timeout=20)
    container.rm()
    told = [(event.action, event.name, dict(event.details)) for event in lab.events()[before:]]
    assert told == [
        ("create", "web", {"image": "busybox"}),
        ("start", "web", {}),
        ("kill", "web", {"signal": 15}),
        ("die", "web", {"exit_code": 143}),
        ("destroy", "web", {}),
    ]
    times = [event.time for event in lab.events()]
    assert times == sorted(times)


def test_a_container_that_was_not_born_never_started_nor_died(lab: Lab) -> None:
    before = len(lab.events())
    lab.run("busybox", "comando-che-non-c-è", name="mai", quiet=True)
    assert [event.action for event in lab.events()[before:]] == ["create", "destroy"]


def test_events_can_be_followed(lab: Lab) -> None:
    past = len(lab.events())
    channel = lab.wire.open("events", follow=True)
    for _ in range(past):
        channel.receive(timeout=20)
    lab.run("busybox", "true", name="seguito")
    seen = [channel.receive(timeout=20) for _ in range(4)]
    assert [(piece[1]["action"], piece[1]["name"]) for piece in seen if piece] == [
        (action, "seguito") for action in ("create", "start", "die", "destroy")
    ]

"""Come un container parte, si ferma, riparte, e come se ne sa lo stato: lo stesso in ogni laboratorio."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from labkit import Lab
from labkit.client.container import Container
from labkit.errors import ConflictError, InvalidError, NotFoundError


def told(lab: Lab, name: str) -> list[str]:
    return [event.action for event in lab.events(filters={"container": name})]


def until(true: Callable[[], Any], seconds: float = 5) -> bool:
    """Se entro qualche secondo diventa vero."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return False


def sleeper(lab: Lab, name: str, **options: Any) -> Container:
    return lab.run("busybox", ["sleep", "60"], detach=True, name=name, init=True, **options)


# ---- create and start


def test_a_created_container_has_everything_but_a_process(lab: Lab) -> None:
    container = lab.create("busybox", ["sleep", "60"], name="pronto")
    assert (container.status, container.pid, container.exit_code) == ("created", 0, None)
    assert re.fullmatch(r"10\.88\.\d+\.\d+", container.ip)
    assert told(lab, container.id) == ["create"]
    assert container.start() is container
    assert container.status == "running"
    assert told(lab, container.id) == ["create", "start"]


def test_starting_what_runs_changes_nothing(lab: Lab) -> None:
    container = sleeper(lab, "web")
    pid = container.pid
    assert container.start().pid == pid


def test_a_container_that_cannot_start_stays_to_be_looked_at(lab: Lab) -> None:
    container = lab.create("busybox", ["comando-che-non-c-è"], name="rotto")
    for _ in range(2):
        with pytest.raises(Exception, match="«comando-che-non-c-è» non c'è"):
            container.start()
        info = container.inspect()
        assert (info.state, info.exit_code) == ("created", 127)
        assert "comando-che-non-c-è" in info.error
    assert told(lab, container.id) == ["create"]
    container.rm()


def test_a_stopped_container_starts_again_with_its_name_and_address(lab: Lab) -> None:
    container = sleeper(lab, "web")
    before = container.inspect()
    container.stop()
    assert container.status == "exited"
    container.start()
    after = container.inspect()
    assert (after.name, after.id, after.ip, after.hostname) == (before.name, before.id, before.ip, before.hostname)
    assert after.exit_code is None
    assert after.started_at > before.started_at
    assert after.finished_at > before.started_at
    assert after.restart_count == 0
    assert {step.state for step in after.steps} == {"done"}


def test_the_logs_of_all_the_runs_are_kept(lab: Lab) -> None:
    container = lab.run("busybox", ["echo", "giro"], detach=True)
    container.wait(timeout=20)
    container.start().wait(timeout=20)
    assert container.logs() == "giro\ngiro\n"


def test_restart_is_stop_and_start(lab: Lab) -> None:
    container = sleeper(lab, "web")
    pid = container.pid
    assert container.restart() is container
    assert (container.status, container.pid != pid) == ("running", True)
    assert told(lab, container.id) == ["create", "start", "kill", "die", "stop", "start", "restart"]
    container.stop()
    container.restart()
    assert container.status == "running"


def test_restarting_what_was_only_created_starts_it(lab: Lab) -> None:
    assert lab.create("busybox", ["sleep", "60"]).restart().status == "running"


def test_a_container_that_goes_by_itself_can_be_restarted(lab: Lab) -> None:
    container = sleeper(lab, "breve", remove=True)
    container.restart()
    assert container.status == "running"
    container.kill()
    assert until(lambda: container.status == "removed")


def test_a_plan_begun_by_hand_is_started_too(lab: Lab) -> None:
    plan = lab.plan("busybox", ["sleep", "60"], name="piano")
    plan.step()
    assert lab.container("piano").start().status == "running"
    assert plan.done


# ---- restart policies


@pytest.mark.parametrize(
    ("policy", "command", "count"),
    [
        ("no", "sh -c 'exit 3'", 0),
        ("on-failure:2", "sh -c 'exit 3'", 2),
        ("on-failure:2", "true", 0),
        ("on-failure", "true", 0),
    ],
)
def test_a_policy_says_whether_to_start_again(lab: Lab, policy: str, command: str, count: int) -> None:
    container = lab.run("busybox", command, detach=True, restart=policy)
    assert container.wait(timeout=10) == (3 if "3" in command else 0)
    info = container.inspect()
    assert (info.state, info.restart_count, str(info.restart)) == ("exited", count, policy)
    assert told(lab, container.id) == ["create", *["start", "die"] * (count + 1)]


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_what_always_restarts_stays_down_only_if_someone_stops_it(lab: Lab, policy: str) -> None:
    container = lab.run("busybox", "true", detach=True, restart=policy)
    assert until(lambda: container.inspect().restart_count >= 2)
    container.stop()
    count = container.inspect().restart_count
    time.sleep(0.3)
    assert (container.status, container.inspect().restart_count) == ("exited", count)


@pytest.mark.serial
def test_every_wait_is_twice_the_one_before(lab: Lab) -> None:
    container = lab.run("busybox", "false", detach=True, restart="on-failure:3")
    container.wait(timeout=10)
    events = lab.events(filters={"container": container.id})
    deaths = [event.time for event in events if event.action == "die"]
    births = [event.time for event in events if event.action == "start"]
    waits = [birth - death for death, birth in zip(deaths, births[1:], strict=False)]
    assert len(waits) == 3
    assert all(0.9 * least <= wait for wait, least in zip(waits, (0.1, 0.2, 0.4), strict=True)), waits


def test_whoever_waits_to_restart_says_so(lab: Lab) -> None:
    container = lab.run("busybox", "false", detach=True, restart="on-failure:9", name="testardo")
    assert until(lambda: container.status == "restarting")
    assert [c.name for c in lab.ps()] == ["testardo"]
    with pytest.raises(ConflictError, match="gira ancora"):
        container.rm()
    container.stop()
    assert container.status == "exited"
    container.rm()


def test_a_kill_with_its_stop_signal_is_a_manual_stop(lab: Lab) -> None:
    container = sleeper(lab, "web", restart="always")
    container.kill("TERM")
    assert container.wait(timeout=20) == 143
    assert container.status == "exited"


def test_another_signal_is_not_a_manual_stop(lab: Lab) -> None:
    container = sleeper(lab, "web", restart="always")
    container.kill("HUP")
    assert until(lambda: container.inspect().restart_count == 1 and container.status == "running")


def test_starting_by_hand_begins_to_count_again(lab: Lab) -> None:
    container = lab.run("busybox", "false", detach=True, restart="on-failure:1")
    container.wait(timeout=20)
    assert container.inspect().restart_count == 1
    container.start()
    container.wait(timeout=20)
    assert container.inspect().restart_count == 1
    assert told(lab, container.id).count("start") == 4


def test_whoever_stays_attached_sees_all_the_runs(lab: Lab) -> None:
    result = lab.run("busybox", ["sh", "-c", "exit 4"], restart="on-failure:1", name="due", quiet=True)
    assert result.exit_code == 4
    assert lab.container("due").inspect().restart_count == 1


def test_what_restarts_can_be_removed_by_force(lab: Lab) -> None:
    container = lab.run("busybox", "false", detach=True, restart="always")
    waiting = lab.wire.open("wait", name=container.name)
    container.rm(force=True)
    assert waiting.result in (1, 137)
    assert container.status == "removed"


# ---- wait


def test_one_can_wait_for_the_next_end_or_for_the_removal(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "0.2"], detach=True, restart="always")
    assert container.wait(timeout=20, condition="next-exit") == 0
    ends: list[int] = []
    waiting = threading.Thread(target=lambda: ends.append(container.wait(timeout=20, condition="removed")))
    waiting.start()
    time.sleep(0.1)
    container.rm(force=True)
    waiting.join(5)
    assert len(ends) == 1


def test_a_condition_that_does_not_exist_is_refused(lab: Lab) -> None:
    with pytest.raises(InvalidError, match="next-exit"):
        sleeper(lab, "web").wait(condition="morto")


# ---- stop


def test_a_container_has_its_own_patience(lab: Lab) -> None:
    container = sleeper(lab, "sordo", stop_signal="SIGURG", stop_timeout=0.1)
    started = time.monotonic()
    assert container.stop() == 137
    assert time.monotonic() - started < 8
    actions = [(event.action, event.details.get("signal")) for event in lab.events(filters={"container": "sordo"})]
    assert actions[2:] == [("kill", 23), ("kill", 9), ("die", None), ("stop", None)]


# ---- rename


def test_a_container_changes_name_and_nothing_else(lab: Lab) -> None:
    container = sleeper(lab, "prima")
    before = container.inspect()
    container.rename("dopo")
    after = container.inspect()
    assert (container.name, after.name, after.id, after.hostname) == ("dopo", "dopo", before.id, "prima")
    with pytest.raises(NotFoundError):
        lab.container("prima")
    assert [event.details for event in lab.events(filters={"event": "rename", "container": container.id})] == [
        {"old_name": "prima"}
    ]


@pytest.mark.parametrize("wrong", ["", "-x", "a b", "web"])
def test_a_name_that_cannot_be_is_refused_and_nothing_changes(lab: Lab, wrong: str) -> None:
    sleeper(lab, "web")
    container = sleeper(lab, "altro")
    with pytest.raises((InvalidError, ConflictError)):
        container.rename(wrong)
    assert (container.name, container.status) == ("altro", "running")


# ---- health


def test_a_container_without_a_check_has_no_health(lab: Lab) -> None:
    container = sleeper(lab, "web", no_healthcheck=True)
    assert container.inspect().health is None
    assert container.health == ""


def test_a_check_that_says_yes_makes_it_healthy(lab: Lab) -> None:
    container = sleeper(lab, "sano", health_cmd=["true"], health_interval=0.05)
    assert container.health == "starting"
    assert until(lambda: container.health == "healthy")
    assert until(lambda: len(container.inspect().health.log) == 5)  # type: ignore[union-attr]
    health = container.inspect().health
    assert health is not None
    assert health.failing_streak == 0
    assert all(probe.exit_code == 0 and probe.end >= probe.start > 0 for probe in health.log)
    assert [dict(e.details) for e in lab.events(filters={"container": "sano", "event": "health_status"})] == [
        {"status": "healthy"}
    ]


def test_enough_noes_in_a_row_make_it_unhealthy_and_do_not_restart_it(lab: Lab) -> None:
    container = sleeper(
        lab, "malato", health_cmd=["sh", "-c", "exit 2"], health_interval=0.05, health_retries=3, restart="always"
    )
    assert until(lambda: container.health == "unhealthy")
    health = container.inspect().health
    assert health is not None
    assert health.failing_streak >= 3
    assert {probe.exit_code for probe in health.log} == {2}
    assert (container.status, container.inspect().restart_count) == ("running", 0)


def test_while_it_starts_a_no_does_not_count(lab: Lab) -> None:
    container = sleeper(
        lab, "lento", health_cmd=["false"], health_interval=0.05, health_retries=1, health_start_period=60
    )
    assert until(lambda: len(container.inspect().health.log) >= 3)  # type: ignore[union-attr]
    assert container.health == "starting"


def test_a_check_that_never_ends_is_a_no(lab: Lab) -> None:
    container = sleeper(
        lab, "muto", health_cmd=["sleep", "60"], health_interval=0.05, health_timeout=0.1, health_retries=1
    )
    assert until(lambda: container.health == "unhealthy")
    health = container.inspect().health
    assert health is not None
    assert health.log[-1].exit_code == -1
    assert "0.1 secondi" in health.log[-1].output


def test_a_check_that_is_not_in_the_image_is_a_no_that_says_why(lab: Lab) -> None:
    container = sleeper(lab, "web", health_cmd=["comando-che-non-c-è"], health_interval=0.05, health_retries=1)
    assert until(lambda: container.health == "unhealthy")
    assert "non c'è in questa immagine" in container.inspect().health.log[-1].output  # type: ignore[union-attr]


def test_every_run_is_healthy_or_ill_by_itself(lab: Lab) -> None:
    container = sleeper(lab, "web", health_cmd=["true"], health_interval=0.05)
    assert until(lambda: container.health == "healthy")
    container.restart()
    assert until(lambda: container.health == "healthy")
    assert told(lab, container.id).count("health_status") == 2


# ---- logs


def test_a_line_has_its_moment(lab: Lab) -> None:
    before = time.time()
    container = lab.run("busybox", ["echo", "ora"], detach=True)
    container.wait(timeout=20)
    line = container.logs(timestamps=True)
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ora\n", line)
    assert found
    assert container.logs(since=before - 1) == "ora\n"
    assert container.logs(until=before - 1) == ""
    assert container.logs(since=found[1]) == "ora\n"
    assert container.logs(since="1h", until="30m") == ""


def test_the_last_lines_are_enough(lab: Lab) -> None:
    container = lab.run("busybox", ["echo", "uno\ndue\ntre"], detach=True)
    container.wait(timeout=20)
    assert container.logs(tail=2) == "due\ntre\n"
    assert container.logs(tail=0) == ""
    assert container.logs(tail="all") == container.logs(tail=99) == "uno\ndue\ntre\n"
    for wrong in (-1, "due", 1.5, True):
        with pytest.raises(InvalidError):
            container.logs(tail=wrong)  # type: ignore[arg-type]


def test_what_is_too_old_is_dropped_and_counted(lab: Lab) -> None:
    container = lab.run(
        "busybox", ["echo", "\n".join(map(str, range(1000)))], detach=True, log_max_size="1k", log_max_files=2
    )
    container.wait(timeout=20)
    logs = container.logs()
    assert logs.endswith("\n998\n999\n")
    assert len(logs) <= 2048
    assert 0 < logs.dropped < 1000
    assert logs.count("\n") + logs.dropped == 1000


def test_following_can_have_an_end(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    container = sleeper(lab, "web")
    started = time.monotonic()
    assert container.logs(follow=True, until=time.time() + 0.2) == ""
    assert 0.1 < time.monotonic() - started < 8
    assert container.status == "running"


# ---- attach


def test_attach_gives_what_comes_next_and_a_way_in(lab: Lab) -> None:
    container = lab.run("busybox", ["cat"], detach=True, interactive=True)
    one, two = container.attach(), container.attach()
    one.send(b"uno\n")
    assert [next(iter(channel)) for channel in (one, two)] == [("stdout", b"uno\n")] * 2
    one.detach()
    assert list(one) == []
    assert one.result["detached"]
    two.send(b"due\n")
    assert next(iter(two)) == ("stdout", b"due\n")
    two.close_stdin()
    assert two.result["exit_code"] == 0


def test_only_what_runs_can_be_attached(lab: Lab) -> None:
    with pytest.raises(ConflictError, match="non gira"):
        lab.create("busybox", "true").attach().result  # noqa: B018


# ---- events


def test_an_exec_is_told_too(lab: Lab) -> None:
    container = sleeper(lab, "web")
    container.exec("sh -c 'exit 5'", quiet=True)
    told = [event for event in lab.events(filters={"container": "web"}) if event.action.startswith("exec")]
    assert [event.action for event in told] == ["exec_create", "exec_start", "exec_die"]
    assert told[0].details["command"] == "sh -c exit 5"
    assert told[2].details["exit_code"] == 5
    assert len({event.details["exec_id"] for event in told}) == 1


def test_events_are_chosen_by_time_by_container_and_by_kind(lab: Lab) -> None:
    one, two = sleeper(lab, "uno"), sleeper(lab, "due")
    middle = lab.events()[-1].time + 1e-6  # by the laboratory's own clock: in a machine it may be another
    one.kill()
    one.wait(timeout=20)
    assert [(e.action, e.name) for e in lab.events(since=middle)] == [("kill", "uno"), ("die", "uno")]
    assert [e.name for e in lab.events(until=middle, filters={"event": "start"})][-2:] == ["uno", "due"]
    chosen = lab.events(filters={"container": [two.id[:8]], "event": ["create", "start"]})
    assert [(e.action, e.id) for e in chosen] == [("create", two.id), ("start", two.id)]
    with pytest.raises(InvalidError, match="colore"):
        lab.events(filters={"colore": "verde"})


def test_events_can_be_followed_as_they_come(lab: Lab) -> None:
    lab.run("busybox", "true", quiet=True)
    since = lab.events()[-1].time + 1e-6
    stream = lab.follow_events(since=since, filters={"event": ["start", "die"]})
    lab.run("busybox", "true", name="seguito")
    assert [(event.action, event.name) for event in (next(stream), next(stream))] == [
        ("start", "seguito"),
        ("die", "seguito"),
    ]

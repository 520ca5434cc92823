"""Il programma di un container: ambiente, utente, segnali, uscite, ingressi, terminale; molti insieme."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from labkit import Lab
from labkit.client.output import KEPT
from labkit.client.process import Process
from labkit.errors import InvalidError, NotFoundError

pytestmark = pytest.mark.kernel


def sh(lab: Lab, script: str, **options: object) -> str:
    return lab.run("busybox", ["sh", "-c", script], quiet=True, **options).output


def peak(process: Process, pid: int = 1) -> int:
    """La memoria più grande mai avuta da un processo (il supervisore è il PID 1), in KiB: ``VmHWM`` di proc(5)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", process.read(f"/proc/{pid}/status"))
    assert found
    return int(found[1])


# ---- environment


def test_the_environment_is_the_one_declared(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGRETO", "non-deve-entrare")
    monkeypatch.setenv("PASSATO", "dall'host")
    result = lab.run("busybox", "env", env=["COLORE=verde scuro", "VUOTO=", "PASSATO", "A=b=c"], name="amb", quiet=True)
    assert dict(line.split("=", 1) for line in result.output.splitlines()) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "amb",
        "HOME": "/root",
        "COLORE": "verde scuro",
        "VUOTO": "",
        "PASSATO": "dall'host",
        "A": "b=c",
    }


def test_a_variable_given_wins(lab: Lab) -> None:
    assert sh(lab, "echo $HOME $HOSTNAME", env={"HOME": "/altrove", "HOSTNAME": "mio", "NUMERO": 5}) == "/altrove mio\n"
    assert lab.run("busybox", "ls", env={"PATH": "/nessuna"}, quiet=True).exit_code == 127


def test_exec_has_the_environment_of_its_container_and_more(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], name="amb", env={"COLORE": "verde"}, workdir="/srv", detach=True)
    shown = container.exec(["sh", "-c", "echo $COLORE $NUOVO $HOSTNAME $PWD"], env={"NUOVO": "si"}, quiet=True).output
    assert shown == "verde si amb /srv\n"
    assert container.exec("pwd", workdir="/tmp", quiet=True).output == "/tmp\n"
    assert container.exec(["sh", "-c", "echo $COLORE"], env={"COLORE": "rosso"}, quiet=True).output == "rosso\n"


def test_exec_lives_in_the_same_namespaces(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    ask = ["sh", "-c", "readlink /proc/$0/ns/uts /proc/$0/ns/net /proc/$0/ns/mnt /proc/$0/ns/pid /proc/$0/ns/ipc"]
    assert container.exec([*ask, "1"], quiet=True).output == container.exec([*ask, "self"], quiet=True).output
    assert container.exec(["sh", "-c", "echo /proc/[0-9]*"], quiet=True).output.startswith("/proc/1 /proc/")


def test_a_working_folder_is_made_if_it_is_missing(lab: Lab) -> None:
    assert sh(lab, "pwd", workdir="/nuova/cartella") == "/nuova/cartella\n"
    with pytest.raises(InvalidError, match="deve cominciare con «/»") as caught:
        lab.run("busybox", "pwd", workdir="relativa")
    assert caught.value.remedy == "workdir='/relativa'"
    with pytest.raises(NotFoundError, match="Non posso entrare nella cartella di lavoro «/etc/passwd»"):
        lab.run("busybox", "pwd", workdir="/etc/passwd")


# ---- user


@pytest.mark.parametrize(("user", "shown"), [("", "0 0 0"), ("root", "0 0 0"), ("0:0", "0 0 0"), (0, "0 0 0")])
def test_root_is_the_user_that_is_always_there(lab: Lab, user: str, shown: str) -> None:
    assert sh(lab, "echo $(id -u) $(id -g) $(id -G)", user=user) == f"{shown}\n"


@pytest.mark.subuid
@pytest.mark.parametrize(
    ("user", "shown", "home"),
    [
        ("nobody", "65534 65534", "/nobody"),
        ("65534", "65534 65534", "/nobody"),
        ("1000", "1000 0", "/"),
        ("1000:50", "1000 50", "/"),
        ("nobody:root", "65534 0", "/nobody"),
        (1234, "1234 0", "/"),
    ],
)
def test_a_program_can_be_someone_else(lab: Lab, user: str, shown: str, home: str) -> None:
    result = sh(lab, "echo $(id -u) $(id -g); touch /x 2>&1; grep Cap[EP] /proc/self/status", user=user).splitlines()
    assert result[0] == shown
    assert "Permission denied" in result[1]
    assert [line.split()[1] for line in result[2:]] == ["0" * 16] * 2, "power stays with root"


@pytest.mark.subuid
def test_exec_is_the_user_of_its_container_or_another(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], user="nobody", detach=True)
    assert container.exec("id -u", quiet=True).output == "65534\n"
    assert container.exec("id -u", user="root", quiet=True).output == "0\n"
    assert container.inspect().user == "nobody"


def test_a_user_outside_the_map_is_refused_with_its_remedy(lab: Lab, mode: str, nothing_half_made: None) -> None:
    outside = ["4294967295"] + (["1000", "nobody", "0:50"] if mode == "nosub" else [])
    for user in outside:
        for how in ("run", "detach"):
            with pytest.raises(InvalidError, match="la mappa degli utenti non lo comprende") as caught:
                lab.run("busybox", "true", user=user, detach=how == "detach")
            assert "--add-subuids" in caught.value.remedy
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    with pytest.raises(InvalidError, match="la mappa degli utenti"):
        container.exec("true", user=outside[0])
    assert container.status == "running"
    container.rm(force=True)


@pytest.mark.parametrize(
    ("user", "what"), [("inventato", "L'utente"), ("root:inventato", "Il gruppo"), ("-1", "L'utente")]
)
def test_a_user_that_the_image_does_not_know_is_refused(
    lab: Lab, nothing_half_made: None, user: str, what: str
) -> None:
    with pytest.raises(NotFoundError, match=f"{what} «.*» non c'è in /etc/") as caught:
        lab.run("busybox", "true", user=user)
    assert "user='" in caught.value.remedy


# ---- PID 1 and signals


def test_a_program_without_an_init_is_pid_1(lab: Lab) -> None:
    assert sh(lab, "echo $$") == "1\n"


def test_an_init_is_pid_1_and_the_program_is_not(lab: Lab) -> None:
    assert sh(lab, "echo $$; cat /proc/1/comm", init=True).splitlines()[0] == "2"


def test_pid_1_ignores_the_signals_that_it_does_not_handle(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    container.kill("SIGTERM")
    with pytest.raises(TimeoutError):
        container.wait(timeout=0.2)


def test_an_init_passes_the_signals_on(lab: Lab) -> None:
    script = "trap 'exit 7' TERM; trap 'echo usr1' USR1; echo pronto; while :; do sleep 0.01; done"
    container = lab.run("busybox", ["sh", "-c", script], init=True, detach=True)
    while "pronto" not in container.logs():
        time.sleep(0.01)
    container.kill("USR1")
    while "usr1" not in container.logs():
        time.sleep(0.01)
    assert container.stop(grace=5) == 7


def test_an_init_collects_the_orphans(lab: Lab) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.01 &); done; sleep 0.3; ps -o stat | grep -c Z"
    assert sh(lab, script, init=True) == "0\n"


def test_an_init_ends_with_the_code_of_its_program(lab: Lab) -> None:
    for script, code in (("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)):
        assert lab.run("busybox", ["sh", "-c", script], init=True, quiet=True).exit_code == code
    assert lab.run("busybox", "comando-che-non-c-è", init=True, quiet=True).exit_code == 127


def test_stop_gives_time_and_then_no_more(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    started = time.monotonic()
    assert container.stop(grace=0.3) == 137
    assert 0.3 <= time.monotonic() - started < 8


def test_who_cleans_up_at_sigterm_is_waited_for(lab: Lab) -> None:
    script = "trap 'sleep 0.2; echo pulito; exit 0' TERM; echo pronto; while :; do sleep 0.01; done"
    container = lab.run("busybox", ["sh", "-c", script], detach=True)
    while "pronto" not in container.logs():
        time.sleep(0.01)
    assert container.stop(grace=5) == 0
    assert container.logs().endswith("pulito\n")


def test_the_end_of_a_container_is_the_end_of_all_its_programs(lab: Lab) -> None:
    container = lab.run("busybox", ["sh", "-c", "sleep 60 & sleep 60 & sleep 60"], detach=True)
    entered = lab.wire.open("exec", name=container.name, command=["sleep", "60"])
    while len(container.top()) < 4:
        time.sleep(0.01)
    container.kill()
    assert entered.result["exit_code"] == 137
    assert container.wait(timeout=20) == 137


@pytest.mark.parametrize(
    ("command", "why"),
    [("/etc/passwd", "non ha il permesso"), ("/bin", "non ha il permesso"), ("/dev/null", "non ha il permesso")],
)
def test_what_cannot_be_executed_is_126(lab: Lab, nothing_half_made: None, command: str, why: str) -> None:
    result = lab.run("busybox", [command], quiet=True)
    assert result.exit_code == 126
    assert f"Il comando «{command}» c'è ma non si può eseguire: {why}" in result.stderr
    assert "Rimedio: " in result.stderr


def test_a_file_that_is_no_program_is_126(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    container.exec(["sh", "-c", "echo boh > /x; chmod +x /x; ln -s /y /z"], quiet=True)
    result = container.exec("/x", quiet=True)
    assert (result.exit_code, "non è un programma che questa macchina sappia eseguire" in result.stderr) == (126, True)
    assert container.exec("/z", quiet=True).exit_code == 127
    assert container.exec("/x/y", quiet=True).exit_code == 127


# ---- output


def test_the_output_arrives_while_the_program_runs(lab: Lab) -> None:
    channel = lab.open_run("busybox", ["sh", "-c", "echo primo; sleep 0.5; echo secondo"], remove=True)
    arrivals = []
    for stream, data in channel:
        arrivals.append((stream, data, time.monotonic()))
    assert [(stream, data) for stream, data, _ in arrivals] == [("stdout", b"primo\n"), ("stdout", b"secondo\n")]
    assert arrivals[1][2] - arrivals[0][2] > 0.3


def test_every_line_arrives_and_in_order(lab: Lab) -> None:
    assert sh(lab, "seq 1 200000") == "".join(f"{n}\n" for n in range(1, 200001))


def test_the_two_outputs_are_two(lab: Lab) -> None:
    result = lab.run("busybox", ["sh", "-c", "echo fuori; echo errore >&2; exit 4"], quiet=True)
    assert (result.output, result.stderr, result.exit_code) == ("fuori\n", "errore\n", 4)


def test_a_letter_cut_in_two_is_put_together_again(lab: Lab) -> None:
    assert sh(lab, r"printf '\303'; sleep 0.1; printf '\250\n'") == "è\n"


def test_bytes_that_are_no_letters_do_no_harm(lab: Lab) -> None:
    assert sh(lab, r"printf 'a\377b\000c\n'") == "a\N{REPLACEMENT CHARACTER}bc\n"


def test_a_program_left_in_the_background_does_not_keep_anyone_waiting(lab: Lab) -> None:
    started = time.monotonic()
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    assert container.exec(["sh", "-c", "sleep 30 & echo fatto"], quiet=True).output == "fatto\n"
    assert time.monotonic() - started < 20


def test_fifty_megabytes_cost_nobody_their_memory(lab: Lab) -> None:
    with lab.process() as spy:
        sh(lab, "true")
        before = peak(spy)
        result = lab.run("busybox", ["sh", "-c", "tr '\\0' x < /dev/zero | head -c 50000000"], quiet=True)
        assert result.exit_code == 0
        assert result.truncated
        assert KEPT <= len(result.output) < KEPT + (1 << 20)
        assert peak(spy) - before < 8 << 10


def test_a_log_keeps_the_end_and_not_everything(lab: Lab) -> None:
    with lab.process() as spy:
        before = peak(spy)
        container = lab.run("busybox", ["sh", "-c", "seq 1 3000000"], detach=True)
        container.wait(timeout=20)
        logs = container.logs()
        assert logs.endswith("2999999\n3000000\n")
        assert len(logs) <= 1 << 20
        assert peak(spy) - before < 8 << 10


# ---- input


def test_fifty_megabytes_of_input_arrive_and_cost_nobody_their_memory(lab: Lab) -> None:
    with lab.process() as spy:
        before = peak(spy)
        result = lab.run("busybox", ["sh", "-c", "sleep 0.3; wc -c"], stdin=b"x" * 50_000_000, quiet=True)
        assert result.output == "50000000\n"
        assert peak(spy) - before < 8 << 10


def test_exec_has_an_input_too(lab: Lab) -> None:
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    assert container.exec("wc -c", stdin=b"x" * 5_000_000, quiet=True).output == "5000000\n"
    assert [container.exec("cat", stdin=str(n), quiet=True).output for n in range(20)] == [str(n) for n in range(20)]


# ---- terminal


def test_a_terminal_is_the_container_s_own(lab: Lab) -> None:
    channel = lab.open_run("busybox", ["sh", "-c", "tty; stty size; test -t 0 && echo $TERM"], tty=True, remove=True)
    shown = b"".join(data for _, data in channel).decode().split()
    assert shown[0] == "/dev/pts/0"
    assert shown[-1] == "xterm"


def test_what_is_typed_before_the_terminal_is_there_is_not_lost(lab: Lab) -> None:
    for _ in range(5):
        channel = lab.open_run("busybox", ["sh"], tty=True, interactive=True, remove=True)
        channel.send(b"exit 7\n")
        assert channel.result["exit_code"] == 7
    container = lab.run("busybox", ["sleep", "60"], detach=True)
    for _ in range(5):
        channel = container.open_exec(["sh"], tty=True, stdin=True)
        channel.send(b"exit 8\n")
        assert channel.result["exit_code"] == 8


def test_without_a_terminal_there_is_none_to_share(lab: Lab) -> None:
    assert sh(
        lab, "test -t 0 || test -t 1 || test -t 2 || echo nessuno; tty < /dev/tty 2>/dev/null || echo niente"
    ) == ("nessuno\nniente\n")


# ---- many


@pytest.mark.outside("sono centinaia di container: là dentro ci vogliono minuti")
def test_two_hundred_one_after_the_other(lab: Lab, nothing_half_made: None) -> None:
    started = time.monotonic()
    for number in range(200):
        assert sh(lab, f"echo {number}") == f"{number}\n"
    assert time.monotonic() - started < 40


def test_twenty_at_once(lab: Lab, nothing_half_made: None) -> None:
    def one(number: int) -> tuple[str, int]:
        result = lab.run("busybox", ["sh", "-c", f"sleep 0.2; echo {number}; exit {number}"], quiet=True)
        return result.output, result.exit_code

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [(f"{number}\n", number) for number in range(20)]


def test_a_pid_used_again_is_not_taken_for_who_had_it_before(lab: Lab) -> None:
    """Il laboratorio raccoglie anche gli orfani: un numero raccolto può tornare, ed è di un altro."""
    with lab.process() as spy:
        spy.python(
            "import os\nif os.fork() == 0:\n    if os.fork() == 0: os._exit(3)\n    os._exit(0)\nos.wait()\n"
            "import time; time.sleep(0.05)\n"
        )
        for _ in range(3):
            lab.run("busybox", "true", quiet=True)
        here = int(spy.read("/proc/sys/kernel/ns_last_pid"))
        for first in range(here - 40, here):
            spy.write("/proc/sys/kernel/ns_last_pid", str(max(first, 2)))
            assert lab.run("busybox", ["sh", "-c", "exit 9"], quiet=True).exit_code == 9
    assert os.getpid() > 0


def test_a_channel_kept_and_not_read_holds_up_nobody_else(lab: Lab) -> None:
    flood = lab.open_run("busybox", ["yes"], name="fiume", remove=False)
    time.sleep(0.3)
    assert [container.name for container in lab.ps()] == ["fiume"]
    assert lab.run("busybox", ["echo", "ciao"], quiet=True).output == "ciao\n"
    lab.container("fiume").kill()
    assert sum(len(data) for _, data in flood) < 4 << 20, "the program has waited for who did not read"
    assert flood.result["exit_code"] == 137


def test_a_program_that_echoes_is_fed_and_read_at_the_same_time(lab: Lab) -> None:
    data = b"0123456789abcde\n" * 500_000
    assert lab.run("busybox", "cat", stdin=data, quiet=True).output.encode() == data

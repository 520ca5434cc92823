"""Il comando labkit contro laboratori veri, da un terminale vero: come lo usa una persona."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from labkit import Lab, rundir

ROOT = Path(__file__).parents[2]
LABKIT = [sys.executable, "-m", "labkit"]

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.outside("i comandi sono gli stessi con ogni kernel, e là dentro costano secondi"),
]


def labkit(
    *args: str, stdin: bytes | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a script would, and insist on the promise: never a traceback."""
    done = subprocess.run(
        [*LABKIT, *args],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=20,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


class Terminal:
    """A person at a terminal: a real pty with the command in the foreground."""

    def __init__(self, *args: str, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (rows, columns))
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.child = subprocess.Popen(
            ["setsid", "--ctty", *LABKIT, *args],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm"},
        )

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.master, (rows, columns))

    def expect(self, pattern: str, seconds: float = 10) -> re.Match[str]:
        """Wait for a regular expression in what has been shown since the last one."""
        end = time.monotonic() + seconds
        while True:
            text = self.seen.decode("utf-8", "replace")
            if found := re.search(pattern, text):
                self.seen = text[found.end() :].encode()
                return found
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"non è comparso {pattern!r}, ma {text!r}"
            self.seen += os.read(self.master, 65536)

    def wait(self, seconds: float = 10) -> int:
        return self.child.wait(seconds)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def web(lab: Lab) -> Iterator[str]:
    """A container of the notebook's laboratory that says a line and lives on."""
    container = lab.run(
        "busybox", ["sh", "-c", "echo pronto; exec sleep 1000"], name="web", detach=True, hostname="web"
    )
    yield "web"
    container.rm(force=True)


# ---- with no laboratory open


class TestAlone:
    @pytest.fixture(autouse=True)
    def nobody(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="lk-") as folder:  # short: it holds a socket
            monkeypatch.setenv("LABKIT_RUN", folder)
            yield
            assert os.listdir(folder) == []

    def test_run_opens_a_laboratory_that_lives_as_long_as_the_command(self) -> None:
        done = labkit("run", "busybox", "echo", "ciao")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"ciao\n", b"")

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            (["sh", "-c", "exit 7"], 7),
            (["sh", "-c", "kill -9 $$"], 137),
            (["non-esiste"], 127),
            (["/etc"], 126),
            (["true"], 0),
        ],
    )
    def test_the_exit_code_is_that_of_docker(self, command: list[str], code: int) -> None:
        # With --init, or the shell would be PID 1 and could not even kill itself.
        assert labkit("run", "--init", "busybox", *command).returncode == code

    def test_an_unknown_image_is_125_and_one_sentence(self) -> None:
        done = labkit("run", "--pull", "never", "non-esiste", "ls")
        assert done.returncode == 125
        assert done.stderr.decode().count("\n") == 1
        assert "non-esiste" in done.stderr.decode()

    def test_the_options_reach_the_container(self) -> None:
        script = "echo $A $B; hostname; pwd; id -u; touch /x 2>/dev/null || echo chiuso; ls /sys/class/net"
        done = labkit(
            "run", "--rm", "-e", "A=1", "-e", "VISTA", "-h", "pippo", "-w", "/tmp", "--read-only", "--network", "none",
            "busybox", "sh", "-c", script.replace("$B", "$VISTA"), env={"VISTA": "due", "SEGRETO": "no"},
        )  # fmt: skip
        assert done.stdout.decode().splitlines() == ["1 due", "pippo", "/tmp", "0", "chiuso", "lo"], done.stderr

    def test_output_and_errors_keep_their_own_stream(self) -> None:
        done = labkit("run", "busybox", "sh", "-c", "echo fuori; echo male >&2")
        assert (done.stdout, done.stderr) == (b"fuori\n", b"male\n")

    def test_input_is_given_only_with_i(self) -> None:
        assert labkit("run", "-i", "busybox", "cat", stdin=b"uno\ndue\n").stdout == b"uno\ndue\n"
        assert labkit("run", "busybox", "cat", stdin=b"uno\ndue\n").stdout == b""

    def test_bytes_go_through_unchanged(self) -> None:
        data = bytes(range(256)) * 2000
        assert labkit("run", "-i", "busybox", "cat", stdin=data).stdout == data

    def test_a_shell_in_a_terminal(self, terminals: list[Terminal]) -> None:
        person = Terminal("run", "-it", "--rm", "-h", "qui", "busybox", "sh", rows=31, columns=97)
        terminals.append(person)
        person.expect(r"# ")
        person.type("stty size; tty; hostname\n")
        person.expect(r"31 97\r\n")
        person.expect(r"/dev/(pts/\d+|console)\r\n")
        person.expect(r"qui\r\n")
        person.type("exit 5\n")
        assert person.wait() == 5
        assert person.restored

    def test_ctrl_c_ends_a_program_without_a_terminal(self, terminals: list[Terminal]) -> None:
        person = Terminal("run", "--init", "busybox", "sh", "-c", "echo via; sleep 1000")
        terminals.append(person)
        person.expect("via")
        person.type("\x03")
        assert person.wait() == 130
        assert person.restored

    def test_a_second_ctrl_c_ends_a_program_that_does_not_listen(self, terminals: list[Terminal]) -> None:
        person = Terminal("run", "busybox", "sh", "-c", "trap '' INT TERM; echo via; while :; do sleep 1; done")
        terminals.append(person)
        person.expect("via")
        person.type("\x03")
        time.sleep(0.5)
        assert person.child.poll() is None
        person.type("\x03")
        assert person.wait() == 137

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
    def test_whoever_kills_the_command_leaves_nothing(self, terminals: list[Terminal], number: signal.Signals) -> None:
        person = Terminal("run", "-it", "busybox", "sh")
        terminals.append(person)
        person.expect(r"# ")
        [(folder, record)] = rundir.live()
        person.child.send_signal(number)
        assert person.wait() == (128 + number if number != signal.SIGKILL else -signal.SIGKILL)
        end = time.monotonic() + 20
        while (os.path.exists(folder) or rundir.alive(record)) and time.monotonic() < end:
            time.sleep(0.01)
        assert not os.path.exists(folder)
        assert not rundir.alive(record)
        if number != signal.SIGKILL:
            assert person.restored

    def test_clean_removes_what_a_crash_left_layers_included(self, tmp_path: Path) -> None:
        base, layers = Path(rundir.base()), tmp_path / "strati"
        (base / "morto" / "lab").mkdir(parents=True)
        (layers / "c1").mkdir(parents=True)
        record = rundir.LabRecord("morto", 2**22 + 1, 5, 1, "direct", "root", 1.0, scratch=str(layers))
        (base / "morto" / "lab.json").write_text(json.dumps(asdict(record)))
        assert "toglierei" in labkit("clean", "-n").stdout.decode()
        assert layers.exists()
        done = labkit("clean")
        assert (done.returncode, done.stderr) == (0, b"")
        assert "morto" in done.stdout.decode()
        assert not layers.exists()
        assert labkit("clean").stdout.decode().splitlines()[0] == "Non è rimasto niente."


# ---- with the notebook's laboratory


def test_ps_sees_the_containers_of_the_notebook(lab: Lab, web: str) -> None:
    table = labkit("ps").stdout.decode()
    assert re.search(r"busybox +sh -c echo pronto; .* gira da .* web\n", table)
    [row] = json.loads(labkit("ps", "--json").stdout)
    assert (row["name"], row["state"]) == (web, "running")
    assert labkit("ps", "-q").stdout.decode() == f"{row['id']}\n"
    assert labkit("ps", "--lab", lab.id).stdout.decode().count("web") == 1
    wrong = labkit("ps", "--lab", "non-esiste")
    assert wrong.returncode == 1
    assert lab.id in wrong.stderr.decode()


def test_run_uses_the_open_laboratory_and_keeps_the_container_unless_rm(lab: Lab) -> None:
    assert labkit("run", "--name", "resta", "busybox", "true").returncode == 0
    assert labkit("run", "--rm", "--name", "sparisce", "busybox", "true").returncode == 0
    names = [container.name for container in lab.ps(all=True)]
    assert "resta" in names
    assert "sparisce" not in names
    done = labkit("run", "--name", "resta", "busybox", "true")
    assert done.returncode == 125
    assert "resta" in done.stderr.decode()
    assert labkit("rm", "resta").stdout == b"resta\n"


def test_a_detached_container_outlives_the_command(lab: Lab) -> None:
    done = labkit("run", "-d", "--name", "lungo", "busybox", "sleep", "1000")
    assert done.returncode == 0
    container = lab.container("lungo")
    assert done.stdout.decode().strip() == container.id
    assert container.status == "running"
    refused = labkit("rm", "lungo")
    assert refused.returncode == 1
    assert "gira ancora" in refused.stderr.decode()
    assert labkit("stop", "-t", "0", "lungo").stdout == b"lungo\n"
    assert container.status == "exited"
    assert labkit("rm", "lungo", "non-esiste").returncode == 1
    assert container.status == "removed"


def test_rm_f_and_kill(lab: Lab) -> None:
    labkit("run", "-d", "--init", "--name", "uno", "busybox", "sleep", "1000")
    assert labkit("kill", "-s", "TERM", "uno").returncode == 0
    assert lab.container("uno").wait(5) == 143
    wrong = labkit("kill", "-s", "PIPPO", "uno")
    assert wrong.returncode == 1
    assert "uno" in wrong.stderr.decode() or "PIPPO" in wrong.stderr.decode()
    labkit("run", "-d", "--name", "due", "busybox", "sleep", "1000")
    assert labkit("rm", "-f", "uno", "due").stdout == b"uno\ndue\n"
    assert len(lab.ps(all=True)) == 0


def test_exec_runs_in_the_container_with_docker_s_codes(web: str) -> None:
    done = labkit("exec", "-e", "A=1", "-w", "/tmp", web, "sh", "-c", "hostname; echo $A; pwd; exit 9")
    assert (done.returncode, done.stdout) == (9, b"web\n1\n/tmp\n")
    assert labkit("exec", web, "non-esiste").returncode == 127
    assert labkit("exec", web, "/etc").returncode == 126
    assert labkit("exec", "non-esiste", "ls").returncode == 1


def test_exec_i_gives_the_whole_input_whatever_the_speed(web: str) -> None:
    for size in (0, 1, 100_000):
        data = b"x" * size
        assert labkit("exec", "-i", web, "cat", stdin=data).stdout == data


def test_logs_and_logs_f(lab: Lab, web: str) -> None:
    assert labkit("logs", web).stdout == b"pronto\n"
    lab.run("busybox", ["sh", "-c", "echo uno; echo male >&2; sleep 0.4; echo due"], name="parla", detach=True)
    followed = labkit("logs", "-f", "parla")
    assert (followed.returncode, followed.stdout, followed.stderr) == (0, b"uno\ndue\n", b"male\n")
    lab.container("parla").rm()
    assert labkit("logs", "parla").returncode == 1


def test_exec_it_is_a_real_terminal(web: str, terminals: list[Terminal]) -> None:
    person = Terminal("exec", "-it", web, "sh", rows=30, columns=100)
    terminals.append(person)
    person.expect(r"# ")
    person.type("stty size; hostname; echo $$\n")
    person.expect(r"30 100\r\nweb\r\n")
    person.resize(50, 132)
    time.sleep(0.2)
    person.type("stty size\n")
    person.expect(r"50 132\r\n")
    person.type("sleep 1000\n")
    time.sleep(0.3)
    person.type("\x03")  # Ctrl-C is for sleep, not for labkit
    person.expect(r"\^C\r\n.*# ")
    person.type("echo dopo=$?\n")
    person.expect(r"dopo=130\r\n")
    person.type("cat && echo finito\n")
    person.expect(r"finito\r\n")  # the shell's echo: from here the line discipline is cat's
    time.sleep(0.2)
    person.type("eco\r\x04")  # Ctrl-D ends cat
    person.expect(r"eco\r\neco\r\nfinito\r\n")
    person.type("vi /tmp/prova\n")  # a program that takes the whole screen
    person.expect(r"~")
    for keys in ("i", "riga", "\x1b", ":wq\r"):
        person.type(keys)
        time.sleep(0.3)  # Escape and what follows at once would be another key
    person.expect(r"# ")
    person.type("cat /tmp/prova; echo 'perché no: è così'\n")
    person.expect(r"riga\r\n")
    person.expect(r"perché no: è così\r\n.*# ")
    person.type("\x04")  # Ctrl-D at the prompt ends the shell
    assert person.wait() in (0, 130)
    assert person.restored


@pytest.mark.parametrize("command", [["run", "-it", "--rm", "busybox"], ["exec", "-it", "web"]])
def test_a_program_that_asks_at_once_finds_the_size_of_the_window(
    web: str, terminals: list[Terminal], command: list[str]
) -> None:
    for _ in range(3):
        person = Terminal(*command, "stty", "size", rows=31, columns=97)
        terminals.append(person)
        person.expect(r"31 97\r\n")
        assert person.wait() == 0


def test_what_is_typed_before_the_shell_is_there_is_not_lost(web: str, terminals: list[Terminal]) -> None:
    person = Terminal("exec", "-it", web, "sh")
    terminals.append(person)
    person.type("echo presto; exit 4\n")
    person.expect(r"presto\r\n")
    assert person.wait() == 4


def test_two_terminals_in_the_same_container_do_not_mix(web: str, terminals: list[Terminal]) -> None:
    one, two = Terminal("exec", "-it", web, "sh"), Terminal("exec", "-it", web, "sh")
    terminals += [one, two]
    one.expect(r"# ")
    two.expect(r"# ")
    one.type("a=uno; echo io=$a\n")
    two.type("a=due; echo io=$a\n")
    one.expect(r"io=uno\r\n")
    two.expect(r"io=due\r\n")
    assert b"due" not in one.seen
    for person in (one, two):
        person.type("exit\n")
        assert person.wait() == 0
        assert person.restored


def test_a_flood_on_the_terminal_can_be_interrupted(web: str, terminals: list[Terminal]) -> None:
    person = Terminal("exec", "-it", web, "sh")
    terminals.append(person)
    person.expect(r"# ")
    person.type("yes\n")
    person.expect(r"y\r\ny\r\n")
    person.type("\x03")
    person.expect(r"\^C", seconds=20)
    person.expect(r"# ", seconds=20)
    person.type("exit 3\n")
    assert person.wait() == 3
    assert person.restored


def test_a_closed_window_ends_the_shell_in_the_container(lab: Lab, web: str, terminals: list[Terminal]) -> None:
    person = Terminal("exec", "-it", web, "sh")
    terminals.append(person)
    person.expect(r"# ")
    before = len(lab.container(web).top())
    assert before == 2
    person.child.send_signal(signal.SIGHUP)
    assert person.wait() == 129
    end = time.monotonic() + 20
    while len(lab.container(web).top()) == before and time.monotonic() < end:
        time.sleep(0.02)
    assert len(lab.container(web).top()) == 1


def test_a_container_that_dies_gives_the_terminal_back(lab: Lab, web: str, terminals: list[Terminal]) -> None:
    person = Terminal("exec", "-it", web, "sh")
    terminals.append(person)
    person.expect(r"# ")
    lab.container(web).kill()
    assert person.wait() == 137
    assert person.restored


def test_a_laboratory_that_ends_gives_the_terminal_back(terminals: list[Terminal]) -> None:
    with Lab() as short:
        short.run("busybox", ["sleep", "1000"], name="breve", detach=True)
        person = Terminal("exec", "-it", "breve", "sh")
        terminals.append(person)
        person.expect(r"# ")
    assert person.wait() == 1
    person.expect("Il laboratorio è chiuso")
    assert person.restored


def test_a_reader_that_has_enough_ends_the_command_quietly(web: str) -> None:
    shell = f"{sys.executable} -m labkit exec {web} yes | head -n 1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, timeout=20, cwd=ROOT)
    assert (done.stdout, done.stderr) == (b"y\n", b"")


def test_the_newest_laboratory_is_the_default(lab: Lab) -> None:
    with Lab() as newer:
        newer.run("busybox", ["sleep", "1000"], name="nuovo", detach=True)
        assert "nuovo" in labkit("ps").stdout.decode()
        assert "nuovo" not in labkit("ps", "--lab", lab.id).stdout.decode()
    assert "nuovo" not in labkit("ps").stdout.decode()


# ---- the life of a container


def test_a_life_told_from_the_terminal(lab: Lab) -> None:
    done = labkit("create", "--init", "--name", "vita", "--restart", "on-failure:1", "busybox", "sleep", "1000")
    container = lab.container("vita")
    assert done.stdout.decode().strip() == container.id
    assert container.status == "created"
    assert labkit("start", "vita").stdout == b"vita\n"
    assert b"sleep 1000" in labkit("top", "vita").stdout
    assert labkit("rename", "vita", "vitale").returncode == 0
    assert labkit("restart", "-t", "5", "vitale").stdout == b"vitale\n"
    assert labkit("stop", "vitale").stdout == b"vitale\n"
    assert labkit("wait", "vitale").stdout == b"143\n"
    told = [json.loads(row) for row in labkit("events", "--since", "1m", "--until", "0s", "--json", "--filter",
            f"container={container.id}").stdout.splitlines()]  # fmt: skip
    actions = ["create", "start", "rename", "kill", "die", "stop", "start", "restart", "kill", "die", "stop"]
    assert [event["action"] for event in told] == actions
    row = labkit("events", "--since", "1m", "--until", "0s", "--filter", "event=rename").stdout.decode()
    assert re.search(rf"Z container rename {container.id} \(old_name=vita, name=vitale\)\n$", row)
    assert labkit("rm", "vitale").returncode == 0


def test_logs_can_be_chosen(lab: Lab) -> None:
    labkit("run", "--name", "tre", "busybox", "echo", "uno\ndue\ntre")
    assert labkit("logs", "-n", "2", "tre").stdout == b"due\ntre\n"
    assert re.fullmatch(rb"\d{4}-\S+Z tre\n", labkit("logs", "-t", "--tail", "1", "tre").stdout)
    assert labkit("logs", "--until", "10m", "tre").stdout == b""
    assert labkit("logs", "--since", "10m", "tre").stdout == b"uno\ndue\ntre\n"
    many = "\n".join(map(str, range(1000)))
    labkit("run", "--name", "mille", "--log-opt", "max-size=1k", "--log-opt", "max-file=1", "busybox", "echo", many)
    done = labkit("logs", "mille")
    assert done.stdout.endswith(b"999\n")
    assert b"non ci sono pi" in done.stderr
    assert labkit("logs", "-n", "1", "mille").stderr == b""


def test_start_a_stays_until_the_end(lab: Lab) -> None:
    labkit("create", "-i", "--name", "eco", "busybox", "sh", "-c", "cat; exit 6")
    done = labkit("start", "-ai", "eco", stdin=b"ciao\n")
    assert (done.returncode, done.stdout) == (6, b"ciao\n")
    labkit("create", "--name", "niente", "busybox", "comando-che-non-c-e")
    done = labkit("start", "-a", "niente")
    assert done.returncode == 127
    assert b"comando-che-non-c-e" in done.stderr


def test_attach_is_left_with_ctrl_p_ctrl_q(lab: Lab, terminals: list[Terminal]) -> None:
    lab.run("busybox", ["sh"], name="guscio", detach=True, interactive=True, tty=True)
    terminal = Terminal("attach", "guscio", rows=33, columns=99)
    terminals.append(terminal)
    terminal.type("echo $((6*7)); stty size\n")
    terminal.expect("42\r\n33 99")
    terminal.type("\x10\x11")
    terminal.expect("Lasciato: il programma continua da solo")
    assert terminal.wait() == 0
    assert terminal.restored
    assert lab.container("guscio").status == "running"
    again = Terminal("attach", "guscio")
    terminals.append(again)
    again.type("exit 5\n")
    assert again.wait() == 5


def test_attach_of_what_does_not_run_is_refused(lab: Lab) -> None:
    labkit("create", "--name", "fermo", "busybox", "true")
    done = labkit("attach", "fermo")
    assert done.returncode == 1
    assert b"non gira" in done.stderr


def test_networks_are_made_joined_and_taken_away_from_the_terminal() -> None:
    with Lab(backend="direct") as lab:
        here = ("--lab", lab.id)
        assert labkit("network", "create", *here, "--subnet", "10.100.0.0/24", "interna").stdout == b"interna\n"
        assert labkit("run", "-d", *here, "--network", "interna", "--ip", "10.100.0.9", "busybox", "sleep", "60").stdout
        (name,) = [container.name for container in lab.ps()]
        told = json.loads(labkit("network", "inspect", *here, "interna").stdout)[0]
        assert told["Containers"][name]["IPv4Address"] == "10.100.0.9"
        refused = labkit("network", "rm", *here, "interna")
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert "labkit network disconnect interna" in refused.stderr.decode()
        assert labkit("network", "disconnect", *here, "interna", name).returncode == 0
        assert labkit("network", "prune", *here).stdout == b"interna\n"
        assert labkit("network", "ls", "-q", *here).stdout.split() == [b"bridge", b"host", b"none"]

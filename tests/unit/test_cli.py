"""Il comando labkit senza laboratorio: opzioni, errori, aiuto, codici di uscita, velocità, terminale."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import cli, rundir
from labkit.client import commands, doctor, terminal
from labkit.client import lab as lab_module
from labkit.client.italian import Parser, translate
from labkit.errors import BackendError, CommandError, InvalidError, LabClosedError, LabError, NotFoundError
from labkit.model import ContainerInfo, ContainerSpec, Feature, Port
from labkit.policy import HealthCheck, LogLimits

ROOT = Path(__file__).parents[2]


def parsed(line: str) -> argparse.Namespace:
    return cli.parse(line.split())[1]


def test_run_understands_the_options_of_docker() -> None:
    args = parsed(
        "run -dit --rm --read-only --init --name web -e A=1 --env B=2 -h pippo -u 1000:1000 -w /tmp -p 8080:80 "
        "-p81:81 --network none --cap-add NET_ADMIN --cap-drop CHOWN --lab x host nginx -g daemon"
    )
    assert (args.detach, args.interactive, args.tty, args.remove, args.read_only, args.init) == (True,) * 6
    assert args.env == ["A=1", "B=2"]
    assert args.publish == ["8080:80", "81:81"]
    assert (args.name, args.hostname, args.user, args.workdir) == ("web", "pippo", "1000:1000", "/tmp")
    assert (args.network, args.cap_add, args.cap_drop, args.lab) == (["none"], ["NET_ADMIN"], ["CHOWN"], "x")
    assert (args.image, args.command) == ("host", ["nginx", "-g", "daemon"])


def test_what_follows_the_image_or_the_container_belongs_to_the_command() -> None:
    assert parsed("run busybox ls --rm -it --help").command == ["ls", "--rm", "-it", "--help"]
    assert parsed("run busybox ls --rm -it --help").remove is False
    args = parsed("exec -it -u 0 web sh -c -e")
    assert (args.name, args.command, args.user) == ("web", ["sh", "-c", "-e"], "0")


def test_options_are_not_shared_between_two_parses() -> None:
    parsed("run -e A=1 busybox")
    assert parsed("run busybox").env == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run", "labkit run: manca IMMAGINE. Rimedio: labkit run --help"),
        ("run --nome x busybox", "non conosco --nome"),
        ("run --name", "ci vuole un valore"),
        ("run --rm=3 busybox", "non vuole un valore, e c'è '3'"),
        ("exec", "labkit exec: manca NOME"),
        ("stop -t due web", "il tempo deve essere un numero intero da 0 in su, non «due»"),
        ("stop -t -1 web", "non «-1»"),
        ("stop", "manca NOME"),
        ("lab --port x", "la porta deve essere un numero intero"),
        ("ps --al", "non conosco --al"),
        ("docter", "labkit non ha il comando «docter». Rimedio: labkit doctor"),
        ("--pippo", "«--pippo» non è un'opzione di labkit. Rimedio: labkit --help"),
    ],
)
def test_a_wrong_line_is_one_italian_sentence_with_its_remedy(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line.split()) == 125
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert "Rimedio: labkit" in err
    assert not re.search(r"\b(argument|required|invalid|expected|usage|error)\b", err)


def test_every_error_of_argparse_has_an_italian_sentence() -> None:
    """Provoked for real, so that a Python with other words makes this fail."""
    parser = Parser(prog="prova")
    parser.option("--n", type=int)
    parser.option("--x", type=float)
    parser.option("--c", choices=["a", "b"])
    parser.option("--tanti", nargs="+")
    parser.option("--due", nargs=2)
    parser.flag("--flag", help="")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--p", action="store_true")
    group.add_argument("--q", action="store_true")
    for line, words in {
        "--n uno": "'uno' non è un numero intero",
        "--x uno": "'uno' non è un numero",
        "--c z": "'z' non va bene: si può scegliere fra",
        "--tanti": "ci vuole almeno un valore",
        "--due 1": "ci vogliono 2 valori",
        "--flag=1": "non vuole un valore, e c'è '1'",
        "--p --q": "--q: non va insieme a --p",
        "altro": "non conosco altro",
    }.items():
        with pytest.raises(InvalidError) as caught:
            parser.parse_args(line.split())
        assert words in caught.value.message, caught.value.message
    assert translate("già in italiano") == "già in italiano"


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_help_of_every_command_is_italian(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"uso: labkit {name} ")
    assert "opzioni:" in out
    assert not re.search(r"\b(usage|options|positional|show this)\b", out)


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_the_help_page_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", out, re.MULTILINE) for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("name", "problem", "code"),
    [
        ("run", LabError("x"), 125),
        ("run", CommandError("x"), 127),
        ("run", CommandError("x", exit_code=126), 126),
        ("exec", CommandError("x", exit_code=126), 126),
        ("exec", NotFoundError("x"), 1),
        ("ps", LabClosedError("x"), 1),
        ("rm", InvalidError("x"), 125),
        ("ps", KeyboardInterrupt(), 130),
        ("ps", RuntimeError("x"), 125),
        ("ps", OSError(28, "No space left on device"), 125),
    ],
)
def test_the_exit_code_of_each_error_is_that_of_docker(
    name: str, problem: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(args: argparse.Namespace) -> int:
        raise problem

    options, _, text = cli.COMMANDS[name]
    monkeypatch.setitem(cli.COMMANDS, name, (options, fails, text))
    assert cli.main([name, *{"run": ["busybox"], "exec": ["web", "ls"], "rm": ["web"]}.get(name, [])]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_the_cause_of_the_unexpected_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(args: argparse.Namespace) -> int:
        raise RuntimeError("x")

    options, _, text = cli.COMMANDS["ps"]
    monkeypatch.setitem(cli.COMMANDS, "ps", (options, fails, text))
    monkeypatch.setenv("LABKIT_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main(["ps"])


def test_remedies_are_spelled_as_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for line, words in {
        "run -p 99999:80 busybox": "Rimedio: -p 8080:80",
        "run --name -x- busybox": "ci vuole un valore",
        "run --name _ busybox": "Rimedio: --name web-1",
        "run -h a_b busybox": "Rimedio: --hostname web-1",
        "run --network lan busybox": "Rimedio: --network bridge",
        "run -e =verde busybox": "Rimedio: -e COLORE=verde",
        "run --secret id=../a,src=x busybox": "Rimedio: --secret id=db_password,src=password.txt",
        "run --secret id=a busybox": "Rimedio: --secret id=db_password,src=password.txt",
        "run --env-file /non/c/e busybox": "Rimedio: ls -l /non/c/e",
        "run --template sito.conf busybox": "Rimedio: --template sito.conf:/etc/sito.conf",
        "run -w tmp busybox": "Rimedio: --workdir /tmp",
    }.items():
        assert cli.main(line.split()) == 125
        assert words in capsys.readouterr().err


def test_a_command_that_needs_a_laboratory_says_how_to_have_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_RUN", str(tmp_path))
    for line in ("ps", "exec web ls", "logs web", "stop web", "kill web", "rm web"):
        assert cli.main(line.split()) == 1
        assert "Nessun laboratorio è aperto. Rimedio: apri un notebook" in capsys.readouterr().err
    assert cli.main(["ps", "--lab", "uno"]) == 1
    assert "«uno»" in capsys.readouterr().err
    assert cli.main(["run", "-d", "busybox", "ls"]) == 125
    assert "Con -d il container vivrebbe quanto questo comando" in capsys.readouterr().err


def test_asking_for_a_terminal_without_one_is_refused_as_docker_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda fd=0: False)
    assert cli.main(["run", "-it", "busybox"]) == 1
    assert cli.main(["exec", "-it", "web", "sh"]) == 1
    assert "ci vuole un terminale" in capsys.readouterr().err


def test_exec_without_a_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["exec", "web"]) == 125
    assert "manca il comando da eseguire" in capsys.readouterr().err


def test_doctor_prints_text_or_json_and_its_exit_code_is_its_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for ok, code in ((True, 0), (False, 1)):
        report = doctor.DoctorReport((Feature("userns", "Namespace utente", ok, "perché", "rimedio!"),))
        monkeypatch.setattr(doctor, "doctor", lambda report=report: report)
        assert cli.main(["doctor"]) == code
        assert capsys.readouterr().out == f"{report}\n"
        assert cli.main(["doctor", "--json"]) == code
        assert json.loads(capsys.readouterr().out)["ok"] is ok


def test_the_table_of_containers() -> None:
    ports = (Port(80, 8080),)
    infos = [
        ContainerInfo("0123456789abcdef", "web", "host", ("nginx", "-g", "daemon off; error_log stderr;"), "running",
                      ports=ports, created_at=1000.0, uptime=65.0),
        ContainerInfo("fedcba9876543210", "due", "busybox", ("sh",), "exited", exit_code=3, created_at=1000.0),
    ]  # fmt: skip
    lines = commands.table(infos, now=1000.0 + 7200).splitlines()
    assert lines[0].split() == ["ID", "IMMAGINE", "COMANDO", "CREATO", "STATO", "PORTE", "NOME"]
    assert "gira da 1 minuto" in lines[1]
    assert "127.0.0.1:8080->80/tcp" in lines[1]
    assert "nginx -g daemon off; er…" in lines[1]
    assert lines[2].endswith("due")
    assert "2 ore fa" in lines[2]
    assert "finito (3)" in lines[2]


def test_the_command_starts_without_the_notebook_s_libraries() -> None:
    heavy = [
        "IPython",
        "ipywidgets",
        "anywidget",
        "matplotlib",
        "jupyterlab",
        "ipykernel",
        "pyroute2",
        "numpy",
        "psutil",
        "ctypes",
        "asyncio",
    ]
    code = (
        "import sys\nfrom labkit.cli import parse\n"
        "import labkit.client.commands, labkit.client.doctor\n"
        "parse(['run', 'busybox'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_python_m_labkit_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "labkit", "execc"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "labkit non ha il comando «execc». Rimedio: labkit exec\n"


# ---- clean


def leave(base: Path, name: str, **changes: Any) -> Path:
    """A folder as a crash would leave it, of a guard that is dead."""
    folder = base / name
    (folder / "lab").mkdir(parents=True)
    record = {
        "id": name, "guard_pid": 2**22 + 1, "guard_starttime": 5, "client_pid": 1, "backend": "direct",
        "mode": "root", "created": 1.0, "mark": "labkit",
    } | changes  # fmt: skip
    (folder / "lab.json").write_text(json.dumps(record))
    (folder / "lab" / "file").write_text("x")
    return folder


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of laboratories, on a machine where none can be born: clean does it all by itself."""

    def refused(backend: str) -> None:
        raise BackendError("Qui non nasce niente.")

    monkeypatch.setattr(lab_module, "Lab", refused)
    monkeypatch.setenv("LABKIT_RUN", str(tmp_path / "base"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "base"


def test_clean_removes_the_dead_and_only_the_dead(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = leave(base, "morto")
    elsewhere = leave(tmp_path / "altrove", "collegato")
    kept = [
        leave(base, "vivo", guard_pid=os.getpid(), guard_starttime=rundir.start_time(os.getpid())),
        leave(base, "di-altri", mark="un-altro-programma"),
        base / "senza-segno",
        base / "rotto",
        base / "collegato",
        elsewhere / "lab" / "file",
    ]
    (base / "senza-segno").mkdir()
    (base / "rotto").mkdir()
    (base / "rotto" / "lab.json").write_text("{")
    (base / "collegato").symlink_to(elsewhere)

    assert cli.main(["clean", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"toglierei {dead} (del laboratorio morto, che non c'è più)\n"
    assert dead.exists()
    assert cli.main(["clean"]) == 0
    assert capsys.readouterr().out == f"tolto {dead} (del laboratorio morto, che non c'è più)\n"
    assert not dead.exists()
    assert all(path.exists() for path in kept)
    assert cli.main(["clean"]) == 0
    assert capsys.readouterr().out == "Non è rimasto niente.\n"


def test_clean_says_what_it_could_not_remove(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Layers on disk may hold files of the subordinate users; the record that names them must stay with them.
    layers = tmp_path / "strati di morto"
    layers.mkdir()
    folder = leave(base, "morto", scratch=str(layers))
    assert cli.main(["clean"]) == 1
    assert capsys.readouterr().err == f"Non ho potuto togliere tutto. Rimedio: sudo rm -r {folder} '{layers}'\n"
    assert folder.exists()
    assert layers.exists()


@pytest.fixture
def kernels(base: Path, tmp_path: Path) -> Path:
    """The cache of one who has used a virtual machine."""
    folder = tmp_path / "cache" / "labkit" / "kernels"
    (folder / "uml_6.1").mkdir(parents=True)
    (folder / "uml_6.1" / "linux").write_bytes(b"k" * 3_000_000)
    (folder / "vmlinux-1234").write_bytes(b"k" * 1_000_000)
    (folder / "casa").symlink_to(tmp_path)
    return folder


def test_clean_says_what_the_kernels_take_and_keeps_them(kernels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clean"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Non è rimasto niente.\nI kernel scaricati occupano 4 MB in ")
    assert said.endswith(f"{kernels}: labkit clean --kernels li toglie.\n")
    assert cli.main(["clean", "--kernels", "--dry-run"]) == 0
    assert f"toglierei i kernel scaricati: 4 MB in {kernels}\n" in capsys.readouterr().out
    assert len(list(kernels.iterdir())) == 3


def test_clean_removes_the_kernels_if_asked(kernels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = kernels.parents[2]
    assert cli.main(["clean", "--kernels"]) == 0
    assert f"tolti i kernel scaricati: 4 MB in {kernels}." in capsys.readouterr().out
    assert [path.name for path in kernels.iterdir()] == [".lock"]
    assert outside.exists()
    assert cli.main(["clean", "--kernels"]) == 0
    assert f"In {kernels} non ci sono kernel scaricati.\n" in capsys.readouterr().out
    assert cli.main(["clean"]) == 0
    assert capsys.readouterr().out == "Non è rimasto niente.\n"


def test_the_kernels_of_a_living_machine_are_not_removed(
    base: Path, kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(base, "uml-1", mode="vm", guard_pid=os.getpid(), guard_starttime=rundir.start_time(os.getpid()))
    assert cli.main(["clean", "--kernels"]) == 1
    assert "servono al laboratorio uml-1, che è acceso: non li tolgo. Rimedio: " in capsys.readouterr().err
    assert (kernels / "uml_6.1" / "linux").exists()


# ---- the terminal


class Echo:
    """A fake program: says back what it receives, until it reads «q» or its input ends."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.sizes: list[tuple[int, int]] = []
        self.received = b""
        self.ended = threading.Event()
        self._read, self._write = os.pipe()

    def send(self, data: bytes) -> None:
        self.received += data
        os.write(self._write, data)

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def close_stdin(self) -> None:
        self.ended.set()
        os.write(self._write, b"q")

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        yield "stdout", b"pronto\r\n"
        while data := os.read(self._read, 100):
            yield "stdout", data
            if b"q" in data:
                break
            if b"!" in data:
                raise LabClosedError("Il laboratorio è chiuso.")
        self.exit_code = 42


@pytest.fixture
def tty() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    with contextlib.suppress(OSError):
        os.close(slave)


def read_until(fd: int, words: bytes, seconds: float = 5) -> bytes:
    data, end = b"", time.monotonic() + seconds
    while words not in data:
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"non è arrivato {words!r}, ma {data!r}"
        data += os.read(fd, 4096)
    return data


def attach_in_thread(program: Echo, master: int, slave: int, **options: Any) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def go() -> None:
        try:
            ended.append(terminal.attach(program, stdin=slave, stdout=slave, stderr=slave, **options))
        except LabError as problem:
            ended.append(problem)

    thread = threading.Thread(target=go)
    thread.start()
    return thread, ended


def raw(fd: int) -> bool:
    return not termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


@pytest.mark.parametrize(("last", "end"), [(b"q", 42), (b"!", LabClosedError)])
def test_keys_go_through_raw_and_the_terminal_comes_back(tty: tuple[int, int], last: bytes, end: Any) -> None:
    master, slave = tty
    before = termios.tcgetattr(slave)
    program = Echo()
    thread, ended = attach_in_thread(program, master, slave, interactive=True, tty=True)
    read_until(master, b"pronto\r\n")
    assert raw(slave)
    os.write(master, b"\x03\x04\x1a\r")  # Ctrl-C, Ctrl-D, Ctrl-Z and Enter are keys like the others
    assert read_until(master, b"\r") == b"\x03\x04\x1a\r"
    os.write(master, last)
    thread.join(5)
    assert not thread.is_alive()
    assert ended == [42] if end == 42 else isinstance(ended[0], end)
    assert termios.tcgetattr(slave) == before


def test_the_program_learns_the_size_of_the_window(tty: tuple[int, int]) -> None:
    master, slave = tty
    termios.tcsetwinsize(slave, (33, 111))
    program = Echo()
    thread, _ = attach_in_thread(program, master, slave, interactive=True, tty=True)
    read_until(master, b"pronto\r\n")
    os.write(master, b"q")
    thread.join(5)
    assert set(program.sizes) == {(33, 111)}


def test_a_program_too_young_for_a_size_gets_it_with_its_first_words(tty: tuple[int, int]) -> None:
    class Young(Echo):
        def resize(self, rows: int, columns: int) -> None:
            super().resize(rows, columns)
            if len(self.sizes) == 1:
                raise NotFoundError("Su quel canale non c'è ancora un processo.")

    master, slave = tty
    program = Young()
    thread, ended = attach_in_thread(program, master, slave, interactive=True, tty=True)
    read_until(master, b"pronto\r\n")
    os.write(master, b"x")
    read_until(master, b"x")
    os.write(master, b"q")
    thread.join(5)
    assert ended == [42]
    assert program.received == b"xq"
    assert len(program.sizes) >= 1


def test_without_a_terminal_the_input_is_copied_until_its_end() -> None:
    read, write = os.pipe()
    out, sink = os.pipe()
    os.write(write, b"uno\ndue\n")
    os.close(write)
    program = Echo()
    assert terminal.attach(program, interactive=True, tty=False, stdin=read, stdout=sink) == 42
    assert program.received == b"uno\ndue\n"
    assert program.ended.is_set()
    assert program.sizes == []
    os.close(sink)
    assert os.read(out, 4096) == b"pronto\r\nuno\ndue\nq"
    os.close(out)
    os.close(read)


def test_input_that_was_not_asked_for_is_not_read() -> None:
    class Short(Echo):
        def __iter__(self) -> Iterator[tuple[str, bytes]]:
            yield "stderr", b"male\n"
            self.exit_code = 3

    read, write = os.pipe()
    out, sink = os.pipe()
    os.write(write, b"di qualcun altro")
    assert terminal.attach(Short(), interactive=False, tty=False, stdin=read, stderr=sink) == 3
    assert os.read(out, 100) == b"male\n"
    assert os.read(read, 100) == b"di qualcun altro"
    for fd in (read, write, out, sink):
        os.close(fd)


CHILD = """
import os, sys, time
from labkit.client import terminal
class Program:
    exit_code = None
    def send(self, data): os.write(2, b"<%s>" % data)
    def resize(self, rows, columns): os.write(2, b"[%dx%d]" % (rows, columns))
    def close_stdin(self): pass
    def __iter__(self):
        yield "stdout", b"pronto\\n"
        time.sleep(30)
        yield "stdout", b"mai"
sys.exit(terminal.attach(Program(), interactive=True, tty=True))
"""


#: The kernel may give a signal to any thread: here, never to the main one, which sleeps.
ELSEWHERE = """
import signal, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP, signal.SIGCONT])
"""


def child_on(slave: int, before: str = "") -> subprocess.Popen[bytes]:
    command = ["setsid", "--ctty", sys.executable, "-c", before + CHILD]
    return subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT)


@pytest.mark.parametrize("setting", ["", ELSEWHERE])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_the_terminal_comes_back(
    tty: tuple[int, int], number: signal.Signals, setting: str
) -> None:
    master, slave = tty
    before = termios.tcgetattr(slave)
    with child_on(slave, setting) as child:
        read_until(master, b"pronto")
        assert raw(slave)
        child.send_signal(number)
        assert child.wait(5) == 128 + number
    assert termios.tcgetattr(slave) == before


@pytest.mark.parametrize("setting", ["", ELSEWHERE])
def test_a_window_that_changes_is_told_to_the_program_and_raw_mode_survives_a_stop(
    tty: tuple[int, int], setting: str
) -> None:
    master, slave = tty
    before = termios.tcgetattr(slave)
    termios.tcsetwinsize(slave, (24, 80))
    with child_on(slave, setting) as child:
        read_until(master, b"[24x80]")
        termios.tcsetwinsize(master, (40, 132))  # the kernel sends SIGWINCH
        read_until(master, b"[40x132]")
        child.send_signal(signal.SIGSTOP)
        termios.tcsetattr(slave, termios.TCSANOW, before)  # what the shell does when it takes the terminal back
        assert not raw(slave)
        child.send_signal(signal.SIGCONT)
        read_until(master, b"[40x132]")
        assert raw(slave)
        os.write(master, b"\x03")
        read_until(master, b"<\x03>")
        child.terminate()
        assert child.wait(5) == 143
    assert termios.tcgetattr(slave) == before


# ---- life


def test_run_and_create_say_how_to_live_with_docker_s_words() -> None:
    line = (
        "--restart on-failure:3 --stop-signal INT --stop-timeout 3 --health-cmd true --health-interval 1s "
        "--health-timeout 2s --health-retries 4 --health-start-period 5s --log-opt max-size=10k --log-opt max-file=2 "
        "busybox true"
    )
    for command in ("run", "create"):
        spec = ContainerSpec.from_json(commands.request(parsed(f"{command} {line}"))["spec"])
        assert str(spec.restart) == "on-failure:3"
        assert (spec.stop_signal, spec.stop_timeout) == ("INT", 3)
        assert spec.health == HealthCheck(("CMD-SHELL", "true"), 1, 2, 4, 5)
        assert spec.log == LogLimits(10240, 2)
    spec = ContainerSpec.from_json(commands.request(parsed("run --no-healthcheck busybox"))["spec"])
    assert spec.health == HealthCheck(("NONE",))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run --rm --restart always busybox", "Rimedio: togli --rm, oppure scrivi --restart no"),
        ("run --restart sempre busybox", "Rimedio: --restart on-failure:3"),
        ("run --health-interval 1s busybox", "Rimedio: --health-cmd 'true'"),
        ("run --log-opt colore=rosso busybox", "max-size=256k oppure max-file=4"),
        ("run --log-opt max-size=1 busybox", "Rimedio: --log-opt max-size=1m --log-opt max-file=3"),
        ("run --stop-timeout poco busybox", "il tempo deve essere un numero intero"),
        ("start -a uno due", "Rimedio: labkit start -a uno"),
        ("events --filter die", "container=NOME oppure event=die"),
        ("rename web", "manca NUOVO"),
    ],
)
def test_a_life_that_makes_no_sense_is_refused_before_any_laboratory_is_born(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line.split()) == 125
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pieces", "sent", "left"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10", b"\x11b"], b"a", True),
        ([b"a\x10b"], b"a\x10b", False),
        ([b"\x10", b"\x10", b"\x11"], b"\x10", True),
        ([b"\x11\x10", b"x"], b"\x11\x10x", False),
    ],
)
def test_ctrl_p_ctrl_q_are_two_keys_and_in_this_order(pieces: list[bytes], sent: bytes, left: bool) -> None:
    keys = terminal.DetachKeys()
    told = [keys.feed(piece) for piece in pieces]
    assert (b"".join(data for data, _ in told), told[-1][1]) == (sent, left)

"""``%%lab``: il Python di una cella gira in un processo del laboratorio, dove le chiamate di sistema funzionano."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from labkit import Lab
from labkit.client import magic
from labkit.client.magic import lab_magic
from labkit.client.output import Interrupted
from labkit.errors import CellError, InvalidError, KernelError, LabError, NotFoundError

pytestmark = pytest.mark.kernel

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def kept() -> None:
    magic._kept.clear()


def cell(source: str, line: str = "") -> None:
    lab_magic(line, source)


def test_the_system_calls_of_the_lesson_work(lab: Lab, capfd: Capture) -> None:
    cell(
        """
        from labkit import kernel
        before = kernel.namespace_id("uts")
        kernel.unshare("uts")
        kernel.sethostname("prova")
        print(kernel.gethostname(), kernel.namespace_id("uts") != before)
        """.replace("\n        ", "\n")
    )
    assert capfd.readouterr().out == "prova True\n"
    assert os.uname().nodename != "prova"


def test_every_cell_is_a_process_of_its_own_with_one_thread(lab: Lab, capfd: Capture) -> None:
    for _ in range(2):
        cell("import os, threading\nprint(os.getpid(), threading.active_count())")
    one, two = capfd.readouterr().out.split("\n")[:2]
    assert one.split()[0] != two.split()[0]
    assert one.split()[1] == two.split()[1] == "1"
    assert [p.label for p in lab.namespaces().processes] == ["notebook", "laboratorio"]


def test_the_last_value_is_shown(lab: Lab, capfd: Capture) -> None:
    cell("a = 6\na * 7")
    cell("None")
    cell("'testo'")
    cell("")
    assert capfd.readouterr().out == "42\n'testo'\n"


def test_the_output_arrives_while_the_cell_runs(lab: Lab, capfd: Capture) -> None:
    thread = threading.Thread(target=cell, args=("import time\nprint('presto')\ntime.sleep(1.5)\nprint('tardi')",))
    thread.start()
    shown = ""
    end = time.monotonic() + 1.4
    while "presto" not in shown and time.monotonic() < end:
        time.sleep(0.01)
        shown += capfd.readouterr().out
    assert shown == "presto\n"
    thread.join()
    assert capfd.readouterr().out == "tardi\n"


def test_the_two_outputs_are_two(lab: Lab, capfd: Capture) -> None:
    cell("import sys\nprint('fuori')\nprint('errore', file=sys.stderr)")
    assert capfd.readouterr() == ("fuori\n", "errore\n")


def test_a_program_can_be_started(lab: Lab, capfd: Capture) -> None:
    cell("from labkit import kernel\nkernel.unshare('uts')\nkernel.sethostname('eco')\nkernel.run('hostname')")
    assert capfd.readouterr().out == "eco\n0\n"
    with pytest.raises(LabError, match="Il programma «inventato» non c'è"):
        cell("from labkit import kernel\nkernel.run('inventato')")


# ---- keeping


def test_a_process_kept_keeps_its_variables_and_its_namespaces(lab: Lab, capfd: Capture) -> None:
    cell("from labkit import kernel\nkernel.unshare('uts')\nkernel.sethostname('resto')\nx = 1", "--keep uno")
    cell("x += 1\nprint(x, kernel.gethostname())", "--keep uno")
    assert capfd.readouterr().out == "2 resto\n"
    with pytest.raises(CellError, match="NameError"):
        cell("x", "--keep due")
    assert {p.label for p in lab.namespaces().processes} >= {"uno", "due"}
    assert "uts" in lab.namespaces().private("uno", "due")


def test_a_kept_process_that_failed_is_still_there(lab: Lab, capfd: Capture) -> None:
    cell("x = 1", "--keep uno")
    with pytest.raises(CellError):
        cell("1 / 0", "--keep uno")
    cell("x", "--keep uno")
    assert capfd.readouterr().out == "1\n"


def test_a_kept_process_that_ended_is_made_again(lab: Lab, capfd: Capture) -> None:
    cell("import os; x = 1", "--keep uno")
    cell("os._exit(3)", "--keep uno")
    with pytest.raises(CellError, match="NameError"):
        cell("x", "--keep uno")


def test_a_magic_that_is_not_understood_is_refused(lab: Lab) -> None:
    for line in ("uno", "--keep", "--keep uno due", "--tieni uno"):
        with pytest.raises(InvalidError, match="Non capisco «%%lab"):
            cell("1", line)


def test_without_a_lab_one_is_told_how_to_have_it() -> None:
    if not _is_any_lab_open():
        with pytest.raises(NotFoundError, match="Nessun laboratorio è aperto") as caught:
            cell("1")
        assert caught.value.remedy == "lab = Lab()"


def _is_any_lab_open() -> bool:
    from labkit.client.lab import current

    try:
        return not current().closed
    except NotFoundError:
        return False


# ---- mistakes


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("1 / 0", "La cella è fallita: ZeroDivisionError"),
        ("x = 1\n\nboh", "La cella è fallita: NameError"),
        ("raise RuntimeError('perché')", "La cella è fallita: RuntimeError: perché"),
        ("import modulo_inventato", "La cella è fallita: ModuleNotFoundError"),
        ("def (:", "La cella è fallita: SyntaxError"),
        ("open('/non/esiste')", "La cella è fallita: FileNotFoundError"),
        ("def f(): return f()\nf()", "La cella è fallita: RecursionError"),
        ("assert 1 == 2, 'non torna'", "La cella è fallita: AssertionError: non torna"),
    ],
)
def test_a_mistake_in_a_cell_is_one_sentence(lab: Lab, source: str, sentence: str) -> None:
    with pytest.raises(CellError) as caught:
        cell(source)
    assert caught.value.message.startswith(sentence)
    assert "riga" in caught.value.details["traceback"] or "SyntaxError" in sentence


def test_an_error_of_the_kernel_is_explained(lab: Lab) -> None:
    with pytest.raises(KernelError) as caught:
        cell("from labkit import kernel\nkernel.unshare('user')\nkernel.sethostname('x')")
    assert (caught.value.name, caught.value.syscall) == ("EPERM", "sethostname")
    assert caught.value.remedy == "prima unshare('uts')"
    with pytest.raises(InvalidError, match="«boh» non è un tipo di namespace"):
        cell("from labkit import kernel\nkernel.unshare('boh')")


def test_an_exit_is_an_end_and_not_a_mistake(lab: Lab, capfd: Capture) -> None:
    cell("import sys\nprint('prima')\nsys.exit(3)\nprint('mai')")
    assert capfd.readouterr().out == "prima\n"


def test_a_cell_that_becomes_a_program_ends_with_it(lab: Lab, capfd: Capture) -> None:
    cell("import os\nos.execvp('echo', ['echo', 'sono un altro'])")
    assert capfd.readouterr().out == "sono un altro\n"


def test_what_a_cell_prints_before_it_fails_comes_first(lab: Lab, capfd: Capture) -> None:
    with pytest.raises(CellError):
        cell("print('eccomi')\n1 / 0")
    assert capfd.readouterr().out == "eccomi\n"


# ---- interrupting and forking


@pytest.mark.parametrize(
    "source", ["import time\ntime.sleep(60)", "while True: pass", "import os\nos.system('sleep 60')"]
)
def test_an_interrupt_ends_the_cell_and_not_the_lab(lab: Lab, source: str) -> None:
    ctrl_c = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    ctrl_c.start()
    started = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            cell(f"print('via')\n{source}")
    finally:
        ctrl_c.cancel()
    assert time.monotonic() - started < 20


def test_a_kept_process_survives_an_interrupt(lab: Lab, capfd: Capture) -> None:
    cell("x = 5\nimport time", "--keep uno")
    ctrl_c = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    ctrl_c.start()
    try:
        with pytest.raises(Interrupted):
            cell("time.sleep(60)", "--keep uno")
    finally:
        ctrl_c.cancel()
    cell("x", "--keep uno")
    assert capfd.readouterr().out == "5\n"


def test_a_cell_that_forks_says_its_part_once(lab: Lab, capfd: Capture) -> None:
    cell(
        "import os\nfrom labkit import kernel\nprint('prima')\npid = kernel.fork()\n"
        "if pid == 0:\n    print('figlio', os.getppid() > 0)\nelse:\n    os.waitpid(pid, 0)\n    print('padre')"
    )
    assert capfd.readouterr().out == "prima\nfiglio True\npadre\n"


def test_a_child_of_a_cell_may_fail_without_speaking_for_its_parent(lab: Lab, capfd: Capture) -> None:
    cell("import os\npid = os.fork()\nif pid == 0:\n    1 / 0\nos.waitpid(pid, 0)\nprint('vivo')")
    out, err = capfd.readouterr()
    assert out == "vivo\n"
    assert "ZeroDivisionError" in err


def test_a_child_is_born_in_the_new_pid_namespace(lab: Lab, capfd: Capture) -> None:
    cell(
        "import os\nfrom labkit import kernel\nkernel.unshare('pid')\npid = kernel.fork()\n"
        "if pid == 0:\n    print('io sono', os.getpid())\nelse:\n    os.waitpid(pid, 0)"
    )
    assert capfd.readouterr().out == "io sono 1\n"


def test_a_child_left_behind_does_not_keep_the_cell(lab: Lab, capfd: Capture) -> None:
    started = time.monotonic()
    cell("import os, time\nif os.fork() == 0:\n    time.sleep(30)\nprint('fine')")
    assert time.monotonic() - started < 20
    assert "fine" in capfd.readouterr().out


def test_a_river_of_output_is_shown_up_to_a_point(lab: Lab, capfd: Capture) -> None:
    cell("print('x' * 5_000_000)")
    out = capfd.readouterr().out
    assert 1 << 20 <= len(out) < (1 << 20) + 200
    assert out.endswith("… il resto non si mostra: è troppo.\n")


def test_ipython_runs_the_magic(lab: Lab, capfd: Capture) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "labkit")
    assert shell.run_cell("%%lab\nfrom labkit import kernel\nkernel.unshare('uts')\nprint('dentro')").success
    assert "dentro" in capfd.readouterr().out
    failed = shell.run_cell("%%lab\n1 / 0")
    assert isinstance(failed.error_in_exec, CellError)
    shown = capfd.readouterr()
    assert "La cella è fallita: ZeroDivisionError" in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err, "one sentence, not the insides of labkit"

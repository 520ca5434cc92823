"""Chi esegue le prove: le parti, il conto, il secondo giro, dove è stata ogni prova."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import report
from tests.report import Case

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> Any:
    """Il modulo ``tools/test.py``, che è un programma e non sta in un pacchetto."""
    spec = importlib.util.spec_from_file_location("tools_test", ROOT / "tools" / "test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its own module by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def driver(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(tool, "REPORTS", tmp_path)
    return tool


REPORT = """<testsuites><testsuite>
<testcase classname="tests.a.test_a" name="test_bene" file="tests/a/test_a.py"><properties>
<property name="backend" value="direct"/><property name="cgroup" value="v2"/></properties></testcase>
<testcase classname="tests.a.test_a.TestUno" name="test_male[x::y]" file="tests/a/test_a.py">
<failure message="no"/></testcase>
<testcase classname="tests.a.test_a" name="test_peggio" file="tests/a/test_a.py"><error message="resta"/></testcase>
<testcase classname="tests.a.test_a" name="test_atteso" file="tests/a/test_a.py">
<skipped type="pytest.xfail"/></testcase>
<testcase classname="tests.a.test_a" name="test_non[1]" file="tests/a/test_a.py"><skipped message="manca"/></testcase>
</testsuite></testsuites>"""


def case(name: str = "test_a", outcome: Any = "passed", file: str = "tests/f.py", **facts: str) -> Case:
    return Case(file, name, outcome, **facts)


def result(driver: Any, *cases: Case, who: str = "root", code: int = 0, optional: bool = False, **more: Any) -> Any:
    return driver.Result(driver.Part("prova", who, "not serial", optional=optional), cases, 1.0, code, **more)


# ---- the report


def test_the_report_of_pytest_is_read():
    good, bad, error, expected, skipped = report.read(REPORT)
    assert (good.node, good.outcome, good.backend, good.cgroup) == (
        "tests/a/test_a.py::test_bene",
        "passed",
        "direct",
        "v2",
    )
    assert (bad.node, bad.outcome, bad.message) == ("tests/a/test_a.py::TestUno::test_male[x::y]", "failed", "no")
    assert (error.outcome, error.message, expected.outcome) == ("error", "resta", "passed")
    assert (skipped.function, skipped.outcome, skipped.message) == ("tests/a/test_a.py::test_non", "skipped", "manca")
    assert report.read("") == []


def test_pytest_s_own_report_says_where_each_test_is_and_has_been(driver, tmp_path):
    """Con le opzioni di make test, e con il conftest delle prove."""
    file = tmp_path / "giro.xml"
    chosen = "tests/unit/test_driver.py::test_the_report_of_pytest_is_read"
    assert driver.subprocess.call([*driver.PYTEST, chosen, f"--junit-xml={file}"], cwd=ROOT, stdout=-3) == 0
    assert report.read(file.read_text()) == [Case(*chosen.split("::"), "passed")]


def test_the_version_of_cgroups_is_that_of_the_root(tmp_path):
    assert report.cgroup_version(tmp_path) == "v1"
    (tmp_path / "cgroup.controllers").touch()
    assert report.cgroup_version(tmp_path) == "v2"


# ---- the parts


def test_root_tries_everything_then_becomes_both_kinds_of_user_and_root_of_a_machine(driver, monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: type("Name", (), {"machine": "x86_64"}))
    whole = [(part.who, part.lane) for part in driver.plan("root")]
    mine, plain = [("root", 0), ("root", 0), ("root", 1)], [("user", 2), ("user", 2), ("nosub", 3), ("nosub", 3)]
    assert whole == [*mine, *plain, ("uml", 1)]
    assert [part.who for part in driver.plan("nosub")] == ["nosub", "nosub", "nosub", "uml"]
    monkeypatch.setattr(os, "uname", lambda: type("Name", (), {"machine": "aarch64"}))
    assert [part.who for part in driver.plan("nosub")] == ["nosub", "nosub", "nosub"]


def test_a_part_that_ran_nothing_or_died_is_a_failure(driver):
    assert result(driver, case()).problem == ""
    assert result(driver).problem == "nessuna prova eseguita"
    assert result(driver, case(outcome="skipped")).problem == "nessuna prova eseguita"
    assert result(driver, code=5).problem == "nessuna prova eseguita"
    assert result(driver, case(), code=3).problem == "pytest è uscito con 3"
    assert result(driver, case(), case("test_b", "failed"), code=1).problem == "1 prove fallite"
    assert result(driver, code=5, who="user", optional=True).problem == ""


def test_where_machines_judge_root_may_skip_nothing(driver, monkeypatch):
    monkeypatch.setenv("CI", "true")
    skipped = case("test_b", "skipped")
    assert result(driver, case(), skipped).problem == "root ha saltato 1 prove"
    assert result(driver, case(), skipped, who="nosub").problem == ""
    monkeypatch.delenv("CI")
    assert result(driver, case(), skipped).problem == ""


def test_the_machine_must_have_tried_something_with_cgroup_v2(driver, capsys):
    plain, old = case("test_b"), case("test_c", backend="direct", cgroup="v1")
    unable = case("test_d", "skipped", backend="direct", cgroup="v2")
    with_v2 = case("test_e", backend="direct", cgroup="v2")
    assert driver.summary([result(driver, plain, old, unable, who="uml")], "root") == 1
    assert "✘ uml, prova: nessuna prova eseguita con i cgroup v2" in capsys.readouterr().out
    assert driver.summary([result(driver, plain, old, unable, with_v2, who="uml")], "root") == 0
    assert driver.summary([result(driver, plain, old)], "root") == 0, "elsewhere the machine is what it is"


def test_the_lanes_go_side_by_side_and_each_part_is_shown_whole(driver, monkeypatch, capfd):
    meet = driver.multiprocessing.get_context("fork").Barrier(2)

    def execute(part: Any, run_as: Any, arguments: Any) -> tuple[int, list[Case]]:
        print(f"comincia {part.who}")
        if part.title == "prima":
            meet.wait(timeout=20)  # it opens only if both are there
        print(f"finisce {part.who}")
        return 0, [case()]

    monkeypatch.setattr(driver, "execute", execute)
    one, two = (driver.Part("prima", who, "", lane=lane) for lane, who in enumerate(("root", "user"), 1))
    after = driver.Part("seconda", "uml", "", lane=1)
    done = driver.run_all([one, two, after], None)
    assert [(result.part, result.passed) for result in done] == [(one, 1), (two, 1), (after, 1)]
    shown = capfd.readouterr().out
    assert all(f"comincia {who}\nfinisce {who}\n" in shown for who in ("root", "user", "uml"))


def test_a_lane_that_dies_takes_nobody_along_and_is_a_failure(driver, monkeypatch):
    def execute(part: Any, run_as: Any, arguments: Any) -> tuple[int, list[Case]]:
        return os._exit(9) if part.who == "user" else (0, [case()])

    monkeypatch.setattr(driver, "execute", execute)
    parts = [driver.Part("prova", who, "", lane=lane) for lane, who in enumerate(("root", "user"), 1)]
    assert [result.problem for result in driver.run_all(parts, None)] == ["", "pytest è uscito con 3"]


# ---- the second turn


def played(driver: Any, monkeypatch: pytest.MonkeyPatch, *turns: tuple[int, list[Case]]) -> tuple[Any, list[Any]]:
    """Una parte i cui giri di pytest vanno così; dà il risultato e gli argomenti di ogni giro."""
    asked: list[Any] = []
    waiting = list(turns)

    def execute(part: Any, run_as: Any, arguments: Any) -> tuple[int, list[Case]]:
        asked.append(arguments)
        return waiting.pop(0)

    monkeypatch.setattr(driver, "execute", execute)
    part = driver.Part("in parallelo", "root", "not serial", ("tests/f.py",), workers=2)
    (outcome,) = driver.run_all([part], None)
    assert not waiting
    return outcome, asked


def test_what_passes_alone_the_second_time_is_told_and_does_not_fail_the_suite(driver, monkeypatch, capsys):
    lost = case("test_b", "failed", message="corsa persa")
    done, asked = played(driver, monkeypatch, (1, [case(), lost]), (0, [case("test_b")]))
    assert asked[1] == ("-m", "not serial", "tests/f.py::test_b"), "alone: no other worker"
    assert (done.passed, done.failed, done.problem) == (2, 0, "")
    assert driver.summary([done], "root") == 0
    shown = capsys.readouterr().out
    assert "riuscita da sola al secondo giro (root): tests/f.py::test_b: corsa persa" in shown
    assert "2 passed, 0 failed" in shown


def test_what_fails_twice_fails_the_suite(driver, monkeypatch):
    bad = case("test_b", "failed")
    done, _ = played(driver, monkeypatch, (1, [case(), bad, case("test_c", "failed")]), (1, [bad, case("test_c")]))
    assert (done.passed, done.failed, done.problem) == (2, 1, "1 prove fallite")
    assert [saved.name for saved in done.saved] == ["test_c"]


def test_after_an_error_its_whole_file_is_tried_again(driver, monkeypatch):
    """Ciò che una prova lascia lo trova l'ultima del file: da sola riuscirebbe, e non direbbe niente."""
    left = case("test_z", "error", message="è rimasto qualcosa")
    done, asked = played(driver, monkeypatch, (1, [case(), left]), (0, [case(), case("test_z")]))
    assert asked[1] == ("-m", "not serial", "tests/f.py")
    assert (done.passed, done.problem) == (2, "")
    for again in ([case(), left], [case("test_a", "failed"), case("test_z")]):
        done, _ = played(driver, monkeypatch, (1, [case(), left]), (1, again))
        assert done.problem


@pytest.mark.parametrize("again", [(4, []), (5, []), (0, []), (0, [case("test_b", "skipped")]), (3, [case("test_b")])])
def test_a_second_turn_that_did_not_happen_saves_nobody(driver, monkeypatch, again):
    done, _ = played(driver, monkeypatch, (1, [case(), case("test_b", "failed")]), again)
    assert done.problem


def test_many_failures_or_a_dead_pytest_are_no_lost_race(driver, monkeypatch):
    many = [case(f"test_{number}", "failed") for number in range(6)]
    for first in ((1, many), (2, many[:1]), (3, [case()]), (0, [case()])):
        _, asked = played(driver, monkeypatch, first)
        assert len(asked) == 1


# ---- the summary


def test_the_last_line_is_the_count(driver, capsys):
    skipped = [case(f"test_s[{number}]", "skipped", message="perché") for number in (1, 2)]
    bad = case("test_b", "failed")
    assert driver.summary([result(driver, case(), case("test_c")), result(driver, bad, *skipped, code=1)], "root") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "2 passed, 1 failed, 2 skipped"
    assert "saltata (root, 2 volte): tests/f.py::test_s: perché" in lines
    assert driver.summary([result(driver, case())], "user") == 0
    assert "sudo make test" in capsys.readouterr().out


def test_one_reason_that_stops_a_whole_file_is_told_once(driver, capsys):
    skipped = [case(name, "skipped", message="perché") for name in ("test_x", "test_y")]
    driver.summary([result(driver, case(), *skipped)], "root")
    assert "saltata (root, 2 volte): tests/f.py: perché" in capsys.readouterr().out.splitlines()


def test_a_file_says_which_test_was_where(driver, tmp_path, capsys):
    here = [
        case("test_a[1]", backend="direct", cgroup="v1"),
        case("test_a[2]", backend="uml", cgroup="v2"),
        case("test_b"),
    ]
    there = [case(f"test_a[{number}]", backend="direct", cgroup="v2") for number in (1, 2)]
    driver.summary([result(driver, *here), result(driver, *there, case("test_c", "failed"), who="uml", code=1)], "root")
    lines = (tmp_path / "dove.md").read_text().splitlines()
    assert lines[2:] == [
        "| prova | root, direct, v1 | root, nessun laboratorio | root, uml, v2 | uml, direct, v2 |",
        "|---|---|---|---|---|",
        "| tests/f.py::test_a | 1 |  | 1 | 2 |",
        "| tests/f.py::test_b |  | 1 |  |  |",
    ]
    shown = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["uml, direct, v2", "2"] in shown


def test_what_failed_is_told_last_with_its_trace(driver, capsys):
    bad = case("test_b", "failed", trace="riga 7\nE   no")
    driver.summary([result(driver, case(), bad, code=1)], "root")
    shown = capsys.readouterr().out.splitlines()
    assert shown[-6:-2] == ["", "✘ root, prova: tests/f.py::test_b", "riga 7", "E   no"]


def test_an_error_after_the_last_test_is_told_and_does_not_fail_the_suite(driver, monkeypatch, capsys):
    (driver.REPORTS / "pytest.log").write_text("in fondo\nqualcosa\n")
    done, _ = played(driver, monkeypatch, (1, [case()]))
    assert (done.problem, done.late) == ("", "in fondo\nqualcosa")
    assert driver.summary([done], "root") == 0
    assert "qualcosa" in capsys.readouterr().out
    done, _ = played(driver, monkeypatch, (1, []))
    assert done.problem == "nessuna prova eseguita" or "pytest è uscito con 1" in done.problem


def test_what_a_part_says_is_shown_and_kept(driver, capfd):
    assert driver.shown([sys.executable, "-c", "print('ciao'); raise SystemExit(3)"]) == 3
    assert capfd.readouterr().out == "ciao\n"
    assert driver.last_words() == "ciao"

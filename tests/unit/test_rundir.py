"""La cartella di un laboratorio: compare intera, si riconosce dal segno, e sparisce solo se il suo custode è morto."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from labkit import rundir
from labkit.errors import BackendError
from labkit.rundir import LabRecord


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "laboratori"
    monkeypatch.setenv("LABKIT_RUN", str(folder))
    return folder


def record(identity: str = "direct-1-abc", **other: object) -> LabRecord:
    me = os.getpid()
    return replace(LabRecord(identity, me, rundir.start_time(me), me, "direct", "root", 1.0), **other)  # type: ignore[arg-type]


def dead(identity: str = "direct-2-def", **other: object) -> LabRecord:
    return record(identity, guard_starttime=1, **other)


def test_a_folder_appears_with_its_mark_in_it(base: Path) -> None:
    folder = rundir.create(record())
    assert folder == f"{base}/direct-1-abc"
    assert rundir.read(folder) == record()
    assert os.listdir(base) == ["direct-1-abc"]
    for path in (base, Path(folder)):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_base_that_someone_else_prepared_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "altrui").mkdir()
    base.symlink_to(tmp_path / "altrui")
    with pytest.raises(BackendError, match="non è una cartella di questo utente") as caught:
        rundir.create(record())
    assert "LABKIT_RUN" in caught.value.remedy
    assert os.listdir(tmp_path / "altrui") == []


def test_a_file_in_place_of_the_base_is_refused(base: Path) -> None:
    base.write_text("")
    with pytest.raises((BackendError, OSError)):
        rundir.create(record())


def test_the_living_and_the_dead_are_told_apart_by_their_guard(base: Path) -> None:
    rundir.create(record())
    rundir.create(dead())
    assert [found.id for _, found in rundir.live()] == ["direct-1-abc"]
    assert [found.id for _, found in rundir.dead()] == ["direct-2-def"]
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    his = record("direct-3-ghi", guard_pid=process.pid, guard_starttime=rundir.start_time(process.pid))
    assert rundir.alive(his)
    process.communicate()
    assert not rundir.alive(his)


def test_a_pid_used_again_is_not_the_guard(base: Path) -> None:
    assert rundir.alive(record())
    assert not rundir.alive(record(guard_starttime=rundir.start_time(os.getpid()) + 1))
    assert not rundir.alive(record(guard_pid=1 << 30, guard_starttime=0))


def test_the_list_goes_from_the_oldest(base: Path) -> None:
    for identity, created in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        rundir.create(record(identity, created=created))
    assert [found.id for _, found in rundir.records()] == ["a", "b", "c"]


def test_without_a_base_there_is_nothing(base: Path) -> None:
    assert list(rundir.records()) == []
    assert rundir.reap() == []


def test_only_the_dead_are_removed(base: Path) -> None:
    rundir.create(record())
    rundir.create(dead())
    (base / "documenti").mkdir()
    (base / "documenti" / "tesi.txt").write_text("importante")
    (base / "senza-segno").mkdir()
    (base / "senza-segno" / "lab.json").write_text(json.dumps({"id": "x", "mark": "altro"}))
    (base / "rotto").mkdir()
    (base / "rotto" / "lab.json").write_text("{non JSON")
    assert rundir.reap() == ["direct-2-def"]
    assert sorted(os.listdir(base)) == ["direct-1-abc", "documenti", "rotto", "senza-segno"]
    assert rundir.reap() == []


def test_the_layers_on_disk_of_a_dead_lab_go_with_it(base: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "strati"
    (scratch / "1" / "root.upper").mkdir(parents=True)
    outside = tmp_path / "fuori"
    outside.write_text("resta")
    (scratch / "1" / "link").symlink_to(outside)
    rundir.create(dead(scratch=str(scratch)))
    rundir.reap()
    assert not scratch.exists()
    assert outside.read_text() == "resta"


def test_who_cannot_remove_layers_leaves_them_with_their_mark(base: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "strati"
    scratch.mkdir()
    rundir.create(dead(id="direct-2-con", scratch=str(scratch)))
    rundir.create(dead(id="uml-2-senza", scratch=str(tmp_path / "mai-nati")))
    assert rundir.reap(layers=False) == ["uml-2-senza"]
    assert os.listdir(base) == ["direct-2-con"]
    assert scratch.exists()


def test_a_folder_half_made_by_someone_who_died_is_removed(base: Path) -> None:
    base.mkdir()
    me = os.getpid()
    mine = base / f".{me}.{rundir.start_time(me)}"
    for folder in (base / ".999999999.5", mine, base / ".nascosta", base / ".1.2.3"):
        folder.mkdir()
    rundir.reap()
    assert sorted(path.name for path in base.iterdir()) == sorted([mine.name, ".1.2.3", ".nascosta"])


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"id": 5}', '{"id": "x", "sconosciuto": 1}', "\xff"])
def test_a_mark_that_cannot_be_read_is_no_mark(base: Path, text: str) -> None:
    folder = base / "x"
    folder.mkdir(parents=True)
    (folder / "lab.json").write_bytes(text.encode("latin-1"))
    assert rundir.read(str(folder)) is None


def test_the_base_is_the_one_chosen_or_the_session_s_or_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rundir.base().endswith("/laboratori")
    monkeypatch.delenv("LABKIT_RUN")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert rundir.base() == f"{tmp_path}/labkit"
    for missing in ("", "/non/esiste"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", missing)
        assert rundir.base() == f"/tmp/labkit-{os.getuid()}"


def test_a_base_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUN", str(tmp_path / ("è" * 50)))
    with pytest.raises(BackendError, match=r"troppo lungo.*107 byte.*Rimedio: export LABKIT_RUN="):
        rundir.create(record())
    assert os.listdir(tmp_path) == []


def test_a_base_that_depends_on_where_one_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUN", "~/.labkit")
    with pytest.raises(BackendError, match="«~/.labkit», che non è un percorso assoluto. Rimedio: export LABKIT_RUN="):
        rundir.base()


def test_a_birth_is_an_instant_and_nobody_has_none() -> None:
    assert rundir.start_time(os.getpid()) > 0
    assert rundir.start_time(1 << 30) == 0

"""Il comando che apre JupyterLab: che cosa chiede al server, e che cosa dice quando non si può."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from labkit.course import launch
from labkit.errors import InvalidError, LabError, NotFoundError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".labkit").mkdir()
    return tmp_path


def test_the_server_listens_only_here_and_asks_nothing(folder: Path) -> None:
    command = launch.server_command(folder, 9000)
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "--ServerApp.answer_yes=True" in command
    assert f"--ServerApp.root_dir={folder}" in command
    assert ("--allow-root" in command) == (os.geteuid() == 0)
    assert not any("token" in part or "password" in part for part in command)


def test_the_first_lesson_is_the_first_page(folder: Path) -> None:
    assert launch.first_page(folder) == "/lab"
    for name in ("03-namespace.ipynb", "00-benvenuto.ipynb", "appunti.ipynb"):
        (folder / name).touch()
    assert launch.first_page(folder) == "/lab/tree/00-benvenuto.ipynb"
    assert "--LabApp.default_url=/lab/tree/00-benvenuto.ipynb" in launch.server_command(folder)


def test_terminals_find_labkit_and_an_own_configuration_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/una/mia")
    environment = launch.server_environment()
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    ours, mine = environment["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert mine == "/una/mia"
    assert Path(ours, "labconfig", "page_config.json").is_file()


def test_a_server_that_dies_says_its_last_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = [sys.executable, "-c", "import sys; sys.exit('la porta è di un altro')"]
    monkeypatch.setattr(launch, "server_command", lambda *_, **__: dying)
    with pytest.raises(LabError, match="non è partito. Le sue ultime parole: la porta è di un altro") as caught:
        launch.serve(folder, browser=False)
    assert caught.value.remedy == f"cat {folder / '.labkit' / 'jupyter.log'}"


def test_a_server_that_never_answers_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(launch, "server_command", lambda *_, **__: waiting)
    monkeypatch.setattr(launch, "START_TIMEOUT", 0.3)
    with pytest.raises(LabError, match="non risponde"):
        launch.serve(folder, browser=False)


def test_without_the_kernel_of_the_course_it_says_how_to_have_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "KERNEL", "un-altro")
    with pytest.raises(NotFoundError, match="non è installato") as caught:
        launch.serve(folder, browser=False)
    assert "make setup" in caught.value.remedy


def test_a_folder_that_is_a_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidError, match="è un file"):
        launch.open_lab(tmp_path / "file", browser=False)


def test_the_key_goes_to_the_browser_in_a_private_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(launch.webbrowser, "open", lambda address: opened.append(address))
    monkeypatch.setenv("DISPLAY", ":9")
    launch._show(folder, "http://127.0.0.1:1/?token=segreto")
    page = folder / ".labkit" / "apri.html"
    assert opened == [page.as_uri()]
    assert "segreto" in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600


def test_without_a_screen_no_text_browser_takes_the_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(launch.webbrowser, "open", lambda _: pytest.fail("aperto"))
    launch._show(folder, "http://127.0.0.1:1/")
    assert not (folder / ".labkit" / "apri.html").exists()

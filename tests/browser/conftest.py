"""Chromium, e un JupyterLab vero sulla copia di uno studente, aperto con il comando dello studente."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
#: What a person can look at after the tests; git ignores it.
PICTURES = ROOT / "build" / "browser"
SCREEN = {"width": 1366, "height": 768}

expect.set_options(timeout=30_000)  # a machine of many is slow, and whatever comes is seen at once

#: Chromium itself must not call home: every request that is left is the page's.
_QUIET = (
    *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
    *("--disable-dev-shm-usage", "--no-sandbox"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("serve Chromium: sudo apt install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        yield chromium
        chromium.close()


@dataclass(frozen=True)
class Server:
    """Un ``labkit lab`` acceso: la cartella dello studente, l'indirizzo con la chiave, quello che ha stampato."""

    folder: Path
    address: str
    said: str

    @property
    def origin(self) -> str:
        return self.address.partition("/?")[0]

    def page(self, path: str) -> str:
        """L'indirizzo di ``path`` (per esempio ``lab/tree/03-namespace.ipynb``), senza la memoria delle schede."""
        return f"{self.origin}/{path}?reset&token={self.address.partition('token=')[2]}"


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[tuple[str, Path]]:
    """Un comando ``labkit`` in una casa tutta sua: l'indirizzo che dice, e il file di quello che dice.

    Alla fine Ctrl-C, e deve bastare.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON", "XDG_", "DISPLAY"))}
    environment |= {"HOME": str(home), "PYTHONUNBUFFERED": "1"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = home / "detto"
    command = [sys.executable, "-m", "labkit", *arguments, "--no-browser", "--port", str(port)]
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=home, start_new_session=True)
    try:
        yield _wait_for(lambda: re.search(r"http://\S+", said.read_text()), process, said), said
        os.killpg(process.pid, signal.SIGINT)  # what the terminal does: to the command and to its server
        assert process.wait(timeout=30) == 0, said.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    assert "(y/[n])" not in said.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, course_images: Path) -> Iterator[Server]:
    """Il comando di uno studente: ``labkit lab`` su una cartella nuova."""
    home = tmp_path_factory.mktemp("casa")
    folder = home / "dentro-i-container"
    with running(home, "lab", str(folder)) as (address, said):
        yield Server(folder, address, said.read_text())


def _wait_for(found: Callable[[], re.Match[str] | None], process: subprocess.Popen[bytes], said: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        match = found()
        if match is not None:
            return match[0]
        time.sleep(0.1)
    raise AssertionError(f"labkit non ha dato un indirizzo:\n{said.read_text()}")


@contextmanager
def blank(browser: Browser) -> Iterator[Page]:
    """Una pagina vuota, grande come lo schermo di un portatile."""
    context = browser.new_context(viewport=SCREEN, locale="it-IT")  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    yield opened
    context.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with blank(browser) as opened:
        yield opened


@pytest.fixture
def outside(page: Page, server: Server) -> list[str]:
    """Le richieste che la pagina ha fatto a qualcuno che non è il nostro server: deve restare vuota."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((server.origin, server.origin.replace("http", "ws", 1), "data:", "blob:")):
            asked.append(request.url)

    page.on("request", note)
    return asked


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Conserva quello che si vede in ``build/browser/NOME.png``; non fra tutte le altre prove, dove nessuno guarda."""

    def take(page: Page, name: str) -> None:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            PICTURES.mkdir(parents=True, exist_ok=True)
            page.wait_for_timeout(400)  # what moves is still
            page.screenshot(path=str(PICTURES / f"{name}.png"))

    return take

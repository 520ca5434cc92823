"""Chi apre il corso da un collegamento trova la sua copia, in italiano, sulla lezione 00; il laboratorio si accende."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import binder, users
from tests.browser import ui

pytestmark = [
    pytest.mark.root,
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="User Mode Linux è per x86-64"),
]

KEY = "una-chiave"
#: How BinderHub starts what a link opens: python3 finds JupyterLab and becomes it, with its own options.
LAUNCH = "import os, sys, jupyterlab; os.execvp('jupyter-lab', sys.argv)"


@dataclass(frozen=True)
class Place:
    """JupyterLab acceso in un posto come Binder: l'indirizzo, la casa dello studente, la memoria che usa."""

    address: str
    home: Path
    memory: binder.Memory


def options(port: int, base: str) -> list[str]:
    ours = [f"NotebookApp.base_url={base}", f"NotebookApp.token={KEY}", "NotebookApp.trust_xheaders=True"]
    twice = [f"--{option}" for name in ours for option in (name, name.replace("Notebook", "Server", 1))]
    return ["--ip=127.0.0.1", f"--port={port}", *twice]


@pytest.fixture(scope="module")
def place(run_as: users.RunAs) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        try:
            counted = stack.enter_context(binder.memory())
        except LookupError as problem:
            pytest.skip(str(problem))
        kernel = stack.enter_context(binder.uml())
        home = stack.enter_context(users.home(run_as.people["nosub"]))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        inside = users.RunAs(run_as.people, become=binder.become(counted))
        command = inside.command("nosub", ["python3", "-c", LAUNCH, *options(port, "/user/prova/")])
        said = stack.enter_context((home / "detto").open("wb"))
        environment = {**users.environment(home), **binder.variables(kernel)}
        server = subprocess.Popen(command, env=environment, cwd=home, stdout=said, stderr=said)
        try:
            address = f"http://127.0.0.1:{port}/user/prova"
            wait_for(f"{address}/api", server, home / "detto")
            yield Place(address, home, counted)
        finally:
            server.terminate()
            server.wait(timeout=30)


def wait_for(address: str, server: subprocess.Popen[bytes], said: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab non risponde:\n{said.read_text()}")


def test_a_link_opens_lesson_00_in_italian_and_its_laboratory_lives(
    page: Page, place: Place, picture: Callable[[Page, str], None]
) -> None:
    ui.open_lab(page, f"{place.address}/?token={KEY}")
    page.wait_for_url("**/lab/tree/00-benvenuto.ipynb*")
    assert "Modifica" in page.locator("#jp-MainMenu").inner_text()
    expect(page.get_by_role("heading", name="Lezione 00")).to_be_visible()
    files = page.locator(".jp-DirListing-content")
    expect(files).to_contain_text("03-namespace.ipynb")
    expect(files).not_to_contain_text("labkit")
    cell = page.locator(".jp-CodeCell").first
    cell.click()
    page.keyboard.press("Shift+Enter")
    expect(cell).to_contain_text("Il laboratorio vive in un kernel suo, User Mode Linux", timeout=60_000)
    picture(page, "binder")
    used = place.memory.used
    print(f"JupyterLab, un notebook e il suo laboratorio: {used >> 20} MiB")
    assert used < binder.MEMORY // 2, "two lessons open at once must fit"
    assert place.memory.kills == 0


def test_the_copy_of_the_student_has_no_solutions(place: Place) -> None:
    folder = place.home / "dentro-i-container"
    lessons = sorted(folder.glob("*.ipynb"))
    assert lessons[0].name == "00-benvenuto.ipynb"
    assert not any("BEGIN SOLUTION" in path.read_text() for path in lessons)

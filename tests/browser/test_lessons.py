"""Le lezioni come le fa uno studente: si apre la sua copia, si esegue tutto, si usano i widget."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import ui
from tests.browser.conftest import ROOT, Server
from tests.notebooks import running

Picture = Callable[[Page, str], None]
LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
#: A whole lesson, on a slow machine with other tests beside it.
LESSON_TIME = 300_000


def test_there_are_lessons() -> None:
    assert {"00-benvenuto.ipynb", "03-namespace.ipynb"} <= set(LESSONS)


@pytest.fixture
def problems(page: Page) -> list[str]:
    """Gli errori che il browser scrive nella sua console."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


@pytest.mark.slow
@pytest.mark.kernel
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_students_copy_runs_from_top_to_bottom(
    page: Page, server: Server, outside: list[str], problems: list[str], picture: Picture, lesson: str
) -> None:
    run_all(page, server, lesson)
    name = lesson.removesuffix(".ipynb")
    picture(page, f"{name}-fine")
    for index, drawing in enumerate(page.locator(".lk-board").all()):
        drawing.scroll_into_view_if_needed()
        page.wait_for_timeout(400)  # a cell far away draws itself when it comes near
        picture(page, f"{name}-widget-{index}")
    nb = saved(page, server, lesson)
    cells = nb["cells"]
    assert [found for cell in cells if (found := error_of(cell))] == []
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]))
    assert list(running.unhelpful(nb)) == []
    done = running.progress(server.folder)
    assert {key: done[key] for key in running.checks(nb)} == dict.fromkeys(running.checks(nb), False)
    assert outside == []
    assert problems == []


@pytest.mark.slow
@pytest.mark.kernel
def test_the_map_of_the_namespaces_answers_to_mouse_and_keyboard(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab/tree/03-namespace.ipynb"))
    idle(page)
    run_until(page, "namespace_widget(lab)")
    before = sources(saved(page, server, "03-namespace.ipynb"))
    drawing = page.locator(".jp-NotebookPanel .lk-board", has=page.locator(".lk-cell")).first
    drawing.scroll_into_view_if_needed()
    cell = drawing.locator('.lk-cell[data-row="1"][data-col="0"]')
    say = drawing.locator(".lk-say")

    cell.hover()
    expect(drawing.locator("svg.lk-lit .lk-band.lk-on").first).to_be_visible()
    picture(page, "mappa-mouse")
    heard = say.inner_text()
    assert heard

    cell.click()
    expect(cell).to_be_focused()
    page.keyboard.press("ArrowRight")
    beside = drawing.locator('.lk-cell[data-row="1"][data-col="1"]')
    expect(beside).to_be_focused()
    expect(say).not_to_have_text(heard)
    page.keyboard.press("ArrowUp")
    expect(drawing.locator('.lk-cell[data-row="0"][data-col="1"]')).to_be_focused()
    picture(page, "mappa-tastiera")
    page.keyboard.press("End")
    expect(drawing.locator('.lk-cell[data-row="0"][data-col="7"]')).to_be_focused()
    # The keys were for the map: JupyterLab has not taken one of them for an order about the cells.
    assert sources(saved(page, server, "03-namespace.ipynb")) == before

    page.get_by_role("button", name="Aggiorna").first.click()
    expect(drawing.locator(".lk-problem").first).to_be_empty()


@pytest.mark.slow
@pytest.mark.kernel
def test_the_life_line_grows_and_is_walked_with_the_arrows(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab/tree/09-ciclo-di-vita.ipynb"))
    idle(page)
    run_until(page, 'lab.lifeline("orologio")')
    line = page.locator(".jp-NotebookPanel .lk-board", has_text="orologio").first
    line.scroll_into_view_if_needed()
    spans = line.locator(".lk-cell")
    expect(spans).to_have_count(3)
    spans.nth(0).click()
    page.keyboard.press("ArrowRight")
    expect(spans.nth(1)).to_be_focused()
    expect(line.locator(".lk-say")).to_contain_text("orologio: gira")
    picture(page, "linea-della-vita")
    run_until(page, "print(orologio.logs()")  # it starts again: the line above knows by itself
    expect(spans).to_have_count(5, timeout=10_000)
    page.emulate_media(color_scheme="dark")
    line.scroll_into_view_if_needed()
    picture(page, "linea-della-vita-scura")


@pytest.mark.slow
@pytest.mark.kernel
def test_a_console_tells_the_boot_and_a_race_is_run_again(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab/tree/01-virtualizzazione.ipynb"))
    idle(page)
    run_until(page, "arrivi = gara.run()")
    screen = page.locator(".jp-NotebookPanel .lk-console").first
    screen.scroll_into_view_if_needed()
    expect(screen).to_contain_text("as init process")
    assert screen.evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 30  # the last line is in sight
    picture(page, "console")

    track = page.locator(".jp-NotebookPanel .lk-board", has_text="Dallo sparo").first
    track.scroll_into_view_if_needed()
    heard = track.locator(".lk-say").inner_text()
    page.get_by_role("button", name="Via!").first.click()
    running = re.compile("ai posti|parte…")  # whoever is quick leaves its place before anyone can look
    expect(track).to_contain_text(running)
    picture(page, "gara-corsa")
    expect(track.locator(".lk-say")).not_to_have_text(heard)
    expect(track).not_to_contain_text(running, timeout=60_000)
    expect(track).to_contain_text("ha visto il kernel", timeout=60_000)
    expect(track.locator(".lk-problem")).to_be_empty()


@pytest.mark.slow
@pytest.mark.kernel
def test_the_slider_makes_the_machine_work(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab/tree/02-paravirtualizzazione.ipynb"))
    idle(page)
    run_until(page, "figura = macchina.meter()")
    board = page.locator(".jp-NotebookPanel .lk-board", has=page.locator(".lk-say")).first
    board.scroll_into_view_if_needed()
    say = board.locator(".lk-say")
    expect(say).to_contain_text("virtio-blk 1.")
    heard = say.inner_text()
    handle = page.locator(".jp-NotebookPanel .widget-slider .noUi-handle").first
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(say).not_to_have_text(heard)
    expect(say).to_contain_text("Per 8")
    expect(board.locator(".lk-problem")).to_be_empty()
    picture(page, "accessi")


@pytest.mark.slow
@pytest.mark.kernel
def test_two_environments_are_compared_with_mouse_and_keyboard(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab/tree/12-variabili-ambiente.ipynb"))
    idle(page)
    run_until(page, "confronto = lab.compare")
    board = page.locator(".jp-NotebookPanel .lk-board", has=page.locator("[data-state]")).first
    board.scroll_into_view_if_needed()
    rows = board.locator("[data-state]")
    expect(rows).to_have_count(4)
    expect(board.locator(".lk-say")).to_have_text("4 variabili: 3 diverse e 1 uguale.")
    picture(page, "ambienti-chiaro")

    rows.first.focus()
    expect(rows.first).to_have_attribute("aria-label", re.compile("^COLORE, diversa: in rosso vale «tomato»"))
    page.keyboard.press("Tab")
    expect(rows.nth(1)).to_be_focused()
    picture(page, "ambienti-tastiera")

    page.get_by_label("solo le differenze").first.check()
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="Rileggi").first.click()
    expect(rows).to_have_count(3)
    page.locator("#jp-MainMenu .lm-MenuBar-item", has_text="Impostazioni").click()
    page.locator('.lm-Menu-item[data-type="submenu"]', has_text="Tema").first.click()
    page.locator('.lm-Menu-item[data-command="apputils:change-theme"]', has_text="JupyterLab scuro").first.click()
    expect(page.locator("body[data-jp-theme-light='false']")).to_be_attached()
    page.wait_for_timeout(500)
    picture(page, "ambienti-scuro")
    expect(board.locator(".lk-problem")).to_be_empty()


@pytest.mark.slow
@pytest.mark.kernel
def test_the_sliders_of_the_dashboard_set_the_limits_of_a_running_container(
    page: Page, server: Server, picture: Picture
) -> None:
    ui.open_lab(page, server.page("lab/tree/04-cgroup.ipynb"))
    idle(page)
    run_until(page, "lab.gauges(cavia)")
    board = page.locator(".jp-NotebookPanel .lk-board", has_text="ultimi 30 secondi").first
    board.scroll_into_view_if_needed()
    expect(board).to_contain_text("su 48 MiB")
    handles = page.locator(".jp-NotebookPanel .widget-slider .noUi-handle")
    handles.nth(0).focus()
    for _ in range(3):  # 32, 24, 16: less than the program takes at every wave
        page.keyboard.press("ArrowLeft")
    expect(board).to_contain_text("su 16 MiB")
    expect(board).to_contain_text("ucciso", timeout=30_000)
    handles.nth(1).focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(board).to_contain_text("fermato", timeout=30_000)
    expect(board.locator(".lk-problem")).to_be_empty()
    picture(page, "cruscotto")


@pytest.mark.slow
@pytest.mark.kernel
def test_the_explorer_opens_folders_and_follows_the_container(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab/tree/05-sola-lettura.ipynb"))
    idle(page)
    run_until(page, "lab.explore(cavia)")
    board = page.locator(".jp-NotebookPanel .lk-board", has_text="Gli strati di cavia").first
    board.scroll_into_view_if_needed()
    row = board.locator('.lk-cell[data-act="closed:/bin"]')
    row.focus()
    page.keyboard.press("Enter")
    expect(board.locator('.lk-cell[data-act="open:/bin"]')).to_be_focused(timeout=10_000)
    expect(board).to_contain_text("busybox")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press(" ")
    expect(row).to_be_visible(timeout=10_000)
    run_until(page, "cavia.exec([")
    expect(board).to_contain_text("cartella opaca: nasconde quella dello strato 1", timeout=30_000)
    expect(board.locator(".lk-problem")).to_be_empty()
    board.scroll_into_view_if_needed()
    picture(page, "esploratore")


@pytest.mark.slow
@pytest.mark.kernel
def test_a_prediction_is_made_with_the_keys_until_the_reveal(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab/tree/00-benvenuto.ipynb"))
    idle(page)
    run_until(page, 'predict("p-00-1"')
    before = sources(saved(page, server, "00-benvenuto.ipynb"))
    board = page.locator(".lk-choices").first
    board.scroll_into_view_if_needed()
    options = board.get_by_role("radio")
    options.first.focus()
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_be_checked()
    page.keyboard.press("ArrowUp")
    expect(options.first).to_be_checked()
    expect(board.get_by_role("status")).to_contain_text("annotata")
    for key in "dda":  # in command mode these delete the cell and make another one
        page.keyboard.press(key)
    picture(page, "previsione-tastiera")
    assert sources(saved(page, server, "00-benvenuto.ipynb")) == before

    run_until(page, "import socket")
    expect(options.first).to_be_disabled()
    expect(options.first).to_be_checked()
    expect(page.get_by_text("È successo proprio questo").first).to_be_visible()
    picture(page, "previsione-rivelata")


def run_all(page: Page, server: Server, lesson: str) -> None:
    """Open the lesson, run all its cells, wait for the last one."""
    ui.open_lab(page, server.page(f"lab/tree/{lesson}"))
    idle(page)
    page.locator("#jp-MainMenu .lm-MenuBar-item").nth(3).click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    waiting = page.locator('.jp-NotebookPanel .jp-InputPrompt:text-is("[*]:")')
    expect(waiting.first).to_be_attached(timeout=10_000)
    expect(waiting).to_have_count(0, timeout=LESSON_TIME)


def run_until(page: Page, source: str) -> None:
    """Run the cells above the first one that says ``source``, and that one."""
    target = page.locator(".jp-NotebookPanel .jp-CodeCell", has_text=source).first
    target.locator(".jp-InputArea-prompt").click()
    page.locator("#jp-MainMenu .lm-MenuBar-item").nth(3).click()
    page.locator(
        '.lm-Menu-item[data-command="notebook:run-all-above"], .lm-Menu-item[data-command="runmenu:run-above"]'
    ).first.click()
    page.keyboard.press("Control+Enter")
    expect(target.locator('.jp-InputPrompt:text-matches("\\\\[\\\\d+\\\\]:")')).to_be_visible(timeout=LESSON_TIME)


def idle(page: Page) -> None:
    """Wait for a kernel that has said who it is and has nothing to do."""
    expect(page.locator(".jp-NotebookPanel .jp-Toolbar-kernelName").first).to_contain_text("labkit")
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").first).to_be_attached(timeout=60_000)


def saved(page: Page, server: Server, lesson: str) -> dict[str, Any]:
    """The notebook on disk, after saving it as a student does."""
    path: Path = server.folder / lesson
    before = path.stat().st_mtime_ns
    cell: Locator = page.locator(".jp-NotebookPanel .jp-Cell").first
    cell.click()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    for _ in range(100):
        page.wait_for_timeout(100)
        with contextlib.suppress(json.JSONDecodeError):  # the server is still writing
            if path.stat().st_mtime_ns != before:
                return dict(json.loads(path.read_text()))
    raise AssertionError(f"{lesson} non è stato salvato")


def sources(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def error_of(cell: dict[str, Any]) -> str:
    """The error that a cell shows, unless showing it is what the cell is for."""
    if cell["cell_type"] != "code" or "raises-exception" in cell["metadata"].get("tags", []):
        return ""
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            return f"{''.join(cell['source'])}\n→ {output['ename']}: {output['evalue']}"
        if output["output_type"] == "stream" and re.search(r"Traceback|Error:", "".join(output["text"])):
            return f"{''.join(cell['source'])}\n→ {''.join(output['text'])}"
    return ""

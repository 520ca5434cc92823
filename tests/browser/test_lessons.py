"""Le lezioni come le fa uno studente: si apre la sua copia, si usano i widget, si esegue fino in fondo."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from labkit.course import notebook
from tests.browser.conftest import ROOT, Server
from tests.browser.desk import Desk, Picture, error_of
from tests.notebooks import running

LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))


def test_there_are_lessons() -> None:
    assert {"00-benvenuto.ipynb", "03-namespace.ipynb"} <= set(LESSONS)
    assert set(STOPS) <= set(LESSONS)


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
def test_the_students_copy_runs_from_top_to_bottom_and_its_widgets_answer(
    page: Page, server: Server, outside: list[str], problems: list[str], picture: Picture, lesson: str
) -> None:
    """Si apre una volta sola: si esegue fino al widget, lo si usa (:data:`STOPS`), e si va avanti fino in fondo."""
    desk = Desk(page, server, lesson, picture)
    desk.open()
    for words, use in STOPS.get(lesson, {}).items():
        desk.run_until(words)
        use(desk)
    desk.run_rest()
    name = lesson.removesuffix(".ipynb")
    picture(page, f"{name}-fine")
    for index, drawing in enumerate(page.locator(".lk-board").all()):
        drawing.scroll_into_view_if_needed()  # a cell far away draws itself when it comes near
        picture(page, f"{name}-widget-{index}")
    nb = desk.saved()
    assert [found for cell in nb["cells"] if (found := error_of(cell))] == []
    assert [notebook.text(cell["source"]) for cell in notebook.code_cells(nb) if not cell["execution_count"]] == []
    assert list(running.unhelpful(nb)) == []
    done = running.progress(server.folder)
    assert {key: done[key] for key in running.checks(nb)} == dict.fromkeys(running.checks(nb), False)
    assert outside == []
    assert problems == []


# ---- what is done with a widget


def a_prediction_is_made_with_the_keys(desk: Desk) -> None:
    page = desk.page
    before = desk.sources()
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
    desk.picture(page, "previsione-tastiera")
    assert desk.sources() == before


def the_reveal_closes_the_prediction(desk: Desk) -> None:
    options = desk.page.locator(".lk-choices").first.get_by_role("radio")
    expect(options.first).to_be_disabled()
    expect(options.first).to_be_checked()
    expect(desk.page.get_by_text("È successo proprio questo").first).to_be_visible()
    desk.picture(desk.page, "previsione-rivelata")


def the_console_tells_the_boot(desk: Desk) -> None:
    screen = desk.page.locator(".jp-NotebookPanel .lk-console").first
    screen.scroll_into_view_if_needed()
    expect(screen).to_contain_text("as init process")
    assert screen.evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 30  # the last line is in sight
    desk.picture(desk.page, "console")


def the_race_is_run_again(desk: Desk) -> None:
    track = desk.board(has_text="Dallo sparo")
    heard = track.locator(".lk-say").inner_text()
    desk.page.get_by_role("button", name="Via!").first.click()
    running = re.compile("ai posti|parte…")  # whoever is quick leaves its place before anyone can look
    expect(track).to_contain_text(running)
    desk.picture(desk.page, "gara-corsa")
    expect(track.locator(".lk-say")).not_to_have_text(heard)
    expect(track).not_to_contain_text(running, timeout=60_000)
    expect(track).to_contain_text("ha visto il kernel", timeout=60_000)
    expect(track.locator(".lk-problem")).to_be_empty()


def the_slider_makes_the_machine_work(desk: Desk) -> None:
    board = desk.board(has=desk.page.locator(".lk-say"))
    say = board.locator(".lk-say")
    expect(say).to_contain_text("virtio-blk 1.")
    heard = say.inner_text()
    desk.page.locator(".jp-NotebookPanel .widget-slider .noUi-handle").first.focus()
    desk.page.keyboard.press("ArrowRight")
    expect(say).not_to_have_text(heard)
    expect(say).to_contain_text("Per 8")
    expect(board.locator(".lk-problem")).to_be_empty()
    desk.picture(desk.page, "accessi")


def the_map_answers_to_mouse_and_keyboard(desk: Desk) -> None:
    page = desk.page
    before = desk.sources()
    drawing = desk.board(has=page.locator(".lk-cell"))
    cell = drawing.locator('.lk-cell[data-row="1"][data-col="0"]')
    say = drawing.locator(".lk-say")

    cell.hover()
    expect(drawing.locator("svg.lk-lit .lk-band.lk-on").first).to_be_visible()
    desk.picture(page, "mappa-mouse")
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
    desk.picture(page, "mappa-tastiera")
    page.keyboard.press("End")
    expect(drawing.locator('.lk-cell[data-row="0"][data-col="7"]')).to_be_focused()
    # The keys were for the map: JupyterLab has not taken one of them for an order about the cells.
    assert desk.sources() == before

    page.get_by_role("button", name="Aggiorna").first.click()
    expect(drawing.locator(".lk-problem").first).to_be_empty()


def the_sliders_set_the_limits_of_a_running_container(desk: Desk) -> None:
    board = desk.board(has_text="ultimi 30 secondi")
    expect(board).to_contain_text("su 48 MiB")
    handles = desk.page.locator(".jp-NotebookPanel .widget-slider .noUi-handle")
    handles.nth(0).focus()
    for _ in range(3):  # 32, 24, 16: less than the program takes at every wave
        desk.page.keyboard.press("ArrowLeft")
    expect(board).to_contain_text("su 16 MiB")
    expect(board).to_contain_text("ucciso")
    handles.nth(1).focus()
    for _ in range(3):
        desk.page.keyboard.press("ArrowLeft")
    expect(board).to_contain_text("fermato")
    expect(board.locator(".lk-problem")).to_be_empty()
    desk.picture(desk.page, "cruscotto")


def the_explorer_opens_folders_with_the_keys(desk: Desk) -> None:
    board = desk.board(has_text="Gli strati di cavia")
    row = board.locator('.lk-cell[data-act="closed:/bin"]')
    row.focus()
    desk.page.keyboard.press("Enter")
    expect(board.locator('.lk-cell[data-act="open:/bin"]')).to_be_focused()
    expect(board).to_contain_text("busybox")
    desk.page.keyboard.press("ArrowDown")
    desk.page.keyboard.press("ArrowUp")
    desk.page.keyboard.press(" ")
    expect(row).to_be_visible()


def the_explorer_follows_the_container(desk: Desk) -> None:
    board = desk.board(has_text="Gli strati di cavia")
    expect(board).to_contain_text("cartella opaca: nasconde quella dello strato 1")
    expect(board.locator(".lk-problem")).to_be_empty()
    desk.picture(desk.page, "esploratore")


def the_transfer_says_what_travels(desk: Desk) -> None:
    first, again = desk.board(has_text="Mando «corso/sito:1»"), desk.board(has_text="Mando «corso/sito:ultima»")
    expect(first).to_contain_text("mandato")
    expect(first.locator(".lk-say")).to_contain_text("hanno viaggiato")
    expect(again).to_contain_text("c'era già")
    expect(again.locator(".lk-say")).to_contain_text("non ha viaggiato niente")
    expect(again.locator(".lk-problem")).to_be_empty()
    desk.picture(desk.page, "viaggio")


def the_piles_change_with_the_boxes(desk: Desk) -> None:
    board = desk.board(has_text="Una per una")
    expect(board).to_contain_text("in comune a 4")
    desk.picture(desk.page, "pile")
    box = desk.page.get_by_role("checkbox", name="corso/nginx")
    box.focus()
    desk.page.keyboard.press(" ")
    expect(board).to_contain_text("in comune a 3")
    expect(board.locator(".lk-say")).to_contain_text("fanno risparmiare")


def the_life_line_is_walked_with_the_arrows(desk: Desk) -> None:
    line = desk.board(has_text="orologio")
    spans = line.locator(".lk-cell")
    expect(spans).to_have_count(3)
    spans.nth(0).click()
    desk.page.keyboard.press("ArrowRight")
    expect(spans.nth(1)).to_be_focused()
    expect(line.locator(".lk-say")).to_contain_text("orologio: gira")
    desk.picture(desk.page, "linea-della-vita")


def the_life_line_grows(desk: Desk) -> None:
    """Il container è ripartito in una cella più in basso: la linea lo sa da sola."""
    line = desk.board(has_text="orologio")
    expect(line.locator(".lk-cell")).to_have_count(5)
    desk.page.emulate_media(color_scheme="dark")
    desk.picture(desk.page, "linea-della-vita-scura")
    desk.page.emulate_media(color_scheme="light")


def the_mounts_are_walked_with_the_arrows(desk: Desk) -> None:
    board = desk.board(has_text="scuola")
    places = board.locator(".lk-cell")
    expect(places).to_have_count(4)
    places.nth(0).click()
    desk.page.keyboard.press("ArrowDown")
    expect(places.nth(1)).to_be_focused()
    expect(board.locator(".lk-say")).to_contain_text("sito, in /usr/share/nginx/html: volume l11-sito")
    desk.picture(desk.page, "chi-monta")


def two_environments_are_compared(desk: Desk) -> None:
    page = desk.page
    board = desk.board(has=page.locator("[data-state]"))
    rows = board.locator("[data-state]")
    expect(rows).to_have_count(4)
    expect(board.locator(".lk-say")).to_have_text("4 variabili: 3 diverse e 1 uguale.")
    desk.picture(page, "ambienti-chiaro")

    rows.first.focus()
    expect(rows.first).to_have_attribute("aria-label", re.compile("^COLORE, diversa: in rosso vale «tomato»"))
    page.keyboard.press("Tab")
    expect(rows.nth(1)).to_be_focused()
    desk.picture(page, "ambienti-tastiera")

    page.get_by_label("solo le differenze").first.check()
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="Rileggi").first.click()
    expect(rows).to_have_count(3)
    page.locator("#jp-MainMenu .lm-MenuBar-item", has_text="Impostazioni").click()
    page.locator('.lm-Menu-item[data-type="submenu"]', has_text="Tema").first.click()
    page.locator('.lm-Menu-item[data-command="apputils:change-theme"]', has_text="JupyterLab scuro").first.click()
    expect(page.locator("body[data-jp-theme-light='false']")).to_be_attached()
    desk.picture(page, "ambienti-scuro")
    expect(board.locator(".lk-problem")).to_be_empty()


#: In each lesson: the words of the cell to stop after, and what is done there.
STOPS: dict[str, dict[str, Callable[[Desk], None]]] = {
    "00-benvenuto.ipynb": {
        'predict("p-00-1"': a_prediction_is_made_with_the_keys,
        "import socket": the_reveal_closes_the_prediction,
    },
    "01-virtualizzazione.ipynb": {
        "macchina.console(live=True)": the_console_tells_the_boot,
        "arrivi = gara.run()": the_race_is_run_again,
    },
    "02-paravirtualizzazione.ipynb": {"figura = macchina.meter()": the_slider_makes_the_machine_work},
    "03-namespace.ipynb": {"namespace_widget(lab)": the_map_answers_to_mouse_and_keyboard},
    "04-cgroup.ipynb": {"lab.gauges(cavia)": the_sliders_set_the_limits_of_a_running_container},
    "05-sola-lettura.ipynb": {
        "lab.explore(cavia)": the_explorer_opens_folders_with_the_keys,
        "cavia.exec([": the_explorer_follows_the_container,
    },
    "06-immagini.ipynb": {"pile = lab.stack(": the_piles_change_with_the_boxes},
    "07-registro.ipynb": {"ancora = registro.log(": the_transfer_says_what_travels},
    "09-ciclo-di-vita.ipynb": {
        'lab.lifeline("orologio")': the_life_line_is_walked_with_the_arrows,
        "print(orologio.logs()": the_life_line_grows,
    },
    "11-volumi.ipynb": {"mappa = lab.mounts(": the_mounts_are_walked_with_the_arrows},
    "12-variabili-ambiente.ipynb": {"confronto = lab.compare": two_environments_are_compared},
}

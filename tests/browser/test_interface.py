"""JupyterLab come lo apre uno studente: in italiano, sulla prima lezione, senza chiedere niente a nessuno."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from labkit.course.italiano.server import sentences
from tests.browser import ui
from tests.browser.conftest import Server, blank

Picture = Callable[[Page, str], None]
Labels = list[tuple[str, ...]]

#: The same in the two languages: the pack says so, and the names of the export formats, which no pack can say.
SAME = {
    key.rpartition("\x04")[2] for key, forms in sentences("jupyterlab").items() if forms == [key.rpartition("\x04")[2]]
}
SAME |= {"Asciidoc", "Qtpdf", "Qtpng", "Webpdf", "jupyter", "none", "ipythongfm"}
#: What the kernel of the course says is Italian in every language.
SAME |= {"Manuale di Python", "Pagine di manuale di Linux"}


@contextmanager
def english(server: Server) -> Iterator[None]:
    """While inside, JupyterLab speaks English."""
    _set_locale(server, "en")
    try:
        yield
    finally:
        _set_locale(server, "it_IT")


def _set_locale(server: Server, locale: str) -> None:
    request = urllib.request.Request(
        f"{server.origin}/lab/api/settings/@jupyterlab/translation-extension:plugin",
        data=json.dumps({"raw": json.dumps({"locale": locale})}).encode(),
        headers={"Authorization": f"token {server.address.partition('token=')[2]}", "Content-Type": "application/json"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204


def untranslated(italian: Labels, english: Labels) -> list[str]:
    """Le etichette uguali nelle due lingue che non sono nomi, con il menu in cui stanno."""
    known = {path[-1] for path in english}
    return [
        " → ".join(path) for path in italian if path[-1] in known and path[-1] not in SAME and not _is_data(path[-1])
    ]


def _is_data(label: str) -> bool:
    """A file, a folder, a number: not a word of the interface."""
    return bool(re.search(r"[./]|^[\W\d]+$", label)) and not label.endswith("…")


def test_the_command_says_one_address_in_italian_and_only_on_this_machine(server: Server) -> None:
    assert re.search(r"JupyterLab è pronto: http://127\.0\.0\.1:\d+/\?token=\w{32,}", server.said)
    assert "Per finire: Ctrl-C" in server.said


def test_lesson_00_is_in_front_without_news_and_without_asking_the_network(
    page: Page, server: Server, outside: list[str], picture: Picture
) -> None:
    ui.open_lab(page, server.address)
    expect(page.locator(".jp-NotebookPanel:visible .jp-Cell").first).to_be_visible()
    expect(page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab.lm-mod-current")).to_contain_text("00-benvenuto")
    expect(page.locator(".jp-Toolbar-kernelName:visible")).to_contain_text("labkit")
    page.wait_for_timeout(2000)  # news and dialogs come late
    picture(page, "lezione-00")
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(".Toastify__toast").count() == 0
    assert outside == []


def test_the_launcher_offers_the_kernel_of_the_course_and_no_other(
    page: Page, server: Server, picture: Picture
) -> None:
    ui.open_lab(page, server.page("lab"))
    cards = page.locator('.jp-LauncherCard[data-category="Notebook"], .jp-LauncherCard[data-category="Console"]')
    expect(cards.first).to_be_visible()
    picture(page, "avvio")
    assert [card.inner_text().strip() for card in cards.all()] == ["labkit", "labkit"]
    assert all(image.evaluate("e => e.naturalWidth") > 0 for image in cards.locator("img").all())
    words = page.locator(".jp-Launcher-body").inner_text()
    assert "Terminale" in words
    assert "Other" not in words


def test_no_english_is_left_in_the_menus_of_a_notebook(page: Page, server: Server, picture: Picture) -> None:
    address = server.page("lab/tree/03-namespace.ipynb")
    italian = _all_menus(page, address, ".jp-NotebookPanel .jp-CodeCell")
    with english(server):
        labels = _all_menus(page, address, ".jp-NotebookPanel .jp-CodeCell")
    assert [path[0] for path in labels if len(path) == 1][:8] == [
        *("File", "Edit", "View", "Run", "Kernel", "Tabs", "Settings", "Help"),
    ]
    assert len(italian) > 150
    assert untranslated(italian, labels) == []
    # JupyterLab joins two commands as they are: «Riavvia il kernel e Esegui tutte le celle».
    assert [path for path in italian if re.search(r"\be [A-Z][a-z]+[aei] ", path[-1])] == []
    ui.open_lab(page, address)
    page.locator("#jp-MainMenu .lm-MenuBar-item").nth(3).click()
    picture(page, "menu-esegui")


def test_no_english_is_left_in_the_menus_of_a_text_file(page: Page, server: Server) -> None:
    (server.folder / "appunti.txt").write_text("ciao\n")
    address = server.page("lab/tree/appunti.txt")
    italian = _all_menus(page, address, ".jp-FileEditor")
    with english(server):
        labels = _all_menus(page, address, ".jp-FileEditor")
    assert untranslated(italian, labels) == []


def _all_menus(page: Page, address: str, content: str) -> Labels:
    """The labels of the menu bar and of the context menus of the content, of its tab, and of the files."""
    ui.open_lab(page, address)
    page.locator(content).first.wait_for()
    labels = ui.menu_labels(page)
    for target in (content, ".lm-DockPanel-tabBar .lm-TabBar-tab", ".jp-DirListing-item", ".jp-SideBar .lm-TabBar-tab"):
        labels.extend(ui.context_labels(page, page.locator(target).first))
    return labels


@pytest.fixture(scope="module")
def lesson(browser: Browser, server: Server) -> Iterator[Page]:
    """La lezione 00 aperta, per le prove che guardano e non cambiano niente."""
    with blank(browser) as page:
        ui.open_lab(page, server.page("lab/tree/00-benvenuto.ipynb"))
        expect(page.locator(".jp-Toolbar-kernelName:visible")).to_contain_text("labkit")
        expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")).to_be_attached()
        yield page


@pytest.mark.parametrize(
    ("command", "menu", "words"),
    [
        ("kernelmenu:restart", 4, ["Riavviare il kernel?", "Annulla", "Riavvia"]),
        ("kernelmenu:change", 4, ["Scegli il kernel", "labkit", "Scegli"]),
        ("filemenu:shutdown", 0, ["Spegn", "Annulla"]),
        ("docmanager:rename", 0, ["Cambia nome", "Annulla"]),
        ("help:about", 7, ["chi ha contribuito", "Chiudi"]),
    ],
)
def test_the_common_questions_are_in_italian(lesson: Page, command: str, menu: int, words: list[str]) -> None:
    page = lesson
    page.locator("#jp-MainMenu .lm-MenuBar-item").nth(menu).click()
    page.locator(f'.lm-Menu-item[data-command="{command}"]').first.click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_be_visible()
    said = dialog.inner_text()
    assert all(word in said for word in words), said
    assert not re.search(r"\b(Cancel|Restart|Select|Rename|Close|Shut Down|No Kernel)\b", said), said
    dialog.locator("button", has_text=re.compile("Annulla|Chiudi")).last.click()
    expect(dialog).to_have_count(0)


def test_the_status_bar_and_the_tool_bar_are_in_italian(lesson: Page) -> None:
    assert "Modalità" in lesson.locator("#jp-bottom-panel").inner_text()
    titles = lesson.locator(".jp-NotebookPanel-toolbar:visible [title]").evaluate_all("all => all.map(e => e.title)")
    assert [
        t for t in titles if re.search(r"\b(the|cell|kernel and|Save|Insert|Cut|Copy|Paste|Run|Restart)\b", t)
    ] == []


def test_a_terminal_of_jupyterlab_knows_the_command_labkit(page: Page, server: Server) -> None:
    ui.open_lab(page, server.page("lab"))
    page.locator('.jp-LauncherCard[title="Apri un nuovo terminale"]').click()
    screen = page.locator(".jp-Terminal .xterm-helper-textarea")
    screen.wait_for(state="attached")
    page.wait_for_timeout(1500)  # the shell draws its prompt
    page.keyboard.type(f"command -v labkit > {server.folder}/trovato\n")
    page.wait_for_timeout(500)
    for _ in range(50):
        if (server.folder / "trovato").exists() and (server.folder / "trovato").read_text().strip():
            break
        page.wait_for_timeout(200)
    assert (server.folder / "trovato").read_text().strip().endswith("/labkit")


def test_the_settings_are_in_italian(page: Page, server: Server, picture: Picture) -> None:
    ui.open_lab(page, server.page("lab"))
    page.locator("#jp-MainMenu .lm-MenuBar-item").nth(6).click()
    page.locator('.lm-Menu-item[data-command="settingeditor:open"]').click()
    page.locator(".jp-PluginList-entry", has_text="Notebook").first.click()
    form = page.locator(".jp-SettingsForm, .jp-SettingsEditor").first
    expect(form).to_contain_text("Impostazioni del notebook.")
    picture(page, "impostazioni")
    listed = page.locator(".jp-PluginList-entry-label-text").all_inner_texts()
    assert len(listed) > 20
    assert {"Scorciatoie da tastiera", "Terminale", "Lingua"} <= {name.strip() for name in listed}
    labels = form.locator(
        ".jp-FormGroup-fieldLabel, .jp-FormGroup-description, .rjsf-field-description"
    ).all_inner_texts()
    assert [text for text in labels if re.search(r"\b(the|whether|cell|should|when)\b", text, re.IGNORECASE)] == []

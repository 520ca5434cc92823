"""Una lezione aperta in JupyterLab, e le mani di chi la fa: esegue un pezzo alla volta, salva, guarda."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser import ui
from tests.browser.conftest import Server

Picture = Callable[[Page, str], None]

#: A whole lesson, on a slow machine with other tests beside it.
LESSON_TIME = 300_000
#: The prompts of a cell that nobody has run, that runs, that has run.
NEW, RUNNING, DONE = ':text-is("[ ]:")', ':text-is("[*]:")', r':text-matches("\\[\\d+\\]:")'


@dataclass(frozen=True)
class Desk:
    """La copia di ``lesson`` (il nome del file) nella scheda ``page``; ``picture`` conserva ciò che si vede."""

    page: Page
    server: Server
    lesson: str
    picture: Picture

    def open(self) -> None:
        """Apre la lezione e aspetta un kernel che ha detto chi è e non ha niente da fare."""
        ui.open_lab(self.page, self.server.page(f"lab/tree/{self.lesson}"))
        expect(self.page.locator(".jp-NotebookPanel .jp-Toolbar-kernelName").first).to_contain_text("labkit")
        idle = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").first
        expect(idle).to_be_attached(timeout=60_000)

    def cell(self, source: str) -> Locator:
        """La prima cella di codice che dice ``source``."""
        return self.page.locator(".jp-NotebookPanel .jp-CodeCell", has_text=source).first

    def board(self, **having: Any) -> Locator:
        """Il primo disegno fatto così (``has_text=``, ``has=``), portato sullo schermo."""
        found = self.page.locator(".jp-NotebookPanel .lk-board", **having).first
        found.scroll_into_view_if_needed()
        return found

    def run_until(self, source: str) -> None:
        """Esegue le celle non ancora eseguite fino alla prima che dice ``source``, compresa."""
        target = self.cell(source)
        self._prompts(NEW).first.click()
        target.locator(".jp-InputArea-prompt").click(modifiers=["Shift"])
        self.page.keyboard.press("Control+Enter")
        expect(target.locator(f".jp-InputPrompt{DONE}")).to_be_visible(timeout=LESSON_TIME)

    def run_rest(self) -> None:
        """Esegue le celle non ancora eseguite, fino in fondo o fino alla prima che fallisce."""
        self._prompts(NEW).first.click()
        self.page.locator("#jp-MainMenu .lm-MenuBar-item").nth(3).click()
        self.page.locator('.lm-Menu-item[data-command$=":run-all-below"]').click()
        last = self.page.locator(".jp-NotebookPanel .jp-CodeCell").last.locator(f".jp-InputPrompt{DONE}")
        busy = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status='busy']")
        # A cell that is far from the screen may have no prompt: that nothing seems to run must be true for a while.
        still, end = 0, time.monotonic() + LESSON_TIME / 1000
        while still < 50 and not last.count() and time.monotonic() < end:
            self.page.wait_for_timeout(100)
            still = 0 if self._prompts(RUNNING).count() or busy.count() else still + 1

    def saved(self) -> dict[str, Any]:
        """Il notebook su disco, dopo averlo salvato come fa uno studente."""
        path = self.server.folder / self.lesson
        before = path.stat().st_mtime_ns
        self.page.locator(".jp-NotebookPanel .jp-Cell").first.click()
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")
        for _ in range(200):
            self.page.wait_for_timeout(100)
            with contextlib.suppress(json.JSONDecodeError):  # the server is still writing
                if path.stat().st_mtime_ns != before:
                    return dict(json.loads(path.read_text()))
        raise AssertionError(f"{self.lesson} non è stato salvato")

    def sources(self) -> list[str]:
        """Il testo delle celle, com'è su disco dopo aver salvato."""
        return ["".join(cell["source"]) for cell in self.saved()["cells"]]

    def _prompts(self, state: str) -> Locator:
        return self.page.locator(f".jp-NotebookPanel .jp-InputPrompt{state}")


def error_of(cell: dict[str, Any]) -> str:
    """L'errore che una cella mostra, a meno che mostrarlo sia il suo mestiere."""
    if cell["cell_type"] != "code" or "raises-exception" in cell["metadata"].get("tags", []):
        return ""
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            return f"{''.join(cell['source'])}\n→ {output['ename']}: {output['evalue']}"
        if output["output_type"] == "stream" and re.search(r"Traceback|Error:", "".join(output["text"])):
            return f"{''.join(cell['source'])}\n→ {''.join(output['text'])}"
    return ""

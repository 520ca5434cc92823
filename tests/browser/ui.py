"""Walks JupyterLab as a person does: opens every menu, reads every label, waits for what is on screen."""

from __future__ import annotations

from collections.abc import Iterator

from playwright.sync_api import Locator, Page

READY = "#jupyterlab-splash"


def open_lab(page: Page, url: str) -> None:
    """Open JupyterLab and wait until its splash screen is gone and the menu bar is there."""
    page.goto(url)
    page.wait_for_selector(READY, state="detached", timeout=60_000)
    page.wait_for_selector(".lm-MenuBar-item", timeout=60_000)


def menu_labels(page: Page) -> list[tuple[str, ...]]:
    """Every label of the menu bar, as paths: ``("File", "Nuovo", "Console")``."""
    bar = page.locator("#jp-MainMenu .lm-MenuBar-item")
    paths: list[tuple[str, ...]] = []
    for index in range(bar.count()):
        title = bar.nth(index).inner_text().strip()
        if not title:
            continue
        paths.append((title,))
        bar.nth(index).click()
        paths.extend((title, *rest) for rest in _walk(page, depth=0))
        _close_menus(page)
    return paths


def context_labels(page: Page, target: Locator) -> list[tuple[str, ...]]:
    """Every label of the menu that a right click on ``target`` opens."""
    target.click(button="right")
    page.locator(".lm-Menu").first.wait_for()
    paths = list(_walk(page, depth=0))
    _close_menus(page)
    return paths


def _close_menus(page: Page) -> None:
    while page.locator(".lm-Menu").count():  # one Escape for each open submenu
        page.keyboard.press("Escape")


# One call reads a whole menu: asking item by item, the menu may close in between.
_ITEMS = """menu => [...menu.querySelectorAll(":scope > .lm-Menu-content > .lm-Menu-item")]
  .filter(item => item.dataset.type !== "separator" && item.offsetParent !== null)
  .map(item => [item.querySelector(".lm-Menu-itemLabel").innerText.trim(),
                item.dataset.type === "submenu" && !item.classList.contains("lm-mod-disabled")])"""


def _walk(page: Page, depth: int) -> Iterator[tuple[str, ...]]:
    menu = page.locator(".lm-Menu").nth(depth)
    menu.wait_for()
    submenus = menu.locator(
        ':scope > .lm-Menu-content > .lm-Menu-item[data-type="submenu"]:not(.lm-mod-disabled):visible'
    )
    opened = 0
    for label, has_submenu in menu.evaluate(_ITEMS):
        yield (label,)
        if has_submenu:
            submenus.nth(opened).click()
            opened += 1
            yield from ((label, *rest) for rest in _walk(page, depth + 1))
            page.keyboard.press("ArrowLeft")
            page.locator(".lm-Menu").nth(depth + 1).wait_for(state="detached")

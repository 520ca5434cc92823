"""Le presentazioni come le apre chi insegna: un file, nessuna rete, e ogni slide ci sta."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from labkit.course.slides import build, npm
from labkit.course.slides.courses import deck_paths, read_courses
from labkit.course.slides.deck import read
from labkit.errors import LabError, NotFoundError
from tests.browser import ui
from tests.browser.conftest import ROOT, SCREEN, running

Picture = Callable[[Page, str], None]
SLIDES = ROOT / "slides"
DECKS = deck_paths(SLIDES)
#: Under this line the slide's number and the arrows live.
FOOT = 700
SHEET = (1280, 720)

MEASURE = """() => {
  const slide = Reveal.getCurrentSlide(), sheet = slide.querySelector(".foglio"), scale = Reveal.getScale();
  const top = sheet.getBoundingClientRect().top;
  const bottoms = [...sheet.children].filter(e => e.getClientRects().length)
    .map(e => (e.getBoundingClientRect().bottom - top) / scale);
  const cut = [...slide.querySelectorAll("pre")].some(e => e.scrollWidth > e.clientWidth + 1);
  return { title: slide.querySelector("h1").textContent, height: sheet.scrollHeight, width: sheet.scrollWidth,
    bottom: Math.max(...bottoms), cut };
}"""


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    cached = all((npm.cache_folder() / package.folder).is_dir() for package in (npm.REVEAL, npm.REQUIRE, npm.WIDGETS))
    if not cached and shutil.which("npm") is None:
        pytest.skip("serve npm: sudo apt install npm")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, course_images: Path) -> Callable[[str], Path]:
    """Costruisce un mazzo, una volta sola, e dà il file."""
    out = tmp_path_factory.mktemp("mazzi")

    def make(name: str) -> Path:
        path = out / f"{name}.html"
        return path if path.exists() else build(name, out, source=SLIDES)[0]

    return make


@pytest.fixture
def alone(browser: Browser) -> Iterator[Page]:
    """Una pagina a cui la rete è tolta, e che annota ogni errore e ogni richiesta."""
    context = browser.new_context(viewport=SCREEN, offline=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.problems = []  # type: ignore[attr-defined]
    note = page.problems.append  # type: ignore[attr-defined]
    page.on("console", lambda message: note(message.text[:300]) if message.type == "error" else None)
    page.on("pageerror", lambda error: note(str(error)[:300]))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else note(f"rete: {r.url}"))
    yield page
    context.close()


def show(page: Page, path: Path, query: str = "") -> int:
    page.goto(path.as_uri() + query)
    page.wait_for_selector("html[data-pronto]", state="attached")
    views = page.locator('script[type="application/vnd.jupyter.widget-view+json"]').count()
    page.wait_for_function(
        "n => document.querySelectorAll('.vivo .widget-subarea, .vivo .jupyter-widgets').length >= n", arg=views
    )
    return int(page.evaluate("Reveal.getTotalSlides()"))


def test_there_are_decks() -> None:
    assert {"00-benvenuto", "03-namespace"} <= set(DECKS)


@pytest.mark.slow
@pytest.mark.kernel
@pytest.mark.parametrize("name", DECKS)
def test_every_slide_fits_and_asks_nothing(
    alone: Page, built: Callable[[str], Path], picture: Picture, name: str
) -> None:
    total = show(alone, built(name))
    assert total == len(read(DECKS[name]).slides) + 1
    wrong = []
    for index in range(total):
        alone.evaluate(
            "i => { const x = Reveal.getIndices(Reveal.getSlides()[i]); Reveal.slide(x.h, x.v, 99); }", index
        )
        alone.wait_for_timeout(100)
        found = alone.evaluate(MEASURE)
        if found["width"] > SHEET[0] or found["height"] > SHEET[1] or found["bottom"] > FOOT or found["cut"]:
            wrong.append(found)
        picture(alone, f"slide-{name}-{index:02}")
    assert wrong == []
    assert alone.problems == []  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.kernel
def test_a_widget_in_a_deck_is_alive_without_a_kernel(alone: Page, built: Callable[[str], Path]) -> None:
    show(alone, built("03-namespace"))
    cell = alone.locator(".vivo .lk-cell").first
    slide = cell.locator("xpath=ancestor::section[1]")
    slide.evaluate("s => { const x = Reveal.getIndices(s); Reveal.slide(x.h, x.v, 99); }")
    cell.hover()
    alone.locator(".vivo svg.lk-lit").wait_for()
    assert alone.locator(".vivo .lk-say").first.inner_text() == cell.get_attribute("data-say")


@pytest.mark.slow
@pytest.mark.kernel
def test_the_speaker_reads_the_notes_in_another_window(
    alone: Page, built: Callable[[str], Path], picture: Picture
) -> None:
    show(alone, built("00-benvenuto"))
    first = read(DECKS["00-benvenuto"]).slides[0]
    alone.keyboard.press("ArrowRight")
    with alone.expect_popup() as popup:
        alone.keyboard.press("s")
    speaker = popup.value
    words = " ".join(speaker.inner_text("#note").split())
    assert words == " ".join(re.sub(r"[*`]", "", first.notes).split())
    assert speaker.inner_text("#ora") == first.title
    picture(speaker, "note-di-chi-parla")
    speaker.keyboard.press("ArrowLeft")
    assert alone.evaluate("Reveal.getIndices().h") == 0
    assert alone.locator("aside.notes").first.is_hidden()


@pytest.mark.slow
@pytest.mark.kernel
def test_the_keys_are_explained_in_italian(alone: Page, built: Callable[[str], Path]) -> None:
    show(alone, built("00-benvenuto"))
    alone.keyboard.press("?")
    assert "schermo intero" in alone.get_by_role("dialog").inner_text()
    alone.keyboard.press("Escape")
    assert alone.locator("#tasti").is_hidden()
    assert alone.locator("html").get_attribute("lang") == "it"
    labels = alone.locator(".controls button").evaluate_all("all => all.map(b => b.getAttribute('aria-label'))")
    assert set(labels) == {"slide precedente", "slide successiva", "torna su", "approfondimento"}


@pytest.mark.slow
@pytest.mark.kernel
def test_the_pdf_has_one_page_for_each_slide(alone: Page, built: Callable[[str], Path], tmp_path: Path) -> None:
    total = show(alone, built("00-benvenuto"), "?print-pdf")
    alone.locator(".pdf-page").first.wait_for()
    data = alone.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page[^s]", data)) == total


@pytest.mark.slow
@pytest.mark.kernel
def test_a_short_course_skips_what_goes_deeper_and_links_its_decks(alone: Page, tmp_path: Path) -> None:
    source = shutil.copytree(SLIDES, tmp_path / "slides")
    for path in source.glob("*.md"):  # what the code gives is shown by the whole decks
        path.write_text(re.sub(r"^```python.*?^```", "*codice*", path.read_text(), flags=re.MULTILINE | re.DOTALL))
    written = build(course="seminario", out=tmp_path, source=source)
    course = read_courses(SLIDES)["seminario"]
    assert [path.stem for path in written] == [*(stage.deck for stage in course.stages), "index"]
    alone.goto(written[-1].as_uri())
    alone.get_by_role("link").first.click()
    alone.wait_for_selector("html[data-pronto]", state="attached")
    deck = read(DECKS[course.stages[0].deck])
    assert alone.evaluate("Reveal.getTotalSlides()") == 1 + sum(not slide.deeper for slide in deck.slides)
    assert any(slide.deeper for slide in deck.slides)
    assert alone.problems == []  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.kernel
def test_a_deck_is_shown_live_in_jupyterlab_without_asking_the_network(
    page: Page, picture: Picture, tmp_path: Path
) -> None:
    pytest.importorskip("jupyterlab_rise")
    asked: list[str] = []
    with running(tmp_path, "slides", "live", "03", str(tmp_path / "classe")) as (address, _):
        origin = address.partition("/?")[0]
        page.on("request", lambda r: None if r.url.startswith((origin, "data:", "blob:")) else asked.append(r.url))
        ui.open_lab(page, address)
        page.locator(".jp-NotebookPanel .jp-Cell").first.click()
        page.keyboard.press("Alt+r")
        show = page.frame_locator("iframe")
        show.get_by_role("heading", name="I namespace").first.wait_for()
        page.locator("iframe").focus()
        page.keyboard.press("Space")
        show.get_by_role("heading", name="Il trucco, in otto pezzi").first.wait_for()
        picture(page, "dal-vivo")
    assert asked == []


def test_without_npm_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="npm") as caught:
        npm.text(npm.REVEAL, "dist/reveal.js")
    assert caught.value.remedy == "sudo apt install npm"
    assert not (tmp_path / "cache").exists()


def test_a_package_that_arrives_different_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "npm").write_text("#!/bin/sh\necho altro > reveal.js-5.2.1.tgz\n")
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(LabError, match="diverso"):
        npm.text(npm.REVEAL, "dist/reveal.js")
    assert list((tmp_path / "cache").iterdir()) == []

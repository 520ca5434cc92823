"""Il comando ``labkit slides``: costruisce le presentazioni, le mostra dal vivo, elenca i corsi."""

from __future__ import annotations

import html
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from labkit.client.italian import Parser
from labkit.course.slides import page, run
from labkit.course.slides.courses import Course, deck_paths, find_course, find_deck, read_courses
from labkit.course.slides.deck import Deck, read
from labkit.course.student import STATE, write_atomic
from labkit.errors import LabError, NotFoundError


def source_folder() -> Path:
    """La cartella dei mazzi: ``LABKIT_SLIDES``, o ``slides`` del progetto, o quella installata."""
    project = Path(__file__).resolve().parents[3] / "slides"
    installed = Path(sys.prefix) / "share" / "labkit" / "slides"
    chosen = os.environ.get("LABKIT_SLIDES")
    for folder in [Path(chosen)] if chosen else [project, installed]:
        if folder.is_dir():
            return folder.resolve()
    raise NotFoundError(
        "Le slide del corso non ci sono in questa installazione.",
        "LABKIT_SLIDES=/percorso/delle/slides labkit slides build",
    )


def build(
    wanted: str = "all",
    out: str | os.PathLike[str] | None = None,
    *,
    course: str = "",
    source: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Costruisce i mazzi e restituisce i file HTML scritti, ognuno completo e senza bisogno della rete.

    ``wanted`` è ``all``, un numero (``03``) o un nome; ``course`` sceglie invece i mazzi di un corso
    e aggiunge la sua pagina ``index.html``. Senza ``out`` si scrive in ``build/slides``. Le celle si
    eseguono in questo momento su questa macchina. Solleva :class:`~labkit.errors.LabError` se un
    mazzo è scritto male, una cella fallisce o manca npm.
    """
    folder = source_folder() if source is None else Path(source).resolve()
    target = Path(out).expanduser() if out is not None else Path("build", "slides")
    chosen = find_course(folder, course) if course else None
    if chosen is not None:
        paths = [find_deck(folder, stage.deck) for stage in chosen.stages]
    elif wanted == "all":
        paths = list(deck_paths(folder).values())
    else:
        paths = [find_deck(folder, wanted)]
    target.mkdir(parents=True, exist_ok=True)
    decks = [read(path) for path in paths]  # every deck is read before the first cell runs
    written = [_build_one(deck if chosen is None or chosen.deeper else deck.short(), target) for deck in decks]
    if chosen is not None:
        index = target / "index.html"
        write_atomic(index, _index(chosen, decks).encode())
        written.append(index)
    return written


def _build_one(deck: Deck, target: Path) -> Path:
    print(f"{deck.lesson}: eseguo e impagino… ", end="", flush=True)
    path = target / f"{deck.lesson}.html"
    write_atomic(path, page.render(deck, run.execute(deck)).encode())
    print(path, flush=True)
    return path


def _index(course: Course, decks: list[Deck]) -> str:
    rows = "".join(
        f'<li><a href="{deck.lesson}.html">{html.escape(deck.title)}</a>: {html.escape(deck.subtitle)} '
        f"({stage.minutes} min{f', poi {stage.lab_minutes} min di laboratorio' if stage.lab_minutes else ''})</li>"
        for stage, deck in zip(course.stages, decks, strict=True)
    )
    return (
        f'<!DOCTYPE html><html lang="it"><meta charset="utf-8"><title>{html.escape(course.title)}</title>'
        "<style>body{font:20px/1.6 system-ui,sans-serif;max-width:48rem;margin:3rem auto;padding:0 1rem}</style>"
        f"<h1>{html.escape(course.title)}</h1><ol>{rows}</ol></html>\n"
    )


def live(
    wanted: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    browser: bool = True,
    port: int = 8888,
    source: str | os.PathLike[str] | None = None,
) -> int:
    """Mostra un mazzo dal vivo: lo mette come notebook in ``folder``/presentazioni e apre JupyterLab lì.

    In JupyterLab «Mostra come presentazione» (Alt+R) lo proietta; le celle si eseguono davanti alla
    classe. Ha bisogno dell'estensione ``jupyterlab-rise``.
    """
    from importlib.util import find_spec

    from labkit.course import launch
    from labkit.course.notebook import dump

    if find_spec("jupyterlab_rise") is None:
        raise NotFoundError(
            "Per proiettare dal vivo serve l'estensione jupyterlab-rise.", "pip install 'dentro-i-container[live]'"
        )
    decks = source_folder() if source is None else Path(source).resolve()
    deck = read(find_deck(decks, wanted))
    target = Path(launch.DEFAULT_FOLDER if folder is None else folder).expanduser().absolute() / "presentazioni"
    (target / STATE).mkdir(parents=True, exist_ok=True)
    shutil.copytree(deck.folder / "figure", target / "figure", dirs_exist_ok=True)
    write_atomic(target / f"{deck.lesson}.ipynb", dump(run.to_notebook(deck)))
    return launch.serve(target, page=f"/lab/tree/{deck.lesson}.ipynb", browser=browser, port=port)


def main(arguments: Sequence[str] | None = None) -> int:
    """Il comando ``labkit slides``: restituisce il codice di uscita."""
    parser = Parser(prog="labkit slides", description="Le presentazioni del corso.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="AZIONE", title="azioni")
    making = actions.add_parser("build", help="costruisce i file HTML, che si aprono senza rete")
    making.value("deck", nargs="?", default="all", metavar="NN", help="un mazzo, o «all» per tutti")
    making.option("--out", type=Path, metavar="CARTELLA", help="la cartella in cui scrivere (build/slides)")
    making.option("--corso", default="", metavar="NOME", help="i mazzi di un corso, con la pagina indice")
    showing = actions.add_parser("live", help="mostra un mazzo dal vivo in JupyterLab")
    showing.value("deck", metavar="NN", help="il mazzo")
    showing.value("folder", nargs="?", type=Path, metavar="CARTELLA", help="la cartella di chi insegna")
    showing.flag("--no-browser", help="non aprire il browser")
    showing.option("--port", type=int, default=8888, metavar="PORTA", help="la porta da provare per prima (8888)")
    actions.add_parser("corsi", help="i corsi che si possono fare, con i tempi")
    try:
        options = parser.parse_args(arguments)
        if options.action == "build":
            build(options.deck, options.out, course=options.corso)
        elif options.action == "live":
            return live(options.deck, options.folder, browser=not options.no_browser, port=options.port)
        else:
            print("\n\n".join(map(str, read_courses(source_folder()).values())))
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0

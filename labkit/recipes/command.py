"""Il comando ``labkit course-images``: fa le immagini del corso che mancano, una riga per ogni passo."""

from __future__ import annotations

import argparse
import sys
import time

from labkit.images.store import Store
from labkit.recipes.book import RECIPES
from labkit.recipes.making import make, missing


def course_images(args: argparse.Namespace) -> int:
    """prepara le immagini del corso: base, nginx, mariadb, app"""
    store = Store()
    if args.list:
        absent = set(missing(store))
        for name, recipe in RECIPES.items():
            print(f"{name:<14} {'da fare' if name in absent else 'pronta':<8} {recipe.about}")
        return 0
    start = time.monotonic()
    made = make(store, args.names, again=args.force, say=_say)
    if made:
        print(f"Pronte in {time.monotonic() - start:.0f} secondi: {', '.join(made)}.")
    elif not args.quiet:
        print("Le immagini del corso ci sono già.")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

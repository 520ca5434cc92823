"""Chi esegue i notebook: da root tutti i modi, da utente normale solo il proprio."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import course_images, users


@pytest.fixture(scope="session")
def run_as(request: pytest.FixtureRequest, course_seed: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Come ``run_as`` di tutti, ma un utente normale non salta la prova nel suo modo."""
    mine = users.mode()
    if mine == "root":
        everyones: users.RunAs = request.getfixturevalue("run_as")  # the fixture that this one stands before
        return everyones
    course_images.give(Path(os.environ["LABKIT_IMAGES"]))

    def run(who: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if who != mine:
            pytest.skip(f"qui siamo «{mine}»: per diventare «{who}» bisogna essere root")
        env = {**os.environ, **options.pop("env", {})}
        return subprocess.run(argv, env=env, **{"capture_output": True, "text": True, "cwd": users.ROOT, **options})

    return run

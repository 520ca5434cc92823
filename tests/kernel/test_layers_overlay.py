"""Gli strati come li vede il kernel: sotto un overlay danno lo stesso albero che si ha togliendo davvero.

Vale per root, per un utente con subuid e per uno senza: ciascuno nel suo namespace utente.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests import users

CAPABILITY = b"\x01\x00\x00\x02\x00\x04" + bytes(14)
ROOT = Path(__file__).resolve().parents[2]


def test_overlay_shows_the_same_tree_as_really_removing(tmp_path, mode: users.Mode):
    argv = [sys.executable, "-m", "tests.kernel.layers_under_overlay", mode, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    removed, before, changed, again = json.loads(done.stdout)
    assert before == removed
    names = {"d", "d/a", "d/c", "h", "via", "f", "rifatta", "rifatta/nuovo", "tolto", "tolto/q", "cap"}
    assert set(before) == names
    assert before["cap"][-1] == CAPABILITY.hex()
    assert set(changed) == names - {"d/a"} | {"via/altro", "d/l"}
    assert again == changed

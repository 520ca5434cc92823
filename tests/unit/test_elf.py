"""Un programma che parte da solo si riconosce dalla sua intestazione, e niente che non lo sia ci assomiglia."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from labkit.elf import is_static


def test_a_program_with_a_loader_is_not_static() -> None:
    assert not is_static(os.path.realpath(sys.executable))


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02", b"\x7fELF\x02" + bytes(27) + b"\x40" + bytes(21) + b"\x38\0\1\0"],
    ids=["vuoto", "script", "solo l'inizio", "tabella che manca"],
)  # fmt: skip
def test_half_a_program_is_not_static(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "programma").write_bytes(content)
    assert not is_static(str(tmp_path / "programma"))


def test_what_is_not_there_is_not_static() -> None:
    assert not is_static("/non/esiste")
    assert not is_static("")


def test_a_static_busybox_is_static() -> None:
    found = next((path for path in map(shutil.which, ("busybox", "busybox-static")) if path and is_static(path)), None)
    if found is None:
        pytest.skip("serve un busybox statico")
    assert b"ld-linux" not in Path(found).read_bytes()[:4096]

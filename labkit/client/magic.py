"""``%%lab``: il Python della cella gira in un processo del laboratorio, dove le chiamate di sistema funzionano."""

from __future__ import annotations

from typing import Any

from labkit.client.lab import current
from labkit.client.process import Process
from labkit.errors import InvalidError, LabError

#: I processi tenuti per la cella dopo, per nome: ``%%lab --keep NOME``.
_kept: dict[str, Process] = {}


def lab_magic(line: str, cell: str) -> None:
    """``%%lab [--keep NOME]``: un processo nuovo, che finisce con la cella, o che resta con quel nome."""
    words = line.split()
    if words and (words[0] != "--keep" or len(words) != 2):
        raise InvalidError(f"Non capisco «%%lab {line}».", "%%lab oppure %%lab --keep NOME")
    lab = current()
    if not words:
        with lab.process() as process:
            process.python(cell)
        return
    name = words[1]
    process = _kept.get(name)  # type: ignore[assignment]
    if process is None or process.lab is not lab or not _alive(process):
        process = _kept[name] = lab.process(label=name)
    process.python(cell)


def _alive(process: Process) -> bool:
    try:
        process.getpid()
    except LabError:
        return False
    return True


def load_ipython_extension(shell: Any) -> None:
    """Chiamata da ``%load_ext labkit``: insegna ``%%lab`` al notebook."""
    shell.register_magic_function(lab_magic, magic_kind="cell", magic_name="lab")

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


def explain_name_error(
    shell: Any, kind: type[BaseException], error: BaseException, tb: Any, tb_offset: Any = None
) -> Any:
    """Il racconto normale di Python, e sotto una riga per chi ha saltato una cella."""
    story = shell.showtraceback((kind, error, tb), tb_offset=tb_offset)
    name = getattr(error, "name", "") or ""
    if isinstance(error, NameError):
        print(f"Il nome «{name}» non esiste ancora: esegui la cella «Preparazione», poi le celle sopra questa.")
    else:
        print(f"Non c'è niente che si chiami «{name}»: controlla come è scritto, o premi Tab dopo il punto.")
    return story


def load_ipython_extension(shell: Any) -> None:
    """Chiamata da ``%load_ext labkit``: insegna ``%%lab`` al notebook, e a spiegare un nome che non c'è."""
    shell.register_magic_function(lab_magic, magic_kind="cell", magic_name="lab")
    shell.set_custom_exc((NameError, AttributeError), explain_name_error)

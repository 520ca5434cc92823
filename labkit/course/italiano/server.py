"""``python -m labkit.course.italiano.server``: JupyterLab, con in italiano anche i moduli delle impostazioni.

I menu e le finestre li traduce il browser, con i file JSON di questo pacchetto. Le impostazioni le traduce
invece il server, che vuole un modulo dal nome fisso e il formato binario di gettext: si fanno qui, dagli
stessi JSON, nella cartella ``.labkit`` di chi lo avvia.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import ModuleType

from labkit.course.student import STATE, write_atomic

LOCALE = "it_IT"
DOMAINS = ("jupyterlab", "jupyterlab_widgets", "rise")

#: What JupyterLab's server imports to find the translations of this locale.
_MODULE = f"jupyterlab_language_pack_{LOCALE}"
#: The start of a little-endian .mo file (gettext manual, «The Format of GNU MO Files»).
_MAGIC = 0x950412DE


def sentences(domain: str) -> dict[str, list[str]]:
    """Le frasi di un dominio: dalla frase inglese (con il contesto, se ne ha uno) a quella italiana e al plurale."""
    file = resources.files("labkit.course.italiano").joinpath("locale", LOCALE, "LC_MESSAGES", f"{domain}.json")
    found: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return {key: forms for key, forms in found.items() if key}


def catalogue(translations: Mapping[str, str]) -> bytes:
    """Un catalogo di gettext in formato binario.

    >>> import gettext, io
    >>> gettext.GNUTranslations(io.BytesIO(catalogue({"menu\\x04Run": "Esegui"}))).pgettext("menu", "Run")
    'Esegui'
    """
    entries = sorted(
        (key.encode(), text.encode())
        for key, text in {"": "Content-Type: text/plain; charset=UTF-8\n", **translations}.items()
    )
    start = 28
    offset = start + 16 * len(entries)
    tables: list[bytes] = []
    strings: list[bytes] = []
    for column in (0, 1):
        for entry in entries:
            tables.append(struct.pack("<2I", len(entry[column]), offset))
            strings.append(entry[column] + b"\0")
            offset += len(entry[column]) + 1
    header = struct.pack("<7I", _MAGIC, 0, len(entries), start, start + 8 * len(entries), 0, 0)
    return header + b"".join(tables) + b"".join(strings)


def install(folder: Path) -> None:
    """Scrive i cataloghi in ``folder`` e fa trovare a JupyterLab il modulo che li contiene."""
    messages = folder / "locale" / LOCALE / "LC_MESSAGES"
    messages.mkdir(parents=True, exist_ok=True)
    for domain in DOMAINS:
        # Only the sentences with a context: the others are the browser's.
        contextual = {key: forms[0] for key, forms in sentences(domain).items() if "\x04" in key}
        write_atomic(messages / f"{domain}.mo", catalogue(contextual))
    module = ModuleType(_MODULE)
    module.__file__ = str(folder / "__init__.py")
    sys.modules[_MODULE] = module


def run() -> None:
    """Avvia JupyterLab con gli argomenti della riga di comando."""
    from jupyterlab.labapp import main
    from jupyterlab_server import settings_utils

    install(Path.cwd() / STATE / "lingua")
    # Where the user has not chosen a language the server takes the machine's: it does not read overrides.d here.
    vars(settings_utils)["SYS_LOCALE"] = LOCALE
    main()


if __name__ == "__main__":
    run()

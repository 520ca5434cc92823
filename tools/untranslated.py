"""Le frasi di JupyterLab che non sono ancora in italiano.

    .venv/bin/python tools/untranslated.py [--json]

Cerca nel JupyterLab installato (e nelle sue estensioni) ogni frase che si può tradurre: nel codice del
browser le chiamate ``__("…")``, ``_n("…", "…")``, ``_p("contesto", "…")``, negli schemi delle impostazioni
i titoli, le descrizioni e i nomi dei menu. Stampa quelle che il pacchetto ``labkit.course.italiano`` non ha,
una per riga; con ``--json`` già pronte da riempire. Serve quando esce una versione nuova di JupyterLab.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.course.italiano.server import DOMAINS, sentences

SHARE = Path(sys.prefix, "share", "jupyter")

_STRING = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`(?:[^`\\$]|\\.)*`)"""
_CALL = re.compile(
    rf"(?P<before>description:\s*)?(?<=\W)\w*\.(?P<name>__|_n|_p|_np)\(\s*{_STRING}(?:\s*,\s*{_STRING})?"
)


def unquoted(literal: str) -> str:
    """La frase scritta in un letterale di JavaScript."""

    def plain(escape: re.Match[str]) -> str:
        code = escape[1]
        if code[0] in "xu" and len(code) > 1:
            return chr(int(code[1:], 16))
        return {"n": "\n", "t": "\t", "r": "\r", "\n": ""}.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[\s\S])", plain, literal[1:-1])


def in_code(text: str) -> Iterator[str]:
    """Le chiavi delle frasi nel codice: la frase, o ``contesto\\x04frase``.

    >>> list(in_code('x=t.__("Run"),y=t._p("menu","File"),z={description:t.__("The path")}'))
    ['Run', 'menu\\x04File']
    """
    for call in _CALL.finditer(text):
        first = unquoted(call[3])
        if call["name"] in ("_p", "_np"):
            if call[4]:
                yield f"{first}\x04{unquoted(call[4])}"
        elif not call["before"]:  # the description of a command's argument: for programs, nobody sees it
            yield first


def in_schema(schema: Mapping[str, Any]) -> Iterator[str]:
    """Le chiavi delle frasi di uno schema di impostazioni, con i selettori che usa JupyterLab."""
    from jupyterlab_server.translation_utils import DEFAULT_SCHEMA_SELECTORS

    extra = schema.get("jupyter.lab.internationalization", {}).get("selectors", [])
    selectors = {**DEFAULT_SCHEMA_SELECTORS, **dict.fromkeys(extra, "schema")}
    patterns = [(re.compile(f"/{selector}"), context) for selector, context in selectors.items()]

    def walk(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, Mapping):
            for key, value in node.items():
                yield from walk(value, f"{path}/{key}")
        elif isinstance(node, list):
            for index, value in enumerate(node):
                if isinstance(value, Mapping):
                    yield from walk(value, f"{path}[{index}]")
        elif isinstance(node, str) and node:
            context = next((c for pattern, c in patterns if pattern.fullmatch(path)), None)
            if context:
                yield f"{context}\x04{node}"

    yield from walk(schema, "")


def installed(share: Path = SHARE) -> set[str]:
    """Tutte le chiavi del JupyterLab installato in ``share``."""
    found: set[str] = set()
    for script in [*share.glob("lab/static/*.js"), *share.glob("labextensions/**/static/*.js")]:
        found.update(in_code(script.read_text(encoding="utf-8")))
    for file in [*share.glob("lab/schemas/**/*.json"), *share.glob("labextensions/**/schemas/**/*.json")]:
        if not file.name.startswith("package.json"):
            found.update(in_schema(json.loads(file.read_text(encoding="utf-8"))))
    return found


def missing(share: Path = SHARE) -> list[str]:
    """Le chiavi che nessun dominio del pacchetto italiano ha; un nome che resta uguale c'è, uguale."""
    known = set().union(*(sentences(domain) for domain in DOMAINS))
    return sorted(installed(share) - known)


def main() -> int:
    keys = missing()
    if "--json" in sys.argv[1:]:
        print(json.dumps({key: [""] for key in keys}, ensure_ascii=False, indent=2))
    else:
        for key in keys:
            print(key.replace("\x04", ": ").replace("\n", "\\n"))
        print(f"{len(keys)} frasi da tradurre", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

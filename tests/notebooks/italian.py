"""L'italiano delle lezioni: il testo senza il codice, la leggibilità (Gulpease), le parole sconosciute."""

import re
import subprocess
from pathlib import Path
from typing import Any

from labkit.course import notebook

ROOT = Path(__file__).resolve().parents[2]
WORDS = ROOT / "docs" / "parole.txt"

#: 50 is hard to read for who has a secondary-school licence, easy for who is about to get it.
MIN_GULPEASE = 50

#: What is left of these words before an apostrophe is no word for hunspell: dell'host, dov'è.
ELIDED = frozenset(["bell", "com", "dall", "dell", "dov", "nell", "quell", "quest", "senz", "sull"])


def prose(markdown: str) -> str:
    """Il testo di un Markdown: senza codice, tabelle, formule, indirizzi e segni di impaginazione.

    Ogni titolo e ogni voce di elenco diventa una frase; un pezzo di codice dentro una frase vale
    una parola, perché è così che si legge.

    >>> prose("# Un titolo\\n\\nLa syscall `unshare` fa [questo](https://x.it).")
    'Un titolo. La syscall codice fa questo.'
    """
    body = re.sub(r"```.*?```|~~~.*?~~~|<!--.*?-->|\$\$.*?\$\$", "\n\n", markdown, flags=re.DOTALL)
    body = re.sub(r"^\s*\|.*$", "", body, flags=re.MULTILINE)
    body = re.sub(r"`[^`]+`", "codice", body)
    body = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", body)
    body = re.sub(r"https?://\S+|<[^>]+>", " ", body)
    sentences = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*+>]|\d+\.|#)\s)", body):
        line = " ".join(re.sub(r"^\s*(?:[-*+>]|\d+\.|#+)\s+", "", block).replace("*", "").split())
        line = re.sub(r"(?:^|\s)>(?=\s)", "", line).strip()
        if re.search(r"\w", line):
            sentences.append(line if re.search(r"[.!?:;…»)]$", line) else f"{line}.")
    return " ".join(sentences)


def prose_of(nb: dict[str, Any]) -> str:
    """Il testo di tutte le celle Markdown di un notebook."""
    cells = (notebook.text(c["source"]) for c in nb["cells"] if c["cell_type"] == "markdown")
    return " ".join(filter(None, map(prose, cells)))


def gulpease(words: str) -> float:
    """L'indice Gulpease (GULP, 1988): 89 + (300 · frasi - 10 · lettere) / parole; da 0 a 100.

    >>> round(gulpease("Il gatto dorme. Il cane corre."), 1)
    100.0
    """
    tokens = re.findall(r"\w+", words)
    sentences = len(re.findall(r"[.!?…]+(?=\s|$|»)", words)) or 1
    letters = sum(map(len, tokens))
    return max(0.0, min(100.0, 89 + (300 * sentences - 10 * letters) / max(len(tokens), 1)))


def unknown_words(words: str) -> list[str]:
    """Le parole che né il dizionario italiano né l'elenco del progetto conoscono, in ordine alfabetico."""
    known = {w.strip().lower() for w in WORDS.read_text().splitlines() if w.strip() and not w.startswith("#")}
    clean = re.sub(r"[’']", "' ", words)
    # A name with digits or signs in it is not a word of a language: eth0, cgroup-v2, /proc/self, x86_64.
    clean = re.sub(r"\S*[\d_/@=~]\S*", " ", clean)
    # One word a line: hunspell cuts a very long line in the middle of a word.
    clean = "\n".join(clean.split())
    result = subprocess.run(
        ["hunspell", "-d", "it_IT", "-i", "utf-8", "-l"], input=clean, capture_output=True, text=True, check=True
    )
    return sorted({w for w in result.stdout.split() if w.lower() not in known | ELIDED}, key=str.lower)

"""Il rapporto JUnit di pytest, prova per prova: com'è andata, e dove è stata.

Dove lo dice la prova stessa, con le proprietà che ``tests/conftest.py`` le attacca: il backend del suo
laboratorio e la versione dei cgroup del kernel in cui quello è vissuto.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

Outcome = Literal["passed", "failed", "error", "skipped"]

CGROUPS = Path("/sys/fs/cgroup")
#: How much of the trace of a failed test is kept: where it stopped, and why.
LINES = 12


def cgroup_version(base: Path = CGROUPS) -> str:
    """``v2`` se i controller sono tutti nella gerarchia unificata, ``v1`` se no, o se sono un po' qua e un po' là."""
    return "v2" if (base / "cgroup.controllers").exists() else "v1"


@dataclass(frozen=True)
class Case:
    """Una prova eseguita. ``error`` è un guaio di ciò che le sta attorno, non suo: una fixture, la raccolta."""

    file: str
    name: str
    outcome: Outcome
    message: str = ""
    backend: str = ""
    cgroup: str = ""
    trace: str = ""

    @property
    def node(self) -> str:
        """Il nome con cui pytest la esegue da sola."""
        return f"{self.file}::{self.name}"

    @property
    def function(self) -> str:
        """Il nome senza i parametri."""
        return self.node.partition("[")[0]

    @property
    def bad(self) -> bool:
        return self.outcome in ("failed", "error")


def read(text: str) -> list[Case]:
    """Le prove di un rapporto JUnit scritto con ``junit_family=xunit1``; nessuna se è vuoto."""
    return [_case(element) for element in ElementTree.fromstring(text).iter("testcase")] if text else []


def _case(element: ElementTree.Element) -> Case:
    outcome: Outcome = "passed"
    message = trace = ""
    for tag, meaning in (("skipped", "skipped"), ("failure", "failed"), ("error", "error")):
        found = element.find(tag)
        # What is expected to fail, and does, has passed.
        if found is not None and found.get("type") != "pytest.xfail":
            outcome, message = meaning, found.get("message") or ""  # type: ignore[assignment]
            trace = "\n".join((found.text or "").splitlines()[-LINES:])
    facts = {fact.get("name"): fact.get("value") or "" for fact in element.iter("property")}
    file = element.get("file") or ""
    module = file.removesuffix(".py").replace("/", ".")
    classes = (element.get("classname") or "").removeprefix(module).strip(".")
    name = "::".join([*filter(None, classes.split(".")), element.get("name") or ""])
    return Case(file, name, outcome, message, facts.get("backend", ""), facts.get("cgroup", ""), trace)


def settle(first: Sequence[Case], again: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """Il conto dopo il secondo giro, e le prove che da sole sono riuscite (com'erano andate la prima volta).

    Di chi è fallito si riprova quella prova sola; di chi ha avuto un errore tutto il file, perché la colpa
    può essere di un'altra: si salva se nel file stavolta va tutto bene.
    """
    passed = {case.node for case in again if case.outcome == "passed"}
    files = {case.file for case in again} - {case.file for case in again if case.bad}
    saved = [
        case
        for case in first
        if (case.outcome == "failed" and case.node in passed) or (case.outcome == "error" and case.file in files)
    ]
    lost = {case.node: case for case in (*first, *again) if case.bad and case not in saved}
    good = [replace(case, outcome="passed") if case.bad else case for case in first if case.node not in lost]
    return [*good, *lost.values()], saved


def where(runs: Iterable[tuple[str, Sequence[Case]]]) -> str:
    """La tabella, in Markdown, di quante volte ogni prova è riuscita in ogni posto."""
    counts: dict[str, Counter[str]] = {}
    for who, cases in runs:
        for case in cases:
            if case.outcome == "passed":
                counts.setdefault(case.function, Counter())[place(who, case)] += 1
    places = sorted({name for row in counts.values() for name in row})
    lines = [
        "# Dove sono riuscite le prove",
        "",
        "| prova | " + " | ".join(places) + " |",
        "|---" * (len(places) + 1) + "|",
    ]
    for function in sorted(counts):
        cells = (str(counts[function][name] or "") for name in places)
        lines.append(f"| {function} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def place(who: str, case: Case) -> str:
    """Chi, con quale backend, con quali cgroup: ``root, uml, v2``."""
    return ", ".join(filter(None, (who, case.backend or "nessun laboratorio", case.cgroup)))

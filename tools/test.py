"""Tutte le prove, parte per parte: da root e, se si è root, anche come i due tipi di utente normale.

    make test                               tutto
    make test ARGS="tests/unit -x"          solo quello che si dice, come lo si direbbe a pytest

Ogni parte è un pytest. Si fallisce se ne fallisce una, se una parte non ha eseguito nemmeno una prova e,
sulle macchine che provano il corso da sole (CI), se root ne salta una: root deve poter provare tutto.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import kernels, users  # noqa: E402

#: What is tried again as each plain user: everything that asks the kernel for something.
PLAIN = ("tests/kernel", "tests/contract", "tests/security", "tests/faults")
WORKERS = ("-n", "2", "--dist", "loadfile")
PARALLEL = (*WORKERS, "-m", "not serial")
SERIAL = ("-m", "serial")
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", "--durations-min=5")
NOTHING_COLLECTED = 5


@dataclass(frozen=True)
class Part:
    """Un pytest: chi lo esegue e con quali argomenti. ``optional`` se può non avere prove."""

    title: str
    who: users.Mode
    arguments: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Result:
    part: Part
    passed: int
    failed: int
    skipped: tuple[str, ...]
    seconds: float
    exit_code: int

    @property
    def problem(self) -> str:
        """Perché questa parte non va bene; vuoto se va bene."""
        if self.exit_code == NOTHING_COLLECTED or (self.exit_code == 0 and not self.passed):
            return "" if self.part.optional else "nessuna prova eseguita"
        if self.failed or self.exit_code:
            return f"{self.failed} prove fallite" if self.failed else f"pytest è uscito con {self.exit_code}"
        if self.skipped and self.part.who == "root" and os.environ.get("CI"):
            return f"root ha saltato {len(self.skipped)} prove"
        return ""


def plan(mine: users.Mode) -> list[Part]:
    """Le parti che può eseguire chi siamo."""
    everything = [Part("in parallelo", mine, PARALLEL), Part("una alla volta", mine, SERIAL)]
    if mine != "root":
        return everything
    return everything + [
        part
        for who in ("user", "nosub")
        for part in (
            Part("in parallelo", who, (*WORKERS, "-m", "not serial and not once", *PLAIN)),
            Part("una alla volta", who, ("-m", "serial and not once", *PLAIN), optional=True),
        )
    ]


def run(part: Part, run_as: users.RunAs) -> Result:
    """Esegue una parte mostrando tutto quello che dice, e ne legge il conto dal rapporto XML."""
    print(f"\n━━ {part.who}, {part.title} " + "━" * 60, flush=True)
    start = time.monotonic()
    if part.who == users.mode():
        report = ROOT / "build" / "reports" / f"{part.who}-{part.arguments[0].strip('-')}.xml"
        report.unlink(missing_ok=True)
        code = subprocess.call([*PYTEST, f"--junit-xml={report}", *part.arguments], cwd=ROOT)
        text = report.read_text() if report.exists() else ""
    else:
        # The plain user may write only in a home of its own: the report comes back on a descriptor.
        code, text = run_as.report(part.who, [*PYTEST, *part.arguments])
    return count(part, text, code, time.monotonic() - start)


def count(part: Part, report: str, code: int, seconds: float) -> Result:
    """Legge il rapporto JUnit di pytest."""
    cases = list(ElementTree.fromstring(report).iter("testcase")) if report else []
    skipped = []
    bad = 0
    for case in cases:
        reason = case.find("skipped")
        if reason is not None and reason.get("type") != "pytest.xfail":
            name = (case.get("name") or "").partition("[")[0]
            skipped.append(f"{case.get('classname')}::{name}: {reason.get('message')}")
        bad += case.find("failure") is not None or case.find("error") is not None
    return Result(part, len(cases) - bad - len(skipped), bad, tuple(skipped), seconds, code)


def summary(results: list[Result], mine: users.Mode) -> int:
    """Il riassunto, con le prove saltate una per una; torna il codice d'uscita."""
    print("\n━━ riassunto " + "━" * 60)
    print(f"{'chi':6} {'come':15} {'passate':>8} {'fallite':>8} {'saltate':>8} {'tempo':>9}")
    for result in results:
        minutes, seconds = divmod(round(result.seconds), 60)
        print(
            f"{result.part.who:6} {result.part.title:15} {result.passed:8} {result.failed:8} {len(result.skipped):8}"
            f" {minutes:4}:{seconds:02} min"
        )
    skips = Counter((result.part.who, why) for result in results for why in result.skipped)
    for (who, why), times in skips.items():
        print(f"saltata ({who}{f', {times} volte' if times > 1 else ''}): {why}")
    if mine != "root":
        print("Non eseguite: le prove come root e come gli altri tipi di utente. Per averle tutte: sudo make test")
    problems = [(result.part, result.problem) for result in results if result.problem]
    for part, problem in problems:
        print(f"✘ {part.who}, {part.title}: {problem}")
    passed, failed, skipped = (
        sum(result.passed for result in results),
        sum(result.failed for result in results),
        sum(len(result.skipped) for result in results),
    )
    print(f"{passed} passed, {max(failed, len(problems))} failed, {skipped} skipped", flush=True)
    return 1 if problems else 0


def main(arguments: list[str]) -> int:
    if arguments:
        return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)
    mine = users.mode()
    if mine != "root":
        return summary([run(part, users.RunAs({})) for part in plan(mine)], mine)
    with users.temporary() as people:
        # The parts below find the users made here instead of making their own.
        os.environ[users.GIVEN] = " ".join(f"{kind}={user.uid}" for kind, user in people.items())
        run_as = users.RunAs(people, timeout=3600)
        try:
            run_as.check()
        except RuntimeError as error:
            print(f"✘ {error}\n0 passed, 1 failed, 0 skipped")
            return 1
        with kernels.shared():
            return summary([run(part, run_as) for part in plan(mine)], mine)


if __name__ == "__main__":
    # A background job of a shell is born deaf to Ctrl-C, and so would be every test that sends it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Whoever stops us in a polite way lets us take the temporary users away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nInterrotto. Per riprovare solo una parte:  make test ARGS='tests/unit'")
        sys.exit(130)

"""Tutte le prove, parte per parte: da root, come i due tipi di utente normale, e dentro una macchina virtuale.

    make test                               tutto
    make test ARGS="tests/unit -x"          solo quello che si dice, come lo si direbbe a pytest

Ogni parte è un pytest; le prove fallite, se sono poche, si riprovano una volta da sole. Si fallisce se ne resta una
fallita, se una parte non ha eseguito nemmeno una prova, se nella macchina virtuale nessuna ha girato con i cgroup v2
e, sulle macchine che provano il corso da sole (CI), se root ne salta una: root deve poter provare tutto.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from labkit.errors import LabError  # noqa: E402
from tests import course_images, kernels, machine, report, users  # noqa: E402
from tests.report import Case  # noqa: E402

#: What is tried again as each plain user: everything that asks the kernel for something.
PLAIN = ("tests/kernel", "tests/contract", "tests/security", "tests/faults")
#: What is tried again by root of a kernel where the only cgroups are v2: what that kernel does, and fits in minutes.
MACHINE = tuple(f"tests/kernel/test_{name}.py" for name in ("limits", "namespaces", "network", "rootfs"))
PARALLEL, SERIAL = "not serial", "serial"
PYTEST = (
    sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1",
    "--durations=5", "--durations-min=5",
)  # fmt: skip
SOMETHING_FAILED, NOTHING_COLLECTED = 1, 5
#: With more failures than this it is no lost race: nothing is tried again.
FEW = 5
REPORTS = ROOT / "build" / "reports"

Who = Literal["root", "user", "nosub", "uml"]


@dataclass(frozen=True)
class Part:
    """Un pytest: chi lo esegue, quali prove (per marchio e per cartella), in quanti processi.

    ``optional`` se può non avere prove.
    """

    title: str
    who: Who
    marks: str
    folders: tuple[str, ...] = ()
    workers: int = 0
    optional: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        # In the order of the folders: the long files come first, and the short ones of tests/unit fill what is left.
        workers = ("-n", str(self.workers), "--dist", "loadfile", "--no-loadscope-reorder") if self.workers else ()
        return (*workers, "-m", self.marks, *self.folders)


@dataclass(frozen=True)
class Result:
    """Com'è andata una parte; ``saved`` sono le prove fallite che, da sole, al secondo giro sono riuscite.

    ``late`` è ciò che pytest ha detto se è uscito con un errore dopo prove tutte riuscite.
    """

    part: Part
    cases: Sequence[Case]
    seconds: float
    exit_code: int
    saved: Sequence[Case] = ()
    late: str = ""

    def count(self, *outcomes: str) -> int:
        return sum(case.outcome in outcomes for case in self.cases)

    @property
    def passed(self) -> int:
        return self.count("passed")

    @property
    def failed(self) -> int:
        return self.count("failed", "error")

    @property
    def skipped(self) -> int:
        return self.count("skipped")

    @property
    def problem(self) -> str:
        """Perché questa parte non va bene; vuoto se va bene."""
        if self.exit_code == NOTHING_COLLECTED or (self.exit_code == 0 and not self.passed):
            return "" if self.part.optional else "nessuna prova eseguita"
        if self.failed or (self.exit_code and not self.late):
            return f"{self.failed} prove fallite" if self.failed else f"pytest è uscito con {self.exit_code}"
        if self.part.who == "uml" and not any(case.outcome == "passed" and case.cgroup == "v2" for case in self.cases):
            return "nessuna prova eseguita con i cgroup v2"
        if self.skipped and self.part.who == "root" and os.environ.get("CI"):
            return f"root ha saltato {self.skipped} prove"
        return ""


def plan(mine: users.Mode) -> list[Part]:
    """Le parti che può eseguire chi siamo."""
    parts = [Part("in parallelo", mine, PARALLEL, workers=2), Part("una alla volta", mine, SERIAL)]
    if mine == "root":
        for who in ("user", "nosub"):
            parts += [
                Part("in parallelo", who, f"{PARALLEL} and not once", PLAIN, workers=2),
                Part("una alla volta", who, f"{SERIAL} and not once", PLAIN, optional=True),
            ]
    if os.uname().machine == "x86_64":
        parts.append(Part("cgroup v2", "uml", PARALLEL, MACHINE))
    return parts


def run(part: Part, run_as: users.RunAs) -> Result:
    """Esegue una parte mostrando tutto quello che dice; le poche prove fallite le riprova da sole."""
    print(f"\n━━ {part.who}, {part.title} " + "━" * 60, flush=True)
    start = time.monotonic()
    code, cases = execute(part, run_as, part.arguments)
    bad = {case.node: case for case in cases if case.bad}
    saved: list[Case] = []
    if code == SOMETHING_FAILED and 0 < len(bad) <= FEW:
        print(f"━━ {part.who}, {part.title}: di nuovo, da sole, le prove fallite", flush=True)
        # An error of what is around a test, as something left behind, may come from another test of its file.
        alone = dict.fromkeys(case.file if case.outcome == "error" else case.node for case in bad.values())
        code, again = execute(part, run_as, ("-m", part.marks, *alone))
        cases, saved = report.settle(cases, again)
    # An object that is found badly closed when pytest is already leaving: it is told, but every test has its verdict.
    over = code == SOMETHING_FAILED and any(case.outcome == "passed" for case in cases) and not bad
    return Result(part, cases, time.monotonic() - start, code, saved, last_words() if over else "")


def execute(part: Part, run_as: users.RunAs, arguments: Sequence[str]) -> tuple[int, list[Case]]:
    """Un giro di pytest, come chi lo deve eseguire e dove; dà il codice d'uscita e le prove."""
    command = [*PYTEST, *arguments]
    if part.who == "uml":
        try:
            code, text = machine.run(command)
        except LabError as problem:  # without a kernel there is no machine
            print(problem, flush=True)
            return SOMETHING_FAILED, []
    elif part.who == users.mode():
        file = REPORTS / "pytest.xml"
        file.unlink(missing_ok=True)
        code = shown([*command, f"--junit-xml={file}"])
        text = file.read_text() if file.exists() else ""
    else:
        # The plain user may write only in a home of its own: the report comes back on a descriptor.
        code, text = run_as.report(part.who, command)
    return code, report.read(text)


def shown(command: Sequence[str]) -> int:
    """Esegue un programma mostrando ciò che dice, e conservandolo per :func:`last_words`."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    with (
        open(REPORTS / "pytest.log", "wb") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child,
    ):
        assert child.stdout is not None
        while piece := os.read(child.stdout.fileno(), 1 << 16):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            log.write(piece)
    return child.returncode


def last_words() -> str:
    """La fine di ciò che ha detto l'ultimo pytest eseguito da qui; vuoto se non se ne è conservato niente."""
    log = REPORTS / "pytest.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""


def summary(results: list[Result], mine: users.Mode) -> int:
    """Il riassunto: il conto, dove sono riuscite le prove, quelle saltate una per una; torna il codice d'uscita."""
    print("\n━━ riassunto " + "━" * 60)
    print(f"{'chi':6} {'come':15} {'passate':>8} {'fallite':>8} {'saltate':>8} {'tempo':>9}")
    for result in results:
        minutes, seconds = divmod(round(result.seconds), 60)
        print(
            f"{result.part.who:6} {result.part.title:15} {result.passed:8} {result.failed:8} {result.skipped:8}"
            f" {minutes:4}:{seconds:02} min"
        )
    tell_where(results)
    tell_skipped(results)
    for result in results:
        for case in result.saved:
            print(f"riuscita da sola al secondo giro ({result.part.who}): {case.node}: {case.message}")
    if mine != "root":
        print("Non eseguite: le prove come root e come gli altri tipi di utente. Per averle tutte: sudo make test")
    tell_failed(results)
    problems = [(result.part, result.problem) for result in results if result.problem]
    for part, problem in problems:
        print(f"✘ {part.who}, {part.title}: {problem}")
    passed, failed, skipped = (
        sum(result.passed for result in results),
        sum(result.failed for result in results),
        sum(result.skipped for result in results),
    )
    print(f"{passed} passed, {max(failed, len(problems))} failed, {skipped} skipped", flush=True)
    return 1 if problems else 0


def tell_skipped(results: list[Result]) -> None:
    """Le prove saltate e perché: il nome della prova, o del file se lo stesso motivo ne ferma più d'una."""
    skips: dict[tuple[Who, str, str], list[str]] = {}
    for result in results:
        for case in result.cases:
            if case.outcome == "skipped":
                skips.setdefault((result.part.who, case.file, case.message), []).append(case.function)
    for (who, file, why), functions in skips.items():
        times = f", {len(functions)} volte" if len(functions) > 1 else ""
        print(f"saltata ({who}{times}): {functions[0] if len({*functions}) == 1 else file}: {why}")


def tell_failed(results: list[Result]) -> None:
    """Di ogni prova fallita, dove e perché: in fondo, dove chi guarda arriva per primo."""
    for result in results:
        for case in result.cases:
            if case.bad:
                print(f"\n✘ {result.part.who}, {result.part.title}: {case.node}\n{case.trace or case.message}")
        if result.late:
            where = f"{result.part.who}, {result.part.title}"
            print(f"\n⚠ {where}: dopo l'ultima prova, tutte riuscite, pytest è uscito con {result.exit_code}:")
            print(result.late)


def tell_where(results: list[Result]) -> None:
    """In quali posti sono riuscite quante prove; prova per prova lo dice ``build/reports/dove.md``."""
    places = Counter(
        report.place(result.part.who, case) for result in results for case in result.cases if case.outcome == "passed"
    )
    print(f"\n{'chi, backend, cgroup':30} {'passate':>8}")
    for place, times in sorted(places.items()):
        print(f"{place:30} {times:8}")
    REPORTS.mkdir(parents=True, exist_ok=True)
    file = REPORTS / "dove.md"
    file.write_text(report.where((result.part.who, result.cases) for result in results), encoding="utf-8")
    print(f"Prova per prova: {os.path.relpath(file, ROOT)}\n")


def main(arguments: list[str]) -> int:
    if arguments:
        return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)
    mine = users.mode()
    if mine != "root":
        with course_images.shared():
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
        with kernels.shared(), course_images.shared():
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

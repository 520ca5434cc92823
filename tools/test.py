"""Tutte le prove, parte per parte: da root, come i due tipi di utente normale, e dentro una macchina virtuale.

    make test                               tutto
    make test ARGS="tests/unit -x"          solo quello che si dice, come lo si direbbe a pytest

Ogni parte è un pytest; quelle che non vogliono la macchina per sé vanno avanti in tre file, una accanto all'altra. Le
prove fallite, se sono poche, si riprovano alla fine, da sole. Si fallisce se ne resta una
fallita, se una parte non ha eseguito nemmeno una prova, se nella macchina virtuale nessuna ha girato con i cgroup v2
e, sulle macchine che provano il corso da sole (CI), se root ne salta una: root deve poter provare tutto.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
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
SOMETHING_FAILED, DIED, NOTHING_COLLECTED = 1, 3, 5
#: With more failures than this it is no lost race: nothing is tried again.
FEW = 5
REPORTS = ROOT / "build" / "reports"

Who = Literal["root", "user", "nosub", "uml"]


@dataclass(frozen=True)
class Part:
    """Un pytest: chi lo esegue, quali prove (per marchio e per cartella), in quanti processi.

    ``optional`` se può non avere prove. Le parti con lo stesso ``lane`` fanno una fila, accanto alle altre file; quelle
    con 0 sono sole.
    """

    title: str
    who: Who
    marks: str
    folders: tuple[str, ...] = ()
    workers: int = 0
    optional: bool = False
    lane: int = 0

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
    """Le parti che può eseguire chi siamo: prima quelle che vogliono la macchina per sé, poi tre file accanto."""
    parts = [
        Part("in parallelo", mine, PARALLEL, workers=2),
        Part("una alla volta", mine, f"{SERIAL} and not faults"),
        Part("guasti", mine, f"{SERIAL} and faults", lane=1),
    ]
    if mine == "root":
        plain: tuple[Who, Who] = ("user", "nosub")
        for lane, who in enumerate(plain, 2):
            parts += [
                Part("in parallelo", who, f"{PARALLEL} and not once", PLAIN, workers=2, lane=lane),
                Part("una alla volta", who, f"{SERIAL} and not once", PLAIN, optional=True, lane=lane),
            ]
    if os.uname().machine == "x86_64":
        parts.append(Part("cgroup v2", "uml", PARALLEL, MACHINE, lane=1))
    return parts


def run_all(parts: Sequence[Part], run_as: users.RunAs) -> list[Result]:
    """Tutte le parti: una dopo l'altra, poi le file; e da ultime, da sole, le poche prove fallite di ognuna."""
    results = {part: first_turn(part, run_as) for part in parts if not part.lane}
    beside = [[part for part in parts if part.lane == lane] for lane in sorted({part.lane for part in parts} - {0})]
    results |= {result.part: result for result in side_by_side(beside, run_as)}
    # A part without a result is of a lane that died.
    return [second_turn(results.get(part, Result(part, (), 0.0, DIED)), run_as) for part in parts]


def side_by_side(lanes: Sequence[Sequence[Part]], run_as: users.RunAs) -> Iterator[Result]:
    """Le file vanno avanti insieme, ognuna in un processo suo; ciò che una parte dice si mostra quando finisce."""
    # Forked: who is asked to become whom, and the kernels, are already known there.
    context = multiprocessing.get_context("fork")
    children: dict[connection.Connection, multiprocessing.process.BaseProcess] = {}
    try:
        for lane in lanes:
            print(f"━━ accanto: {'; '.join(f'{part.who}, {part.title}' for part in lane)}", flush=True)
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=_lane, args=(lane, run_as, sender))
            child.start()
            sender.close()
            children[receiver] = child
        while children:
            for ready in connection.wait(list(children)):
                assert isinstance(ready, connection.Connection)
                try:
                    said, result = ready.recv()
                except EOFError:  # the lane is over
                    children.pop(ready).join()
                else:
                    sys.stdout.write(said)
                    sys.stdout.flush()
                    yield result
    finally:
        for left in children.values():
            left.terminate()
            left.join()


def _lane(parts: Sequence[Part], run_as: users.RunAs, sender: connection.Connection) -> None:
    for part in parts:
        with tempfile.TemporaryFile() as said, open(1, "w", closefd=False) as out:
            for descriptor in (1, 2):
                os.dup2(said.fileno(), descriptor)
            sys.stdout = sys.stderr = out
            result = first_turn(part, run_as)
            out.flush()
            said.seek(0)
            text = said.read().decode(errors="replace")
        sender.send((text, replace(result, late=result.late and _end_of(text))))


def first_turn(part: Part, run_as: users.RunAs) -> Result:
    """Esegue una parte mostrando tutto quello che dice."""
    print(f"\n━━ {part.who}, {part.title} " + "━" * 60, flush=True)
    start = time.monotonic()
    code, cases = execute(part, run_as, part.arguments)
    # An object that is found badly closed when pytest is already leaving: it is told, but every test has its verdict.
    over = code == SOMETHING_FAILED and any(case.outcome == "passed" for case in cases)
    late = last_words() if over and not any(case.bad for case in cases) else ""
    return Result(part, cases, time.monotonic() - start, code, late=late)


def second_turn(result: Result, run_as: users.RunAs) -> Result:
    """Riprova da sole le prove fallite di una parte, se sono poche."""
    part, bad = result.part, {case.node: case for case in result.cases if case.bad}
    if result.exit_code != SOMETHING_FAILED or not 0 < len(bad) <= FEW:
        return result
    print(f"━━ {part.who}, {part.title}: di nuovo, da sole, le prove fallite", flush=True)
    start = time.monotonic()
    # An error of what is around a test, as something left behind, may come from another test of its file.
    alone = dict.fromkeys(case.file if case.outcome == "error" else case.node for case in bad.values())
    code, again = execute(part, run_as, ("-m", part.marks, *alone))
    cases, saved = report.settle(result.cases, again)
    seconds = result.seconds + time.monotonic() - start
    return replace(result, cases=cases, seconds=seconds, exit_code=code, saved=saved)


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
    return _end_of(log.read_text(errors="replace")) if log.exists() else ""


def _end_of(text: str) -> str:
    return "\n".join(text.splitlines()[-20:])


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
            return summary(run_all(plan(mine), users.RunAs({})), mine)
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
            return summary(run_all(plan(mine), run_as), mine)


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

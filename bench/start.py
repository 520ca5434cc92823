"""Quanto ci mette un container a partire, fianco a fianco con tutti quelli che ci sono.

Uso: ``make bench``, oppure ``python bench/start.py``. Da root misura anche crun, runc, podman e docker.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, it finds its own package

from bench.cgroups import OwnCgroup
from bench.limit import VARIANTS, Limit
from bench.peers import PEERS, NotHereError
from bench.rounds import Competitor, run_rounds
from bench.samples import AIMS, Goal, Summary, ratio_goals, steady_goals
from bench.tables import goals_table, times_table
from bench.workshop import MissingCompilerError, Workshop

LABKIT = "labkit-bridge"


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    try:
        with arena(options.only, options.labkit) as (workshop, competitors, missing):
            summaries, failed = run_rounds(competitors, options.rounds, options.batch, options.seed, _progress)
            titles = {c.name: c.title for c in competitors}
            goals = ratio_goals(summaries) + ratio_goals(summaries, AIMS) + steady_goals(summaries)
            if options.labkit:
                goals += _promises_of_a_laboratory(workshop, options.crowd)
    except MissingCompilerError as problem:
        print(problem, file=sys.stderr)
        return 1
    missing |= failed
    if options.json:
        print(json.dumps(_as_data(options, summaries, goals, missing), indent=1, ensure_ascii=False))
    else:
        _print_report(summaries, titles, goals, missing)
    return 0 if all(goal.ok is not False for goal in goals) else 1


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="giri dell'alternanza (40)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="prove di ognuno in un giro (1)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seme dell'ordine dei turni (1)")
    parser.add_argument("--crowd", type=int, default=200, metavar="N", help="container vivi insieme (200; 0: salta)")
    parser.add_argument("--only", nargs="+", default=sorted(PEERS), choices=sorted(PEERS), help="solo questi confronti")
    parser.add_argument("--no-labkit", dest="labkit", action="store_false", help="solo gli altri e il limite in C")
    parser.add_argument("--json", action="store_true", help="scrive i numeri come JSON")
    return parser.parse_args(argv)


@contextmanager
def arena(peers: list[str], labkit: bool = True) -> Iterator[tuple[Workshop, list[Competitor], dict[str, str]]]:
    """Prepare who can compete here; on leaving, nothing of it is left. Yields also who is missing, and why."""
    with ExitStack() as stack:
        workshop = Workshop()
        stack.callback(workshop.close)
        cgroup = None
        if os.geteuid() == 0:
            cgroup = OwnCgroup()
            stack.callback(cgroup.close)
        competitors: list[Competitor] = [Limit(workshop, variant, cgroup) for variant in VARIANTS]
        missing: dict[str, str] = {}
        for name in peers:
            try:
                competitors.append(PEERS[name](workshop, cgroup))
            except NotHereError as reason:
                missing[name] = str(reason)
            else:
                stack.callback(competitors[-1].close)
        if labkit:
            from bench.ours import TITLES, Ours

            for name in TITLES:
                competitors.append(Ours(workshop, name))
                stack.callback(competitors[-1].close)
        yield workshop, competitors, missing


def _promises_of_a_laboratory(workshop: Workshop, crowd: int) -> list[Goal]:
    from bench.ours import crowd_goals, ready_goal

    return [ready_goal(9), *(crowd_goals(workshop.rootfs, crowd) if crowd else [])]


def _progress(number: int, title: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[Kgiro {number}: {title}")
        sys.stderr.flush()


def _print_report(
    summaries: dict[str, Summary], titles: dict[str, str], goals: list[Goal], missing: dict[str, str]
) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    load = ", ".join(f"{value:.1f}".replace(".", ",") for value in os.getloadavg())
    print(f"Linux {platform.release()}, {os.cpu_count()} processori, carico {load}")
    print("Millisecondi dalla richiesta alla prima istruzione del programma, e a quando se ne vede la fine.\n")
    print(times_table(summaries, titles, LABKIT))
    for name, reason in missing.items():
        print(f"– {name}: {reason}")
    print("\nObiettivi (rapporti fra le mediane della prima istruzione, e tempi del laboratorio)\n")
    print(goals_table(goals))


def _as_data(
    options: argparse.Namespace, summaries: dict[str, Summary], goals: list[Goal], missing: dict[str, str]
) -> dict[str, Any]:
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "root": os.geteuid() == 0,
        "rounds": options.rounds,
        "seed": options.seed,
        "times_ms": {name: asdict(summary) for name, summary in summaries.items()},
        "goals": [asdict(goal) | {"ok": goal.ok} for goal in goals],
        "missing": missing,
    }


if __name__ == "__main__":
    sys.exit(main())

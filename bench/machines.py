"""Che cosa costa un laboratorio in una macchina virtuale: accenderla, un container, una domanda, l'uscita, la memoria.

Uso: ``python bench/machines.py``, oppure ``python bench/machines.py uml``. Da utente normale: non serve altro.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, it finds its own package

from bench.samples import Goal
from bench.tables import goals_table
from labkit import Lab
from labkit.client import weight
from labkit.errors import BackendError

#: At most, for each machine: milliseconds; MiB for the memory. A key that is not there is shown and promises nothing.
PROMISES: dict[str, dict[str, float]] = {
    "uml": {"ready": 2000, "start": 150, "output": 200, "question": 1, "memory": 200},
    "qemu": {"ready": 8000, "start": 400, "output": 200},
}

TITLES = {
    "ready": "laboratorio pronto",
    "start": "avvio di un container",
    "burst": "avvio di un container, senza riposo",
    "output": "un MB di uscita",
    "question": "una domanda e la risposta",
    "memory": "memoria a riposo",
}

#: Seconds in which a laboratory prepares its next container: a machine has one processor, and a slow fork.
_REST = 1.0

#: How many pieces of 64 KiB make a long output.
_PIECES = 100


def measure(backend: str, times: int = 5) -> list[Goal]:
    """Le misure di una macchina nuova, con le promesse; ``times`` è il numero di avvii di container."""
    begin = time.perf_counter()
    with Lab(backend) as lab:
        ready = _since(begin)
        time.sleep(_REST)
        found = {"ready": ready, "memory": weigh(lab)}
        _start(lab)  # the first one unpacks the image
        found["start"] = median([_rested(lambda: _start(lab)) for _ in range(times)])
        found["burst"] = median([_start(lab) for _ in range(times)])
        found["question"] = median([_time(lambda: lab.wire.call("images")) for _ in range(200)])
        found["output"] = median([_output(lab) for _ in range(3)])
    promises = PROMISES[backend]
    return [
        Goal(f"{backend}: {title}", promises.get(key, float("inf")), found[key], "MiB" if key == "memory" else "ms")
        for key, title in TITLES.items()
    ]


def weigh(lab: Lab) -> float:
    """I MiB dei processi di un laboratorio, guardiano compreso."""
    pids = lab.host_pids()
    return weight.pss([_parent(pids[0]), *pids]) / 2**20


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _start(lab: Lab) -> float:
    begin = time.perf_counter()
    container = lab.run("busybox", ["sleep", "1000"], detach=True)
    milliseconds = _since(begin)
    container.rm(force=True)
    return milliseconds


def _output(lab: Lab) -> float:
    """Millisecondi per MB (dieci alla sesta) di uscita, scritta a pezzi grandi: conta chi la porta, non chi la fa."""
    begin = time.perf_counter()
    lab.run("busybox", ["dd", "if=/dev/zero", "bs=64k", f"count={_PIECES}"], quiet=True)
    return _since(begin) / (_PIECES * 0.065536)


def _rested(action: Callable[[], float]) -> float:
    time.sleep(_REST)
    return action()


def _time(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return _since(begin)


def _since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machines", nargs="*", default=list(PROMISES), help="uml, qemu (tutte e due)")
    parser.add_argument("--times", type=int, default=5, metavar="N", help="avvii di container (5)")
    parser.add_argument("--json", action="store_true", help="scrive i numeri come JSON")
    options = parser.parse_args(argv)
    goals: list[Goal] = []
    for backend in options.machines:
        try:
            goals += measure(backend, options.times)
        except BackendError as problem:
            print(problem, file=sys.stderr)
    if options.json:
        print(json.dumps([asdict(goal) for goal in goals], ensure_ascii=False))
    elif goals:
        print(goals_table(goals))
    return 0 if all(goal.ok for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())

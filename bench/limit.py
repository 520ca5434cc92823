"""The physical limit as a competitor: ``limit.c``, compiled and started."""

from __future__ import annotations

import subprocess

from bench.cgroups import OwnCgroup
from bench.samples import PREPARATION, Sample
from bench.workshop import Workshop, compile_c
from labkit.kernel import seccomp

VARIANTS = {
    "process": "C: fork+exec, nessun container",
    "none": "limite in C, senza rete",
    "bridge": "limite in C, con veth",
    "rested": "limite in C, con veth, dopo una pausa",
}


class Limit:
    """One variant of the C program; every call is a fresh laboratory that makes ``count`` containers."""

    def __init__(self, workshop: Workshop, variant: str, cgroup: OwnCgroup | None) -> None:
        self.name = f"limit-{variant}"
        self.title = VARIANTS[variant]
        self.slow = False
        self._kind, self._pause = ("bridge", PREPARATION) if variant == "rested" else (variant, 0.0)
        self._groups = cgroup.used() if cgroup and variant != "process" else []
        self._program = workshop.path / "limit"
        self._rootfs = workshop.rootfs
        self._work = workshop.directory(self.name)
        self._filter = workshop.path / "filter"
        self._filter.write_bytes(seccomp.program())
        if not self._program.exists():
            compile_c("limit", self._program)

    def sample(self, count: int) -> list[Sample]:
        # The first container of a new laboratory finds everything cold, labkit's is long running: skip it.
        paths = [str(path) for path in (self._program, self._rootfs, self._work)]
        pause = str(int(self._pause * 1_000_000))
        argv = [*paths, str(count + 1), pause, self._kind, str(self._filter), *self._groups]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
        lines = [line.split() for line in done.stdout.splitlines()[1:]]
        return [Sample(float(first) / 1000, float(seen) / 1000) for first, seen in lines]

    def close(self) -> None:
        """Nothing to end: the laboratory ended with the program."""

"""The bench's own cgroup, the only one where the other runtimes may write.

runc, podman and docker make a cgroup for each container. They are told to make it under one that
carries the bench's name, made here and removed here with all that is inside.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from labkit.kernel import cgroups


class OwnCgroup:
    """``/labkit-bench-PID`` in every mounted hierarchy, v1 and v2."""

    def __init__(self) -> None:
        self.name = f"/labkit-bench-{os.getpid()}"
        self._made: list[Path] = []
        for mount in _hierarchies():
            path = Path(mount + self.name)
            if path.exists():  # two v1 controllers mounted together are one directory
                continue
            path.mkdir()
            self._made.append(path)
            if (path / "cgroup.clone_children").exists():
                (path / "cgroup.clone_children").write_text("1")
            for setting in ("cpuset.cpus", "cpuset.mems"):
                # A v1 cpuset is born empty, and takes no process until it is filled.
                file = path / setting
                if file.exists() and not (path / "cgroup.controllers").exists():
                    file.write_text((path.parent / setting).read_text())

    def used(self) -> list[str]:
        """Those of the hierarchies where a container of labkit has its group."""
        ours = [part.folder for part in cgroups.hierarchies()]
        return [str(path) for path in self._made if any(Path(folder).is_relative_to(path.parent) for folder in ours)]

    def close(self) -> None:
        """Remove the whole tree, waiting a moment for the last processes to be forgotten."""
        for top in self._made:
            for attempt in range(100):
                try:
                    for directory, _, _ in os.walk(top, topdown=False):
                        os.rmdir(directory)
                    break
                except OSError:
                    if attempt == 99:
                        raise
                    time.sleep(0.02)


def _hierarchies() -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        fields = [line.split() for line in mounts]
    return [f[1] for f in fields if f[2] in ("cgroup", "cgroup2") and os.access(f[1], os.W_OK)]

"""The programs that labkit is compared with: bwrap, crun, runc, podman, docker.

Each one is used as its users use it, from the command line, and asked for the same container. What
they do less (no overlay, no seccomp filter for bwrap, crun and runc, no veth for anybody) is in
their favour. None may leave anything: their state is in the bench's folder, their cgroups under the
bench's own cgroup, their locks in a mount namespace that ends with them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.cgroups import OwnCgroup
from bench.oci import write_bundle
from bench.samples import Sample
from bench.scratch_docker import ScratchDocker
from bench.workshop import Workshop

#: crun 1.8 dies silently where cgroup v1 and v2 are mounted side by side: there it runs without the v2 tree.
_HIDE_HYBRID = "if [ -d /sys/fs/cgroup/unified ]; then umount -l /sys/fs/cgroup/unified; fi"

#: podman keeps its locks in /dev/shm and some marks in /run: it gets its own.
_HIDE_LOCKS = "mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /run"


class NotHereError(Exception):
    """Why a competitor cannot be measured on this machine."""


class Peer:
    """A command line, started by a launcher process; ``{n}`` in an argument becomes a number never used before."""

    def __init__(
        self,
        name: str,
        title: str,
        argv: Sequence[str],
        *,
        slow: bool = False,
        env: Mapping[str, str] | None = None,
        prelude: str = "",
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.title, self.slow = name, title, slow
        self._argv, self._env, self._at_end = argv, env, at_end
        self._number = 0
        launcher = [sys.executable, "-I", str(Path(__file__).with_name("launcher.py"))]
        if prelude:
            script = f'set -e; {prelude}; exec "$@"'
            launcher = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *launcher]
        self._launcher = subprocess.Popen(launcher, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def sample(self, count: int) -> list[Sample]:
        return [self._one() for _ in range(count)]

    def _one(self) -> Sample:
        self._number += 1
        number = f"bench{os.getpid()}-{self._number}"
        request = {"argv": [a.replace("{n}", number) for a in self._argv], "env": self._env}
        asks, answers = self._launcher.stdin, self._launcher.stdout
        assert asks is not None
        assert answers is not None
        asks.write(json.dumps(request) + "\n")
        asks.flush()
        answer = json.loads(answers.readline() or '{"error": "the launcher is gone"}')
        if "error" in answer:
            raise NotHereError(f"{self.title}: {answer['error']}")
        return Sample(answer["first"], answer["seen"])

    def close(self) -> None:
        self._launcher.communicate()
        self._at_end()


def _need(program: str, *, root: bool = True) -> str:
    path = shutil.which(program)
    if path is None:
        raise NotHereError(f"{program} non è installato")
    if root and os.geteuid() != 0:
        raise NotHereError(f"{program} qui si misura solo da root")
    return path


def bwrap(workshop: Workshop, cgroup: OwnCgroup | None) -> Peer:
    argv = [_need("bwrap", root=False), "--unshare-all", "--unshare-user", "--bind", str(workshop.rootfs), "/"]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--hostname", "peer"]
    return Peer("bwrap", "bwrap (senza overlay)", [*argv, "/bin/first"])


def crun(workshop: Workshop, cgroup: OwnCgroup | None) -> Peer:
    bundle = write_bundle(workshop.directory("crun"), workshop.rootfs, None)
    state = workshop.directory("crun-state")
    argv = [_need("crun"), "--cgroup-manager=disabled", "--root", str(state), "run", "-b", str(bundle), "{n}"]
    return Peer("crun", "crun (senza overlay, senza cgroup)", argv, prelude=_HIDE_HYBRID)


def runc(workshop: Workshop, cgroup: OwnCgroup | None) -> Peer:
    program = _need("runc")
    if cgroup is None:
        raise NotHereError("runc vuole un cgroup in cui scrivere")
    bundle = write_bundle(workshop.directory("runc"), workshop.rootfs, cgroup.name)
    state = workshop.directory("runc-state")
    return Peer("runc", "runc (senza overlay)", [program, "--root", str(state), "run", "-b", str(bundle), "{n}"])


def podman(workshop: Workshop, cgroup: OwnCgroup | None) -> Peer:
    program = _need("podman")
    if cgroup is None:
        raise NotHereError("podman vuole un cgroup in cui scrivere")
    home = workshop.directory("podman")
    base = [program, "--root", f"{home}/root", "--runroot", f"{home}/run", "--tmpdir", f"{home}/tmp"]
    base += ["--cgroup-manager=cgroupfs", "--storage-driver", "overlay", "--events-backend", "none"]
    if shutil.which("runc"):
        base += ["--runtime", "runc"]
    load = subprocess.list2cmdline([*base, "import", "-q", str(workshop.archive()), "bench-first"])
    # A root without CAP_SYS_RESOURCE (some virtual machines) cannot raise the limits that podman asks for.
    run = ["run", "--rm", "--network", "none", "--cgroup-parent", cgroup.name, "--ulimit", "nofile=1024:1024"]
    run += ["--ulimit", "nproc=4096:4096", "--pull", "never", "bench-first", "/bin/first"]
    return Peer("podman", "podman, senza rete", base + run, slow=True, prelude=f"{_HIDE_LOCKS}; {load} >/dev/null")


def docker(workshop: Workshop, cgroup: OwnCgroup | None) -> Peer:
    _need("dockerd")
    program = _need("docker")
    if cgroup is None:
        raise NotHereError("docker vuole un cgroup in cui scrivere")
    daemon = ScratchDocker(workshop.directory("docker"), cgroup.name)
    try:
        daemon.load(workshop.archive(), "bench-first")
    except BaseException:
        daemon.close()
        raise
    argv = [program, "-H", daemon.address, "run", "--rm", "--network", "none", "--pull", "never", "bench-first"]
    return Peer("docker", "docker, senza rete", [*argv, "/bin/first"], slow=True, at_end=daemon.close)


PEERS: Mapping[str, Callable[[Workshop, OwnCgroup | None], Peer]] = {
    "bwrap": bwrap,
    "crun": crun,
    "runc": runc,
    "podman": podman,
    "docker": docker,
}

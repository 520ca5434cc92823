"""A Docker daemon of the bench's own: no network, no firewall rule, nothing outside its folder.

It is started here and ended here by its pid; a Docker already running on the machine is not touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

#: dockerd writes a key in /etc and sockets in /run whatever its options: it sees copies that end with it.
_PRIVATE = """set -e
mkdir "$0/etc" "$0/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$0/etc,workdir=$0/work" overlay /etc
mount -t tmpfs tmpfs /run
exec "$@"
"""


class ScratchDocker:
    """``dockerd`` with its state in ``home`` and its containers' cgroups under ``cgroup``."""

    def __init__(self, home: Path, cgroup: str) -> None:
        self.address = f"unix://{home}/docker.sock"
        self._home = home
        self._log = home / "log"
        argv = ["dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "-H", self.address]
        argv += ["-p", f"{home}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
        argv += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", cgroup]
        # A mount namespace of its own: the mounts of the data root too end with the daemon.
        with self._log.open("wb") as log:
            private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _PRIVATE, str(home)]
            self._process = subprocess.Popen([*private, *argv], stdout=log, stderr=log)
        self._wait_until_ready(60)

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._docker("version", check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"dockerd non parte: {self._log.read_text(errors='replace')[-500:]}")
            time.sleep(0.1)

    def _docker(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["docker", "-H", self.address, *argv], check=check, capture_output=True)

    def load(self, archive: Path, image: str) -> None:
        """Make ``image`` from a tar file of a root file system."""
        self._docker("import", str(archive), image)

    def close(self) -> None:
        """End the daemon (with its containerd) and remove its folder."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        log = self._log.read_bytes()
        for name in ("data", "exec"):
            shutil.rmtree(self._home / name, onerror=_only_missing)
        self._log.write_bytes(log)


def _only_missing(function: object, path: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    # containerd may still be removing its own sockets.
    if os.path.lexists(path):
        raise problem[1]

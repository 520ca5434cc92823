"""The same container as an OCI bundle, for the runtimes that want one (runc, crun)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labkit.engine.isolation import MASKED, READ_ONLY

_CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
]
_QUIET = ["nosuid", "noexec", "nodev"]


def write_bundle(bundle: Path, rootfs: Path, cgroup: str | None) -> Path:
    """Write ``config.json``; ``cgroup`` is the cgroup under which the runtime may make its own."""
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
    }
    if cgroup is not None:
        linux["cgroupsPath"] = f"{cgroup}/{bundle.name}"
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/first"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": "peer",
        "mounts": [
            _mount("/proc", "proc", _QUIET),
            _mount("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            _mount("/dev/shm", "tmpfs", [*_QUIET, "mode=1777", "size=65536k"]),
            _mount("/sys", "sysfs", [*_QUIET, "ro"]),
        ],
        "linux": linux,
    }
    (bundle / "config.json").write_text(json.dumps(config, indent=1))
    return bundle


def _mount(destination: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": options}

"""A small process that starts a command, waits for it, and says when its first instruction ran.

Requests and answers are JSON lines. Being small and single-threaded it measures the command, not
the interpreter that asks; being a process of its own it can be born in a private mount namespace,
where what the command leaves (locks, mounts) ends with it.

    → {"argv": [...], "env": {...} | null}      ← {"first": ms, "seen": ms} or {"error": "..."}
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence


def start(argv: Sequence[str], env: Mapping[str, str] | None) -> dict[str, float | str]:
    """Run one command; the only thing it may write is the clock that ``first`` writes."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((null, out_write, err_write))]
    try:
        asked = time.monotonic_ns()
        pid = os.posix_spawnp(argv[0], list(argv), dict(env or os.environ), file_actions=actions)
        _, status = os.waitpid(pid, 0)
        seen = time.monotonic_ns()
        # Somebody of the command's may still hold the pipes: never wait for their end.
        for fd in (out_read, err_read):
            os.set_blocking(fd, False)
        text = _read(out_read)
        if os.waitstatus_to_exitcode(status) != 0 or not text.strip().isdigit():
            return {"error": _read(err_read).strip() or f"status {status}, output {text!r}"}
        return {"first": (int(text) - asked) / 1e6, "seen": (seen - asked) / 1e6}
    finally:
        for fd in (null, out_read, out_write, err_read, err_write):
            os.close(fd)


def _read(fd: int) -> str:
    try:
        return os.read(fd, 4096).decode(errors="replace")
    except BlockingIOError:
        return ""


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(start(request["argv"], request["env"])), flush=True)


if __name__ == "__main__":
    main()

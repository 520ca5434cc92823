"""Che cos'è un esperimento: un figlio che prova una cosa, dice com'è andata e sparisce entro una scadenza.

Ogni esperimento vive in un figlio suo, in namespace suoi: quando muore il kernel disfa tutto. È, fuori
da ``kernel``, il solo modulo che chiama ``ctypes``: deve funzionare anche dove il resto di labkit non
può nemmeno partire.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1

#: Seconds that one experiment may take before it is killed and reported as ETIMEDOUT.
DEADLINE = 0.7

Experiment = Callable[[], "dict[str, Any] | None"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]


class RefusedError(Exception):
    """An experiment that stopped: at which step, with which errno."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(step, number)
        self.step = step
        self.errno = number


def unshare(flags: int, step: str = "unshare") -> None:
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise RefusedError(step, ctypes.get_errno())


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    if _libc.mount(source.encode(), os.fsencode(target), fstype.encode(), flags, data.encode()) != 0:
        raise RefusedError("mount " + (fstype or target), ctypes.get_errno())


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def attempt(step: str, action: Callable[..., Any], *args: Any) -> Any:
    try:
        return action(*args)
    except OSError as error:
        raise RefusedError(step, error.errno or errno.EIO) from error


def scratch(pid: int) -> str:
    """Where the experiment of this pid may write on disk, as a lab would; :func:`run` removes it, whatever happened."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = next(
        (d for d in (cache, os.path.dirname(cache)) if os.access(d, os.W_OK | os.X_OK)), tempfile.gettempdir()
    )
    return f"{folder}/labkit-probe-{pid}"


def remove(base: str) -> None:
    for folder, names, _ in os.walk(base):
        for name in names:
            os.chmod(f"{folder}/{name}", 0o700)  # overlay's own work/work has mode 000
    shutil.rmtree(base, ignore_errors=True)


def finish(experiment: Callable[[], Any], output: int | None) -> NoReturn:
    """The whole life of a child: run, write the answer, never come back to the caller's code."""
    answer: dict[str, Any] | None = None
    try:
        found = experiment()
        answer = found if isinstance(found, dict) else {"ok": True}
    except RefusedError as refused:
        answer = {"ok": False, "step": refused.step, "errno": refused.errno}
    except OSError as error:
        answer = {"ok": False, "step": "", "errno": error.errno or errno.EIO}
    finally:  # even for what nobody foresaw: no answer is read by run() as a dead child
        if output is not None and answer is not None:
            os.write(output, json.dumps(answer).encode())
        os._exit(errno.EIO if answer is None else answer.get("errno", 0))


def fork() -> int:
    """A child that does not outlive us."""
    pid: int = attempt("fork", os.fork)
    if pid == 0:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return pid


def _start(experiment: Experiment) -> tuple[int, int]:
    """Fork a child, leader of its own group, for one experiment: its pid and the pipe with its answer."""
    read, write = os.pipe()
    try:
        pid = fork()
    except RefusedError:
        os.close(read)
        os.close(write)
        raise
    if pid == 0:
        os.close(read)
        os.setpgid(0, 0)
        finish(experiment, write)
    os.close(write)
    return pid, read


def _end(pid: int) -> None:
    """Kill the group of an experiment (newuidmap, QEMU, a child in a pid namespace) and forget it."""
    for kill, target in ((os.killpg, pid), (os.kill, pid)):
        try:
            kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(pid, 0)
    remove(scratch(pid))


def run(experiments: Mapping[str, Experiment], deadline: float = DEADLINE) -> Iterator[dict[str, Any]]:
    """Esegue insieme gli esperimenti e dà le risposte mano a mano che arrivano."""
    children: dict[int, tuple[str, int]] = {}
    for name, experiment in experiments.items():
        try:
            pid, pipe = _start(experiment)
        except (RefusedError, OSError) as error:  # no processes left (ulimit -u, pids cgroup): still an answer
            yield {"name": name, "ok": None, "step": "fork", "errno": error.errno}
        else:
            children[pipe] = (name, pid)
    end = time.monotonic() + deadline
    while children:
        ready, _, _ = select.select(list(children), [], [], max(0.0, end - time.monotonic()))
        for pipe in ready or list(children):
            name, pid = children.pop(pipe)
            if ready:
                data = os.read(pipe, 65536)
                answer = json.loads(data) if data else {"ok": None, "step": "morto", "errno": errno.EIO}
            else:
                answer = {"ok": None, "step": "scadenza", "errno": errno.ETIMEDOUT}
            os.close(pipe)
            _end(pid)
            yield {"name": name, **answer}


def tsc() -> dict[str, Any]:
    """La frequenza del contatore del processore (TSC) in kHz, misurata contro l'orologio della macchina."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl rdx,32; or rax,rdx; ret
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    samples = []
    for _ in range(5):
        start, ticks = time.perf_counter_ns(), counter()
        time.sleep(0.02)
        end, more = time.perf_counter_ns(), counter()
        samples.append((more - ticks) * 1_000_000 // (end - start))
    return {"ok": True, "khz": sorted(samples)[2]}  # the middle one: a sleep may be cut in the wrong place

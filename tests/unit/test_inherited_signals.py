"""I segnali ignorati da chi ci ha avviato (make, una shell in secondo piano, nohup) non arrivano ai container."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.users import ROOT

SCRIPT = (
    "import signal\n"
    "from labkit.kernel import libc\n"
    "struct = bytearray(32); struct[0] = 1\n"  # SIG_IGN, as make leaves 32 and 33
    "for number in (32, 33): libc.syscall('rt_sigaction', number, bytes(struct), None, 8)\n"
    "def ignored(): return next(l.split()[1] for l in open('/proc/self/status') if l.startswith('SigIgn'))\n"
    "before = ignored()\n"
    "libc.heed_signals(signal.SIGPIPE, signal.SIGXFSZ)\n"
    "print(before, ignored())\n"
)


def bit(*numbers: int) -> int:
    return sum(1 << (number - 1) for number in numbers)


def test_only_what_python_ignores_for_itself_stays_ignored():
    command = ["sh", "-c", 'trap "" HUP INT QUIT USR1; exec "$@"', "sh", sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = (int(text, 16) for text in done.stdout.split())
    python = bit(signal.SIGPIPE, signal.SIGXFSZ)
    assert before == python | bit(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, 32, 33)
    assert after == python

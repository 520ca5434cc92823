"""Il ciclo del supervisore: va avanti qualunque cosa succeda a chi chiama, e a riposo non consuma."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import time
from collections.abc import Iterator

import pytest

from labkit.supervisor.loop import Loop
from labkit.supervisor.midwife import readable


@pytest.fixture
def loop() -> Iterator[Loop]:
    before = signal.getsignal(signal.SIGCHLD)
    yield Loop()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, before)


def stop(loop: Loop) -> None:
    loop.running = False


def test_a_handler_that_fails_is_told_once_and_the_others_go_on(loop: Loop, capfd: pytest.CaptureFixture[str]) -> None:
    ends = os.pipe()
    os.write(ends[1], b"x")

    def broken(fd: int) -> None:
        raise RuntimeError("inatteso")

    loop.read(ends[0], broken)
    loop.after(0, lambda: broken(0))
    loop.after(0.05, lambda: stop(loop))
    loop.run()
    assert capfd.readouterr().err.count("RuntimeError: inatteso") == 2
    for fd in ends:
        os.close(fd)


def test_a_loop_with_nothing_to_do_sleeps(loop: Loop) -> None:
    asked = []
    loop.idle = lambda: bool(asked.append(1)) or len(asked) < 3
    loop.after(0.3, lambda: stop(loop))
    spent = time.process_time()
    loop.run()
    assert 3 <= len(asked) <= 5, "as long as it says there is more, and once for the timer"
    assert time.process_time() - spent < 0.1


def test_a_descriptor_that_select_cannot_watch_is_watched() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard) if hard > 0 else 4096, hard))
    try:
        reader, writer = os.pipe()
        far = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1500)
        try:
            assert not readable(far, 0)
            os.write(writer, b"!")
            assert readable(far, 0)
        finally:
            for fd in (reader, writer, far):
                os.close(fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

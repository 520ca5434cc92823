"""Più blob che viaggiano insieme, ciascuno con il suo avanzamento; il primo errore, o Ctrl-C, li ferma tutti."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Literal

from labkit.images.descriptor import Descriptor
from labkit.images.digest import Digest
from labkit.images.registry import Registry

#: As many as Docker.
AT_ONCE = 3

State = Literal["waiting", "exists", "moving", "mounted", "done"]


@dataclass(frozen=True)
class Progress:
    """Un blob che viaggia: ``done`` byte su ``total``."""

    blob: Descriptor
    state: State
    done: int

    @property
    def digest(self) -> Digest:
        return self.blob.digest

    @property
    def total(self) -> int:
        return self.blob.size


Watch = Callable[[Progress], None]


def one_at_a_time(watch: Watch) -> Watch:
    lock = threading.Lock()

    def call(progress: Progress) -> None:
        with lock:
            watch(progress)

    return call


def move_all(work: Callable[[Descriptor], None], blobs: Iterable[Descriptor], registry: Registry, watch: Watch) -> None:
    """Fa ``work`` per ogni blob, alcuni alla volta; al primo errore, o a Ctrl-C, si ferma tutto."""
    wanted = list(dict.fromkeys(replace(blob, annotations={}, platform=None) for blob in blobs))
    for blob in wanted:
        watch(Progress(blob, "waiting", 0))
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="images-blob")
    jobs: list[Future[None]] = [pool.submit(work, blob) for blob in wanted]
    try:
        while wait(jobs, timeout=0.2, return_when=FIRST_EXCEPTION).not_done:
            if any(job.done() and job.exception() for job in jobs):
                break
    finally:
        ended = all(job.done() and not job.cancelled() and not job.exception() for job in jobs)
        if not ended:
            registry.transport.interrupt()
        pool.shutdown(wait=True, cancel_futures=True)
        registry.transport.resume()
    failures = [problem for job in jobs if not job.cancelled() and (problem := job.exception())]
    if failures:
        # The first to fail is the cause; those that it interrupted say only that.
        raise next((one for one in failures if str(one) != "Interrotto."), failures[0])

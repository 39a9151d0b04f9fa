"""Partitions verified side by side, each in a process of its own at a time; with one job in this process.

Ctrl-C ends them between two stretches, so that what was verified can be saved and shown.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from streams.operate.verifying import Same, Work, verify_partition
from streams.secret import Secret
from streams.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

    from streams.replay.partition_run import Verified

POLL_S: Final = 0.2
#: Rows of a state live long: looking for cycles among them again and again would be a fifth of the time.
_COLLECT: Final = (50_000, 20, 1_000)


class Done(Struct, frozen=True):
    """How far a partition is."""

    partition: int
    #: The offset of its journal that is next.
    offset: int
    #: Derived by this run.
    decisions: int
    #: Steps that are the same, where they are to be compared with Postgres.
    same: tuple[Same, ...] = ()


Report = Callable[[Done], None]

#: Of a process of the pool: where progress goes, and what says that it is to stop.
_pool: dict[str, Any] = {}


def verify_all(work: Work, partitions: Sequence[int], jobs: int, report: Report) -> list[Verified]:
    """Verify these partitions, so many at a time; `report` gets progress."""
    if jobs == 1 or len(partitions) == 1:
        with _interrupts() as stopped:
            tune_memory()
            return [_verify(work, one, report, stopped.is_set) for one in partitions]
    plain = _plain(work)
    # One process imports what this one has, which takes as long as thousands of decisions; the others are its forks.
    context = get_context("forkserver")
    context.set_forkserver_preload([name for name in sys.modules if name.startswith("streams.")])
    stop = context.Event()
    with (
        _interrupts(stop.set),
        # What is put into its queue is there when `put` returns: nothing is lost with the end of a process.
        context.Manager() as manager,
        ProcessPoolExecutor(
            min(jobs, len(partitions)), context, initializer=_begin, initargs=(queue := manager.Queue(), stop)
        ) as pool,
    ):
        running: set[Future[Verified]] = {pool.submit(_in_process, plain, one) for one in partitions}
        found: list[Verified] = []
        try:
            while running:
                ended, running = wait(running, POLL_S, FIRST_COMPLETED)
                for done in _drained(queue):
                    report(done)
                found += [one.result() for one in ended]
            for done in _drained(queue):
                report(done)
        except BaseException:
            stop.set()
            raise
    return found


def _begin(queue: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _pool.update(queue=queue, stop=stop)
    tune_memory()


def _in_process(plain: dict[str, Any], partition: int) -> Verified:
    work = Work(**plain | {"settings": Settings(**plain["settings"])})
    return _verify(work, partition, _pool["queue"].put, _pool["stop"].is_set)


def _plain(work: Work) -> dict[str, Any]:
    """Return the work as another process is given it: without secrets, which stay in this one and are not needed."""
    settings = {name: value for name, value in asdict(work.settings).items() if not isinstance(value, Secret)}
    return asdict(work) | {"settings": settings}


def _verify(work: Work, partition: int, report: Report, stop: Callable[[], bool]) -> Verified:
    def progress(found: Verified, offset: int, same: Sequence[Same]) -> None:
        report(Done(partition, offset, found.decisions - found.earlier_decisions, tuple(same)))

    return asyncio.run(verify_partition(work, partition, progress, stop))


def tune_memory() -> None:
    """Have this process look for cycles rarely: rows live long."""
    gc.freeze()
    gc.set_threshold(*_COLLECT)


def _drained(queue: Any) -> Iterator[Done]:
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


@contextmanager
def _interrupts(then: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """Have Ctrl-C set the event that is given, while inside; a second one ends at once."""
    asked = threading.Event()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        then()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)

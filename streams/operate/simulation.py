"""Runs an experiment in several processes. Its numbers are the same for any number of them.

Each process makes its own work from the plan and a seed; runs are put together by their place, not by when they end.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager

from streams.simulate.experiment import Bench, Cell, Plan, Run

#: Called with how many runs are done.
Progress = Callable[[int], None]
#: Makes all runs of some cells: by (place of the cell, seed).
Runner = Callable[[Sequence[Cell], Progress], Mapping[tuple[int, int], Run]]

#: The plan's bench in a process of the pool.
_here: list[Bench] = []


@contextmanager
def runner(plan: Plan, processes: int) -> Iterator[Runner]:
    """Give a function that makes runs of the plan, in so many processes (1: in this one), until the block ends."""
    if processes == 1:
        bench = Bench(plan)
        yield lambda cells, done: _in_turn(bench, cells, done)
        return
    # A new interpreter each: a copy of this process could hold locks of threads that it does not have.
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(plan,)
    )
    try:
        yield lambda cells, done: _shared(pool, plan, cells, done)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_turn(bench: Bench, cells: Sequence[Cell], done: Progress) -> dict[tuple[int, int], Run]:
    found = {}
    for seed in range(bench.plan.seeds):
        for place, cell in enumerate(cells):
            found[place, seed] = bench.run(cell, seed)
            done(len(found))
    return found


def _shared(pool: ProcessPoolExecutor, plan: Plan, cells: Sequence[Cell], done: Progress) -> dict[tuple[int, int], Run]:
    waiting = {
        pool.submit(_run, cell, seed): (place, seed) for seed in range(plan.seeds) for place, cell in enumerate(cells)
    }
    found: dict[tuple[int, int], Run] = {}
    for one in as_completed(waiting):
        found[waiting[one]] = one.result()
        done(len(found))
    return found


def _begin(plan: Plan) -> None:
    _here[:] = [Bench(plan)]


def _run(cell: Cell, seed: int) -> Run:
    return _here[0].run(cell, seed)

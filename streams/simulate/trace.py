"""Recorded arrivals: when calls came, how long their prompts were and how long the answers.

Runs of one recording differ: each is another stretch of it (`recorded`), or put together of pieces of it by lot
(`resampled`), or drawn from demand (`drawn`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Final

from msgspec import Struct, structs

from schemas.events import TaskPending
from schemas.vocabulary import Tier

#: Calls of one stretch, at most.
CALLS_MAX: Final = 1_500
#: Length of a window of demand in seconds, and windows of one run: a day.
WINDOW_S: Final = 600
WINDOWS_A_RUN: Final = 144
#: Calls of one piece of a recording: rushes and lulls of up to so many calls stay as they were.
CALLS_A_PIECE: Final = 50


class Call(Struct, frozen=True):
    """One recorded arrival."""

    #: Seconds since the first call of its stretch.
    at_s: float
    input_tokens: int
    output_tokens: int
    #: The lowest tier that it wants, where the source says so.
    tier: Tier | None = None
    #: The task itself, where the source knows more than lengths.
    task: TaskPending | None = None
    #: Seconds beyond writing the answer, on any model.
    overhead_s: float = 0.0


class DemandWindow(Struct, frozen=True):
    """Demand for one tier during `WINDOW_S` seconds."""

    start_s: int
    tier: Tier
    requests_per_s: float


#: The calls of run i of n, i from 0.
Trace = Callable[[int, int], list[Call]]


def recorded(calls: Sequence[Call]) -> Trace:
    """Give a recording as a trace: run i of n is the first `CALLS_MAX` calls of its i-th part of n."""
    return lambda run, runs: _stretch(calls, run, runs)


def drawn(
    windows: Sequence[DemandWindow], lengths: Sequence[tuple[int, int]], chance: Callable[[int], Random]
) -> Trace:
    """Give a trace drawn from demand, a day a run: Poisson arrivals within each window, thinned to `CALLS_MAX`.

    `lengths` are (input, output) tokens to draw from, `chance` gives a run's own generator.
    """
    return lambda run, runs: _draw(windows, lengths, run, runs, chance(run))


def resampled(calls: Sequence[Call], count: int, chance: Random) -> list[Call]:
    """Put together so many calls of a recording: pieces of `CALLS_A_PIECE` neighbours, each from a place by lot.

    Gaps within a piece are as recorded, and the gap before it is the one before its first call. The recording counts
    as a ring. Tasks get ids of their own, as one call may come twice.
    """
    gaps = [0.0, *(max(0.0, after.at_s - before.at_s) for before, after in pairwise(calls))]
    gaps[0] = sum(gaps) / max(1, len(calls) - 1)
    made: list[Call] = []
    at_s = 0.0
    while len(made) < count:
        start = chance.randrange(len(calls))
        for place in range(start, start + min(CALLS_A_PIECE, count - len(made))):
            call = calls[place % len(calls)]
            at_s += gaps[place % len(calls)] if made else 0.0
            task = call.task and structs.replace(call.task, task_id=f"{call.task.task_id}/{len(made)}")
            made.append(structs.replace(call, at_s=at_s, task=task))
    return made


def _stretch(calls: Sequence[Call], run: int, runs: int) -> list[Call]:
    size = len(calls) // runs
    some = calls[run * size : run * size + min(size, CALLS_MAX)]
    return [structs.replace(call, at_s=call.at_s - some[0].at_s) for call in some]


def _draw(
    windows: Sequence[DemandWindow], lengths: Sequence[tuple[int, int]], run: int, runs: int, chance: Random
) -> list[Call]:
    starts = sorted({window.start_s for window in windows})
    days = max(1, len(starts) // WINDOWS_A_RUN)
    day = starts[(run * days // runs) * WINDOWS_A_RUN :][:WINDOWS_A_RUN]
    within = [window for window in windows if day[0] <= window.start_s <= day[-1]]
    thinned = CALLS_MAX / (WINDOW_S * sum(window.requests_per_s for window in within))
    calls = []
    for window in within:
        start_s, rate = window.start_s - day[0], window.requests_per_s * thinned
        at_s = chance.expovariate(rate) if rate else WINDOW_S
        while at_s < WINDOW_S:
            input_tokens, output_tokens = lengths[chance.randrange(len(lengths))]
            calls.append(Call(start_s + at_s, input_tokens, output_tokens, tier=window.tier))
            at_s += chance.expovariate(rate)
    return sorted(calls, key=lambda call: call.at_s)

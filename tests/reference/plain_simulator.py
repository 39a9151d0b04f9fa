"""A fleet simulator in a hundred lines that shares nothing with the one of slotwise: it counts seconds, one by one.

Jobs and slots are plain tuples. Each second slots whose work is over come free; then, while a rule finds a pair, a
waiting job starts. It is slow and rounds to seconds, and so it can be read at one go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class PlainSlot(NamedTuple):
    """A slot: its model, its tier, tokens a second, and dollars a token."""

    model: str
    tier: int
    tps: float
    usd: float


class PlainJob(NamedTuple):
    """A job: when it comes (s), its tokens, its EV, and the models that can do it with their tiers."""

    at_s: int
    tokens: float
    ev: float
    tiers: dict[str, int]


class PlainResult(NamedTuple):
    """What a run came to."""

    #: Seconds, of each job in its place.
    waits: list[int]
    ev_in_time: float
    usd: float
    #: Mean wait, each job counting as much as it is worth.
    ev_wait: float


#: (place of a job, place of a slot), from the places of those that wait and are free, in the order of their coming.
Rule = Callable[[Sequence[PlainJob], Sequence[PlainSlot], list[int], list[int]], tuple[int, int] | None]


def _first(
    jobs: Sequence[PlainJob], slots: Sequence[PlainSlot], order: list[int], free: list[int], only: str
) -> tuple[int, int] | None:
    """The first job in an order that may have a free slot, with the slot that has been free longest."""
    for job in order:
        tiers = jobs[job].tiers
        for slot in free:
            tier = tiers.get(slots[slot].model)
            if tier is None or (only == "premium" and tier != 3) or (only == "cheap" and tier != min(tiers.values())):
                continue
            return job, slot
    return None


def next_free(
    jobs: Sequence[PlainJob], slots: Sequence[PlainSlot], waiting: list[int], free: list[int]
) -> tuple[int, int] | None:
    """First come, first served."""
    return _first(jobs, slots, waiting, free, "")


def always_premium(
    jobs: Sequence[PlainJob], slots: Sequence[PlainSlot], waiting: list[int], free: list[int]
) -> tuple[int, int] | None:
    """First come, first served by tier 3."""
    return _first(jobs, slots, waiting, free, "premium")


def always_cheap(
    jobs: Sequence[PlainJob], slots: Sequence[PlainSlot], waiting: list[int], free: list[int]
) -> tuple[int, int] | None:
    """First come, first served by the lowest tier that can."""
    return _first(jobs, slots, waiting, free, "cheap")


def highest_ev(
    jobs: Sequence[PlainJob], slots: Sequence[PlainSlot], waiting: list[int], free: list[int]
) -> tuple[int, int] | None:
    """The most valuable first."""
    return _first(jobs, slots, sorted(waiting, key=lambda job: -jobs[job].ev), free, "")


def fifo_cheapest(
    jobs: Sequence[PlainJob], slots: Sequence[PlainSlot], waiting: list[int], free: list[int]
) -> tuple[int, int] | None:
    """First come, first served by the free slot that costs least."""
    return _first(jobs, slots, waiting, sorted(free, key=lambda slot: slots[slot].usd), "")


def simulate(jobs: Sequence[PlainJob], slots: Sequence[PlainSlot], rule: Rule) -> PlainResult:
    """Count the seconds until all jobs are done; jobs are in the order of their coming."""
    busy_until: dict[int, int] = {}
    waiting: list[int] = []
    free, ends = list(range(len(slots))), [0] * len(jobs)
    waits, usd, second, coming = [0] * len(jobs), 0.0, 0, 0
    while coming < len(jobs) or waiting:
        free += sorted(slot for slot, until in busy_until.items() if until == second)
        while coming < len(jobs) and jobs[coming].at_s <= second:
            waiting.append(coming)
            coming += 1
        while (pair := rule(jobs, slots, waiting, free)) is not None:
            job, slot = pair
            waiting.remove(job)
            free.remove(slot)
            waits[job] = second - jobs[job].at_s
            ends[job] = busy_until[slot] = second + max(1, round(jobs[job].tokens / slots[slot].tps))
            usd += jobs[job].tokens * slots[slot].usd
        second += 1
    last = jobs[-1].at_s
    in_time = sum(job.ev for job, end in zip(jobs, ends, strict=True) if end <= last)
    worth = sum(job.ev for job in jobs)
    return PlainResult(waits, in_time, usd, sum(wait * job.ev for wait, job in zip(waits, jobs, strict=True)) / worth)

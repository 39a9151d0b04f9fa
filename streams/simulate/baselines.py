"""The schedulers that slotwise is compared with, named as in docs/offline.md; each call gives a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from schemas.vocabulary import Tier
from streams.simulate.job import Job
from streams.simulate.oracle import Oracle
from streams.simulate.plain_a import PlainA
from streams.simulate.queue import Queue, all_able, cheapest_only, premium_only
from streams.simulate.world import Scheduler


def always_premium() -> Queue:
    """Every job waits for a premium slot."""
    return Queue(premium_only)


def always_cheap() -> Queue:
    """Every job waits for a slot of the lowest tier that can do it."""
    return Queue(cheapest_only)


def next_free_slot() -> Queue:
    """First come, first served by the slot that has been free longest."""
    return Queue(all_able)


def fifo_cheapest() -> Queue:
    """First come, first served by the free slot that costs least of those that can do it."""
    return Queue(all_able, cheapest=True)


def highest_ev_first() -> Queue:
    """As `next_free_slot`, but of the jobs that wait the one of the highest EV goes first, however long others wait."""
    return Queue(all_able, worth=lambda job: job.ev or 0.0)


def plain_a() -> PlainA:
    """Cheapest capable class with the premium floor, one event at a time."""
    return PlainA()


def by_text(tiers: Mapping[str, Tier]) -> Queue:
    """First come, first served by slots of the tier that another router names for a job's title.

    `tiers` has every title. Where no model of that tier can do the job, the next higher one counts, else the highest.
    """

    def allowed(job: Job) -> frozenset[str]:
        can = set(job.able.values())
        wanted = tiers[job.task.title]
        tier = min((one for one in can if one >= wanted), default=max(can))
        return frozenset(model for model, its in job.able.items() if its == tier)

    return Queue(allowed)


#: By the name that people type.
BASELINES: Final[Mapping[str, Callable[[], Scheduler]]] = {
    "always-premium": always_premium,
    "always-cheap": always_cheap,
    "next-free": next_free_slot,
    "fifo-cheapest": fifo_cheapest,
    "plain-a": plain_a,
    "highest-ev": highest_ev_first,
    "oracle": Oracle,
}

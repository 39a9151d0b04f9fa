"""What a simulation was worth: waits, value, money, and where the premium time went."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct

from streams.estimate.nearest_rank import nearest_rank
from streams.simulate.world import ServedJob

#: From this priority on a task may have a premium slot whatever its EV.
PRIORITY_FREE: Final = 90


class RunStats(Struct, frozen=True):
    """One scheduler on one list of jobs."""

    wait_s_p50: float
    wait_s_p95: float
    wait_s_p99: float
    wait_s_max: float
    #: Mean wait, each task counting as much as it is worth.
    ev_wait_s: float
    #: EV of the tasks that were done before the last one came, an hour.
    ev_per_h: float
    #: The same, each times the catalogue's quality of the model that did it.
    ev_quality_per_h: float
    usd_per_task: float
    #: Dollars of the same tasks that `ev_per_h` counts, an hour.
    usd_per_h: float
    #: Share of the tasks, by tier.
    tier_1: float
    tier_2: float
    tier_3: float
    #: Share of the premium slots' working time that went to tasks below the median EV,
    premium_low_ev: float
    #: and of those to tasks that something cheaper in the fleet could do, with a priority below `PRIORITY_FREE`.
    premium_wasted: float


def run_stats(served: Sequence[ServedJob]) -> RunStats:
    """Measure a whole simulation, as `play` gives it; at least one job."""
    waited = sorted(one.wait_s for one in served)
    evs = [one.job.ev or 0.0 for one in served]
    low = median(evs)
    last_ms = max(one.job.at_ms for one in served)
    hours = max(1, last_ms) / 3_600_000
    in_time = [(one, ev) for one, ev in zip(served, evs, strict=True) if one.end_ms <= last_ms]
    premium = [(one, ev, one.end_ms - one.start_ms) for one, ev in zip(served, evs, strict=True) if one.slot.is_premium]
    premium_ms = sum(ms for *_, ms in premium) or 1
    low_ms = sum(ms for _, ev, ms in premium if ev < low)
    wasted_ms = sum(
        ms
        for one, ev, ms in premium
        if ev < low and one.job.tier < one.slot.tier and one.job.task.priority < PRIORITY_FREE
    )
    tiers = [sum(one.slot.tier == tier for one in served) / len(served) for tier in (1, 2, 3)]
    return RunStats(
        wait_s_p50=nearest_rank(waited, 50),
        wait_s_p95=nearest_rank(waited, 95),
        wait_s_p99=nearest_rank(waited, 99),
        wait_s_max=waited[-1],
        ev_wait_s=sum(one.wait_s * ev for one, ev in zip(served, evs, strict=True)) / (sum(evs) or 1.0),
        ev_per_h=sum(ev for _, ev in in_time) / hours,
        ev_quality_per_h=sum(ev * (one.slot.quality or 0.0) for one, ev in in_time) / hours,
        usd_per_h=sum(one.job.cost_usd(one.slot) for one, _ in in_time) / hours,
        usd_per_task=sum(one.job.cost_usd(one.slot) for one in served) / len(served),
        tier_1=tiers[0],
        tier_2=tiers[1],
        tier_3=tiers[2],
        premium_low_ev=low_ms / premium_ms,
        premium_wasted=wasted_ms / premium_ms,
    )

"""What one course of a window came to, recorded or replayed: money, value, waits, tiers, starvation."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from msgspec import Struct

from schemas.decision import Decision, Step
from streams.core.state.partition import Partition
from streams.estimate.nearest_rank import nearest_rank
from streams.replay.recording import Key

#: Seconds between which waits are counted.
BOUNDS_S: Final = (1, 5, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200)


class Waits(Struct, frozen=True, kw_only=True):
    """Waits in seconds, of tasks that got a slot and of those that still waited at the end."""

    p50_s: float
    p95_s: float
    max_s: float


class Side(Struct, frozen=True, kw_only=True):
    """One course of events between two moments."""

    #: Work that was begun, ended with success, and failed.
    routed: int
    done: int
    failed: int
    #: Tasks that waited at the end.
    waiting: int
    usd: float
    usd_per_done: float | None
    #: Sum of the EVs of tasks that were done.
    ev_served: float
    #: Mean quality of what was done, where it was reported.
    quality: float | None
    waits: Waits
    #: How many waited less than so many seconds, and not less than the bound before; `more`: as long as the last one.
    waits_below_s: dict[str, int]
    #: Tasks that waited for longer than was asked about.
    starved: int
    #: Begun work by tier, as shares.
    tiers: dict[str, float]
    #: Begun work by model.
    models: dict[str, int]


class Course(Struct, frozen=True):
    """The steps of a window of one partition, and the state after them."""

    steps: list[Step]
    end: Partition


def side_of(courses: Sequence[Course], evs: Mapping[Key, float | None], *, starved_after_s: float) -> Side:
    """Measure a window; `evs` has the value of every task in it, and others do not count."""
    steps = [step for course in courses for step in course.steps]
    routed = [one for step in steps for one in step.decisions if one.outcome == "routed" and _key(one) in evs]
    waits = [(one.decided_at_ms - one.waiting_since_ms) / 1000 for one in routed]
    waiting = [
        (course.end.now_ms - row.status.accepted_ms) / 1000
        for course in courses
        for name, pool in course.end.pools.items()
        for task_id, row in pool.tasks.items()
        if row.status.state == "waiting" and (name, task_id) in evs
    ]
    work = [one for step in steps for one in step.work if (one.pool, one.outcome.task_id) in evs]
    done = [one for one in work if one.outcome.status == "success"]
    qualities = [one.outcome.quality for one in done if one.outcome.quality is not None]
    usd = sum(one.cost_uusd or 0 for one in work) / 1e6
    tiers = Counter(str(one.tier) for one in routed)
    return Side(
        routed=len(routed),
        done=len(done),
        failed=sum(one.outcome.status == "failure" for one in work),
        waiting=len(waiting),
        usd=usd,
        usd_per_done=usd / len(done) if done else None,
        ev_served=sum(evs[one.pool, one.outcome.task_id] or 0.0 for one in done),
        quality=fmean(qualities) if qualities else None,
        waits=waits_of([*waits, *waiting]),
        waits_below_s=_counted([*waits, *waiting]),
        starved=sum(one > starved_after_s for one in (*waits, *waiting)),
        tiers={str(tier): tiers[str(tier)] / len(routed) if routed else 0.0 for tier in (1, 2, 3)},
        models=dict(Counter(one.chosen_model or "" for one in routed).most_common()),
    )


def waits_of(seconds: Sequence[float]) -> Waits:
    """Return percentiles by nearest rank, and the longest; 0 where nothing waited."""
    ascending = sorted(seconds) or [0.0]
    return Waits(
        p50_s=nearest_rank(ascending, 50),
        p95_s=nearest_rank(ascending, 95),
        max_s=ascending[-1],
    )


def _counted(seconds: Sequence[float]) -> dict[str, int]:
    ordered = sorted(seconds)
    edges = [bisect_left(ordered, bound) for bound in BOUNDS_S]
    counts = [after - before for before, after in zip([0, *edges], [*edges, len(ordered)], strict=True)]
    return dict(zip([*map(str, BOUNDS_S), "more"], counts, strict=True))


def _key(decision: Decision) -> Key:
    return decision.pool, decision.task_id

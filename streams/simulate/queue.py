"""One queue, and the slot that has been free longest, or the cheapest: a scheduler for comparison.

Queues differ in the models that a job may have, in which job comes first and in which free slot it takes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from streams.core.policy.catalog import PREMIUM_TIER
from streams.simulate.fleet import Slot
from streams.simulate.job import Job

#: The models that a job may have.
Allowed = Callable[[Job], frozenset[str]]
#: What a job is worth to the rule: the highest goes first.
Worth = Callable[[Job], float]


def premium_only(job: Job) -> frozenset[str]:
    """The premium models that can do it."""
    return frozenset(model for model, tier in job.able.items() if tier == PREMIUM_TIER)


def cheapest_only(job: Job) -> frozenset[str]:
    """The models of the lowest tier that can do it: it waits for those, whatever else is free."""
    return frozenset(model for model, tier in job.able.items() if tier == job.tier)


def all_able(job: Job) -> frozenset[str]:
    """Every model that can do it."""
    return frozenset(job.able)


class Queue:
    """One line for each set of models that jobs may have."""

    def __init__(self, allowed: Allowed, *, worth: Worth | None = None, cheapest: bool = False) -> None:
        """Serve by arrival, or first what is worth most; with `cheapest` on the free slot that costs least."""
        self._allowed = allowed
        self._worth = worth
        self._cheapest = cheapest
        #: The one that has been free longest comes first.
        self._free: dict[str, Slot] = {}
        #: (less its worth where that counts, how many came before, job).
        self._waiting: dict[frozenset[str], list[tuple[float, int, Job]]] = {}
        self._arrivals = 0

    def decide(self, now_ms: int, freed: Sequence[Slot], arrived: Sequence[Job]) -> list[tuple[Job, Slot]]:
        """Slots first: a job that waits came before a job that arrives now."""
        del now_ms
        placed: list[tuple[Job, Slot]] = []
        for slot in freed:
            lines = [line for models, line in self._waiting.items() if line and slot.model_id in models]
            if lines:
                placed.append((heapq.heappop(min(lines, key=lambda line: line[0][:2]))[2], slot))
            else:
                self._free[slot.slot_id] = slot
        for job in arrived:
            models = self._allowed(job)
            slot_id = self._slot(job, models)
            if slot_id is not None:
                placed.append((job, self._free.pop(slot_id)))
            else:
                self._arrivals += 1
                rank = -self._worth(job) if self._worth is not None else 0.0
                heapq.heappush(self._waiting.setdefault(models, []), (rank, self._arrivals, job))
        return placed

    def due_ms(self) -> None:
        """It acts on arrivals and freed slots only."""
        return

    def _slot(self, job: Job, models: frozenset[str]) -> str | None:
        free = [slot for slot in self._free.values() if slot.model_id in models]
        if self._cheapest and free:
            return min(free, key=job.cost_usd).slot_id
        return free[0].slot_id if free else None

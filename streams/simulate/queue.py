"""One queue, and the slot that has been free longest: a scheduler for comparison.

Queues differ in the models that a job may have and in which job comes first, and in nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from streams.core.policy.catalog import PREMIUM_TIER
from streams.simulate.fleet import Slot
from streams.simulate.job import Job

#: The models that a job may have.
Allowed = Callable[[Job], frozenset[str]]


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

    def __init__(self, allowed: Allowed, *, by_ev: bool = False) -> None:
        """Serve by arrival, or the highest EV first."""
        self._allowed = allowed
        self._by_ev = by_ev
        #: The one that has been free longest comes first.
        self._free: dict[str, Slot] = {}
        #: (less EV where it counts, how many came before, job).
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
            slot_id = next((name for name, slot in self._free.items() if slot.model_id in models), None)
            if slot_id is not None:
                placed.append((job, self._free.pop(slot_id)))
            else:
                self._arrivals += 1
                rank = -(job.ev or 0.0) if self._by_ev else 0.0
                heapq.heappush(self._waiting.setdefault(models, []), (rank, self._arrivals, job))
        return placed

    def due_ms(self) -> None:
        """It acts on arrivals and freed slots only."""
        return

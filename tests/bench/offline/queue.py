"""One queue, and the slot that has been free longest: always-premium, always-cheap, next-free-slot, highest EV first.

They differ in the models a job may have and in who comes first, and in nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from streams.core.policy.catalog import PREMIUM_TIER
from tests.bench.offline.job import Job
from tests.bench.offline.place import MODELS, Place

#: The models that a job may have.
Allowed = Callable[[Job], frozenset[str]]


def premium_only(job: Job) -> frozenset[str]:
    """The premium models that can do it."""
    return frozenset(model for model in job.able if MODELS[model].tier == PREMIUM_TIER)


def cheapest_only(job: Job) -> frozenset[str]:
    """The models of the lowest tier that can do it: it waits for those, whatever else is free."""
    return frozenset(model for model in job.able if MODELS[model].tier == job.tier)


def anybody(job: Job) -> frozenset[str]:
    """Every model that can do it."""
    return job.able


class Queue:
    """One line for each set of models that jobs may have."""

    def __init__(self, allowed: Allowed, *, by_ev: bool = False) -> None:
        """Serve by arrival, or the highest EV first."""
        self._allowed = allowed
        self._by_ev = by_ev
        #: The one that has been free longest comes first.
        self._free: dict[str, Place] = {}
        #: (less EV where it counts, how many came before, job).
        self._waiting: dict[frozenset[str], list[tuple[float, int, Job]]] = {}
        self._came = 0

    def decide(self, now_ms: int, freed: Sequence[Place], arrived: Sequence[Job]) -> list[tuple[Job, Place]]:
        """Slots first: whoever waits came before whoever comes."""
        del now_ms
        placed: list[tuple[Job, Place]] = []
        for place in freed:
            lines = [line for models, line in self._waiting.items() if line and place.model.id in models]
            if lines:
                placed.append((heapq.heappop(min(lines, key=lambda line: line[0][:2]))[2], place))
            else:
                self._free[place.slot_id] = place
        for job in arrived:
            models = self._allowed(job)
            slot_id = next((name for name, place in self._free.items() if place.model.id in models), None)
            if slot_id is not None:
                placed.append((job, self._free.pop(slot_id)))
            else:
                self._came += 1
                rank = -(job.ev or 0.0) if self._by_ev else 0.0
                heapq.heappush(self._waiting.setdefault(models, []), (rank, self._came, job))
        return placed

    def due_ms(self) -> None:
        """It never acts by itself."""
        return

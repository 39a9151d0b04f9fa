"""The rule of the cross-account router alone, one event at a time: the cheapest capable class, and the premium floor.

A task takes the lowest tier that is capable and free, or the highest where its EV is above P90 or its quest's priority
is 95 or more. A premium slot refuses a task with EV below P50 and priority below 90, unless nothing cheaper in the
fleet is capable. Ties go to the slot that was busy least, then to the slot's id. A slot that comes free takes the first
waiting task that may have it, by priority and then by arrival. No rounds, no ageing, no lift among waiting tasks.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from statistics import quantiles
from typing import Final

from streams.simulate.fleet import Slot
from streams.simulate.job import Job
from streams.simulate.run_stats import PRIORITY_FREE

WINDOW_MS: Final = 3_600_000
RECOMPUTE_MS: Final = 120_000
SAMPLES_MIN: Final = 5
QUEST_PRIORITY_LIFTED: Final = 95


class PlainA:
    """A scheduler by that rule."""

    def __init__(self) -> None:
        self._free: dict[str, Slot] = {}
        self._busy_ms: dict[str, int] = {}
        self._waiting: list[tuple[int, int, Job]] = []
        self._arrivals = 0
        self._evs: list[tuple[int, float]] = []
        #: (when computed, P50, P90).
        self._percentiles: tuple[int, float, float] | None = None

    def decide(self, now_ms: int, freed: Sequence[Slot], arrived: Sequence[Job]) -> list[tuple[Job, Slot]]:
        """Each slot that came free looks for a task, then each task that came for a slot."""
        placed: list[tuple[Job, Slot]] = []
        for slot in freed:
            self._look(now_ms)
            entry = next((one for one in self._waiting if self._may(one[2], slot)), None)
            if entry is None:
                self._free[slot.slot_id] = slot
            else:
                self._waiting.remove(entry)
                placed.append((entry[2], slot))
        for job in arrived:
            if job.ev is not None:
                self._evs.append((now_ms, job.ev))
            self._look(now_ms)
            candidates = [slot for slot in self._free.values() if self._may(job, slot)]
            if candidates:
                upward = -1 if self._is_lifted(job) else 1
                best = min(
                    candidates,
                    key=lambda one: (upward * one.tier, self._busy_ms.get(one.slot_id, 0), one.slot_id),
                )
                placed.append((job, self._free.pop(best.slot_id)))
            else:
                self._arrivals += 1
                insort(self._waiting, (-job.task.priority, self._arrivals, job))
        for job, slot in placed:
            self._busy_ms[slot.slot_id] = self._busy_ms.get(slot.slot_id, 0) + job.service_ms(slot)
        return placed

    def due_ms(self) -> None:
        """It acts on arrivals and freed slots only."""
        return

    def _may(self, job: Job, slot: Slot) -> bool:
        if slot.model_id not in job.able:
            return False
        if not slot.is_premium or self._percentiles is None or job.task.priority >= PRIORITY_FREE:
            return True
        return (job.ev is not None and job.ev >= self._percentiles[1]) or job.tier == slot.tier

    def _is_lifted(self, job: Job) -> bool:
        if job.task.quest_priority >= QUEST_PRIORITY_LIFTED:
            return True
        return self._percentiles is not None and job.ev is not None and job.ev > self._percentiles[2]

    def _look(self, now_ms: int) -> None:
        """Renew the percentiles when they are old."""
        if self._percentiles is not None and now_ms - self._percentiles[0] < RECOMPUTE_MS:
            return
        self._evs = [one for one in self._evs if one[0] > now_ms - WINDOW_MS]
        if len(self._evs) >= SAMPLES_MIN:
            cuts = quantiles([ev for _, ev in self._evs], n=10, method="inclusive")
            self._percentiles = (now_ms, cuts[4], cuts[8])

"""An event simulation of a fleet in virtual time: the same jobs and slots for every scheduler."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from streams.errors import SlotwiseError
from streams.simulate.fleet import Fleet, Slot
from streams.simulate.job import Job


class Scheduler(Protocol):
    """Decides which job gets which slot. One object a run: it knows nothing at first."""

    def decide(self, now_ms: int, freed: Sequence[Slot], arrived: Sequence[Job]) -> Iterable[tuple[Job, Slot]]:
        """Say which jobs start on which slots now, given what came free and what arrived at this moment.

        A slot that was handed in as free is the scheduler's until it gives it to a job; so is a job until it starts.
        """
        ...

    def due_ms(self) -> int | None:
        """When to be asked although nothing happens, in virtual time; None: never."""
        ...


class ServedJob(Struct, frozen=True):
    """A job that a slot did."""

    job: Job
    slot: Slot
    start_ms: int
    end_ms: int

    @property
    def wait_s(self) -> float:
        """Seconds from its arrival to its start."""
        return (self.start_ms - self.job.at_ms) / 1000


class NeverServed(SlotwiseError):
    """A scheduler left jobs waiting although every slot was free and nothing more was to come."""


def play(jobs: Sequence[Job], fleet: Fleet, scheduler: Scheduler) -> list[ServedJob]:
    """Let all jobs, which are in the order of arrival, come and be done; in the order in which they started.

    Raises:
        NeverServed: some job gets no slot.
    """
    served = played(jobs, fleet, scheduler)
    if len(served) < len(jobs):
        raise NeverServed(f"{len(jobs) - len(served)} of {len(jobs)} jobs wait for a slot that never comes.")
    return served


def played(jobs: Sequence[Job], fleet: Fleet, scheduler: Scheduler) -> list[ServedJob]:
    """As `play`, but jobs that get no slot, although all are free and nothing more comes, are left out."""
    served: list[ServedJob] = []
    running: list[tuple[int, str, Slot]] = []
    coming = 0
    now_ms = 0
    freed: list[Slot] = list(fleet)
    while True:
        arrived: list[Job] = []
        while coming < len(jobs) and jobs[coming].at_ms <= now_ms:
            arrived.append(jobs[coming])
            coming += 1
        for job, slot in scheduler.decide(now_ms, freed, arrived):
            end_ms = now_ms + job.service_ms(slot)
            served.append(ServedJob(job, slot, now_ms, end_ms))
            heapq.heappush(running, (end_ms, slot.slot_id, slot))
        moments = [running[0][0]] if running else []
        if coming < len(jobs):
            moments.append(jobs[coming].at_ms)
        if not moments:
            break
        due_ms = scheduler.due_ms()
        now_ms = min(moments) if due_ms is None else min(*moments, max(due_ms, now_ms + 1))
        freed = []
        while running and running[0][0] <= now_ms:
            freed.append(heapq.heappop(running)[2])
    return served

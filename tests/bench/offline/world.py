"""An event simulation of a fleet in virtual time: the same jobs and slots for every rule, no chance and no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from tests.bench.offline.job import Job
from tests.bench.offline.place import Place


class Rule(Protocol):
    """Who gets which slot."""

    def decide(self, now_ms: int, freed: Sequence[Place], arrived: Sequence[Job]) -> Iterable[tuple[Job, Place]]:
        """Slots came free and jobs came, all at this moment: who starts where."""
        ...

    def due_ms(self) -> int | None:
        """When to be asked although nothing came; None: never."""
        ...


class Done(Struct, frozen=True):
    """A job that was done."""

    job: Job
    place: Place
    start_ms: int
    end_ms: int

    @property
    def wait_s(self) -> float:
        """How long it waited."""
        return (self.start_ms - self.job.at_ms) / 1000


class NeverServed(Exception):
    """A rule left jobs waiting although every slot was free and nothing more came."""


def play(jobs: Sequence[Job], places: Sequence[Place], rule: Rule) -> list[Done]:
    """Let all jobs come and be done; in the order in which they began.

    Raises:
        NeverServed: some job gets no slot.
    """
    done: list[Done] = []
    running: list[tuple[int, str, Place]] = []
    coming = 0
    now_ms = 0
    freed: list[Place] = list(places)
    while True:
        arrived: list[Job] = []
        while coming < len(jobs) and jobs[coming].at_ms <= now_ms:
            arrived.append(jobs[coming])
            coming += 1
        for job, place in rule.decide(now_ms, freed, arrived):
            end_ms = now_ms + job.service_ms(place)
            done.append(Done(job, place, now_ms, end_ms))
            heapq.heappush(running, (end_ms, place.slot_id, place))
        moments = [running[0][0]] if running else []
        if coming < len(jobs):
            moments.append(jobs[coming].at_ms)
        if not moments:
            break
        due_ms = rule.due_ms()
        now_ms = min(moments) if due_ms is None else min(*moments, max(due_ms, now_ms + 1))
        freed = []
        while running and running[0][0] <= now_ms:
            freed.append(heapq.heappop(running)[2])
    if len(done) < len(jobs):
        raise NeverServed(f"{len(jobs) - len(done)} of {len(jobs)} jobs wait for a slot that never comes.")
    return done

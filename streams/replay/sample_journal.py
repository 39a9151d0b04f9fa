"""The journal that the bundled sample leaves when a router plays it in virtual time: the same one on every machine.

Other rules can really be played on it, where a replay of the journal only estimates them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from schemas.decision import Step
from schemas.events import Event, Tick
from schemas.vocabulary import Millis, from_millis
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.partition.outputs import task_routed
from streams.replay.recording import Occurrence
from streams.replay.world import inputs_of
from streams.sample.fleet import Engine, Fleet
from streams.sample.work import SampleTask

#: When the sample begins: 2026-11-21T10:00:00.000Z.
BEGIN_MS: Final = 1_795_255_200_000


def sample_journal(rulebook: Rulebook, engines: Sequence[Engine], tasks: Sequence[SampleTask]) -> Iterator[Step]:
    """Play tasks on the sample's fleet until each has ended, and yield the steps."""
    router, fleet = Router(0, rulebook), Fleet(engines, tasks)
    coming: list[tuple[int, int, Event]] = []
    for number, slot in enumerate(fleet.announcements(BEGIN_MS)):
        heapq.heappush(coming, (BEGIN_MS, number, slot))
    for task in tasks:
        at_ms = BEGIN_MS + round(1000 * task.at_s)
        heapq.heappush(coming, (at_ms, len(coming), replace(task.event, at=from_millis(at_ms))))
    count, now_ms = len(coming), BEGIN_MS
    while coming or any(pool.tasks for pool in router.state.pools.values()):
        due_ms = router.due_ms()
        moments = [coming[0][0]] if coming else []
        if due_ms is not None:
            moments.append(max(due_ms, now_ms + 1))
        now_ms = min(moments)
        events: list[Event] = []
        while coming and coming[0][0] <= now_ms:
            events.append(heapq.heappop(coming)[2])
        now = Millis(now_ms)
        events = events or [Tick(control_id=f"sample-{now_ms}", at=from_millis(now_ms), by="sample")]
        step = router.handle(inputs_of(router, [Occurrence(now, one) for one in events], now))
        router.apply(step)
        yield step
        for decision in step.decisions:
            work = fleet.take(task_routed(decision, step, {})) if decision.outcome == "routed" else None
            if work is not None:
                count += 1
                end_ms = now_ms + max(1, round(1000 * work.duration_s))
                heapq.heappush(coming, (end_ms, count, work.freed(end_ms)))

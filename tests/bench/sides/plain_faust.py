"""The plain Faust app that a user would write first: agents event by event, tables of free and leased slots.

First come, first served. Settings are the defaults, apart from the time-outs of the group: they decide only how long
a start takes. Faust's worker makes a record of every debug line and drops it, as in every Faust app. The app does less
than a router must: no requirements, prices, quotas, leases or reasons and no journal; tasks without a slot wait in
memory and are lost with it.

Run: python -m tests.bench.sides.plain_faust PROGRESS_FILE [PROFILE_FILE], settings in the environment.
"""

from __future__ import annotations

import cProfile
import os
import signal
import sys
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any, Final

import faust
from yarl import URL

from schemas.vocabulary import SLOT_FREED, TASK_PENDING, TASK_ROUTED
from streams.settings import Settings, load
from streams.topics import names
from tests.bench.profile import write_profile

#: Progress is written this often, so that the writing does not show.
EVERY: Final = 250


class Count:
    """How many events were handled, and when: one line a few hundred."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", buffering=1)
        self._handled = 0

    def one(self) -> None:
        """One more."""
        self._handled += 1
        if self._handled % EVERY == 0:
            self._file.write(f"{self._handled} {time.time():.6f}\n")


def make_app(settings: Settings, count: Count) -> faust.App:
    """Write the app as the tutorial does."""
    known = names(settings)
    app = faust.App(
        settings.group,
        broker=URL(f"kafka://{settings.broker}"),
        value_serializer="json",
        topic_partitions=settings.partitions,
        broker_session_timeout=settings.session_timeout_s,
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        web_port=settings.web_port,
        web_bind="127.0.0.1",
    )
    pending = app.topic(known.of(TASK_PENDING))
    freed = app.topic(known.of(SLOT_FREED))
    routed = app.topic(known.of(TASK_ROUTED))
    free_slots = app.Table("free_slots", default=list, partitions=settings.partitions)
    leased = app.Table("leased", default=str, partitions=settings.partitions)
    waiting: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)

    async def route(task: dict[str, Any], slot_id: str) -> None:
        decision = {"task_id": task["task_id"], "pool": task["pool"], "slot_id": slot_id, "decided_at": time.time()}
        await routed.send(key=task["pool"], value=decision)
        leased[slot_id] = task["task_id"]

    @app.agent(pending)
    async def place(tasks: Any) -> None:
        async for task in tasks:
            pool = task["pool"]
            free = free_slots[pool]
            if free:
                free_slots[pool] = free[1:]
                await route(task, free[0])
            else:
                waiting[pool].append(task)
            count.one()

    @app.agent(freed)
    async def free(slots: Any) -> None:
        async for slot in slots:
            pool = slot["pool"]
            if waiting[pool]:
                await route(waiting[pool].popleft(), slot["slot_id"])
            else:
                free_slots[pool] = [*free_slots[pool], slot["slot_id"]]
            count.one()

    return app


def main() -> None:
    """Run until SIGTERM."""
    settings = load(os.environ)
    profile = cProfile.Profile()
    signal.signal(signal.SIGPROF, lambda *_: profile.enable())
    app = make_app(settings, Count(Path(sys.argv[1])))
    try:
        faust.Worker(app, loglevel="warning").execute_from_commandline()
    finally:
        profile.disable()
        if len(sys.argv) > 2:
            write_profile(profile, sys.argv[2])


if __name__ == "__main__":
    main()

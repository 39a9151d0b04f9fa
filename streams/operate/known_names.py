"""Names that mean nothing here: of a pool, slot, task or lane in an order, of a field, model or type of work in a line.

An order or a line with such a name is valid, and mostly a slip of the pen. What is known is read from the partitions,
and from the rules; each finding is a sentence with the nearest known name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from schemas.events import Event, FleetControl, LaneRestarted, SlotFreed, SlotRetired, TaskCancelled, TaskPending
from schemas.vocabulary import from_millis, to_millis
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.core.state.pool import Pool
from streams.errors import FAILED, SlotwiseError
from streams.operate.read_partitions import PartitionReadError, partitions_of, read_partitions
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.views.overview import RecoveredPartition

#: What was sent a moment ago, such as a pool's first slot, may still be on its way to the router.
ARRIVE_S_MAX: Final = 2.0
ARRIVE_POLL_S: Final = 0.2


class UnknownNameError(SlotwiseError):
    """An order names something that is not there; nothing was sent."""

    exit_code = FAILED


async def check_names(settings: Settings, event: FleetControl) -> None:
    """Refuse an order about a pool, slot, task or lane that no partition knows.

    Raises:
        UnknownNameError: with the nearest known name.
    """
    if event.pool is None and not isinstance(event, LaneRestarted):
        return
    deadline_s = time.monotonic() + ARRIVE_S_MAX
    while (found := await _unknown(settings, event)) is not None:
        if time.monotonic() >= deadline_s:
            raise UnknownNameError(f"{found} Nothing was sent; to send it all the same, add --new.")
        await asyncio.sleep(ARRIVE_POLL_S)


async def _unknown(settings: Settings, event: FleetControl) -> str | None:
    partitions = range(settings.partitions) if event.pool is None else partitions_of(settings, event.pool)
    found = await read_partitions(settings, partitions)
    if event.pool is None:
        return _unknown_lane(event, found) if isinstance(event, LaneRestarted) else None
    (one,) = found.values()
    pool = one.router.state.pools.get(event.pool)
    if pool is None or not _lives(pool):
        everywhere = await read_partitions(settings, range(settings.partitions))
        known = [name for one in everywhere.values() for name, pool in one.router.state.pools.items() if _lives(pool)]
        return f"No pool {event.pool} has slots, tasks or budgets.{nearest(event.pool, known)}"
    if isinstance(event, SlotRetired) and event.slot_id not in pool.slots:
        return f"Pool {event.pool} has no slot {event.slot_id}.{nearest(event.slot_id, pool.slots)}"
    if isinstance(event, TaskCancelled) and event.task_id not in pool.tasks:
        ended = pool.finished.get(event.task_id)
        if ended is not None:
            return f"Task {event.task_id} of pool {event.pool} ended at {from_millis(ended.at_ms)} ({ended.what})."
        return f"Pool {event.pool} has no task {event.task_id}.{nearest(event.task_id, pool.tasks)}"
    return None


def _unknown_lane(event: LaneRestarted, found: Mapping[int, RecoveredPartition]) -> str | None:
    known = {
        *(lane for one in found.values() for lane in one.router.rulebook.policy.lane),
        *(
            row.task.lane
            for one in found.values()
            for pool in one.router.state.pools.values()
            for row in pool.tasks.values()
            if row.task.lane is not None
        ),
    }
    if event.lane in known:
        return None
    return f"No task of lane {event.lane} waits or runs, and the policy names no such lane.{nearest(event.lane, known)}"


def _lives(pool: Pool) -> bool:
    return bool(pool.slots or pool.tasks or pool.ledgers or pool.finished)


class Known:
    """What is known to the router, read when it is first asked for: each partition once."""

    def __init__(self, settings: Settings, read: Callable[[int], RecoveredPartition]) -> None:
        """Read the rules of the files; `read` reads a partition as `read_partitions` does.

        Raises:
            TextFileError, RulebookError: they cannot be read.
        """
        self._settings = settings
        self._read = read
        self._files = file_rulebook(settings)
        #: None: it cannot be read by the rules here.
        self._routers: dict[int, Router | None] = {}

    def refusal(self, event: Event) -> str | None:
        """Return why the router would refuse or ignore a line, as far as its state says."""
        if isinstance(event, SlotFreed):
            return self._no_model("model", event.model, event.pool)
        if not isinstance(event, TaskPending):
            return None
        no_model = self._no_model("floor_model", event.floor_model, event.pool)
        if no_model is not None:
            return no_model
        router = self._router(event.pool)
        pool = router.state.pools.get(event.pool) if router is not None else None
        ended = pool.finished.get(event.task_id) if pool is not None and event.task_id not in pool.tasks else None
        if ended is None or (ended.what != "done" and to_millis(event.at) > ended.at_ms):
            return None
        others = "" if ended.what == "done" else ", and so does an `at` after that end"
        return (
            f"a duplicate: {event.task_id} ended at {from_millis(ended.at_ms)} ({ended.what}); "
            f"`slotwise retry {event.task_id}` runs it again{others}."
        )

    def notes(self, event: Event, fields: Mapping[str, Any]) -> Iterator[str]:
        """Return a sentence for each name of a line that means nothing: it is taken, and has no effect."""
        known = [field.encode_name for field in msgspec.structs.fields(type(event))]
        for name in fields:
            if name not in known and name != "kind":
                yield f"field {name} is none of this event, and is not read.{nearest(name, known)}"
        if isinstance(event, TaskPending) and event.task_type is not None:
            note = unknown_task_type(event.task_type, self._files)
            if note is not None and unknown_task_type(event.task_type, self._active(event.pool)) is not None:
                yield note

    def _no_model(self, field: str, model: str | None, pool: str) -> str | None:
        if model is None or model in self._files.models or model in self._active(pool).models:
            return None
        return f"{field} {model} is not in the catalogue.{nearest(model, self._active(pool).models)}"

    def _active(self, pool: str) -> Rulebook:
        router = self._router(pool)
        return router.rulebook if router is not None else self._files

    def _router(self, pool: str) -> Router | None:
        (partition,) = partitions_of(self._settings, pool)
        if partition not in self._routers:
            try:
                self._routers[partition] = self._read(partition).router
            except PartitionReadError:
                self._routers[partition] = None
        return self._routers[partition]


def unknown_task_type(task_type: str, rulebook: Rulebook) -> str | None:
    """Say that a type of work decides nothing, because no list of the policy has it; None: one has it."""
    policy = rulebook.policy
    types = {*policy.objective.by_task_type, *policy.strategy.preference}
    return (
        None if task_type in types else f"task_type {task_type} is in no list of the policy.{nearest(task_type, types)}"
    )

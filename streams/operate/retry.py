"""Runs a task that has ended again, under its id: its end is forgotten by an order, and its event is sent once more.

The state of a partition remembers of a finished task how it ended, not what it was. That stands on `task.pending`, as
long as its retention says. So the event is looked for first; then `task.retried` is given, and when the router has
taken it the event follows, with the present as its `at`. What is interrupted in between can be given again.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from schemas.codec import read_event
from schemas.events import TaskPending, TaskRetried
from schemas.input import Unreadable
from schemas.vocabulary import TASK_PENDING, Millis, from_millis, to_millis
from streams.clock import SystemClock
from streams.core.policy.document import nearest
from streams.core.step.retry import not_ended
from streams.errors import FAILED, SlotwiseError
from streams.kafka.client import Broker
from streams.operate.dead_letters import mark_sent_again
from streams.operate.orders import Submitted, submit
from streams.operate.producer import EventProducer, Place
from streams.operate.read_partitions import partitions_of, read_partitions
from streams.operate.send import at_present, records_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka.structs import ConsumerRecord

    from streams.core.state.pool import Pool
    from streams.settings import Settings

SOURCE: Final = "/slotwise/retry"
#: Records of `task.pending` that are looked through at first, from its end; each time further back eight times as many.
LOOKBACK: Final = 10_000
#: What an event keeps when it is sent again: the trace it belongs to.
_TRACE: Final = ("traceparent", "tracestate")


class RetryError(SlotwiseError):
    """A task is not run again; nothing was sent. The message says why."""

    exit_code = FAILED


class Ended(Struct, frozen=True, kw_only=True):
    """A task that has ended; of one that ended long ago only its pool is known."""

    task_id: str
    pool: str
    #: `done`, or the way it ended without success.
    ended: str | None = None
    ended_at: str | None = None
    #: The `at` of its event.
    task_at_ms: Millis | None = None


class Retried(Struct, frozen=True, kw_only=True):
    """The order, and where the task's event went; None: the order is not in force, and it was not sent."""

    task: Ended
    order: Submitted
    sent: Place | None


async def find_ended(settings: Settings, task_id: str, pool: str | None) -> Ended:
    """Return the task that is to be run again; without a pool, of the one that knows it.

    Raises:
        RetryError: it lives, several pools have it, or none has.
    """
    found = await read_partitions(settings, partitions_of(settings, pool))
    pools = {one.name: one for part in found.values() for one in part.router.state.pools.values()}
    if pool is not None:
        pools = {name: one for name, one in pools.items() if name == pool}
    knowing = [one for one in pools.values() if task_id in one.tasks or task_id in one.finished]
    if len(knowing) > 1:
        names = ", ".join(sorted(one.name for one in knowing))
        raise RetryError(f"The pools {names} have a task {task_id}: say which one is meant with --pool.")
    if knowing:
        return _ended(knowing[0], task_id)
    if pool is not None:
        return Ended(task_id=task_id, pool=pool)
    known = [known for one in pools.values() for known in (*one.tasks, *one.finished)]
    raise RetryError(
        f"No pool knows a task {task_id}: it was not sent, or ended more than a day ago.{nearest(task_id, known)} "
        "One of long ago is looked for in its pool: name that with --pool."
    )


async def run_again(
    settings: Settings,
    task: Ended,
    event: TaskRetried,
    *,
    wait_s: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Retried:
    """Give the order, and when it is in force send the task's event again.

    Raises:
        RetryError: its event is not on `task.pending` any more, or would end at once.
        SendError, NotTaken: the broker did not take the order or the event; it can be given again.
    """
    value, headers = await _event_of(settings, task, progress)
    records = records_of(settings, TASK_PENDING, value, source=SOURCE)
    if isinstance(records, Unreadable):
        raise RetryError(f"The event of task {task.task_id} would be refused: {records.reason} Nothing was sent.")
    (record,) = records
    record["headers"] = [*record["headers"], *headers]
    order = await asyncio.to_thread(submit, settings, event, wait_s=wait_s)
    if order.refused or order.open:
        return Retried(task=task, order=order, sent=None)
    producer = EventProducer(settings)
    try:
        place = await producer.send(record)
    finally:
        await producer.stop()
    if task.ended == "dead_lettered":
        await mark_sent_again(settings, task.pool, task.task_id, by=event.by)
    return Retried(task=task, order=order, sent=place)


def _ended(pool: Pool, task_id: str) -> Ended:
    row = pool.tasks.get(task_id)
    if row is not None:
        raise RetryError(f"In pool {pool.name} {not_ended(row)} Nothing was sent.")
    end = pool.finished[task_id]
    return Ended(
        task_id=task_id, pool=pool.name, ended=end.what, ended_at=from_millis(end.at_ms), task_at_ms=end.task_at_ms
    )


async def _event_of(
    settings: Settings, task: Ended, progress: Callable[[int], None]
) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return the event of the task, as it was written but for its `at`, and the headers that it keeps."""
    record = await _find(settings, task, progress)
    if record is None:
        raise RetryError(
            f"Task {task.task_id} of pool {task.pool} is not on {settings.topic_prefix}{TASK_PENDING}: it was never "
            "sent, or the topic's retention has dropped it. Send it again with `slotwise send task`."
        )
    now_ms, fields = SystemClock().now_ms(), msgspec.json.decode(record.value or b"", type=dict[str, Any])
    deadline = fields.get("deadline")
    if deadline is not None and to_millis(deadline) <= now_ms:
        raise RetryError(
            f"The deadline of task {task.task_id}, {deadline}, is past, so it would expire at once. Nothing was sent: "
            "send it again with a later one, and with an `at` after its end."
        )
    headers = [(name, content or b"") for name, content in record.headers if name in _TRACE]
    return at_present(msgspec.json.decode(record.value or b"", type=dict[str, msgspec.Raw])), headers


async def _find(
    settings: Settings, task: Ended, progress: Callable[[int], None]
) -> ConsumerRecord[bytes, bytes] | None:
    """Return the record that the router accepted, where it is known which; else the last one with the task's id."""
    topic, (partition,) = settings.topic_prefix + TASK_PENDING, partitions_of(settings, task.pool)
    read = 0
    async with Broker(settings) as broker:
        first, end = await broker.bounds(topic, partition)
        back = LOOKBACK
        while end > first:
            start = max(first, end - back)
            found = None
            async with aclosing(broker.read(topic, partition, start, end)) as runs:
                async for run in runs:
                    found = next((one for one in reversed(run) if _is_of(one, task)), found)
                    read += len(run)
                    progress(read)
            if found is not None:
                return found
            end, back = start, back * 8
    return None


def _is_of(record: ConsumerRecord[bytes, bytes], task: Ended) -> bool:
    value = record.value or b""
    if task.task_id.encode() not in value:
        return False
    event = read_event(TASK_PENDING, record.key, value, record.headers)
    return (
        isinstance(event, TaskPending)
        and (event.task_id, event.pool) == (task.task_id, task.pool)
        and (task.task_at_ms is None or to_millis(event.at) == task.task_at_ms)
    )

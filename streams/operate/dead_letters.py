"""Reads the dead-letter topics, sends dead letters again, and marks what became of them.

Nothing here needs a worker. A replayed record is sent first and marked then: a command that is interrupted between
the two leaves it new, and what is sent twice is recognised by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from schemas.codec import read_event
from schemas.dead_letter_marks import DeadLetterMark, MarkedAs, mark_record
from schemas.dead_letters import refused_of
from schemas.input import Unreadable
from schemas.vocabulary import INPUT_TOPICS, TASK_PENDING, from_millis
from streams.clock import SystemClock
from streams.errors import MISTAKE, SlotwiseError
from streams.kafka.client import Broker
from streams.operate.send import records_of, task_given_up
from streams.settings import Settings
from streams.together import all_of
from streams.topics import home_of, names
from streams.views.dead_letters import DeadLetters, DeadLetterView, Selection, StoredRecord

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

#: The `ce_source` of tasks that were given up and are sent again; refused records keep their own.
SOURCE: Final = "/slotwise/dlq"
#: Partitions that are read at the same time.
AT_ONCE: Final = 8
#: So many of the latest records of each dead-letter partition `slotwise check` looks at.
CHECKED_MAX: Final = 10_000
#: Records that are sent before the broker's answers are awaited.
SENT_AT_ONCE: Final = 200
_GONE: Final = "It is no longer in its topic: retention has taken it."


class DeadLetterError(SlotwiseError):
    """A dead letter that is named is not there; the message says which."""

    exit_code = MISTAKE


class Treated(Struct, frozen=True, kw_only=True):
    """One dead letter and what was done with it."""

    dead_letter: str
    id: str | None
    #: Where it was or would be sent, as `task.pending[3]`; None: it is not sent.
    to: str | None
    #: Whether it was done; with `dry_run`, whether it would be.
    done: bool
    #: Why it was not.
    problem: str | None = None


class Treatment(Struct, frozen=True, kw_only=True):
    """What a replay or a drop came to."""

    mark: MarkedAs
    dry_run: bool
    done: int
    not_done: int
    dead_letters: list[Treated]


class Original(Struct, frozen=True):
    """A record as it is sent again."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


async def read_dead_letters(settings: Settings, *, last: int | None = None) -> DeadLetters:
    """Read all dead letters with their marks; with `last` only so many of the latest records of each partition."""
    found = DeadLetters()
    turn = asyncio.Semaphore(AT_ONCE)
    async with Broker(settings) as broker:

        async def read(topic: str, partition: int) -> None:
            async with turn, aclosing(_records(settings, broker, topic, partition, last=last)) as records:
                async for record in records:
                    found.take(record)

        await all_of(read(topic, number) for topic in INPUT_TOPICS for number in range(settings.partitions))
    return found


async def records_at(settings: Settings, views: Sequence[DeadLetterView]) -> list[StoredRecord]:
    """Return the whole records of some dead letters, in their order."""
    async with Broker(settings) as broker:
        found = await _whole(settings, broker, views)
    return [found[view.dead_letter] for view in views if view.dead_letter in found]


def named(found: DeadLetters, addresses: Iterable[str]) -> list[DeadLetterView]:
    """Return the dead letters at these addresses, each once.

    Raises:
        DeadLetterError: there is none at one of them.
    """
    views: dict[str, DeadLetterView] = {}
    for address in addresses:
        view = found.find(address, SystemClock().now_ms())
        if view is None:
            raise DeadLetterError(
                f"There is no dead letter {address}: give it as `slotwise dlq list` does, such as task.pending/3/17."
            )
        views[view.dead_letter] = view
    return list(views.values())


def require_new(views: Iterable[DeadLetterView]) -> None:
    """Check that nothing became of these dead letters yet.

    Raises:
        DeadLetterError: one was replayed or dropped before; the message says by whom.
    """
    for one in views:
        if one.marked is not None:
            raise DeadLetterError(
                f"{one.dead_letter} was {one.state} by {one.marked.by} at {one.marked.at}: nothing was done. To send "
                "it all the same: slotwise dlq replay --again."
            )


async def replay(
    settings: Settings,
    found: DeadLetters,
    views: Sequence[DeadLetterView],
    *,
    by: str,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Treatment:
    """Send these dead letters again, as they were, to the topics they came from, and mark them; oldest first.

    What the router would certainly refuse again is not sent, and stays as it is.
    """
    treated: list[Treated] = []
    async with Broker(settings) as broker:
        for part in _parts(views):
            whole = await _whole(settings, broker, part)
            sent: list[tuple[DeadLetterView, Any]] = []
            for view in part:
                record = whole.get(view.dead_letter)
                original = original_of(settings, record) if record is not None else _GONE
                if isinstance(original, str):
                    treated.append(_treated(view, problem=original))
                    continue
                treated.append(_treated(view, to=f"{original.topic}[{original.partition}]"))
                if not dry_run:
                    topic = settings.topic_prefix + original.topic
                    confirmation = await broker.send(
                        topic, original.partition, original.value, key=original.key, headers=original.headers
                    )
                    sent.append((view, confirmation))
            for _, confirmation in sent:
                await confirmation
            await _mark(settings, broker, found, [view for view, _ in sent], "replayed", by, "")
            progress(len(treated))
    return _treatment("replayed", treated, dry_run=dry_run)


async def drop(
    settings: Settings,
    found: DeadLetters,
    views: Sequence[DeadLetterView],
    *,
    by: str,
    because: str,
    dry_run: bool = False,
) -> Treatment:
    """Mark these dead letters as needing nothing more, with the reason."""
    if not dry_run:
        async with Broker(settings) as broker:
            for part in _parts(views):
                await _mark(settings, broker, found, part, "dropped", by, because)
    return _treatment("dropped", [_treated(view) for view in views], dry_run=dry_run)


async def mark_sent_again(settings: Settings, pool: str, task_id: str, *, by: str) -> None:
    """Mark the dead letters of a task that was given up: it was sent again by another way than a replay."""
    found = await read_dead_letters(settings, last=CHECKED_MAX)
    views = [
        view
        for view in found.views(SystemClock().now_ms(), Selection(topic=TASK_PENDING, state="new"))
        if view.given_up and (view.pool, view.id) == (pool, task_id)
    ]
    async with Broker(settings) as broker:
        await _mark(settings, broker, found, views, "replayed", by, "slotwise retry")


def original_of(settings: Settings, record: StoredRecord) -> Original | str:
    """Return the record that became this dead letter, or why it cannot be sent again.

    A task that was given up is sent as the task, with the present as its `at`: it is done again.
    """
    refused = refused_of(record.headers)
    value, key, headers = record.value or b"", record.key or None, refused.own
    if refused.value_bytes is not None:
        return f"Only {len(value)} of its {refused.value_bytes} bytes are here: its sender has to send it again."
    task = task_given_up(value, stamp=True) if record.topic == TASK_PENDING else value
    home = home_of(settings.partitions)
    if isinstance(task, bytes) and task is not value:
        sent = records_of(settings, TASK_PENDING, task, source=SOURCE)
        if isinstance(sent, Unreadable):
            return f"It would be refused again: {sent.reason}"
        return Original(TASK_PENDING, home(sent[0]["key"]), sent[0]["key"], task, tuple(sent[0]["headers"]))
    event = read_event(record.topic, key, value, headers)
    if isinstance(event, Unreadable):
        return f"It would be refused again: {event.reason}"
    own = tuple((name, content or b"") for name, content in headers)
    return Original(record.topic, record.partition if key is None else home(key), key, value, own)


# The broker -----------------------------------------------------------------------------------------------------------


async def _records(
    settings: Settings,
    broker: Broker,
    topic: str,
    partition: int,
    start: int = 0,
    end: int | None = None,
    *,
    last: int | None = None,
) -> AsyncGenerator[StoredRecord, None]:
    name = names(settings).dead(topic)
    first, following = await broker.bounds(name, partition)
    if last is not None:
        first = max(first, following - last)
    end = following if end is None else min(end, following)
    async with aclosing(broker.read(name, partition, max(first, start), end)) as runs:
        async for run in runs:
            for one in run:
                yield _stored(topic, one)


async def _whole(settings: Settings, broker: Broker, views: Iterable[DeadLetterView]) -> dict[str, StoredRecord]:
    """The records of these dead letters by address, read once a partition."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for view in views:
        wanted.setdefault((view.topic, view.partition), []).append(view.offset)
    found: dict[str, StoredRecord] = {}
    for (topic, partition), offsets in wanted.items():
        some = set(offsets)
        async for record in _records(settings, broker, topic, partition, min(some), max(some) + 1):
            if record.offset in some:
                found[record.address] = record
    return found


def _stored(topic: str, one: ConsumerRecord[bytes, bytes]) -> StoredRecord:
    return StoredRecord(topic, one.partition, one.offset, one.timestamp, one.key, one.value, tuple(one.headers))


async def _mark(
    settings: Settings,
    broker: Broker,
    found: DeadLetters,
    views: Sequence[DeadLetterView],
    mark: MarkedAs,
    by: str,
    because: str,
) -> None:
    at = from_millis(SystemClock().now_ms())
    sent = []
    for view in views:
        made = DeadLetterMark(mark=mark, offsets=found.offsets(view), at=at, by=by, because=because)
        value, headers = mark_record(made)
        key = None if view.pool is None else view.pool.encode(errors="replace")
        sent.append(
            await broker.send(names(settings).dead(view.topic), view.partition, value, key=key, headers=headers)
        )
    for confirmation in sent:
        await confirmation


def _parts(views: Sequence[DeadLetterView]) -> list[Sequence[DeadLetterView]]:
    oldest_first = sorted(views, key=lambda one: (one.at, one.topic, one.partition, one.offset))
    return [oldest_first[start : start + SENT_AT_ONCE] for start in range(0, len(oldest_first), SENT_AT_ONCE)]


def _treated(view: DeadLetterView, *, to: str | None = None, problem: str | None = None) -> Treated:
    return Treated(dead_letter=view.dead_letter, id=view.id, to=to, done=problem is None, problem=problem)


def _treatment(mark: MarkedAs, treated: list[Treated], *, dry_run: bool) -> Treatment:
    done = sum(one.done for one in treated)
    return Treatment(mark=mark, dry_run=dry_run, done=done, not_done=len(treated) - done, dead_letters=treated)

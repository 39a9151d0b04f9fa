"""From the journal to the output topics and the dead-letter topics: only what is durable there is published.

One publisher follows one partition. While its worker works, it takes confirmed steps from memory; at the start, and
after a failure, it reads the journal from where it got to. That place is the committed offset of a consumer group of
its own, with the number of the expected step as metadata. Delivery is at least once, in order per pool: a record is
sent again after a crash, never left out and never overtaken. A journal with a gap or a damaged record ends
the publisher, and with it the worker; progress is never committed past it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Sequence
from contextlib import aclosing, suppress
from typing import Final, Protocol

from schemas.decision import Step
from schemas.steps import decode_step
from streams import metrics
from streams.backoff import Backoff
from streams.partition.outputs import Outgoing, output_records
from streams.partition.ports import Behind, FindTask, Journal, JournalError, JournalPosition
from streams.partition.reader import LOOKBACK_RECORDS, JournalReader
from streams.partition.task_events import EventFinder

_log = logging.getLogger(__name__)

#: Steps that wait in memory; beyond it the worker waits.
STEPS_MAX: Final = 200
#: Records sent before their acknowledgements are awaited.
SENT_MAX: Final = 5_000
#: Progress is committed at most so often, and at the end.
COMMIT_S: Final = 0.5
#: What a stopping publisher may take to finish, less than a rebalance waits; the rest is for the next publisher.
STOP_S_MAX: Final = 2.5
BACKOFF: Final = Backoff(first_s=0.1, longest_s=5.0)


class Outputs(Protocol):
    """Where the records go."""

    async def send(self, outgoing: Sequence[Outgoing]) -> Sequence[Awaitable[object]]:
        """Hand over, in order within a topic; what comes back is done when all of them are durable."""


class Progress(Protocol):
    """How far a partition is published."""

    async def load(self) -> tuple[int, int | None] | None:
        """Return the journal offset to go on from and the step expected there, where known; None: nothing yet."""

    async def save(self, position: JournalPosition, journal_id: str | None, /) -> None:
        """Remember the place, and which journal it is a place of; None: a journal without an id."""


class Publisher:
    """A worker's follower: `start`, `offer` confirmed steps, `stop`."""

    def __init__(self, partition: int, journal: Journal, outputs: Outputs, progress: Progress) -> None:
        self._partition = partition
        self._journal = journal
        self._outputs = outputs
        self._progress = progress
        self._steps: deque[tuple[int, Step]] = deque()
        #: Everything before this offset is in the journal only, everything from here on comes by `offer`.
        self._fed = 0
        self._base = JournalPosition(0, 0)
        #: All before it is acknowledged.
        self._done: JournalPosition | None = None
        self._committed: JournalPosition | None = None
        self._committed_s = 0.0
        self._journal_id: str | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._events = EventFinder(partition, journal)
        #: Journal records that were not read when the latest ones were, and the time of the first of those.
        self._unread = 0
        self._reading_ms: int | None = None

    async def start(self, base: JournalPosition, end: JournalPosition, find: FindTask) -> None:
        """Begin to publish, from the remembered place; steps from `end` on will be offered."""
        self._events.find = find
        self._steps.clear()
        self._base, self._fed = base, end.offset
        self._done = self._committed = None
        self._stopping = False
        self._room.set()
        self._task = asyncio.create_task(self._run(), name=f"publisher {self._partition}")

    def offer(self, offset: int, step: Step) -> bool:
        """Take a confirmed step, or refuse for want of room."""
        if len(self._steps) >= STEPS_MAX:
            self._room.clear()
            return False
        self._steps.append((offset, step))
        self._wake.set()
        return True

    async def room(self) -> None:
        """Return when there is room again."""
        await self._room.wait()

    def lag(self, now_ms: int) -> Behind:
        """Return what is not published."""
        steps = len(self._steps)
        oldest_ms = self._reading_ms if self._unread else self._steps[0][1].now_ms if steps else None
        return Behind(self._unread + steps, max(0, now_ms - oldest_ms) / 1000 if oldest_ms is not None else 0.0)

    async def failed(self) -> None:
        """Wait until the publisher ends by an error, and raise it; return when it was stopped."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Publish what was offered, commit, and end; within limits. What had ended it before is not raised again."""
        self._stopping = True
        self._wake.set()
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.wait((task,), timeout=STOP_S_MAX)
        task.cancel()
        with suppress(asyncio.CancelledError, JournalError):
            await task

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                await self._publish()
            except JournalError:
                metrics.INVARIANT_VIOLATIONS.labels("published_journal_gap").inc()
                raise
            except Exception as error:  # noqa: BLE001 - a broker that is away can fail in any way
                # What was sent after the last acknowledged step is sent again, in order.
                attempt += 1
                _log.warning("partition %d: publishing failed, going on from the journal: %r", self._partition, error)
                await asyncio.sleep(BACKOFF.pause_s(attempt, random.random()))  # noqa: S311 - jitter
            else:
                return

    async def _publish(self) -> None:
        if self._done is None:
            self._done = self._committed = await self._where()
        reader = JournalReader(self._partition, decode_step, start=self._done)
        # 1. What is in the journal only.
        until = self._steps[0][0] if self._steps else self._fed
        await self._catch_up(reader, self._done, until)
        # 2. What the worker confirms.
        while not (self._stopping and not self._steps):
            self._wake.clear()
            if self._steps:
                await self._send_offered(reader)
            await self._maybe_commit(at_once=False)
            if not self._steps and not self._stopping:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), None if self._committed == self._done else COMMIT_S)
        await self._maybe_commit(at_once=True)

    async def _catch_up(self, reader: JournalReader[Step], start: JournalPosition, until: int) -> None:
        position = start
        self._unread, self._reading_ms = max(0, until - start.offset), None
        async with aclosing(self._journal.read(start.offset, until)) as runs:
            async for run in runs:
                self._unread, self._reading_ms = until - run[0].offset, None
                outgoing: list[Outgoing] = []
                for entry in run:
                    try:
                        step = await reader.take_from(self._journal, entry)
                    except JournalError:
                        # What stands before it has happened, and is published.
                        await self._send(outgoing, position)
                        await self._maybe_commit(at_once=True)
                        raise
                    position = JournalPosition(entry.offset + 1, position.seq if step is None else step.seq + 1)
                    if step is not None:
                        self._reading_ms = self._reading_ms or step.now_ms
                        outgoing.extend(output_records(step, await self._events.of(step, entry.offset)))
                self._journal_id = reader.journal
                await self._send(outgoing, position)
                await self._maybe_commit(at_once=False)
        self._unread = 0
        if until > start.offset:
            self._done = JournalPosition(until, position.seq)

    async def _send_offered(self, reader: JournalReader[Step]) -> None:
        outgoing: list[Outgoing] = []
        taken = 0
        for offset, step in tuple(self._steps):
            if len(outgoing) >= SENT_MAX:
                break
            if reader.accept(offset, step):
                outgoing.extend(output_records(step, await self._events.of(step, offset)))
            taken += 1
        offset, step = self._steps[taken - 1]
        self._journal_id = reader.journal
        await self._send(outgoing, JournalPosition(offset + 1, step.seq + 1))
        # Taken away only now: after a failure the journal is read up to what is still offered.
        for _ in range(taken):
            self._steps.popleft()
        self._fed = offset + 1
        self._room.set()

    async def _send(self, outgoing: Sequence[Outgoing], done: JournalPosition) -> None:
        """Send and wait for all acknowledgements; the first failure is raised after the last has come."""
        for result in await asyncio.gather(*await self._outputs.send(outgoing), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        for topic, count in Counter(one.topic for one in outgoing).items():
            metrics.PUBLISHED.labels(topic).inc(count)
        self._done = done

    async def _maybe_commit(self, *, at_once: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._done is None or self._done == self._committed:
            return
        if at_once or now_s - self._committed_s >= COMMIT_S:
            await self._progress.save(self._done, self._journal_id)
            self._committed, self._committed_s = self._done, now_s

    async def _where(self) -> JournalPosition:
        first, end = await self._journal.bounds()
        saved = await self._progress.load()
        if saved is None:
            return JournalPosition(0, 0) if first == 0 else self._base
        offset, seq = saved
        if first <= offset <= end:
            if seq is None:
                # The broker keeps no metadata: the next step follows from those before.
                seq = await self._seq_at(offset, first)
            if seq is not None:
                return JournalPosition(offset, seq)
        _log.error(
            "partition %d: published up to journal offset %d, but the journal holds %d to %d: "
            "going on from step %d; what was decided in between was not published",
            self._partition, offset, first, end, self._base.seq,
        )  # fmt: skip
        metrics.INVARIANT_VIOLATIONS.labels("published_journal_gap").inc()
        return self._base

    async def _seq_at(self, offset: int, first: int) -> int | None:
        """Find the step that is next at an offset; None: the journal holds nothing before it."""
        back = LOOKBACK_RECORDS
        while True:
            reader = JournalReader.joining(self._partition, decode_step, offset=offset)
            start = max(offset - back, first)
            async with aclosing(self._journal.read(start, offset)) as runs:
                async for run in runs:
                    for entry in run:
                        reader.take(entry.offset, entry.value)
            # Skipped records may fill what is looked back on.
            if reader.seq is not None or start == first:
                return reader.seq
            back *= 8

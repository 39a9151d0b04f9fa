"""Follows the journal: each step goes to a store once and in order, with any deliveries and any failures.

Which record counts is the rule of every reader of the journal (`partition/reader.py`). A step that is missing or
damaged is read again once, in case a fetch left it out, and for a damaged one a note is looked for that passes over it;
if that does not help, the follower ends with a sentence, unless the loss is accepted. The position of a store is known
to the store only: it writes the position together with the steps, and is asked for it after every start, hand-over and
failure. So there is one way into the loop, and no failure needs a way of its own.

Knows nothing of Kafka, Postgres or files: records, store and clock are given.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

from streams.backoff import Backoff
from streams.clock import Clock
from streams.partition.reader import ReadingError, RecordDamaged
from streams.partition.skips import Skips
from streams.sinks.cursor import Cursor
from streams.sinks.lag import Lag, SinkStatus
from streams.sinks.ports import (
    BEFORE_FIRST,
    ConflictError,
    JournaledStep,
    JournalMismatch,
    JournalRecord,
    Records,
    RetryableError,
    Store,
)
from streams.together import all_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Longest time between checks whether to stop.
POLL_S: Final = 0.2
BACKOFF: Final = Backoff(first_s=0.1, longest_s=5.0)
#: Rows after which the event loop runs other tasks.
YIELD_ROWS: Final = 200
#: An outage is logged once when it begins, once when it ends, and this often in between.
COMPLAIN_S: Final = 60.0
#: A broker that has just started may not know its own end yet; a journal that stays shorter than the audit is another.
PATIENCE_S: Final = 10.0
#: Lag of an outage is looked up this often; each look costs the broker a request.
LAG_S: Final = 5.0
#: What to do about a part of the journal that is lost for good.
LOST: Final = "accept it: slotwise sink --accept-loss goes on behind it, and the gap stays visible."

_log = logging.getLogger(__name__)


class JournalFollower:
    """The loop: ask for the position, read on from there, write, and begin again when anything fails."""

    def __init__(
        self,
        records: Records,
        store: Store,
        clock: Clock,
        jitter: Callable[[], float],
        *,
        rows_max: int,
        accept_loss: bool = False,
        name: str = "sink",
        lost: str = LOST,
    ) -> None:
        """`jitter` gives numbers from 0 to 1: many followers of one database must not come back in step.

        `lost` is what to do about a part of the journal that is lost for good.
        """
        self._records = records
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._rows_max = rows_max
        self._accept_loss = accept_loss
        self._name = name
        self._lost = lost
        #: Assigned partitions whose position is set; the others are ignored.
        self._cursors: dict[int, Cursor] = {}
        #: By partition, the missing number, and where it stopped, at the last attempt to read it again.
        self._reread: dict[int, tuple[int | None, int]] = {}
        #: Damaged records about which a note is to be looked for, and the notes read so far, by partition.
        self._damaged: dict[int, RecordDamaged] = {}
        self._skips: dict[int, Skips] = {}
        self._short_since_ms: dict[int, int] = {}
        self._lag = Lag()
        #: Steps that are not being written yet; and the batch before them.
        self._batch: list[JournaledStep] = []
        self._batch_rows = 0
        self._writing: asyncio.Task[None] | None = None
        self._steps = self._decisions = self._duplicates = self._unreadable = 0
        self._trouble: str | None = None
        self._trouble_since_ms = self._complained_ms = self._lag_looked_up_ms = 0
        self._troubles = self._troubles_in_a_row = 0

    def status(self) -> SinkStatus:
        """Return the present progress."""
        now_ms = self._clock.now_ms()
        partitions = self._lag.partitions(now_ms)
        trouble_s = (now_ms - self._trouble_since_ms) / 1000 if self._trouble else 0.0
        return SinkStatus(
            partitions=partitions,
            lag_records=sum(one.lag_records for one in partitions.values()),
            # A store that was away from the start has not given its position yet.
            lag_s=max((one.lag_s for one in partitions.values()), default=trouble_s),
            steps=self._steps,
            decisions=self._decisions,
            duplicates=self._duplicates + sum(cursor.duplicates for cursor in self._cursors.values()),
            unreadable=self._unreadable + sum(cursor.unreadable for cursor in self._cursors.values()),
            troubles=self._troubles,
            trouble=self._trouble,
            trouble_s=trouble_s,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set; outages are waited out.

        Raises:
            JournalMismatch: journal and store contradict each other. Nothing was written that is in doubt.
        """
        try:
            while not stop.is_set():
                try:
                    await self._round(stop)
                except RetryableError as error:
                    await self._abandon()
                    self._batch, self._batch_rows = [], 0
                    self._forget(self._cursors.keys())
                    await self._wait_out(error, stop)
                else:
                    if self._writing is None:
                        self._recovered()
            with suppress(RetryableError):
                await self._flush()
        finally:
            await self._abandon()
            try:
                await self._records.close()
            finally:
                await self._store.close()

    async def _round(self, stop: asyncio.Event) -> None:
        # 1. Get the assigned partitions, and the position of each.
        assigned = await self._records.assignment()
        if assigned != self._cursors.keys():
            await self._flush()
            self._forget(self._cursors.keys() - assigned, gone=True)
            if strangers := assigned - self._cursors.keys():
                await self._place(strangers)
                if not self._cursors:
                    await self._records.idle(POLL_S)
                    return

        # 2. Take the next steps of each partition, and write them in batches of bounded size; while
        #    one batch is written, the next one is read. What waits for its turn to be written holds nothing up.
        records = await self._records.fetch(0.0 if self._batch else POLL_S)
        yield_at = self._batch_rows + YIELD_ROWS
        for record in records:
            journaled = self._take(record)
            if journaled is None:
                continue
            self._batch.append(journaled)
            self._batch_rows += journaled.step.rows
            if self._batch_rows >= self._rows_max:
                await self._begin()
                if stop.is_set():
                    return
                yield_at = YIELD_ROWS
            elif self._batch_rows >= yield_at:
                await asyncio.sleep(0)
                yield_at = self._batch_rows + YIELD_ROWS
        if not self._batch:
            if not records:
                await self._finish_writing()
        elif not records or self._writing is None or self._writing.done():
            await self._begin()

        # 3. Update the lag.
        for partition, cursor in self._cursors.items():
            seen = cursor.seen if self._writing is None and not self._batch else self._lag.written[partition].offset
            self._note_lag(partition, seen, self._records.end(partition))

    async def _begin(self) -> None:
        """Start writing the batch, once the one before is written."""
        await self._finish_writing()
        self._writing = asyncio.create_task(self._write(self._batch))
        self._batch, self._batch_rows = [], 0

    async def _finish_writing(self) -> None:
        """Wait for the batch that is being written, and raise its error."""
        if self._writing is not None:
            try:
                await self._writing
            finally:
                await self._abandon()

    async def _flush(self) -> None:
        """Write all steps that were taken."""
        if self._batch:
            await self._begin()
        await self._finish_writing()

    async def _abandon(self) -> None:
        """Abandon a batch that is being written; the store's position shows whether it was stored."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        writing.cancel()
        await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()  # reported already, or overtaken

    def _take(self, record: JournalRecord) -> JournaledStep | None:
        cursor = self._cursors.get(record.partition)
        if cursor is None:
            return None  # not placed yet, or about to be read again: it comes again
        try:
            return cursor.take(record)
        except ReadingError as stopped:
            self._read_again(stopped)
            return None
        except JournalMismatch as error:
            raise self._renewed(cursor, str(error)) from None

    async def _place(self, partitions: Iterable[int]) -> None:
        positions, ordered = await self._store.positions(), sorted(partitions)
        # All at once: a broker may answer none of them before a fetch on the same connection has waited for records.
        bounds = await all_of(self._records.bounds(partition) for partition in ordered)
        for partition, (first, end) in zip(ordered, bounds, strict=True):
            position = positions.get(partition, BEFORE_FIRST)
            self._lag.written[partition] = position
            self._note_lag(partition, position.offset, end)
            if position.offset >= end:
                since_ms = self._short_since_ms.setdefault(partition, self._clock.now_ms())
                if self._clock.now_ms() - since_ms > PATIENCE_S * 1000:
                    raise self._renewed(Cursor(partition, position), f"ends at offset {end}" if end else "is empty")
                continue
            self._short_since_ms.pop(partition, None)
            skips = self._skips.setdefault(partition, Skips(partition))
            if damaged := self._damaged.pop(partition, None):
                await self._look_ahead(skips, partition, damaged, end)
            # The last record we wrote is read again: only if it is the same, this is the journal that we followed.
            self._records.seek(partition, max(first, position.offset))
            self._cursors[partition] = Cursor(partition, position, accept_loss=self._accept_loss, skips=skips)

    async def _look_ahead(self, skips: Skips, partition: int, damaged: RecordDamaged, end: int) -> None:
        """Read on behind a damaged record, to a note about it or to the journal's end."""
        start = max(damaged.offset + 1, skips.looked_to)
        async with aclosing(self._records.read(partition, start, end)) as runs:
            async for run in runs:
                for record in run:
                    skips.learn(record.offset, record.value or b"")
                    skips.looked_to = record.offset + 1
                if skips.of(damaged.offset, damaged.sha256) is not None:
                    return

    async def _write(self, batch: Sequence[JournaledStep]) -> None:
        for one in batch:
            self._lag.begin(one)
        await self._store.write(batch)
        self._steps += len(batch)
        self._decisions += sum(len(one.step.decisions) for one in batch)
        last = {one.step.partition: one for one in batch}
        for partition, one in last.items():
            self._lag.wrote(one)
            self._reread.pop(partition, None)
        await self._records.commit(
            {
                partition: (self._cursors[partition].seen if partition in self._cursors else one.offset) + 1
                for partition, one in last.items()
            }
        )

    def _note_lag(self, partition: int, seen: int, end: int | None) -> None:
        self._lag.note(partition, seen, end, self._clock.now_ms())

    def _read_again(self, stopped: ReadingError) -> None:
        """Read a partition again because a step is missing or damaged; raise when that has not helped."""
        place = (stopped.wanted, stopped.offset)
        if self._reread.get(stopped.partition) == place:
            raise JournalMismatch(
                f"{self._records.topic}: {stopped} Nothing from there on was written. If that part of the journal is "
                f"lost for good, {self._lost}"
            ) from stopped
        _log.info("%s: %s Reading again from what is written", self._name, stopped)
        self._reread[stopped.partition] = place
        if isinstance(stopped, RecordDamaged):
            self._damaged[stopped.partition] = stopped
        self._forget([stopped.partition])

    def _renewed(self, cursor: Cursor, what: str) -> JournalMismatch:
        position = cursor.position
        return JournalMismatch(
            f"{self._store.name} holds step {position.seq} of partition {cursor.partition} from offset "
            f"{position.offset}, but "
            f"{self._records.topic} {what}: it is another journal than the one followed so far, as after a restart of "
            f"a broker that keeps it in memory. Nothing was written. {self._store.remedy}"
        )

    def _forget(self, partitions: Iterable[int], *, gone: bool = False) -> None:
        for partition in list(partitions):
            cursor = self._cursors.pop(partition)
            self._duplicates += cursor.duplicates
            self._unreadable += cursor.unreadable
            if gone:
                self._lag.forget(partition)
                self._reread.pop(partition, None)
                self._damaged.pop(partition, None)
                self._skips.pop(partition, None)
                self._short_since_ms.pop(partition, None)

    async def _wait_out(self, error: RetryableError, stop: asyncio.Event) -> None:
        now_ms = self._clock.now_ms()
        if isinstance(error, ConflictError):
            _log.info("%s: %s; reading again from what is written", self._name, error)
        elif self._trouble is None:
            self._trouble_since_ms = self._complained_ms = now_ms
            _log.warning("%s: %s; trying until it is back", self._name, error)
        elif now_ms - self._complained_ms >= COMPLAIN_S * 1000:
            self._complained_ms = now_ms
            _log.warning(
                "%s: still failing after %.0f s: %s", self._name, (now_ms - self._trouble_since_ms) / 1000, error
            )
        if not isinstance(error, ConflictError):
            self._trouble = str(error)
        self._troubles += 1
        wait_s = BACKOFF.pause_s(self._troubles_in_a_row, self._jitter())
        self._troubles_in_a_row += 1
        until_ms = now_ms + wait_s * 1000
        while not stop.is_set() and (left_s := (until_ms - self._clock.now_ms()) / 1000) > 0:
            await self._records.idle(min(POLL_S, left_s))
            await self._look_up_lag()

    async def _look_up_lag(self) -> None:
        if self._clock.now_ms() - self._lag_looked_up_ms < LAG_S * 1000:
            return
        self._lag_looked_up_ms = self._clock.now_ms()
        try:
            for partition, written in self._lag.written.items():
                _, end = await self._records.bounds(partition)
                self._note_lag(partition, written.offset, end)
        except RetryableError:
            return  # the broker is away too; what we knew stays shown

    def _recovered(self) -> None:
        self._troubles_in_a_row = 0
        if self._trouble is not None:
            _log.warning("%s: back after %.1f s", self._name, (self._clock.now_ms() - self._trouble_since_ms) / 1000)
            self._trouble = None

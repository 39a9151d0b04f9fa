"""Follow the journal: hand each step of it to a store once, in order, whatever is delivered and whatever fails.

Which record counts is the rule of every reader of the journal (`partition/reader.py`). A step that is missing or
damaged is read again once, in case a fetch left it out; if that does not help, the follower ends with a sentence,
unless the loss is accepted. Where a store stands, only the store says: it writes its place together with the steps,
and after every start, hand-over and failure it is asked again.
So there is one way into the loop, and no failure needs a way of its own.

Knows nothing of Kafka, Postgres or files: records, store and clock are given.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from streams.errors import SlotwiseError
from streams.partition.ports import JournalPosition
from streams.partition.reader import JournalReader, ReadingError, RecordDamaged, StepsMissing
from streams.sinks.audit_step import Kept, read_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: How long nothing new may keep us from looking whether to stop.
POLL_S: Final = 0.2
BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 5.0
#: Rows after which others on the event loop get their turn.
YIELD_ROWS: Final = 200
#: An outage is told once when it begins, once when it ends, and this often in between.
COMPLAIN_S: Final = 60.0
#: A broker that has just started may not know its own end yet; a journal that stays shorter than the audit is another.
PATIENCE_S: Final = 10.0
#: Lag of an outage is looked up this often; asking costs the broker something, and nobody looks more closely.
LAG_S: Final = 5.0

_log = logging.getLogger(__name__)


class Record(Struct, frozen=True):
    """One record of the journal's topic, as it was delivered."""

    partition: int
    offset: int
    #: Its timestamp.
    at_ms: int
    value: bytes | None


class Standing(Struct, frozen=True):
    """The last step of a partition that a store holds."""

    seq: int
    offset: int
    sha256: bytes
    chain: bytes


#: Before the first step. The first hash of every chain is linked to zeros.
NOWHERE: Final = Standing(seq=-1, offset=-1, sha256=b"", chain=bytes(32))


class Journaled(Struct, frozen=True):
    """A step that counts, with the record it came in and its link in the chain of hashes."""

    step: Kept
    offset: int
    at_ms: int
    raw: bytes
    sha256: bytes
    chain: bytes

    @property
    def standing(self) -> Standing:
        """Give the place of a store that holds this step last."""
        return Standing(seq=self.step.seq, offset=self.offset, sha256=self.sha256, chain=self.chain)


class TroubleError(Exception):
    """Something outside fails for now: the steps are read again when it is back. The message says what fails."""


class TakenError(TroubleError):
    """Another sink has written these steps first; ours were not written."""


class JournalError(SlotwiseError):
    """The journal and the store contradict each other, and going on would lose steps; a person has to choose."""


class Records(Protocol):
    """The journal's topic, read as a member of a group that shares its partitions. All may raise `TroubleError`."""

    #: For messages.
    topic: str

    async def assignment(self) -> frozenset[int]:
        """Give the partitions that are ours now; joins the group first if need be."""

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Give the first offset there is, and the one that the next record will have."""

    def seek(self, partition: int, offset: int) -> None:
        """Go on from this offset. Does nothing when the partition is no longer ours."""

    async def fetch(self, wait_s: float) -> Sequence[Record]:
        """Give what is there, waiting a while for the first record; in order of offset within a partition."""

    def end(self, partition: int) -> int | None:
        """Give the end of a partition as of the last fetch, without asking anybody."""

    async def idle(self, wait_s: float) -> None:
        """Stay in the group for a while and take nothing."""

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Leave a note of how far we are, for dashboards. Never fails: nothing depends on it."""

    async def close(self) -> None:
        """Leave the group."""


class Store(Protocol):
    """Where steps are kept. All may raise `TroubleError`, after which nothing of the call was kept, or all of it."""

    async def standing(self) -> Mapping[int, Standing]:
        """Give the last step it holds, by partition."""

    async def write(self, steps: Sequence[Journaled]) -> None:
        """Keep these steps, all or none. Raises `TakenError` when one of them is there already."""

    async def close(self) -> None:
        """Let go of connections and files."""


class Clock(Protocol):
    """The time of day."""

    def now_ms(self) -> int:
        """Give milliseconds since the epoch."""


class PartitionStatus(Struct, frozen=True, kw_only=True):
    """How far one partition is."""

    #: Last step written.
    seq: int
    #: Records behind it that wait, as far as known.
    lag_records: int
    #: Age of the oldest of them; 0 when there is none.
    lag_s: float


class Status(Struct, frozen=True, kw_only=True):
    """What a board or a metric wants to know of a follower."""

    partitions: dict[int, PartitionStatus]
    lag_records: int
    lag_s: float
    #: Since the start.
    steps: int
    decisions: int
    #: Records whose number was taken: redelivered, or of a worker that had lost its partition.
    duplicates: int
    #: Damaged records that were passed over because their loss is accepted.
    unreadable: int
    troubles: int
    #: The outage that lasts; nothing when all is well.
    trouble: str | None
    trouble_s: float


class Cursor:
    """Where one partition stands, and what that makes of the next record. Pure."""

    def __init__(self, partition: int, standing: Standing, *, accept_loss: bool = False) -> None:
        self.partition = partition
        self.standing = standing
        #: Offset of the last record looked at, whatever it held.
        self.seen = standing.offset
        self.unreadable = 0
        self._accept_loss = accept_loss
        self._reader = self._reader_at(standing.offset + 1, standing.seq + 1)

    @property
    def duplicates(self) -> int:
        """Records that were ignored because their number was taken."""
        return self._reader.fenced

    def take(self, record: Record) -> Journaled | None:
        """Say whether a record holds the next step; if so, stand there.

        Raises:
            JournalError: the record at the offset where we stand is another one than we wrote.
            ReadingError: a step is missing or damaged, and the loss is not accepted.
        """
        stands = self.standing
        raw = record.value or b""
        if record.offset <= stands.offset:
            if record.offset == stands.offset and hashlib.sha256(raw).digest() != stands.sha256:
                raise JournalError(f"has another record at offset {record.offset}")
            return None
        self.seen = record.offset
        step = (
            self._take_accepting_loss(record.offset, raw)
            if self._accept_loss
            else self._reader.take(record.offset, raw)
        )
        if step is None:
            return None
        sha256 = hashlib.sha256(raw).digest()
        chain = hashlib.sha256(stands.chain + sha256).digest()
        taken = Journaled(step, record.offset, record.at_ms, raw, sha256, chain)
        self.standing = taken.standing
        return taken

    def _take_accepting_loss(self, offset: int, raw: bytes) -> Kept | None:
        """Take a record as the reader does; pass over a damaged one, and go on behind a gap."""
        try:
            return self._reader.take(offset, raw)
        except RecordDamaged as damaged:
            _log.warning("%s The loss is accepted.", damaged)
            self.unreadable += 1
            return None
        except StepsMissing as gap:
            _log.warning("partition %s: steps %s to %s are lost, as accepted", self.partition, gap.wanted, gap.got - 1)
            fenced, self._reader = self._reader.fenced, self._reader_at(offset, gap.got)
            self._reader.fenced = fenced
            return self._reader.take(offset, raw)

    def _reader_at(self, offset: int, seq: int) -> JournalReader[Kept]:
        return JournalReader(self.partition, read_kept, start=JournalPosition(offset, seq))


class Follower:
    """The loop: ask where we stand, read on from there, write, and begin again when anything fails."""

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
    ) -> None:
        """`jitter` gives numbers from 0 to 1: many followers of one database must not come back in step."""
        self._records = records
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._rows_max = rows_max
        self._accept_loss = accept_loss
        self._name = name
        #: Partitions that are ours and placed; the others are not listened to.
        self._cursors: dict[int, Cursor] = {}
        #: By partition, the number that was missing when we last read again because of it.
        self._reread: dict[int, int | None] = {}
        self._short_since_ms: dict[int, int] = {}
        self._written: dict[int, Standing] = {}
        #: Taken and not being written yet; and the batch before it.
        self._batch: list[Journaled] = []
        self._batch_rows = 0
        self._writing: asyncio.Task[None] | None = None
        self._lag: dict[int, int] = {}
        #: Nothing that waits in a partition is older than this.
        self._behind_since_ms: dict[int, int] = {}
        self._steps = self._decisions = self._duplicates = self._unreadable = 0
        self._trouble: str | None = None
        self._trouble_since_ms = self._complained_ms = self._lag_looked_up_ms = 0
        self._troubles = self._troubles_in_a_row = 0

    def status(self) -> Status:
        """Say how things are, as of now."""
        now_ms = self._clock.now_ms()
        partitions = {
            partition: PartitionStatus(
                seq=written.seq,
                lag_records=self._lag.get(partition, 0),
                lag_s=max(0, now_ms - self._behind_since_ms.get(partition, now_ms)) / 1000,
            )
            for partition, written in sorted(self._written.items())
        }
        trouble_s = (now_ms - self._trouble_since_ms) / 1000 if self._trouble else 0.0
        return Status(
            partitions=partitions,
            lag_records=sum(one.lag_records for one in partitions.values()),
            # A store that was away from the start has not said yet where it stands.
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
        """Follow until told to stop; outages are waited out.

        Raises:
            JournalError: journal and store contradict each other. Nothing was written that is in doubt.
        """
        try:
            while not stop.is_set():
                try:
                    await self._round(stop)
                except TroubleError as error:
                    await self._abandon()
                    self._batch, self._batch_rows = [], 0
                    self._forget(self._cursors.keys())
                    await self._wait_out(error, stop)
                else:
                    if self._writing is None:
                        self._recovered()
            with suppress(TroubleError):
                await self._flush()
        finally:
            await self._abandon()
            try:
                await self._records.close()
            finally:
                await self._store.close()

    async def _round(self, stop: asyncio.Event) -> None:
        # 1. Know which partitions are ours, and where each stands.
        assigned = await self._records.assignment()
        if assigned != self._cursors.keys():
            await self._flush()
            self._forget(self._cursors.keys() - assigned, gone=True)
            if strangers := assigned - self._cursors.keys():
                await self._place(strangers)
                if not self._cursors:
                    await self._records.idle(POLL_S)
                    return

        # 2. Take what is there, the next number of each partition only, and write in batches of bounded size; while
        #    one batch is written, the next one is read. What waits for its turn to be written keeps nobody waiting.
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
                await self._settle()
        elif not records or self._writing is None or self._writing.done():
            await self._begin()

        # 3. Say how far behind that leaves us.
        for partition, cursor in self._cursors.items():
            seen = cursor.seen if self._writing is None and not self._batch else self._written[partition].offset
            self._note_lag(partition, seen, self._records.end(partition))

    async def _begin(self) -> None:
        """Begin to write the batch, once the one before is written."""
        await self._settle()
        self._writing = asyncio.create_task(self._write(self._batch))
        self._batch, self._batch_rows = [], 0

    async def _settle(self) -> None:
        """See the batch that is being written to its end; what it failed with is ours."""
        if self._writing is not None:
            try:
                await self._writing
            finally:
                await self._abandon()

    async def _flush(self) -> None:
        """Write all that was taken."""
        if self._batch:
            await self._begin()
        await self._settle()

    async def _abandon(self) -> None:
        """Let go of a batch that is being written; what became of it, the store tells."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        writing.cancel()
        await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()  # told already, or overtaken

    def _take(self, record: Record) -> Journaled | None:
        cursor = self._cursors.get(record.partition)
        if cursor is None:
            return None  # not placed yet, or about to be read again: it comes again
        try:
            return cursor.take(record)
        except ReadingError as stopped:
            self._read_again(stopped)
            return None
        except JournalError as error:
            raise self._renewed(cursor, str(error)) from None

    async def _place(self, partitions: Iterable[int]) -> None:
        standings = await self._store.standing()
        for partition in sorted(partitions):
            stands = standings.get(partition, NOWHERE)
            first, end = await self._records.bounds(partition)
            self._written[partition] = stands
            self._note_lag(partition, stands.offset, end)
            if stands.offset >= end:
                since_ms = self._short_since_ms.setdefault(partition, self._clock.now_ms())
                if self._clock.now_ms() - since_ms > PATIENCE_S * 1000:
                    raise self._renewed(Cursor(partition, stands), f"ends at offset {end}" if end else "is empty")
                continue
            self._short_since_ms.pop(partition, None)
            # The last record we wrote is read again: only if it is the same, this is the journal that we followed.
            self._records.seek(partition, max(first, stands.offset))
            self._cursors[partition] = Cursor(partition, stands, accept_loss=self._accept_loss)

    async def _write(self, batch: Sequence[Journaled]) -> None:
        for one in batch:
            self._behind_since_ms.setdefault(one.step.partition, one.at_ms)
        await self._store.write(batch)
        self._steps += len(batch)
        self._decisions += sum(len(one.step.decisions) for one in batch)
        last = {one.step.partition: one for one in batch}
        for partition, one in last.items():
            self._written[partition] = one.standing
            self._behind_since_ms[partition] = one.at_ms
            self._reread.pop(partition, None)
        await self._records.commit(
            {
                partition: (self._cursors[partition].seen if partition in self._cursors else one.offset) + 1
                for partition, one in last.items()
            }
        )

    def _note_lag(self, partition: int, seen: int, end: int | None) -> None:
        if end is None:
            return
        self._lag[partition] = lag = max(0, end - seen - 1)
        if lag:
            self._behind_since_ms.setdefault(partition, self._clock.now_ms())
        else:
            self._behind_since_ms.pop(partition, None)

    def _read_again(self, stopped: ReadingError) -> None:
        """Place a partition again because a step is missing or damaged; give up when that has not helped."""
        if self._reread.get(stopped.partition) == stopped.wanted:
            raise JournalError(
                f"{self._records.topic}: {stopped} Nothing from there on was written. If that part of the journal is "
                "lost for good, accept it: slotwise sink --accept-loss goes on behind it, and the audit shows the gap."
            ) from stopped
        _log.info("%s: %s Reading again from what is written", self._name, stopped)
        self._reread[stopped.partition] = stopped.wanted
        self._forget([stopped.partition])

    def _renewed(self, cursor: Cursor, what: str) -> JournalError:
        stands = cursor.standing
        return JournalError(
            f"The audit holds step {stands.seq} of partition {cursor.partition} from offset {stands.offset}, but "
            f"{self._records.topic} {what}: it is another journal than the one followed so far, as after a restart of "
            "a broker that keeps it in memory. Nothing was written. Give this journal a name of its own "
            "(SLOTWISE_JOURNAL), or an empty database."
        )

    def _forget(self, partitions: Iterable[int], *, gone: bool = False) -> None:
        for partition in list(partitions):
            cursor = self._cursors.pop(partition)
            self._duplicates += cursor.duplicates
            self._unreadable += cursor.unreadable
            if gone:
                for what in (self._written, self._lag, self._behind_since_ms, self._reread, self._short_since_ms):
                    what.pop(partition, None)

    async def _wait_out(self, error: TroubleError, stop: asyncio.Event) -> None:
        now_ms = self._clock.now_ms()
        if isinstance(error, TakenError):
            _log.info("%s: %s; reading again from what is written", self._name, error)
        elif self._trouble is None:
            self._trouble_since_ms = self._complained_ms = now_ms
            _log.warning("%s: %s; trying until it is back", self._name, error)
        elif now_ms - self._complained_ms >= COMPLAIN_S * 1000:
            self._complained_ms = now_ms
            _log.warning(
                "%s: still failing after %.0f s: %s", self._name, (now_ms - self._trouble_since_ms) / 1000, error
            )
        if not isinstance(error, TakenError):
            self._trouble = str(error)
        self._troubles += 1
        wait_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(self._troubles_in_a_row, 16)) * (0.5 + self._jitter() / 2)
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
            for partition, written in self._written.items():
                _, end = await self._records.bounds(partition)
                self._note_lag(partition, written.offset, end)
        except TroubleError:
            return  # the broker is away too; what we knew stays shown

    def _recovered(self) -> None:
        self._troubles_in_a_row = 0
        if self._trouble is not None:
            _log.warning("%s: back after %.1f s", self._name, (self._clock.now_ms() - self._trouble_since_ms) / 1000)
            self._trouble = None

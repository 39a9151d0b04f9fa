"""Read a journal's topic with aiokafka, as a member of a consumer group that shares its partitions.

Committed offsets are for dashboards only: a follower seeks to the position of its store.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from streams.access.refusal import refusal
from streams.access.security import client_options
from streams.kafka.client import end_of, reading, records_before
from streams.settings import NAMELESS
from streams.sinks.ports import JournalRecord, RetryableError
from streams.together import all_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from aiokafka.structs import ConsumerRecord

    from streams.settings import Settings

#: A topic that is created later is found within this time.
METADATA_MS: Final = 10_000
#: A reader of a range that gets nothing for so long has failed.
STALL_S_MAX: Final = 10.0

_log = logging.getLogger(__name__)


class KafkaRecords:
    """A topic's records on a broker; after a failure a new consumer is made."""

    def __init__(self, settings: Settings, *, topic: str, group: str) -> None:
        self.topic = topic
        self._settings = settings
        self._group = group
        self._consumer: AIOKafkaConsumer | None = None

    async def assignment(self) -> frozenset[int]:
        """Return the assigned partitions; joins the group first if needed."""
        consumer = await self._joined()
        return frozenset(partition.partition for partition in consumer.assignment())

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset of the log, and the one that the next record will have."""
        consumer = await self._joined()
        where = TopicPartition(self.topic, partition)
        try:
            begins, ends = await all_of((consumer.beginning_offsets([where]), consumer.end_offsets([where])))
            first, end = begins[where], ends[where]
            if end > first:
                # A broker may answer too low, Tansu with the first offset of the last batch, plus one: a fetch has it.
                async with self._reader(where, end - 1) as reader:
                    end = max(end, await end_of(reader, where, stall_s_max=STALL_S_MAX))
        except (KafkaError, OSError, TimeoutError) as error:
            raise await self._trouble(error) from error
        return first, end

    def seek(self, partition: int, offset: int) -> None:
        """Continue from this offset. Does nothing when the partition is no longer assigned."""
        where = TopicPartition(self.topic, partition)
        if self._consumer is None or where not in self._consumer.assignment():
            return
        try:
            self._consumer.seek(where, offset)
            self._consumer.resume(where)
        except IllegalStateError:
            return

    async def fetch(self, wait_s: float) -> Sequence[JournalRecord]:
        """Return records, after a short wait for the first one; in order of offset within a partition."""
        consumer = await self._joined()
        try:
            found = await consumer.getmany(timeout_ms=int(wait_s * 1000))
        except KafkaError as error:
            raise await self._trouble(error) from error
        return [_journal_record(record) for records in found.values() for record in records]

    async def read(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[JournalRecord], None]:
        """Yield a range, by a consumer of its own outside the group."""
        if start >= end:
            return
        where = TopicPartition(self.topic, partition)
        try:
            async with (
                self._reader(where, start) as reader,
                aclosing(records_before(reader, where, end, stall_s_max=STALL_S_MAX)) as runs,
            ):
                async for records in runs:
                    yield list(map(_journal_record, records))
        except (KafkaError, OSError, TimeoutError) as error:
            raise await self._trouble(error) from error

    def end(self, partition: int) -> int | None:
        """Return the end of a partition as of the last fetch, without a request."""
        where = TopicPartition(self.topic, partition)
        if self._consumer is None or where not in self._consumer.assignment():
            return None
        end: int | None = self._consumer.highwater(where)
        return end

    async def idle(self, wait_s: float) -> None:
        """Stay in the group for a while without fetching."""
        if self._consumer is None:
            await asyncio.sleep(wait_s)
            return
        # Paused until `seek`; without polls the group would drop this member.
        self._consumer.pause(*self._consumer.assignment())
        try:
            await self._consumer.getmany(timeout_ms=int(wait_s * 1000))
        except KafkaError as error:
            await self._trouble(error)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets for dashboards. Never fails: nothing depends on them."""
        if self._consumer is None:
            return
        ours = self._consumer.assignment()
        notes = {
            where: offset
            for partition, offset in offsets.items()
            if (where := TopicPartition(self.topic, partition)) in ours
        }
        if not notes:
            return
        try:
            await self._consumer.commit(notes)
        except (KafkaError, ValueError) as error:
            _log.debug("offsets of %s not committed: %s", self.topic, error)

    async def close(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            await consumer.stop()
        except KafkaError as error:
            _log.debug("left the group of %s without a word: %s", self.topic, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # While the broker is away, aiokafka lets the cancelling of a task of its own through, before its last act.
            await consumer._client.close()  # noqa: SLF001 - that last act

    def _reader(self, where: TopicPartition, start: int) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
        """Give, while inside, a consumer outside the group, which begins at an offset."""
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            client_id=f"{self._group}-ahead",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=self._settings.step_bytes_max + 65_536,
        )
        return reading(consumer, {where: start})

    async def _joined(self) -> AIOKafkaConsumer:
        if self._consumer is not None:
            return self._consumer
        settings = self._settings
        session_ms = int(settings.session_timeout_s * 1000)
        named = settings.instance_id not in ("", NAMELESS)
        consumer = AIOKafkaConsumer(
            self.topic,
            **client_options(settings),
            client_id=self._group,
            group_id=self._group,
            group_instance_id=f"{settings.instance_id}-{self._group}" if named else None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(100, session_ms // 6),
            rebalance_timeout_ms=int(settings.rebalance_timeout_s * 1000),
            metadata_max_age_ms=METADATA_MS,
            # The largest step must fit, with the record's framing.
            max_partition_fetch_bytes=settings.step_bytes_max + 65_536,
        )
        try:
            await consumer.start()
        except BaseException as error:
            await consumer.stop()
            if isinstance(error, (KafkaError, OSError, TimeoutError)):
                if (refused := await refusal(settings)) is not None:
                    raise refused from None
                raise RetryableError(f"the broker at {settings.broker} cannot be reached ({_said(error)})") from error
            raise
        self._consumer = consumer
        return consumer

    async def _trouble(self, error: Exception) -> RetryableError:
        await self.close()
        return RetryableError(
            f"reading {self.topic} from the broker at {self._settings.broker} failed ({_said(error)})"
        )


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _journal_record(record: ConsumerRecord[bytes, bytes]) -> JournalRecord:
    return JournalRecord(record.partition, record.offset, record.timestamp, record.value)

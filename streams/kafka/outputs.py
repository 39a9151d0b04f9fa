"""Output topics of the publisher on Kafka, and its progress as committed offsets."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from schemas.vocabulary import FLEET_CONTROL
from streams.partition.outputs import Outgoing
from streams.partition.ports import JournalPosition

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from schemas.record import Record
    from streams.kafka.client import Broker
    from streams.topic_names import Names


class KafkaOutputs:
    """The output topics of one partition: a pool's partition is the same on every topic."""

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._names = names
        self._partition = partition

    async def send(self, outgoing: Sequence[Outgoing]) -> Sequence[Awaitable[object]]:
        """Hand over to the producer, which keeps the order within a partition."""
        by_topic: dict[str, list[Record]] = {}
        for one in outgoing:
            by_topic.setdefault(one.topic, []).append(one.record)
        sent: list[Awaitable[object]] = []
        for topic, those in by_topic.items():
            sent += await self._broker.send_all(self._names.of(topic), self._partition, those)
        return sent


class ProgressGroup:
    """The committed offsets of a follower's group, for all partitions of a worker; it never joins the group."""

    def __init__(self, broker: Broker, names: Names, group_id: str, partitions: int) -> None:
        self._broker = broker
        self._group_id = group_id
        self._all = [TopicPartition(names.journal, partition) for partition in range(partitions)]
        #: Kafka forgets the offsets of a topic that is deleted; those here stay when the journal goes.
        self._beside = [TopicPartition(names.of(FLEET_CONTROL), partition) for partition in range(partitions)]
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect."""
        consumer = self._broker.group(self._group_id)
        await consumer.start()
        consumer.assign([*self._all, *self._beside])
        # Only its committed offsets are used: nothing is fetched.
        consumer.pause(*self._all, *self._beside)
        self._consumer = consumer

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    def of(self, partition: int) -> KafkaProgress:
        """Return the progress of one partition."""
        return KafkaProgress(self, self._all[partition], self._beside[partition])

    async def load(self, where: TopicPartition) -> OffsetAndMetadata | None:
        """Return what is committed."""
        # The public `committed` leaves the metadata out.
        found = await self._started()._coordinator.fetch_committed_offsets([where])  # noqa: SLF001
        committed: OffsetAndMetadata | None = found.get(where)
        return None if committed is None or committed.offset < 0 else committed

    async def save(self, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit, all at once."""
        await self._started().commit(dict(committed))

    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("The progress of the publisher is used before `start` or after `stop`.")
        return self._consumer


class KafkaProgress:
    """How far one partition is published, as a committed offset; with the journal's id, there and beside it."""

    def __init__(self, group: ProgressGroup, where: TopicPartition, beside: TopicPartition) -> None:
        self._group = group
        self._where = where
        self._beside = beside

    async def load(self) -> tuple[int, int | None] | None:
        """Return offset and step; the step is None where the broker keeps no metadata."""
        committed = await self._group.load(self._where)
        if committed is None:
            return None
        return committed.offset, seq_in(committed.metadata)

    async def journal_id(self) -> str | None:
        """Return the id of the journal that was published last; None: nothing is known of one."""
        committed = await self._group.load(self._beside)
        return None if committed is None else _fields(committed.metadata).get("journal")

    async def save(self, position: JournalPosition, journal_id: str | None) -> None:
        """Commit offset, step and journal."""
        note = "" if journal_id is None else f";journal={journal_id}"
        committed = {self._where: OffsetAndMetadata(position.offset, f"seq={position.seq}{note}")}
        if journal_id is not None:
            committed[self._beside] = OffsetAndMetadata(0, f"journal={journal_id}")
        await self._group.save(committed)


def seq_in(metadata: str | None) -> int | None:
    """Return the step that is noted beside a committed offset; None: the broker keeps no notes."""
    seq = _fields(metadata).get("seq", "")
    return int(seq) if seq.isdecimal() else None


def _fields(metadata: str | None) -> dict[str, str]:
    """The metadata, `name=value` with semicolons."""
    return dict(one.partition("=")[::2] for one in (metadata or "").split(";"))

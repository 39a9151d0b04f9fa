"""What one partition's input topics still hold, to be read forwards beside its journal (`KafkaJournal`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.kafka.client import Broker
    from streams.partition.ports import Raw
    from streams.topic_names import Names


class KafkaRecordedInputs:
    """One partition of the input topics."""

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._topics = names.inputs
        self._partition = partition

    async def first(self, topic: int) -> int:
        """Ask the partition's leader."""
        return (await self._broker.bounds(self._topics[topic], self._partition))[0]

    async def read(self, topic: int, start: int) -> AsyncGenerator[Sequence[Raw], None]:
        """Read with a consumer of its own, outside every group."""
        name = self._topics[topic]
        _, end = await self._broker.bounds(name, self._partition)
        async with aclosing(self._broker.read(name, self._partition, start, end)) as runs:
            async for records in runs:
                yield records

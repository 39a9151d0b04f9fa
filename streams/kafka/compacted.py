"""One partition of the compacted checkpoint topic on Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.kafka.client import Broker
    from streams.topics import Names


class KafkaCompacted:
    """One partition of the checkpoint topic."""

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._topic = names.checkpoint
        self._partition = partition

    async def put(self, key: str, value: bytes) -> int:
        """Write with all replicas' acknowledgement."""
        sent = await self._broker.send(self._topic, self._partition, value, key=key.encode())
        return int((await sent).offset)

    async def end(self) -> int:
        """Ask the partition's leader."""
        return (await self._broker.bounds(self._topic, self._partition))[1]

    async def latest(self) -> Mapping[str, bytes]:
        """Read the whole partition; compaction keeps it small."""
        first, end = await self._broker.bounds(self._topic, self._partition)
        last: dict[str, bytes] = {}
        async with aclosing(self._broker.read(self._topic, self._partition, first, end)) as runs:
            async for records in runs:
                for record in records:
                    last[(record.key or b"").decode(errors="replace")] = record.value or b""
        return last

"""One partition of a compacted topic of checkpoints on Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.kafka.client import Broker
    from streams.topic_names import Names


class KafkaCompacted:
    """One partition of the checkpoint topic, or the keys with one beginning of another topic."""

    def __init__(
        self, broker: Broker, names: Names, partition: int, *, topic: str | None = None, prefix: str = ""
    ) -> None:
        self._broker = broker
        self._topic = names.checkpoint if topic is None else topic
        self._partition = partition
        self._prefix = prefix

    async def put(self, key: str, value: bytes) -> int:
        """Write with all replicas' acknowledgement."""
        sent = await self._broker.send(self._topic, self._partition, value, key=f"{self._prefix}{key}".encode())
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
        return {key.removeprefix(self._prefix): value for key, value in last.items() if key.startswith(self._prefix)}

"""Sends records to the partition of their key, in their own topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.forwarding import forwarded_headers

if TYPE_CHECKING:
    from streams.kafka.client import Broker
    from streams.partition.ports import Forward
    from streams.topic_names import Names


class KafkaForwards:
    """The other partitions of the input topics, for what is on this one and does not belong here."""

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._topics = names.inputs
        self._partition = partition

    async def write(self, forwards: Sequence[Forward]) -> None:
        """Send all records, then wait for all of them; a topic with the broker's time gives them a new one."""
        sent = [
            await self._broker.send(
                self._topics[one.topic],
                one.to,
                one.raw.value,
                key=one.raw.key,
                headers=forwarded_headers(one.raw.headers or (), self._partition, one.raw.offset),
                timestamp_ms=one.raw.timestamp if one.raw.timestamp >= 0 else None,
            )
            for one in forwards
        ]
        for acknowledged in sent:
            await acknowledged

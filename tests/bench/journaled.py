"""Read a journal after the fact: which inputs were durable when, by the records' own timestamps.

The same reading measures both sides, and costs them nothing while they run: until nothing more is written only the
topics' ends are asked for.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

from schemas.decision import Accepted
from schemas.vocabulary import TASK_AWAIT_SLOT, TASK_ROUTED
from streams.topics import names
from tests.bench.stage import PARTITIONS, BenchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.settings import Settings
    from tests.bench.stage import Side
    from tests.bench.workload import Message

POLL_S: Final = 0.2
QUIET_S: Final = 1.0
#: Nothing new for so long, although inputs are missing, and the measurement has failed.
STALL_S_MAX: Final = 60.0
FETCH_BYTES_MAX: Final = 8_388_608


class _Decided(Struct, frozen=True):
    outcome: str


class _Step(Struct, frozen=True):
    """What is counted of a step; the rest is skipped while decoding."""

    inputs: tuple[Accepted, ...] = ()
    decisions: tuple[_Decided, ...] = ()
    counts: dict[str, int] = {}


_STEPS = msgspec.json.Decoder(_Step)


class Line(Struct, frozen=True):
    """One record of a journal."""

    partition: int
    at_ms: int
    size: int
    step: _Step


class Journaled:
    """One side's journal, read as it grows. A context."""

    def __init__(self, settings: Settings) -> None:
        known = names(settings)
        self._journal = [TopicPartition(known.journal, partition) for partition in range(PARTITIONS)]
        self._outputs = [
            TopicPartition(known.of(topic), partition)
            for topic in (TASK_ROUTED, TASK_AWAIT_SLOT)
            for partition in range(PARTITIONS)
        ]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.broker,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        self.lines: list[Line] = []
        self._missing: dict[tuple[int, int], int] = {}

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def until(self, side: Side, ends: Mapping[tuple[int, int], int]) -> None:
        """Wait until all inputs before these offsets, by topic and partition, are journaled and nothing moves.

        Raises:
            BenchError: the side ended, or goes no further.
        """
        moved_s = time.monotonic()
        while True:
            if await self._quiet(side):
                before = len(self.lines)
                await self._read()
                if self._covers(ends):
                    return
                if len(self.lines) > before:
                    moved_s = time.monotonic()
            if time.monotonic() - moved_s > STALL_S_MAX:
                raise BenchError(
                    f"{side.settings.group} did not journal all its inputs: {self._ends()} of {dict(ends)}."
                )

    async def last_output_ms(self) -> int:
        """When the last record of the outputs was written."""
        latest_ms = 0
        ends = await self._consumer.end_offsets(self._outputs)
        self._consumer.assign([where for where in self._outputs if ends[where]])
        for where in self._consumer.assignment():
            # Tansu answers with the first offset of the last batch, plus one: from there to the end it is not far.
            self._consumer.seek(where, ends[where] - 1)
        async for records in self._fetched():
            latest_ms = max(latest_ms, *(record.timestamp for record in records))
        return latest_ms

    async def _quiet(self, side: Side) -> bool:
        """Whether the ends have not moved for a while."""
        watched = self._journal + self._outputs
        seen: Any = None
        since_s = time.monotonic()
        while time.monotonic() - since_s < QUIET_S:
            side.require_alive()
            ends = await self._consumer.end_offsets(watched)
            if ends != seen:
                seen, since_s = ends, time.monotonic()
            await asyncio.sleep(POLL_S)
        return True

    async def _read(self) -> None:
        read = dict.fromkeys(self._journal, 0)
        for line in self.lines:
            read[self._journal[line.partition]] += 1
        self._consumer.assign(self._journal)
        for where, offset in read.items():
            self._consumer.seek(where, offset)
        async for records in self._fetched():
            for record in records:
                step = _STEPS.decode(record.value)
                self.lines.append(Line(record.partition, record.timestamp, len(record.value), step))

    async def _fetched(self) -> Any:
        while found := await self._consumer.getmany(timeout_ms=500):
            for records in found.values():
                yield records

    def _ends(self) -> dict[tuple[int, int], int]:
        ends: dict[tuple[int, int], int] = {}
        for line in self.lines:
            for one in line.step.inputs:
                key = (one.topic, line.partition)
                ends[key] = max(ends.get(key, 0), one.offset + 1)
        return ends

    def _covers(self, ends: Mapping[tuple[int, int], int]) -> bool:
        got = self._ends()
        return all(got.get(key, 0) >= end for key, end in ends.items())


def ends_of(messages: Iterable[Message]) -> dict[tuple[int, int], int]:
    """Where the input topics end, by topic and partition, once these are written."""
    ends: dict[tuple[int, int], int] = {}
    for one in messages:
        key = (one.topic, one.partition)
        ends[key] = ends.get(key, 0) + 1
    return ends

"""The present state of an installation, read from its checkpoints and journals; nothing is written, no worker is asked.

A partition is recovered as its worker would recover it, by the same code, and then left alone: what comes of it is a
router that may be asked anything, and whose answers change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Final

from schemas.codec import read_event
from schemas.events import Tick
from schemas.vocabulary import FLEET_CONTROL, to_millis
from streams.clock import SystemClock
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import MISTAKE, SlotwiseError
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaJournal
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.ports import JournalError, PartitionError
from streams.partition.recovery import recover
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.together import all_of
from streams.topics import home_of, names
from streams.views.overview import RecoveredPartition

#: Partitions that are read at the same time.
AT_ONCE: Final = 8
#: So many of the latest control events are looked at for a tick.
TICK_LOOKBACK: Final = 50


class PartitionReadError(SlotwiseError):
    """A partition cannot be read by the rules here; the message says which rules are needed."""

    exit_code = MISTAKE


def partitions_of(settings: Settings, pool: str | None) -> Sequence[int]:
    """The partition of a pool; all of them where none is named."""
    return range(settings.partitions) if pool is None else [home_of(settings.partitions)(pool.encode())]


async def read_partitions(settings: Settings, partitions: Iterable[int]) -> dict[int, RecoveredPartition]:
    """Read these partitions up to where their journals end now.

    Raises:
        JournalError: a journal cannot be trusted; the message says what to look at.
        PartitionReadError: the workers decide by rules that are not those here.
        TextFileError, RulebookError: the rules cannot be read.
    """
    rulebook = file_rulebook(settings)
    turn = asyncio.Semaphore(AT_ONCE)
    async with Broker(settings) as broker:

        async def read(partition: int) -> tuple[int, RecoveredPartition]:
            async with turn:
                return partition, await _read(settings, rulebook, broker, partition)

        return dict(await all_of(map(read, partitions)))


async def _read(settings: Settings, rulebook: Rulebook, broker: Broker, partition: int) -> RecoveredPartition:
    unusable: list[Exception] = []

    def make(chunks: Iterable[bytes] | None) -> Router:
        try:
            return Router(partition, rulebook) if chunks is None else Router.restore(partition, rulebook, chunks)
        except Exception as error:
            unusable.append(error)
            raise

    known = names(settings)
    journal = KafkaJournal(broker, known, partition)
    checkpoints = AlternatingCheckpoints(partition, KafkaCompacted(broker, known, partition), SystemClock())
    try:
        found = await recover(partition, journal, checkpoints, make)
    except (JournalError, PartitionError) as error:
        if isinstance(error, JournalError) and not unusable:
            raise
        raise PartitionReadError(
            f"Partition {partition} cannot be read by the rules here: name those of its workers with --policy and "
            f"--catalog, or read it with the slotwise that wrote it ({(unusable or [error])[0]!r})."
        ) from error
    clock_ahead_ms = await _clock_ahead_ms(broker, known.of(FLEET_CONTROL), partition)
    return RecoveredPartition(router=found.machine, decided_by=found.decided_by, clock_ahead_ms=clock_ahead_ms)


async def _clock_ahead_ms(broker: Broker, topic: str, partition: int) -> int | None:
    """How far the clock of a partition's worker was ahead of the broker's at its last tick; None: there is none."""
    first, end = await broker.bounds(topic, partition)
    ahead_ms = None
    async with aclosing(broker.read(topic, partition, max(first, end - TICK_LOOKBACK), end)) as runs:
        async for records in runs:
            for record in records:
                event = read_event(FLEET_CONTROL, record.key, record.value, record.headers)
                if isinstance(event, Tick):
                    ahead_ms = to_millis(event.at) - record.timestamp
    return ahead_ms

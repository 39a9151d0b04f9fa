"""How far the workers have handled their inputs, as their journals say, kept up to date while it is used.

Committed offsets follow the journal and may be behind it; a worker goes on from what the journal holds, so that is read
here. Only positions are: no rules are needed, and no rows are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeAlias

from msgspec import Struct

from schemas.decision import Step
from schemas.steps import decode_step
from schemas.vocabulary import INPUT_TOPICS
from streams.clock import SystemClock
from streams.core.state.partition import positions_in
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaJournal
from streams.operate.following import Following
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.ports import JournalPosition
from streams.partition.reader import JournalReader
from streams.partition.recovery import recover
from streams.settings import Settings
from streams.together import all_of
from streams.topics import names

#: Partitions that are read at the same time.
AT_ONCE: Final = 8


class Handled(Struct, frozen=True):
    """What the journal of one partition says of it."""

    #: Number of the next step.
    seq: int
    #: Offset of the last input handled, by topic in the order of `INPUT_TOPICS`; -1: none.
    inputs: tuple[int, ...]


#: Gives what is known now, by partition.
HandledNow: TypeAlias = "Callable[[], Mapping[int, Handled]]"


class InputPositions:
    """The part of a partition's state that says how far its inputs are handled."""

    def __init__(self, chunks: Iterable[bytes] | None) -> None:
        """Begin as a snapshot says; None: before the first step."""
        self.handled = Handled(0, tuple(-1 for _ in INPUT_TOPICS)) if chunks is None else Handled(*positions_in(chunks))

    @property
    def seq(self) -> int:
        """Number of the next step."""
        return self.handled.seq

    def apply(self, step: Step, /) -> None:
        """Go on by one step."""
        inputs = list(self.handled.inputs)
        for accepted in step.inputs:
            inputs[accepted.topic] = accepted.offset
        self.handled = Handled(step.seq + 1, tuple(inputs))


@asynccontextmanager
async def following_handled(settings: Settings) -> AsyncIterator[HandledNow]:
    """Follow the journals of all partitions while inside; what is given raises the error that ended the following.

    Raises:
        JournalError, KafkaError: a journal cannot be read.
    """
    known, broker, turn = names(settings), Broker(settings), asyncio.Semaphore(AT_ONCE)
    positions: dict[int, InputPositions] = {}
    readers: dict[int, JournalReader[Step]] = {}

    async def read(partition: int) -> None:
        journal = KafkaJournal(broker, known, partition)
        checkpoints = AlternatingCheckpoints(partition, KafkaCompacted(broker, known, partition), SystemClock())
        async with turn:
            found = await recover(partition, journal, checkpoints, InputPositions)
        positions[partition] = found.machine
        start = JournalPosition(found.end, found.machine.seq)
        readers[partition] = JournalReader(partition, decode_step, start=start, journal=found.journal_id)

    async def follow() -> None:
        async with aclosing(broker.tail(known.journal, {n: one.offset for n, one in readers.items()})) as runs:
            async for partition, records in runs:
                for record in records:
                    step = readers[partition].take(record.offset, record.value or b"")
                    if step is not None:
                        positions[partition].apply(step)

    async with broker:
        await all_of(map(read, range(settings.partitions)))
        following = asyncio.create_task(follow())

        def now() -> Mapping[int, Handled]:
            if following.done():
                following.result()
            return {number: one.handled for number, one in positions.items()}

        try:
            yield now
        finally:
            following.cancel()
            await asyncio.wait([following])
            if not following.cancelled():
                following.exception()  # raised where it was asked for


def handled_of(following: Following) -> Mapping[int, Handled]:
    """Return the same of an installation that is followed as a whole."""
    return {
        number: Handled(one.router.seq, tuple(one.router.state.positions))
        for number, one in following.partitions.items()
    }

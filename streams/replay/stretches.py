"""Recorded steps with the inputs that they handled, a stretch of the journal at a time, in bounded memory.

Which record of the journal counts is the rule of every reader (`partition/reader.py`). Within a partition the inputs
of each topic were handled in the order of their offsets, so each topic is read once, beside the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

from msgspec import Struct

from schemas.vocabulary import INPUT_TOPICS
from streams.partition.ports import Entry, JournalPosition, Raw
from streams.partition.reader import HoldingReader, JournalReader
from streams.replay.inputs import InputRecords
from streams.replay.recorded_step import RecordedStep, handled, read_recorded
from streams.replay.source import RecordedInputs, Source
from streams.replay.span import Span

#: A stretch has so many bytes of steps, or one step.
STRETCH_BYTES: Final = 4_000_000


class Stretch(Struct, frozen=True):
    """Steps that count, one after the other, and the records of their inputs."""

    steps: Sequence[RecordedStep]
    inputs: InputRecords


class _NotingOffsets(JournalReader[RecordedStep]):
    """Gives each step the offset of its record."""

    def take(self, offset: int, value: bytes) -> RecordedStep | None:
        step = super().take(offset, value)
        if step is not None:
            step.offset = offset
        return step


class StepReader:
    """Takes the records of a partition's journal; gives the steps that count."""

    def __init__(self, partition: int, start: JournalPosition) -> None:
        self._reader = HoldingReader(_NotingOffsets(partition, read_recorded, start=start))

    def take(self, offset: int, value: bytes) -> list[RecordedStep]:
        """Return the steps that count by this record: none, one, or with a note all that a foreign record held up."""
        return self._reader.take(offset, value)

    def finish(self) -> None:
        """Say that no more records come.

        Raises:
            ReadingError: a step is missing, or a record is no step of this partition.
        """
        if self._reader.stopped is not None:
            raise self._reader.stopped


class _Topic:
    """One input topic, read as far as steps need it."""

    def __init__(self, inputs: RecordedInputs, topic: int) -> None:
        self._inputs = inputs
        self._topic = topic
        self._runs: AsyncGenerator[Sequence[Raw], None] | None = None
        #: Read, and not needed yet.
        self._ahead = deque[Raw]()
        self._read_to = -1
        self._ended = False

    async def up_to(self, first: int, last: int) -> dict[int, Raw]:
        """Give the records from `first` to `last`, as far as they exist; those before are forgotten."""
        if self._runs is None:
            self._runs = self._inputs.read(self._topic, max(first, await self._inputs.first(self._topic)))
        while self._read_to < last and not self._ended:
            run = await anext(self._runs, None)
            if run is None:
                self._ended = True
            elif run:
                self._ahead.extend(run)
                self._read_to = run[-1].offset
        given: dict[int, Raw] = {}
        while self._ahead and self._ahead[0].offset <= last:
            record = self._ahead.popleft()
            given[record.offset] = record
        return given

    async def close(self) -> None:
        """Read no more."""
        if self._runs is not None:
            await self._runs.aclose()


async def stretches(source: Source, start: JournalPosition, span: Span) -> AsyncGenerator[Stretch, None]:
    """Yield the steps from `start` to where the journal ends now.

    Steps before the span come without their inputs, which may be gone.

    Raises:
        ReadingError: a step is missing, or a record is no step of this partition.
    """
    _, end = await source.steps.bounds()
    topics = [_Topic(source.inputs, topic) for topic in range(len(INPUT_TOPICS))]
    reader = StepReader(source.partition, start)
    try:
        async with aclosing(source.steps.read(start.offset, end)) as runs:
            async for run in runs:
                for part in _parts(run):
                    steps = [step for entry in part for step in reader.take(entry.offset, entry.value)]
                    wanted = handled(one for one in steps if not span.is_before(one))
                    inputs = [await topics[topic].up_to(*found) if found else {} for topic, found in enumerate(wanted)]
                    yield Stretch(steps, inputs)
        reader.finish()
    finally:
        for topic in topics:
            await topic.close()


def _parts(run: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    begin, size = 0, 0
    for place, entry in enumerate(run):
        size += len(entry.value)
        if size >= STRETCH_BYTES:
            yield run[begin : place + 1]
            begin, size = place + 1, 0
    if begin < len(run):
        yield run[begin:]

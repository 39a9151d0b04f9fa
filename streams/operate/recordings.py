"""A window of what is recorded of some partitions, read for a replay from topics or files. Writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from schemas.decision import Step
from schemas.steps import decode_step
from streams.core.policy.rulebook import Rulebook
from streams.operate.verifying import is_whole, sources
from streams.partition.ports import JournalPosition
from streams.partition.reader import LOOKBACK_RECORDS, HoldingReader, JournalReader
from streams.replay.begin import NoBegin, begin
from streams.replay.recorded_files import number_of, recorded_steps
from streams.replay.recording import Recording
from streams.replay.source import Source
from streams.replay.span import Span
from streams.settings import Settings

#: Steps of a file after which their number is shown.
PROGRESS_STEPS: Final = 1_000


async def recordings(
    settings: Settings,
    rulebook: Rulebook,
    partitions: Sequence[int],
    *,
    recording: str | None = None,
    from_ms: int,
    to_ms: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Recording]:
    """Return a window of these partitions; `progress` gets the number of steps so far.

    `recording` is a directory of `slotwise journal export` or a file of `slotwise sink --to`; None: the topics. Each
    begins with a snapshot before the window, or with the journal; where that is cut off and no snapshot reaches it, the
    rest is read, and the recording says so.

    Raises:
        RecordingError: the recording cannot be read.
        KafkaError, TimeoutError: the broker does not answer.
        ReadingError: a journal cannot be read on.
    """
    made = [Recording(number, rulebook, from_ms=from_ms, to_ms=to_ms) for number in partitions]
    if recording is not None and not is_whole(recording):
        _read_file(Path(recording), {one.partition: one for one in made}, progress)
        return made
    before = 0
    async with sources(settings, recording) as source:
        for one in made:
            async for steps in _steps(source(one.partition), rulebook, one):
                progress(before + steps)
            before += len(one.steps)
    return made


def _read_file(file: Path, wanted: Mapping[int, Recording], progress: Callable[[int], None]) -> None:
    """Hand the steps of a sink's file, which has all partitions in one, to their recordings. No broker is asked."""
    readers: dict[int, HoldingReader[Step]] = {}
    steps = 0
    for entry in recorded_steps(file):
        number = number_of(entry)
        made = wanted.get(number.partition)
        if made is None:
            continue
        reader = readers.get(number.partition)
        if reader is None:
            # Where the journal was cut the sink's file begins later too; all that is in it counts.
            start = JournalPosition(entry.offset, number.seq)
            reader = readers[number.partition] = HoldingReader(
                JournalReader(number.partition, decode_step, start=start)
            )
        for step in reader.take(entry.offset, entry.value):
            made.add(step)
            steps += 1
            if steps % PROGRESS_STEPS == 0:
                progress(steps)
    progress(steps)
    for reader in readers.values():
        if reader.stopped is not None:
            raise reader.stopped


async def _steps(source: Source, rulebook: Rulebook, made: Recording) -> AsyncIterator[int]:
    """Hand the steps to a recording, and yield their number now and then."""
    first, end = await source.steps.bounds()
    reader = JournalReader(made.partition, decode_step, start=JournalPosition(0, 0))
    start = first
    if first > 0 or made.from_ms:
        try:
            known = await begin(source, rulebook, Span(since_ms=made.from_ms))
        except NoBegin:
            reader = JournalReader.joining(made.partition, decode_step, offset=first + LOOKBACK_RECORDS)
        else:
            start = known.position.offset
            made.begin_at(known.router.state)
            reader = JournalReader(made.partition, decode_step, start=known.position)
    holding = HoldingReader(reader)
    async with aclosing(source.steps.read(start, end)) as runs:
        async for entries in runs:
            for entry in entries:
                for step in holding.take(entry.offset, entry.value):
                    made.add(step)
            yield made.end.seq
    if holding.stopped is not None:
        raise holding.stopped

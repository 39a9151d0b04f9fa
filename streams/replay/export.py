"""Writes what is recorded of a partition into the files of `recorded_files.py`."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from schemas.vocabulary import DECISION_AUDIT, INPUT_TOPICS
from streams.core.policy.rulebook import Rulebook
from streams.partition.ports import Raw
from streams.replay.begin import begin
from streams.replay.recorded_files import (
    COMPRESSED,
    MANIFEST,
    InputLine,
    Manifest,
    RecordedPartition,
    RecordingError,
    SnapshotLine,
    content_of,
    headers_of,
    snapshot_file,
)
from streams.replay.recorded_step import RecordedStep
from streams.replay.source import Source
from streams.replay.span import Span
from streams.replay.stretches import stretches
from streams.whole_file import write_whole

#: Quick, and a fifth of the size: journals repeat themselves.
_LEVEL = 3
_ENCODE = msgspec.json.Encoder().encode


class Exporting:
    """One partition on its way into a directory; nothing else may be there."""

    def __init__(self, source: Source, rulebook: Rulebook, span: Span, directory: Path, *, compressed: bool) -> None:
        """The rulebook reads snapshots, where the span begins behind the journal's begin."""
        self._source = source
        self._rulebook = rulebook
        self._span = span
        self._directory = directory
        self._compressed = compressed
        self.steps = 0
        #: What was written, for the manifest; None: the export has not ended.
        self.recorded: RecordedPartition | None = None

    async def run(self) -> AsyncGenerator[int, None]:
        """Write, and yield the number of steps after each stretch.

        Raises:
            NoBegin: the state before the first step is not known.
            ReadingError: a step is missing or damaged.
        """
        source, span = self._source, self._span
        start = await begin(source, self._rulebook, span)
        if start.position.seq > 0:
            line = SnapshotLine(
                seq=start.position.seq,
                offset=start.position.offset,
                at_ms=start.router.now_ms,
                chunks=tuple(start.router.snapshot()),
            )
            snapshot_file(self._directory, source.partition).write_bytes(_ENCODE(line))
        first = [await source.inputs.first(topic) for topic in range(len(INPUT_TOPICS))]
        end, journal = start.position.offset, None
        with ExitStack() as stack:
            journal_file = stack.enter_context(self._open(DECISION_AUDIT))
            input_files = [stack.enter_context(self._open(topic)) for topic in INPUT_TOPICS]
            async with aclosing(stretches(source, start.position, span)) as found:
                async for stretch in found:
                    for topic, records in enumerate(stretch.inputs):
                        input_files[topic].writelines(map(input_line, records.values()))
                    steps = [step for step in stretch.steps if not span.is_behind(step)]
                    journal_file.writelines(map(step_line, steps))
                    self.steps += len(steps)
                    if steps:
                        end, journal = max(end, steps[-1].offset + 1), journal or steps[-1].journal
                    yield self.steps
                    if len(steps) < len(stretch.steps):
                        break
        self.recorded = RecordedPartition(
            first=start.position.offset, end=end, steps=self.steps, inputs_first=tuple(first), journal=journal
        )

    @contextmanager
    def _open(self, topic: str) -> Iterator[BinaryIO]:
        file = self._directory / f"{topic}-{self._source.partition}.jsonl"
        if self._compressed:
            with gzip.open(file.with_name(file.name + COMPRESSED), "wb", compresslevel=_LEVEL) as opened:
                yield cast("BinaryIO", opened)
        else:
            with file.open("wb") as plain:
                yield plain


def new_directory(directory: Path) -> None:
    """Make the directory of a recording.

    Raises:
        RecordingError: there is something in it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise RecordingError(f"{directory} is not empty: name a directory of its own for the recording.")


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Say what the recording holds; the last thing that is written."""
    write_whole(directory / MANIFEST, msgspec.json.format(_ENCODE(manifest), indent=2) + b"\n")


def step_line(step: RecordedStep) -> bytes:
    """Return the line of a step."""
    digest = hashlib.sha256(step.raw).hexdigest().encode()
    return b'{"offset":%d,"sha256":"%s","step":%s}\n' % (step.offset, digest, step.raw)


def input_line(record: Raw) -> bytes:
    """Return the line of an input."""
    line = InputLine(
        offset=record.offset,
        at_ms=record.timestamp,
        key=content_of(record.key),
        value=content_of(record.value),
        headers=headers_of(record.headers or ()),
    )
    return _ENCODE(line) + b"\n"

"""What was recorded of a journal, in files: the steps and their inputs as JSON lines, a file a topic and partition.

A recording is a directory:

    recording.json              written last: how many partitions there are, and what is recorded of each
    decision.audit-3.jsonl.gz   {"offset", "sha256", "step"} a line, the step as its bytes are in the journal
    task.pending-3.jsonl.gz     {"offset", "at_ms", "key", "value", "headers"} a line; so slot.freed and fleet.control
    snapshot-3.json             the state before the first step, where the recording begins later than the journal

The lines of steps are those of `slotwise sink --to`, so such a file can stand in the place of a journal. A file may be
compressed with gzip; its name then ends with `.gz`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, cast

import msgspec
from msgspec import Raw, Struct

from schemas.record import Headers
from schemas.vocabulary import DECISION_AUDIT, INPUT_TOPICS
from streams.errors import MISTAKE, SlotwiseError
from streams.partition.ports import Checkpoint, Entry, JournalPosition

VERSION: Final = 1
MANIFEST: Final = "recording.json"
COMPRESSED: Final = ".gz"
#: A run of lines has so many bytes, or one line.
RUN_BYTES: Final = 1_000_000
#: So far into a step its partition is looked for.
_BEGIN_BYTES: Final = 120
_ANY_PARTITION: Final = b'"partition":'
#: The end of a file whose length nothing says.
UNKNOWN_END: Final = 2**63 - 1

#: How each line of steps begins, and a compressed file.
_LINE_START: Final = b'{"offset":'
_GZIP: Final = b"\x1f\x8b"

_Line = TypeVar("_Line")


class RecordingError(SlotwiseError):
    """A file is no recording that this version can read; the message says which, and what to do."""

    exit_code = MISTAKE


class Binary(Struct, frozen=True):
    """Bytes that are no UTF-8 text."""

    base64: bytes


#: Bytes as JSON has them.
Content = str | Binary | None


class InputLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of an input topic."""

    offset: int
    at_ms: int
    key: Content = None
    value: Content = None
    headers: tuple[tuple[str, Content], ...] = ()


class StepLine(Struct, frozen=True):
    """A record of the journal."""

    offset: int
    step: Raw


class SnapshotLine(Struct, frozen=True, kw_only=True):
    """The state before a step."""

    seq: int
    offset: int
    at_ms: int
    chunks: tuple[bytes, ...]


class RecordedPartition(Struct, frozen=True, kw_only=True):
    """What is recorded of one partition."""

    #: Offsets of the journal: the first, and the one after the last.
    first: int
    end: int
    steps: int
    #: First offset of each input topic that was there.
    inputs_first: tuple[int, ...]
    journal: str | None = None


class Manifest(Struct, frozen=True, kw_only=True):
    """What a recording holds."""

    recording: int
    #: Version that wrote it.
    slotwise: str
    #: How many partitions the installation has.
    partitions: int
    recorded: Mapping[str, RecordedPartition]


class FileRecord(Struct, frozen=True):
    """A record of an input topic, as read."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


_STEPS: Final = msgspec.json.Decoder(StepLine)
_INPUTS: Final = msgspec.json.Decoder(InputLine)


def content_of(raw: bytes | None) -> Content:
    """Return bytes as they stand in a line."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Binary(raw)


def bytes_of(content: Content) -> bytes | None:
    """Return the bytes that stand in a line."""
    if isinstance(content, str):
        return content.encode()
    return None if content is None else content.base64


def headers_of(headers: Headers) -> tuple[tuple[str, Content], ...]:
    """Return headers as they stand in a line."""
    return tuple((name, content_of(content)) for name, content in headers)


def file_of(directory: Path, topic: str, partition: int) -> Path:
    """Return the file of a topic's partition: plain where it is there, else compressed."""
    plain = directory / f"{topic}-{partition}.jsonl"
    return plain if plain.exists() else plain.with_name(plain.name + COMPRESSED)


def read_manifest(directory: Path) -> Manifest:
    """Read what a recording holds.

    Raises:
        RecordingError: it is none, is unfinished, or a later version wrote it.
    """
    file = directory / MANIFEST
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise RecordingError(
            f"{directory} has no {MANIFEST}: it is no recording, or its export did not end: export again."
        ) from None
    except (msgspec.DecodeError, OSError) as error:
        raise RecordingError(f"{file} cannot be read ({error}): export again.") from error
    if found.recording != VERSION:
        raise RecordingError(f"{directory} has layout {found.recording}; this slotwise reads layout {VERSION}.")
    return found


class RecordedFileSteps:
    """The steps of one partition in a file of lines, which may hold those of others too."""

    def __init__(self, file: Path, partition: int, *, end: int = UNKNOWN_END, first: int | None = None) -> None:
        self._file = file
        self._partition = partition
        self._mark = b'"partition":%d,' % partition
        self._first = first
        self._end = end
        self._of_sink = first is None

    async def bounds(self) -> tuple[int, int]:
        """Return what the manifest says, or look at the first line; the end may be beyond the file."""
        if self._first is None:
            self._first = self._look()
        return self._first, self._end

    async def read(self, start: int, end: int) -> AsyncGenerator[Sequence[Entry], None]:
        """Read line by line."""
        for entries in steps_in(self._file, of_sink=self._of_sink):
            yield [entry for entry in entries if start <= entry.offset < end and self._is_of_partition(entry.value)]

    def _look(self) -> int:
        for entries in steps_in(self._file, of_sink=self._of_sink):
            for entry in entries:
                number = number_of(entry)
                if number.partition == self._partition:
                    # Before step 0 there is nothing, whatever its offset.
                    return 0 if number.seq == 0 else entry.offset
        return 0

    def _is_of_partition(self, step: bytes) -> bool:
        # As a step is written it says so at its begin; one that is written otherwise is read.
        begin = step[:_BEGIN_BYTES]
        return self._mark in begin or (
            _ANY_PARTITION not in begin and _NUMBERS.decode(step).partition == self._partition
        )


class StepNumber(Struct, frozen=True):
    """Which step it is."""

    partition: int
    seq: int


_NUMBERS: Final = msgspec.json.Decoder(StepNumber)


def is_recording(path: Path) -> bool:
    """Whether a path is that of a directory, or of a file that begins as a line of steps does."""
    if path.is_dir():
        return True
    try:
        with _opened(path) as lines:
            return lines.read(len(_LINE_START)) == _LINE_START
    except (EOFError, OSError, ValueError, zlib.error):
        return False


def recorded_steps(recording: Path) -> Iterator[Entry]:
    """Yield every step of a recording, or of a file of lines, partition by partition or as they are written there.

    Raises:
        RecordingError: the recording cannot be read.
    """
    files = [recording]
    if recording.is_dir():
        files = [steps_file(recording, partition) for partition in sorted(map(int, read_manifest(recording).recorded))]
    for file in files:
        for entries in steps_in(file, of_sink=file is recording):
            yield from entries


def steps_in(file: Path, *, of_sink: bool) -> Iterator[list[Entry]]:
    """Yield the steps of a file of lines in runs; a sink at work, or one that was killed, may leave half a line.

    Raises:
        RecordingError: a line is none of a step.
    """
    for lines in _runs(file, _STEPS, _LINE_START if of_sink else b""):
        yield [Entry(line.offset, bytes(line.step)) for line in lines]


def number_of(step: Entry) -> StepNumber:
    """Return the number of a step.

    Raises:
        RecordingError: it has none.
    """
    try:
        return _NUMBERS.decode(step.value)
    except msgspec.DecodeError as error:
        raise RecordingError(f"What is recorded at offset {step.offset} is no step ({error}): export again.") from None


class RecordedFileInputs:
    """The inputs of one partition in the files of a recording."""

    def __init__(self, directory: Path, partition: int, first: Sequence[int]) -> None:
        self._directory = directory
        self._partition = partition
        self._first = first

    async def first(self, topic: int) -> int:
        """Return what the manifest says."""
        return self._first[topic]

    async def read(self, topic: int, start: int) -> AsyncGenerator[Sequence[FileRecord], None]:
        """Read line by line."""
        file = file_of(self._directory, INPUT_TOPICS[topic], self._partition)
        for lines in _runs(file, _INPUTS):
            yield [
                FileRecord(
                    line.offset,
                    line.at_ms,
                    bytes_of(line.key),
                    bytes_of(line.value),
                    [(name, bytes_of(content) or b"") for name, content in line.headers],
                )
                for line in lines
                if line.offset >= start
            ]


class RecordedFileSnapshot:
    """The state before the first step of a partition's recording, where it has one."""

    def __init__(self, directory: Path, partition: int) -> None:
        self._file = snapshot_file(directory, partition)

    async def load(self) -> Sequence[Checkpoint]:
        """Read it."""
        if not self._file.exists():
            return ()
        found = msgspec.json.decode(self._file.read_bytes(), type=SnapshotLine)
        return (Checkpoint(JournalPosition(found.offset, found.seq), found.at_ms, found.chunks),)


def snapshot_file(directory: Path, partition: int) -> Path:
    """Return the file of a partition's first state."""
    return directory / f"snapshot-{partition}.json"


def steps_file(directory: Path, partition: int) -> Path:
    """Return the file of a partition's steps."""
    return file_of(directory, DECISION_AUDIT, partition)


def _runs(file: Path, decoder: msgspec.json.Decoder[_Line], begin: bytes = b"") -> Iterator[list[_Line]]:
    """Yield the lines of a file in runs; the last one is left out where it begins as `begin` does and does not end.

    Raises:
        RecordingError: a line is none of them, or the file cannot be read.
    """
    number = 0
    try:
        with _opened(file) as lines:
            while read := lines.readlines(RUN_BYTES):
                run = []
                for line in read:
                    number += 1
                    if not line.endswith(b"\n") and begin and begin[: len(line)] == line[: len(begin)]:
                        break
                    run.append(decoder.decode(line))
                yield run
    except msgspec.DecodeError as error:
        raise RecordingError(f"Line {number} of {file} is no line of a recording ({error}): export again.") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(f"{file} is cut off or damaged behind line {number}: export again.") from error
    except OSError as error:
        raise RecordingError(f"{file} cannot be read: {error.strerror}.") from error


def _opened(file: Path) -> BinaryIO:
    """Open a file of lines, which may be compressed whatever its name says."""
    with file.open("rb") as plain:
        compressed = plain.read(len(_GZIP)) == _GZIP
    return cast("BinaryIO", gzip.open(file, "rb")) if compressed else file.open("rb")

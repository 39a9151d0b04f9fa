"""The journal as JSON lines, in a file or on standard output: for other tools and for archives.

A line is `{"offset", "sha256", "chain", "step"}`, the step as its bytes are in the journal, so that every reader can
check the hashes. The file itself is the position: after a restart it is continued where its last whole line ends.
Standard output has no position: it begins with the journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
from msgspec import Struct

from streams.clock import SystemClock
from streams.errors import MISTAKE, SlotwiseError
from streams.host import try_lock
from streams.sinks.follow import JournalFollower
from streams.sinks.lag import SinkStatus
from streams.sinks.ports import RetryableError, SinkPosition
from streams.sinks.records import KafkaRecords
from streams.topics import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streams.settings import Settings
    from streams.sinks.ports import JournaledStep

#: Names standard output in place of a file.
STDOUT: Final = "-"
_LINE_START: Final = b'{"offset":'


class LinesFileError(SlotwiseError):
    """The file cannot be continued; the message says why."""

    exit_code = MISTAKE


class _StepNumber(Struct, frozen=True):
    partition: int
    seq: int
    journal: str | None = None


class _Line(Struct, frozen=True):
    offset: int
    sha256: str
    chain: str
    step: _StepNumber


_LINES: Final = msgspec.json.Decoder(_Line)


class JsonLinesStore:
    """Lines appended to a file that is open for reading and writing, or to a stream that is only written."""

    remedy = "Name another file with --to."

    def __init__(self, out: BinaryIO, *, name: str, resumes: bool) -> None:
        """`name` says in messages what this is; `resumes` that its lines can be read back."""
        self.name = name
        self._out = out
        self._resumes = resumes
        self._positions: dict[int, SinkPosition] | None = None if resumes else {}

    async def positions(self) -> Mapping[int, SinkPosition]:
        """Return the last step of each partition in the file; an unfinished last line is cut off.

        Raises:
            LinesFileError: the file holds something else. It is left as it is.
        """
        if self._positions is None:
            self._positions = await asyncio.to_thread(self._read)
        return dict(self._positions)

    async def write(self, steps: Sequence[JournaledStep]) -> None:
        """Append a line for each step; those of a file are on the disk when this returns."""
        known = dict(await self.positions())
        lines = b"".join(
            b'{"offset":%d,"sha256":"%s","chain":"%s","step":%s}\n'
            % (one.offset, one.sha256.hex().encode(), one.chain.hex().encode(), one.raw)
            for one in steps
        )
        try:
            await asyncio.to_thread(self._append, lines)
        except OSError as error:
            if not self._resumes:
                raise
            self._positions = None
            raise RetryableError(f"{self.name} cannot be written ({error.strerror})") from error
        self._positions = known | {one.step.partition: one.position for one in steps}

    async def close(self) -> None:
        """Write out what the stream still holds; closing it is left to the code that opened it."""
        self._out.flush()

    def _read(self) -> dict[int, SinkPosition]:
        found: dict[int, SinkPosition] = {}
        whole = 0
        self._out.seek(0)
        for number, line in enumerate(self._out, start=1):
            if not line.endswith(b"\n") and line[: len(_LINE_START)] == _LINE_START[: len(line)]:
                break
            try:
                read = _LINES.decode(line)
                position = SinkPosition(
                    seq=read.step.seq,
                    offset=read.offset,
                    sha256=bytes.fromhex(read.sha256),
                    chain=bytes.fromhex(read.chain),
                    journal_id=read.step.journal,
                )
            except (msgspec.DecodeError, ValueError):
                raise LinesFileError(
                    f"Line {number} of {self.name} is no line of a journal: name another file. Nothing was written."
                ) from None
            found[read.step.partition] = position
            whole += len(line)
        self._out.seek(whole)
        self._out.truncate()
        return found

    def _append(self, lines: bytes) -> None:
        self._out.write(lines)
        self._out.flush()
        if self._resumes:
            os.fsync(self._out.fileno())


class JsonLinesSink:
    """Follows a journal into a file, whole partitions only; or onto standard output."""

    def __init__(self, settings: Settings, out: BinaryIO, *, name: str, resumes: bool, accept_loss: bool) -> None:
        # Two sinks of one group would share the partitions, and each file would hold a part: so each has its own group.
        group = hashlib.sha256(f"{name} {'' if resumes else os.getpid()}".encode()).hexdigest()[:12]
        known = names(settings)
        self._follower = JournalFollower(
            KafkaRecords(settings, topic=known.journal, group=known.lines_groups + group),
            JsonLinesStore(out, name=name, resumes=resumes),
            SystemClock(),
            random.random,
            rows_max=settings.sink_rows_max,
            accept_loss=accept_loss,
            name="JSON lines sink",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set; outages of the broker are waited out.

        Raises:
            JournalMismatch: the file and the journal contradict each other.
            LinesFileError: the file holds something else.
        """
        await self._follower.run(stop)

    def status(self) -> SinkStatus:
        """Return how far it is, and the outage that lasts."""
        return self._follower.status()


@contextmanager
def sink_into(settings: Settings, to: str, *, accept_loss: bool = False) -> Iterator[JsonLinesSink]:
    """Open the file `to`, which is made if missing, or standard output (`-`), and return the sink that writes to it.

    Raises:
        LinesFileError: another sink writes to the file.
    """
    if to == STDOUT:
        out = sys.stdout.buffer
        try:
            yield JsonLinesSink(settings, out, name="standard output", resumes=False, accept_loss=accept_loss)
        except BrokenPipeError:  # its reader has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return
    path = Path(to).absolute()
    descriptor = try_lock(path)
    if descriptor is None:
        raise LinesFileError(f"Another sink writes to {path}: stop it, or name another file.")
    with os.fdopen(descriptor, "r+b") as file:
        yield JsonLinesSink(settings, file, name=str(path), resumes=True, accept_loss=accept_loss)

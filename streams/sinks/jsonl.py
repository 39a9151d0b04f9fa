"""The journal as JSON lines, to a file or standard output: for other tools, for archives, for a look.

A line is `{"offset", "sha256", "chain", "step"}`, the step as its bytes stood in the journal, so that the hashes can be
checked by anybody. A file is gone on with where its last whole line ends; standard output begins with the journal.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
from msgspec import Struct

from schemas.vocabulary import DECISION_AUDIT
from streams.clock import SystemClock
from streams.sinks.follow import Follower
from streams.sinks.lag import SinkStatus
from streams.sinks.ports import RetryableError, SinkPosition
from streams.sinks.records import KafkaRecords

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streams.settings import Settings
    from streams.sinks.ports import JournaledStep


class _Number(Struct, frozen=True):
    partition: int
    seq: int


class _Line(Struct, frozen=True):
    offset: int
    sha256: str
    chain: str
    step: _Number


_LINES: Final = msgspec.json.Decoder(_Line)


class JsonLinesStore:
    """Lines appended to a file that was opened for reading and writing, or to a stream that is only written."""

    def __init__(self, out: BinaryIO, *, name: str) -> None:
        """`name` says in messages what this is."""
        self._out = out
        self._name = name
        self._positions: dict[int, SinkPosition] | None = None

    async def positions(self) -> Mapping[int, SinkPosition]:
        """Give the last step of each partition in the file; what a broken write left behind is cut off."""
        if self._positions is None:
            self._positions = await asyncio.to_thread(self._read) if self._out.seekable() else {}
        return dict(self._positions)

    async def write(self, steps: Sequence[JournaledStep]) -> None:
        """Append a line for each step; on the disk when this returns."""
        await self.positions()
        lines = b"".join(
            b'{"offset":%d,"sha256":"%s","chain":"%s","step":%s}\n'
            % (one.offset, one.sha256.hex().encode(), one.chain.hex().encode(), one.raw)
            for one in steps
        )
        try:
            await asyncio.to_thread(self._append, lines)
        except OSError as error:
            self._positions = None
            raise RetryableError(f"{self._name} cannot be written ({error.strerror})") from error
        if self._positions is not None:
            self._positions.update({one.step.partition: one.position for one in steps})

    async def close(self) -> None:
        """Write out what the stream still holds; whoever opened it closes it."""
        self._out.flush()

    def _read(self) -> dict[int, SinkPosition]:
        found: dict[int, SinkPosition] = {}
        whole = 0
        self._out.seek(0)
        for line in self._out:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            told = _LINES.decode(line)
            found[told.step.partition] = SinkPosition(
                seq=told.step.seq,
                offset=told.offset,
                sha256=bytes.fromhex(told.sha256),
                chain=bytes.fromhex(told.chain),
            )
        self._out.seek(whole)
        self._out.truncate()
        return found

    def _append(self, lines: bytes) -> None:
        self._out.write(lines)
        self._out.flush()
        if self._out.seekable():
            os.fsync(self._out.fileno())


async def run(
    settings: Settings,
    stop: asyncio.Event,
    out: BinaryIO,
    *,
    name: str = "standard output",
    topic: str = DECISION_AUDIT,
) -> SinkStatus:
    """Follow the journal into a stream until told to stop; a file must be open as `r+b` and have one writer.

    Raises:
        JournalMismatch: the file and the journal contradict each other.
    """
    topic = settings.topic_prefix + topic
    follower = Follower(
        KafkaRecords(settings, topic=topic, group=f"{settings.group}-sink-jsonl"),
        JsonLinesStore(out, name=name),
        SystemClock(),
        random.random,
        rows_max=settings.sink_rows_max,
        name="JSON lines sink",
    )
    await follower.run(stop)
    return follower.status()


def open_lines(path: Path) -> BinaryIO:
    """Open a file to go on with, made if it is missing."""
    path.touch()
    return path.open("r+b")

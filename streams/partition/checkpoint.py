"""Snapshots of a partition's state in a compacted topic: two copies a partition, written in turn.

A snapshot is chunks with the keys `<partition>/<copy>/<number>` and, last, a head with the key
`<partition>/<copy>/head` that says what a complete snapshot is: how many chunks and the SHA-256 of all of them. What
was torn by a crash, or overwritten by a worker that was paused and came back, does not fit its head and is ignored;
the other copy remains.

With the key `<partition>/journal` the topic keeps the id of the journal: an empty journal beside it is not a new one,
but one that was deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct

from streams.partition.ports import Checkpoint, JournalPosition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.clock import Clock

COPIES = ("A", "B")


class Head(Struct, frozen=True, kw_only=True):
    """What a copy must hold to be complete."""

    snapshot_id: str
    at_ms: int
    #: The step that comes next, and where in the journal to read on.
    seq: int
    offset: int
    chunks: int
    sha256: str


class Compacted(Protocol):
    """One partition of a compacted topic."""

    async def put(self, key: str, value: bytes) -> int:
        """Write durably; return the offset."""

    async def end(self) -> int:
        """Return the offset that the next record will have."""

    async def latest(self) -> Mapping[str, bytes]:
        """Return the last value of every key."""


class AlternatingCheckpoints:
    """The checkpoints of one partition."""

    def __init__(self, partition: int, topic: Compacted, clock: Clock) -> None:
        self._partition = partition
        self._topic = topic
        self._clock = clock
        #: The copy that holds our newest complete snapshot.
        self._newest: str | None = None
        #: The topic's end as far as we wrote or read it; another end means another writer.
        self._end = -1
        #: Id of the journal, as of the last load or keep.
        self.journal_id: str | None = None

    async def load(self) -> list[Checkpoint]:
        """Return the complete snapshots, newest first."""
        self._end = await self._topic.end()
        records = await self._topic.latest()
        journal_id = records.get(f"{self._partition}/journal")
        self.journal_id = journal_id.decode(errors="replace") if journal_id else None
        found = {copy: self._assemble(copy, records) for copy in COPIES}
        complete = {copy: snapshot for copy, snapshot in found.items() if snapshot is not None}
        order = sorted(complete, key=lambda copy: complete[copy].position.seq, reverse=True)
        self._newest = order[0] if order else None
        return [complete[copy] for copy in order]

    async def save(self, position: JournalPosition, chunks: Iterable[bytes]) -> None:
        """Overwrite the older copy, chunk by chunk, giving way to the event loop in between."""
        if await self._topic.end() != self._end:
            # Another worker wrote: look again which copy must survive.
            await self.load()
        copy = COPIES[1] if self._newest == COPIES[0] else COPIES[0]
        digest = hashlib.sha256()
        count = 0
        for chunk in chunks:
            digest.update(chunk)
            await self._put(self._key(copy, str(count)), chunk)
            count += 1
            await asyncio.sleep(0)
        head = Head(
            snapshot_id=f"{self._partition}-{position.seq}-{digest.hexdigest()[:12]}",
            at_ms=self._clock.now_ms(),
            seq=position.seq,
            offset=position.offset,
            chunks=count,
            sha256=digest.hexdigest(),
        )
        await self._put(self._key(copy, "head"), msgspec.json.encode(head))
        self._newest = copy

    async def keep(self, journal_id: str) -> None:
        """Keep the journal's id beside the snapshots."""
        await self._put(f"{self._partition}/journal", journal_id.encode())
        self.journal_id = journal_id

    async def _put(self, key: str, value: bytes) -> None:
        offset = await self._topic.put(key, value)
        # A foreign record in between leaves an end that no partition has, so that the next save looks again.
        self._end = offset + 1 if offset == self._end else -1

    def _assemble(self, copy: str, records: Mapping[str, bytes]) -> Checkpoint | None:
        raw = records.get(self._key(copy, "head"))
        if raw is None:
            return None
        try:
            head = msgspec.json.decode(raw, type=Head)
        except msgspec.MsgspecError:
            return None
        chunks = tuple(records.get(self._key(copy, str(number)), b"") for number in range(head.chunks))
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        if digest.hexdigest() != head.sha256:
            return None
        return Checkpoint(position=JournalPosition(offset=head.offset, seq=head.seq), at_ms=head.at_ms, chunks=chunks)

    def _key(self, copy: str, part: str) -> str:
        return f"{self._partition}/{copy}/{part}"

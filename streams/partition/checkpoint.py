"""Pictures of a partition's state in a compacted topic: two slots a partition, written in turn.

A picture is chunks with the keys `<partition>/<slot>/<number>` and, last, a head with the key `<partition>/<slot>/head`
that says what a complete picture is: how many chunks and the SHA-256 of all of them. What was torn by a crash, or
overwritten by a worker that was paused and came back, does not fit its head and is ignored; the other slot remains.
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

SLOTS = ("A", "B")


class Head(Struct, frozen=True, kw_only=True):
    """What a slot must hold to be complete."""

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


class SlottedCheckpoints:
    """The checkpoints of one partition."""

    def __init__(self, partition: int, topic: Compacted, clock: Clock) -> None:
        self._partition = partition
        self._topic = topic
        self._clock = clock
        #: The slot that holds our newest complete picture.
        self._newest: str | None = None
        #: The topic's end as far as we wrote or read it; another end means another writer.
        self._end = -1

    async def load(self) -> list[Checkpoint]:
        """Return the complete pictures, newest first."""
        self._end = await self._topic.end()
        records = await self._topic.latest()
        found = {slot: self._assemble(slot, records) for slot in SLOTS}
        complete = {slot: picture for slot, picture in found.items() if picture is not None}
        order = sorted(complete, key=lambda slot: complete[slot].mark.seq, reverse=True)
        self._newest = order[0] if order else None
        return [complete[slot] for slot in order]

    async def save(self, mark: JournalPosition, chunks: Iterable[bytes]) -> None:
        """Overwrite the older slot, chunk by chunk, giving way to the event loop in between."""
        if await self._topic.end() != self._end:
            # Somebody else wrote: look again which slot must survive.
            await self.load()
        slot = SLOTS[1] if self._newest == SLOTS[0] else SLOTS[0]
        digest = hashlib.sha256()
        count = 0
        for chunk in chunks:
            digest.update(chunk)
            await self._put(self._key(slot, str(count)), chunk)
            count += 1
            await asyncio.sleep(0)
        head = Head(
            snapshot_id=f"{self._partition}-{mark.seq}-{digest.hexdigest()[:12]}",
            at_ms=self._clock.now_ms(),
            seq=mark.seq,
            offset=mark.offset,
            chunks=count,
            sha256=digest.hexdigest(),
        )
        await self._put(self._key(slot, "head"), msgspec.json.encode(head))
        self._newest = slot

    async def _put(self, key: str, value: bytes) -> None:
        offset = await self._topic.put(key, value)
        # A foreign record in between leaves an end that no partition has, so that the next save looks again.
        self._end = offset + 1 if offset == self._end else -1

    def _assemble(self, slot: str, records: Mapping[str, bytes]) -> Checkpoint | None:
        raw = records.get(self._key(slot, "head"))
        if raw is None:
            return None
        try:
            head = msgspec.json.decode(raw, type=Head)
        except msgspec.MsgspecError:
            return None
        chunks = tuple(records.get(self._key(slot, str(number)), b"") for number in range(head.chunks))
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        if digest.hexdigest() != head.sha256:
            return None
        return Checkpoint(mark=JournalPosition(offset=head.offset, seq=head.seq), at_ms=head.at_ms, chunks=chunks)

    def _key(self, slot: str, part: str) -> str:
        return f"{self._partition}/{slot}/{part}"

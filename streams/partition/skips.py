"""Records of a partition's journal that an operator passes over: the notes read so far, and the look ahead for more."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from typing import TYPE_CHECKING

from schemas.skips import Skip, read_skip

if TYPE_CHECKING:
    from streams.partition.ports import Journal


def hash_of(value: bytes) -> str:
    """Return the hash by which a note names a record."""
    return hashlib.sha256(value).hexdigest()


class Skips:
    """The notes of one partition, as far as they were read."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._notes: dict[tuple[int, str], Skip] = {}
        #: Records before this offset were looked at for notes.
        self.looked_to = 0

    def learn(self, offset: int, value: bytes) -> Skip | None:
        """Take over a record if it is a note, and return it. One for a record that is not before it counts nowhere."""
        note = read_skip(value)
        if note is not None and note.partition == self._partition and note.skip < offset:
            self._notes[note.skip, note.sha256] = note
        return note

    def of(self, offset: int, sha256: str, journal: str | None = None) -> Skip | None:
        """Return the note about a record; one of another journal, where both ids are known, does not count."""
        note = self._notes.get((offset, sha256))
        if note is None or (note.journal is not None and journal not in (None, note.journal)):
            return None
        return note


async def look_ahead(skips: Skips, journal: Journal, offset: int, sha256: str) -> bool:
    """Read on behind a record, to a note about it or to the journal's end; whether there is one."""
    _, end = await journal.bounds()
    start = max(offset + 1, skips.looked_to)
    if start < end:
        async with aclosing(journal.read(start, end)) as runs:
            async for run in runs:
                for entry in run:
                    skips.learn(entry.offset, entry.value)
                    skips.looked_to = entry.offset + 1
                if skips.of(offset, sha256) is not None:
                    return True
    return skips.of(offset, sha256) is not None

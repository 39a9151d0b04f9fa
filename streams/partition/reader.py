"""The one rule for reading a journal: of each partition, only the record with the next `seq` counts.

A record whose `seq` is taken is fenced: a worker that had lost its partition appended it, or a client sent it twice.
It never happened, and is ignored. A record whose `seq` comes later than the next one means that steps are missing, and
a record that is no step of the partition may have been one: both end the reading, because nothing after them is known.
The latter is passed over where an operator has noted behind it that it is none of slotwise's (`skips.py`).

Where a reader begins is explicit. `JournalReader(..., start=position)` knows the next step. `JournalReader.joining`
begins at an offset in the middle and learns the next step from the records before it; read `LOOKBACK_RECORDS` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, Self, TypeVar

from schemas.steps import StepError
from streams.partition.ports import Entry, Journal, JournalError, JournalPosition
from streams.partition.skips import Skips, hash_of, look_ahead

#: Of so many records in a row at least one is accepted: a worker appends one fenced step before it notices.
LOOKBACK_RECORDS: Final = 32


class Numbered(Protocol):
    """A step, or the part of one that a reader decodes. The reader notices damage in what is decoded."""

    @property
    def partition(self) -> int:
        """The partition whose history it belongs to."""

    @property
    def seq(self) -> int:
        """Its number in that history."""

    @property
    def journal(self) -> str | None:
        """Id of the journal that it belongs to; None: an older slotwise wrote it."""


_Part = TypeVar("_Part", bound=Numbered)


class ReadingError(JournalError):
    """A reader cannot go on; `wanted` is the step that is next and `offset` the record that stopped the reader."""

    def __init__(self, message: str, *, partition: int, wanted: int | None, offset: int) -> None:
        super().__init__(message)
        self.partition, self.wanted, self.offset = partition, wanted, offset


class StepsMissing(ReadingError):
    """The record at `offset` holds step `got`, which is later than the step that is next."""

    def __init__(self, *, partition: int, wanted: int, got: int, offset: int) -> None:
        missing = f"step {wanted} is" if got == wanted + 1 else f"steps {wanted} to {got - 1} are"
        super().__init__(
            f"The journal of partition {partition} goes from step {wanted - 1} to step {got} at offset {offset}: "
            f"{missing} missing. Restore the journal before going on.",
            partition=partition,
            wanted=wanted,
            offset=offset,
        )
        self.wanted: int = wanted
        self.got = got


class RecordDamaged(ReadingError):
    """The record at `offset` is no step of this partition that this version can read."""

    def __init__(self, problem: str, *, partition: int, wanted: int | None, offset: int) -> None:
        super().__init__(
            f"The record at offset {offset} of the journal of partition {partition} cannot be read: {problem} "
            "Restore the journal, or run the version that wrote it. If the record is none of slotwise's, pass over it: "
            f"slotwise journal skip {partition} {offset} --reason TEXT.",
            partition=partition,
            wanted=wanted,
            offset=offset,
        )
        self.problem = problem
        #: Of the record's value; empty where only what it holds is known.
        self.sha256 = ""


class JournalReader(Generic[_Part]):
    """Reads one partition's records in the order of their offsets, whole or in part."""

    def __init__(
        self,
        partition: int,
        decode: Callable[[bytes], _Part],
        *,
        start: JournalPosition,
        journal: str | None = None,
        skips: Skips | None = None,
    ) -> None:
        """`decode` raises `StepError` for a record that is no step; `journal` is the journal's id, where known.

        `skips` are the notes read so far; this reader adds those that it meets.
        """
        self._partition = partition
        self._decode = decode
        #: Records before this offset were read.
        self.offset = start.offset
        #: The step that is next; None while a joining reader has seen no record.
        self.seq: int | None = start.seq
        #: Records before this offset only show which step is next.
        self._joins_at = 0
        #: Records ignored because their number was taken.
        self.fenced = 0
        #: Id of the journal; by default that of the first step that counts and has one.
        self.journal = journal
        self.skips = Skips(partition) if skips is None else skips
        #: Records passed over because an operator has noted that they are none of slotwise's.
        self.skipped = 0

    @classmethod
    def joining(cls, partition: int, decode: Callable[[bytes], _Part], *, offset: int) -> Self:
        """Give a reader that accepts steps from `offset` on and learns the next number from the records before it.

        Where no record is before it, because the journal begins there, the first record counts.
        """
        reader = cls(partition, decode, start=JournalPosition(0, 0))
        if offset > 0:
            reader.seq, reader._joins_at = None, offset
        return reader

    def take(self, offset: int, value: bytes) -> _Part | None:
        """Return what the record holds if it is the next step. None: it is fenced, skipped, or was read before.

        Raises:
            StepsMissing: it holds a later step than the next one. The reader stays where it was.
            RecordDamaged: it holds no step of this partition. The reader stays where it was.
        """
        if offset < self.offset:
            return None
        try:
            try:
                part = self._decode(value)
            except StepError as error:
                if self.skips.learn(offset, value) is not None:
                    self.offset = offset + 1
                    return None
                raise self._damaged(str(error), offset) from error
            return part if self.accept(offset, part) else None
        except RecordDamaged as damaged:
            damaged.sha256 = hash_of(value)
            # Before the place where it joins, a reader only learns which step is next, and others say that too.
            if offset >= self._joins_at and self.skips.of(offset, damaged.sha256, self.journal) is None:
                raise
            self.offset = offset + 1
            self.skipped += 1
            return None

    async def take_from(self, journal: Journal, entry: Entry) -> _Part | None:
        """Take an entry as `take` does, and look ahead in the journal for a note where the entry stops the reader."""
        try:
            return self.take(entry.offset, entry.value)
        except RecordDamaged as damaged:
            if not await look_ahead(self.skips, journal, entry.offset, damaged.sha256):
                raise
            return self.take(entry.offset, entry.value)

    def accept(self, offset: int, part: _Part) -> bool:
        """Decide as `take` does about a record that is decoded already."""
        if offset < self.offset:
            return False
        if part.partition != self._partition:
            raise self._damaged(f"It is a step of partition {part.partition}.", offset)
        if offset < self._joins_at:
            self.offset, self.seq = offset + 1, max(self.seq or 0, part.seq + 1)
            return False
        wanted = part.seq if self.seq is None else self.seq
        if part.seq >= wanted and part.journal is not None and self.journal not in (None, part.journal):
            raise self._damaged(f"It is a step of journal {part.journal}, and this one is {self.journal}.", offset)
        if part.seq > wanted:
            raise StepsMissing(partition=self._partition, wanted=wanted, got=part.seq, offset=offset)
        self.offset = offset + 1
        if part.seq < wanted:
            self.fenced += 1
            return False
        self.seq = part.seq + 1
        self.journal = self.journal or part.journal
        return True

    def _damaged(self, problem: str, offset: int) -> RecordDamaged:
        return RecordDamaged(problem, partition=self._partition, wanted=self.seq, offset=offset)


class HoldingReader(Generic[_Part]):
    """Reads records as they come, where nothing can be looked up: what follows a stop is kept until a note ends it."""

    def __init__(self, reader: JournalReader[_Part]) -> None:
        self.reader = reader
        #: Why nothing more counts; None: all was read.
        self.stopped: ReadingError | None = None
        #: The record that stopped the reader, and those behind it.
        self._behind: list[tuple[int, bytes]] = []

    def take(self, offset: int, value: bytes) -> list[_Part]:
        """Return the steps that count by this record: none, one, or with a note all that were kept."""
        stopped = self.stopped
        if isinstance(stopped, StepsMissing):
            return []
        records = [*self._behind, (offset, value)]
        if isinstance(stopped, RecordDamaged):
            self.reader.skips.learn(offset, value)
            if self.reader.skips.of(stopped.offset, stopped.sha256, self.reader.journal) is None:
                self._behind.append((offset, value))
                return []
        self.stopped, self._behind = None, []
        taken = list[_Part]()
        for place, one in enumerate(records):
            try:
                part = self.reader.take(*one)
            except ReadingError as error:
                self.stopped, self._behind = error, records[place:]
                break
            if part is not None:
                taken.append(part)
        return taken

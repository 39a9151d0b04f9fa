"""Looks at records of the journal, and notes that a foreign one is to be passed over by every reader.

A step of the partition is never passed over: what a step says has happened. So this is for records that something other
than slotwise wrote to the topic, or that are of another journal or partition.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from schemas.skips import Skip, encode_skip, read_skip
from schemas.steps import StepError, decode_step
from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.errors import MISTAKE, SlotwiseError
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaJournal
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.journal_id import last_ids
from streams.partition.ports import Entry
from streams.partition.reader import LOOKBACK_RECORDS
from streams.partition.skips import Skips, hash_of, look_ahead
from streams.topics import names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.settings import Settings

#: Bytes of a record that are shown.
SHOWN_BYTES: Final = 200
#: How a step begins, of whatever version.
_STEP_START: Final = b'{"v":'
#: Records that one command looks at.
RECORDS_MAX: Final = 10_000


class JournalRecordError(SlotwiseError):
    """The journal has no such record, or it may not be passed over; nothing was written. The message says why."""

    exit_code = MISTAKE


class FoundRecord(Struct, frozen=True, kw_only=True):
    """One record of the journal."""

    partition: int
    offset: int
    bytes: int
    sha256: str
    #: What it is, in words.
    what: str
    #: Why it is not passed over; None: it is foreign, and may be.
    refusal: str | None
    #: The note that passes over it.
    skipped: Skip | None
    #: Id of the journal; None: it has none yet.
    journal_id: str | None
    #: Its first bytes, as far as they are text.
    begins: str


class _Numbered(Struct, frozen=True):
    v: int
    partition: int
    seq: int
    journal: str | None = None


def judge(partition: int, value: bytes, journal_id: str | None) -> tuple[str, str | None]:
    """Say what a record of a partition's journal is, and why it is not passed over (None: it is foreign)."""
    note = read_skip(value)
    if note is not None:
        return f"a note that skips offset {note.skip}", "Every reader passes over it already."
    try:
        step: _Numbered = msgspec.convert(decode_step(value), _Numbered, from_attributes=True)
        readable = True
    except StepError as error:
        readable = False
        try:
            step = msgspec.json.decode(value, type=_Numbered)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Cut short, it can still be a step that counted; only its number, missing behind it, would show that.
            looks_like_one = ", but it begins as one" if value.startswith(_STEP_START) else ""
            return f"no step{looks_like_one}: {error}", None
    if step.partition != partition:
        return f"step {step.seq} of partition {step.partition}", None
    if step.journal is not None and journal_id is not None and step.journal != journal_id:
        return f"step {step.seq} of the journal {step.journal}", None
    if readable:
        return f"step {step.seq} of this partition", "What a step says has happened: it is never passed over."
    return (
        f"step {step.seq} of this partition, which this version cannot read",
        "What a step says has happened: read it with the slotwise that wrote it.",
    )


async def look_at(settings: Settings, partition: int, first: int, last: int | None = None) -> list[FoundRecord]:
    """Return the records of the journal from offset `first` to `last`, or the one at `first`.

    Raises:
        JournalRecordError: there is none.
    """
    until = first if last is None else last
    if not 0 <= partition < settings.partitions:
        raise JournalRecordError(f"Partition {partition} is none of 0 to {settings.partitions - 1}.")
    if not first <= until < first + RECORDS_MAX:
        raise JournalRecordError(f"From {first} to {until} is no range of 1 to {RECORDS_MAX} records.")
    async with _journal(settings, partition) as (journal, checkpoints):
        begin, end = await journal.bounds()
        if not begin <= first <= until < end:
            raise JournalRecordError(
                f"The journal of partition {partition} holds offsets {begin} to {end - 1}, and not {first} to {until}."
            )
        await checkpoints.load()
        journal_id = checkpoints.journal_id
        if journal_id is None:
            ids = await last_ids(partition, journal, max(begin, first - LOOKBACK_RECORDS), first)
            journal_id = ids[0] if len(set(ids)) == 1 else None
        entries, found, skips = list[Entry](), list[FoundRecord](), Skips(partition)
        async with aclosing(journal.read(first, until + 1)) as runs:
            async for run in runs:
                entries += run
        for entry in entries:
            what, refusal = judge(partition, entry.value, journal_id)
            sha256 = hash_of(entry.value)
            if refusal is None:
                await look_ahead(skips, journal, entry.offset, sha256)
            found.append(
                FoundRecord(
                    partition=partition,
                    offset=entry.offset,
                    bytes=len(entry.value),
                    sha256=sha256,
                    what=what,
                    refusal=refusal,
                    skipped=skips.of(entry.offset, sha256, journal_id),
                    journal_id=journal_id,
                    begins=entry.value[:SHOWN_BYTES].decode(errors="backslashreplace"),
                )
            )
    if not found:
        raise JournalRecordError(f"The journal of partition {partition} holds no record at offset {first}.")
    return found


async def skip(settings: Settings, records: Sequence[FoundRecord], *, reason: str, by: str) -> list[Skip]:
    """Append a note about each of these foreign records, which are of one partition; return the notes."""
    at = from_millis(SystemClock().now_ms())
    notes = [
        Skip(
            skip=one.offset,
            partition=one.partition,
            sha256=one.sha256,
            reason=reason,
            by=by,
            at=at,
            journal=one.journal_id,
        )
        for one in records
    ]
    async with _journal(settings, records[0].partition) as (journal, _):
        for note in notes:
            # A worker that writes meanwhile finds that its step landed elsewhere, and reads back.
            await journal.append(encode_skip(note))
    return notes


@asynccontextmanager
async def _journal(settings: Settings, partition: int) -> AsyncIterator[tuple[KafkaJournal, AlternatingCheckpoints]]:
    known = names(settings)
    async with Broker(settings) as broker:
        checkpoints = AlternatingCheckpoints(partition, KafkaCompacted(broker, known, partition), SystemClock())
        yield KafkaJournal(broker, known, partition), checkpoints

"""The id of a journal: which life of it this is, and what to say where another one is met.

The first worker of an empty journal makes the id up, and every step carries it. It is kept outside the journal as well:
beside the checkpoints, in the audit, and with the publisher's committed offsets. So a journal that was deleted and
created again is noticed, before anything is decided from an empty state.
"""

from __future__ import annotations

import uuid
from contextlib import aclosing
from typing import Final

from schemas.steps import StepError, decode_step
from schemas.vocabulary import Millis, from_millis
from streams.partition.ports import Entry, Journal, JournalError
from streams.partition.reader import LOOKBACK_RECORDS
from streams.partition.skips import Skips, hash_of

#: What a person can do about it.
REMEDY: Final = (
    "Restore the journal from a copy; or, to give up what was decided and begin from nothing, stop all workers and "
    "give `slotwise topics renew`"
)


class OtherJournal(JournalError):
    """The journal is another one than before; nothing was decided from it."""


def new_id(now_ms: Millis) -> str:
    """Make up an id: the time of its birth, and six digits by which two of one moment differ."""
    second = from_millis(now_ms)[:19].replace("-", "").replace(":", "")
    return f"{second}Z-{uuid.uuid4().hex[:6]}"


def other(partition: int, known: str, where: str, found: str | None) -> OtherJournal:
    """Return the error for a journal that is not the one whose id is kept; `found` None: it is empty."""
    is_now = "is empty" if found is None else f"is now the journal {found}"
    return OtherJournal(
        f"The journal of partition {partition} {is_now}, and {where} belong to the journal {known}: it was deleted and "
        f"created again. {REMEDY}."
    )


async def check(partition: int, journal: Journal, known_ids: dict[str, str | None]) -> str | None:
    """Return the id of a journal, None: it has none yet; `known_ids` are kept elsewhere, by where that is.

    Raises:
        OtherJournal: it is another journal than the one whose id is kept.
    """
    first, end = await journal.bounds()
    ids = await last_ids(partition, journal, max(first, end - LOOKBACK_RECORDS), end)
    found = ids[-1] if ids else None
    for where, journal_id in known_ids.items():
        # A journal without an id was written by an older version; one that retention has emptied still has its end.
        if journal_id is not None and (end == 0 or (ids and journal_id not in ids)):
            raise other(partition, journal_id, where, found)
    known = next((one for one in known_ids.values() if one is not None), None)
    # Where none is kept and steps of several journals are there, the first step that counts says which it is.
    return known or (found if len(set(ids)) == 1 else None)


async def last_ids(partition: int, journal: Journal, start: int, end: int) -> list[str]:
    """Return the ids of the steps in a range that can have counted, in order: of one number, the first record does.

    `end` is the journal's end, so that notes about records of the range are in it.
    """
    entries, skips = list[Entry](), Skips(partition)
    async with aclosing(journal.read(start, end)) as runs:
        async for run in runs:
            for entry in run:
                skips.learn(entry.offset, entry.value)
                entries.append(entry)
    last_seq, found = -1, list[str]()
    for entry in entries:
        try:
            step = decode_step(entry.value)
        except StepError:
            continue
        note = skips.of(entry.offset, hash_of(entry.value))
        # A note about a step of its own journal is void.
        if note is not None and (step.partition != partition or step.journal not in (None, note.journal)):
            continue
        if step.seq > last_seq:
            last_seq = step.seq
            if step.journal is not None:
                found.append(step.journal)
    return found

"""The work that ended lately, as journals have it: what a shadow with slots of its own says of work is fitted to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from schemas.steps import decode_step
from streams.partition.ports import Journal, JournalPosition
from streams.partition.reader import LOOKBACK_RECORDS, HoldingReader, JournalReader
from streams.replay.recording import Attempt

if TYPE_CHECKING:
    from schemas.decision import Decision
    from streams.replay.work_seen import WorkSeen

#: They stand in each checkpoint of each partition.
SEEN_MAX: Final = 2_000
#: Records of a partition's journal that are read for it.
RECORDS_MAX: Final = 20_000


async def seen_work(journals: Iterable[tuple[int, Journal]]) -> list[WorkSeen]:
    """Return the last work that ended in these partitions' journals, the latest last.

    Raises:
        ReadingError: a journal cannot be read on.
    """
    found: deque[tuple[int, WorkSeen]] = deque()
    for partition, journal in journals:
        own: deque[tuple[int, WorkSeen]] = deque(maxlen=SEEN_MAX)
        await _read(partition, journal, own)
        found += own
    return [seen for _, seen in sorted(found, key=lambda one: one[0])[-SEEN_MAX:]]


async def _read(partition: int, journal: Journal, found: deque[tuple[int, WorkSeen]]) -> None:
    first, end = await journal.bounds()
    start = max(first, end - RECORDS_MAX)
    reader = (
        JournalReader(partition, decode_step, start=JournalPosition(0, 0))
        if start == 0
        else JournalReader.joining(partition, decode_step, offset=start + LOOKBACK_RECORDS)
    )
    holding = HoldingReader(reader)
    routed: dict[str, Decision] = {}
    async with aclosing(journal.read(start, end)) as runs:
        async for entries in runs:
            for entry in entries:
                for step in holding.take(entry.offset, entry.value):
                    routed.update((one.decision_id, one) for one in step.decisions if one.outcome == "routed")
                    for work in step.work:
                        decision = routed.pop(work.decision_id, None)
                        if decision is not None:
                            taken_ms = max(1, step.now_ms - decision.decided_at_ms)
                            found.append((step.now_ms, Attempt(decision, work, taken_ms).seen))
    if holding.stopped is not None:
        raise holding.stopped

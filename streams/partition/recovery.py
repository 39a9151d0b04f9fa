"""The state of a partition from its checkpoints and its journal: read only, by a worker's start and by operators.

The newest checkpoint that the journal still reaches is loaded, and the steps after it are applied. Where steps between
the two are gone, the state cannot be known, and the recovery says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct

from schemas.decision import Step
from schemas.steps import decode_step
from streams import metrics
from streams.partition import journal_id as journal_ids
from streams.partition.journal_id import REMEDY
from streams.partition.ports import (
    Checkpoint,
    Checkpoints,
    Journal,
    JournalError,
    JournalPosition,
    MakeStateMachine,
    PartitionError,
    Projection,
)
from streams.partition.reader import JournalReader

_log = logging.getLogger(__name__)

_Machine = TypeVar("_Machine", bound=Projection)


class Recovered(Struct, Generic[_Machine], frozen=True):
    """A state machine at the journal's end."""

    machine: _Machine
    #: The checkpoint's place: the journal was read from here on.
    base: JournalPosition
    #: Offset of the next record of the journal.
    end: int
    #: When the checkpoint was taken; None where there was none.
    saved_ms: int | None
    #: Policy and catalogue hash of the last step that was read; None where the checkpoint holds them all.
    decided_by: tuple[str, str] | None
    #: Id of the journal; None: it has none yet.
    journal_id: str | None


class _Loaded(NamedTuple, Generic[_Machine]):
    machine: _Machine
    position: JournalPosition
    saved_ms: int | None


async def recover(
    partition: int,
    journal: Journal,
    checkpoints: Checkpoints,
    make: MakeStateMachine[_Machine],
    published_journal: str | None = None,
) -> Recovered[_Machine]:
    """Bring a new state machine to the journal's end; `published_journal` is the id of the journal published so far.

    Raises:
        OtherJournal: the journal was created again.
        JournalError: steps between the checkpoint and the journal are missing, or one is damaged.
        PartitionError: a step cannot be applied.
    """
    found = await checkpoints.load()
    known_ids = {"its checkpoints": checkpoints.journal_id, "what was published and handled": published_journal}
    journal_id = await journal_ids.check(partition, journal, known_ids)
    loaded = await _load(partition, journal, found, make)
    decided_by: tuple[str, str] | None = None

    async def take(offset: int, step: Step) -> None:
        nonlocal decided_by, journal_id
        apply(partition, loaded.machine, offset, step)
        decided_by, journal_id = (step.policy, step.catalog), journal_id or step.journal

    end = await read_tail(partition, journal, loaded.position, take, journal_id=journal_id)
    return Recovered(loaded.machine, loaded.position, end, loaded.saved_ms, decided_by, journal_id)


async def read_tail(
    partition: int,
    journal: Journal,
    start: JournalPosition,
    take: Callable[[int, Step], Awaitable[None]],
    *,
    at_least: int = 0,
    before: int | None = None,
    journal_id: str | None = None,
) -> int:
    """Hand the accepted steps from `start` to the journal's end to `take`, each with its offset; return that end.

    `at_least` is an end that is known to exist, where the broker may not know it yet; `before` is an offset to end at
    instead; `journal_id` is the id that the steps must have, where known.

    Raises:
        JournalError: the journal does not reach from `start` to the end, or a step is missing or damaged.
    """
    first, end = await journal.bounds()
    end = max(end, at_least) if before is None else before
    if end < start.offset or first > start.offset:
        raise cut_short(partition, first, end, start.offset)
    remaining = metrics.RECOVERY_REMAINING.labels(str(partition))
    reader = JournalReader(partition, decode_step, start=start, journal=journal_id)
    async with aclosing(journal.read(start.offset, end)) as runs:
        async for run in runs:
            fenced = reader.fenced
            for entry in run:
                skipped = reader.skipped
                step = await reader.take_from(journal, entry)
                if reader.skipped > skipped:
                    _log.info("partition %d: the record at journal offset %d is skipped, as an operator has noted",
                              partition, entry.offset)  # fmt: skip
                if step is not None:
                    await take(entry.offset, step)
            metrics.FENCED.inc(reader.fenced - fenced)
            remaining.set(end - reader.offset)
            await asyncio.sleep(0)
    remaining.set(0)
    return end


def apply(partition: int, machine: Projection, offset: int, step: Step) -> None:
    """Apply a confirmed step.

    Raises:
        PartitionError: the state machine cannot apply it.
    """
    try:
        machine.apply(step)
    except Exception as error:
        metrics.INVARIANT_VIOLATIONS.labels("step_not_applied").inc()
        raise PartitionError(
            f"Step {step.seq} of partition {partition} (journal offset {offset}) cannot be applied: "
            f"{error!r}. Run the version that wrote it, or report this with the journal."
        ) from error


def cut_short(partition: int, first: int, end: int, known_end: int) -> JournalError:
    """Return the error for a journal that does not hold what was read of it before."""
    return JournalError(
        f"The journal of partition {partition} holds offsets {first} to {end}, but was read up to {known_end} "
        f"before: it was deleted or cut while we ran. {REMEDY}."
    )


async def _load(
    partition: int, journal: Journal, found: Sequence[Checkpoint], make: MakeStateMachine[_Machine]
) -> _Loaded[_Machine]:
    # After the checkpoints: one that is written during the reading is never beyond the end that is seen.
    first, end = await journal.bounds()
    for checkpoint in found:
        position = checkpoint.position
        if position.offset > end:
            raise JournalError(
                f"The journal of partition {partition} ends at {end}, but a checkpoint was taken at "
                f"{position.offset}: the journal was deleted or cut. {REMEDY}."
            )
        if position.offset < first:
            break
        try:
            machine = make(checkpoint.chunks)
        except Exception as error:  # noqa: BLE001 - of another version, say: the next one or the whole journal will do
            _log.warning("partition %d: the checkpoint at step %d cannot be used: %r", partition, position.seq, error)
            continue
        if machine.seq != position.seq:
            _log.warning("partition %d: the checkpoint at step %d holds step %d", partition, position.seq, machine.seq)
            continue
        return _Loaded(machine, position, checkpoint.at_ms)
    if first > 0:
        raise JournalError(
            f"The journal of partition {partition} begins at offset {first} and no checkpoint reaches it, so "
            f"that its state cannot be known. {REMEDY}."
        )
    return _Loaded(make(None), JournalPosition(0, 0), None)

"""Whether a checkpoint holds the state that the steps before it give: recovery trusts that it does (I9)."""

from __future__ import annotations

from contextlib import aclosing

from schemas.steps import decode_step
from streams.clock import SystemClock
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaJournal
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.ports import Checkpoint, Journal, JournalPosition
from streams.partition.reader import JournalReader
from streams.topic_names import Names


async def unlike_its_journal(
    broker: Broker, known: Names, rulebook: Rulebook, partition: int, next_seq: int
) -> tuple[int, bool] | None:
    """Compare the newest checkpoint before `next_seq` with a journal that begins at step 0.

    Returns:
        The step that follows the checkpoint, and whether its state is another one; None: there is no checkpoint.
    """
    checkpoints = await AlternatingCheckpoints(
        partition, KafkaCompacted(broker, known, partition), SystemClock()
    ).load()
    found = next((one for one in checkpoints if one.position.seq <= next_seq), None)
    if found is None:
        return None
    journal = KafkaJournal(broker, known, partition)
    return found.position.seq, not await holds_state_of(rulebook, partition, found, journal)


async def holds_state_of(rulebook: Rulebook, partition: int, checkpoint: Checkpoint, journal: Journal) -> bool:
    """Whether a new state has the checkpoint's bytes after the steps of the journal before it."""
    fresh = Router(partition, rulebook)
    reader = JournalReader(partition, decode_step, start=JournalPosition(0, 0))
    async with aclosing(journal.read(0, checkpoint.position.offset)) as runs:
        async for run in runs:
            for entry in run:
                step = await reader.take_from(journal, entry)
                if step is not None:
                    fresh.apply(step)
    # Restored first, so that a checkpoint of an earlier layout is compared in the present one.
    restored = Router.restore(partition, rulebook, checkpoint.chunks)
    return fresh.seq == restored.seq and list(fresh.snapshot()) == list(restored.snapshot())

"""What is recorded of a test's partition, in memory: the twin of topics and files as a replay reads them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from msgspec.structs import replace

from schemas.codec import write_event
from schemas.input import Misplaced, Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import INPUT_TOPICS
from streams.partition.memory import Log, MemoryJournal, MemoryRecord
from streams.partition.ports import Checkpoint
from streams.replay.source import Source
from tests.support.router_rig import RouterRig


class LogInputs:
    """Inputs on logs."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self.logs = logs

    async def first(self, topic: int) -> int:
        """Look at the log."""
        return self.logs[topic].first

    async def read(self, topic: int, start: int) -> AsyncGenerator[Sequence[MemoryRecord], None]:
        """Read record by record, as a slow broker would."""
        log = self.logs[topic]
        for record in log.between(start, log.end):
            yield [record]


class TakenSnapshots:
    """Snapshots that a test has made, newest first."""

    def __init__(self, *taken: Checkpoint) -> None:
        self.taken = taken

    async def load(self) -> Sequence[Checkpoint]:
        """Return them."""
        return self.taken


class Recorded:
    """The journal and the inputs of a rig's history, on logs that a test may cut or change."""

    def __init__(self, rig: RouterRig, partition: int = 0) -> None:
        self._partition = partition
        self.journal = MemoryJournal()
        self.inputs = [Log() for _ in INPUT_TOPICS]
        self.snapshots = TakenSnapshots()
        for step in rig.steps:
            self.journal.log.append(encode_step(replace(step, partition=partition)))
        for one in (one for batch in rig.batches for one in batch):
            assert not isinstance(one.event, Unreadable | Misplaced)
            record = write_event(INPUT_TOPICS[one.topic], one.event, ce_id="c", source="test", time_ms=one.now_ms)
            self.inputs[one.topic].append(record.value, key=record.key, timestamp_ms=one.now_ms)

    @property
    def source(self) -> Source:
        """The partition as a replay reads it."""
        return Source(
            partition=self._partition, steps=self.journal, inputs=LogInputs(self.inputs), snapshots=self.snapshots
        )

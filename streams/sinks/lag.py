"""The lag of a follower behind the journal, by partition. Pure: times are arguments."""

from __future__ import annotations

from msgspec import Struct

from streams.sinks.ports import JournaledStep, SinkPosition


class PartitionStatus(Struct, frozen=True, kw_only=True):
    """Progress of one partition."""

    #: Last step written.
    seq: int
    #: Records behind it that are not written, as far as known.
    lag_records: int
    #: Age of the oldest of them; 0 when there is none.
    lag_s: float


class SinkStatus(Struct, frozen=True, kw_only=True):
    """Progress of a follower, for boards and metrics."""

    partitions: dict[int, PartitionStatus]
    lag_records: int
    lag_s: float
    #: Since the start.
    steps: int
    decisions: int
    #: Records whose number was taken: redelivered, or of a worker that had lost its partition.
    duplicates: int
    #: Damaged records that were passed over because their loss is accepted.
    unreadable: int
    troubles: int
    #: The present outage; empty: none.
    trouble: str | None
    trouble_s: float


class Lag:
    """Unwritten records of each followed partition, and their age."""

    def __init__(self) -> None:
        #: The last step written, by partition.
        self.written: dict[int, SinkPosition] = {}
        self._records: dict[int, int] = {}
        #: Time before which no unwritten record of a partition was appended.
        self._since_ms: dict[int, int] = {}

    def note(self, partition: int, seen: int, end: int | None, now_ms: int) -> None:
        """Record that all up to offset `seen` were handled and that the topic ends at `end` (None: not known)."""
        if end is None:
            return
        self._records[partition] = lag = max(0, end - seen - 1)
        if lag:
            self._since_ms.setdefault(partition, now_ms)
        else:
            self._since_ms.pop(partition, None)

    def begin(self, step: JournaledStep) -> None:
        """Record that a step is about to be written."""
        self._since_ms.setdefault(step.step.partition, step.at_ms)

    def wrote(self, last: JournaledStep) -> None:
        """Record that the steps of a partition up to this one are written."""
        partition = last.step.partition
        self.written[partition] = last.position
        self._since_ms[partition] = last.at_ms

    def forget(self, partition: int) -> None:
        """Forget a partition that is no longer followed."""
        for known in (self.written, self._records, self._since_ms):
            known.pop(partition, None)

    def partitions(self, now_ms: int) -> dict[int, PartitionStatus]:
        """Return the progress of each partition."""
        return {
            partition: PartitionStatus(
                seq=written.seq,
                lag_records=self._records.get(partition, 0),
                lag_s=max(0, now_ms - self._since_ms.get(partition, now_ms)) / 1000,
            )
            for partition, written in sorted(self.written.items())
        }

"""How far a follower is behind the journal, by partition. Pure: times are given."""

from __future__ import annotations

from msgspec import Struct

from streams.sinks.ports import JournaledStep, SinkPosition


class PartitionStatus(Struct, frozen=True, kw_only=True):
    """How far one partition is."""

    #: Last step written.
    seq: int
    #: Records behind it that wait, as far as known.
    lag_records: int
    #: Age of the oldest of them; 0 when there is none.
    lag_s: float


class SinkStatus(Struct, frozen=True, kw_only=True):
    """What a board or a metric wants to know of a follower."""

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
    #: The outage that lasts; nothing when all is well.
    trouble: str | None
    trouble_s: float


class Lag:
    """What is known of the records that wait, and since when: of each partition that is followed."""

    def __init__(self) -> None:
        #: The last step written, by partition.
        self.written: dict[int, SinkPosition] = {}
        self._records: dict[int, int] = {}
        #: No record that waits in a partition is older than this.
        self._since_ms: dict[int, int] = {}

    def note(self, partition: int, seen: int, end: int | None, now_ms: int) -> None:
        """Note that records up to offset `seen` were handled and that the topic ends at `end` (None: not known)."""
        if end is None:
            return
        self._records[partition] = lag = max(0, end - seen - 1)
        if lag:
            self._since_ms.setdefault(partition, now_ms)
        else:
            self._since_ms.pop(partition, None)

    def begin(self, step: JournaledStep) -> None:
        """Note that a step is about to be written."""
        self._since_ms.setdefault(step.step.partition, step.at_ms)

    def wrote(self, last: JournaledStep) -> None:
        """Note that the steps of a partition up to this one are written."""
        partition = last.step.partition
        self.written[partition] = last.position
        self._since_ms[partition] = last.at_ms

    def forget(self, partition: int) -> None:
        """Forget a partition that is followed no more."""
        for known in (self.written, self._records, self._since_ms):
            known.pop(partition, None)

    def partitions(self, now_ms: int) -> dict[int, PartitionStatus]:
        """Return how far each partition is."""
        return {
            partition: PartitionStatus(
                seq=written.seq,
                lag_records=self._records.get(partition, 0),
                lag_s=max(0, now_ms - self._since_ms.get(partition, now_ms)) / 1000,
            )
            for partition, written in sorted(self.written.items())
        }

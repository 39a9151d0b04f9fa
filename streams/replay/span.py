"""Which steps of a partition a replay is about: by their numbers or by their times."""

from __future__ import annotations

from msgspec import Struct

from streams.replay.recorded_step import RecordedStep


class Span(Struct, frozen=True, kw_only=True):
    """A range of steps; what stands before it is only followed, so that its state is known."""

    #: Number of the first step; and only steps at or after this time count.
    since_seq: int = 0
    since_ms: int = 0
    #: The last step has at most this number and this time; None: the journal's end.
    until_seq: int | None = None
    until_ms: int | None = None

    @property
    def begins_later(self) -> bool:
        """Whether it begins behind the journal's begin."""
        return self.since_seq > 0 or self.since_ms > 0

    def is_before(self, step: RecordedStep) -> bool:
        """Whether the step stands before the span."""
        return step.seq < self.since_seq or step.now_ms < self.since_ms

    def is_behind(self, step: RecordedStep) -> bool:
        """Whether the step, and so all that follow, stands behind the span."""
        return (self.until_seq is not None and step.seq > self.until_seq) or (
            self.until_ms is not None and step.now_ms > self.until_ms
        )

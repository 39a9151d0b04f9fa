"""What a step announces of ends: tasks that are over, and work that is to stop. The output topics are made from it."""

from __future__ import annotations

from msgspec import Struct

from schemas.vocabulary import FinishStatus, Millis, StopReason


class Ended(Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """The end of one life of a task, for who waits for it; what the work came to is in `work`, by its decision.

    An array of the fields in this order: there is one for every task.
    """

    pool: str
    task_id: str
    status: FinishStatus
    #: Attempts that were begun.
    attempts: int
    at_ms: Millis
    #: The decision that its last work ran under, with slot and model; of other ends a decision of the step says why.
    decision_id: str | None = None
    slot_id: str | None = None
    model: str | None = None
    #: Why, where no decision of the step says it.
    reason: str = ""
    traceparent: str | None = None
    tracestate: str | None = None


class Stopped(Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A slot whose work is not wanted any more, for its dispatcher: an array of the fields in this order."""

    pool: str
    task_id: str
    slot_id: str
    lease: int
    reason_code: StopReason
    at_ms: Millis
    decision_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

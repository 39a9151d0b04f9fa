"""One record as a partition's worker gives it to the router: position, time and event."""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Struct

from schemas.decision import Advice
from schemas.event_id import EventId
from schemas.events import Event, SlotFreed, TaskPending
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, SLOT_FREED, TASK_PENDING, Millis

#: The reason with which a worker refuses an input that its router failed on begins so; others are the router's own.
NOT_DECIDED: Final = "Not decided: "
_TOPICS: Final[dict[type, int]] = {
    TaskPending: INPUT_TOPICS.index(TASK_PENDING),
    SlotFreed: INPUT_TOPICS.index(SLOT_FREED),
}
_CONTROL: Final = INPUT_TOPICS.index(FLEET_CONTROL)


class Unreadable(Struct, frozen=True, gc=False):
    """Stands for an event that cannot be read; the record goes to the dead-letter topic with this reason."""

    reason: str


class Misplaced(Struct, frozen=True, gc=False):
    """Stands for an event on a partition that is not its key's; the record is forwarded to partition `home`."""

    home: int


#: What is in a record: an event, or what stands for one.
Content: TypeAlias = Event | Unreadable | Misplaced


class Input(Struct, frozen=True, gc=False):
    """An accepted record. `now_ms` never decreases within a partition; the worker ensures it."""

    #: Index into `vocabulary.INPUT_TOPICS`.
    topic: int
    offset: int
    now_ms: Millis
    event: Content
    traceparent: str | None = None
    tracestate: str | None = None
    advice: Advice | None = None
    #: Of a slot's report, by which a repeated one is recognised; None: its record has none.
    event_id: EventId | None = None


def topic_of(event: Event) -> int:
    """Return the input topic that brings an event, as its place in `INPUT_TOPICS`."""
    return _TOPICS.get(type(event), _CONTROL)

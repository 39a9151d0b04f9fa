"""One record as a partition's worker gives it to the router: position, time and event."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from schemas.decision import Advice
from schemas.event_id import EventId
from schemas.events import Event
from schemas.vocabulary import Millis


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

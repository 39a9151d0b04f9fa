"""One record as a lane hands it to the router: where it stood, when it happened, what it says."""

from __future__ import annotations

from msgspec import Struct

from schemas.decision import Advice
from schemas.events import Event
from schemas.vocabulary import Millis


class Unreadable(Struct, frozen=True, gc=False):
    """In place of an event that cannot be read; the record goes to the dead-letter topic for this reason."""

    reason: str


class Input(Struct, frozen=True, gc=False):
    """An accepted record. `now_ms` never goes back within a partition; the lane sees to it."""

    #: Index into `vocabulary.INPUT_TOPICS`.
    topic: int
    offset: int
    now_ms: Millis
    event: Event | Unreadable
    traceparent: str | None = None
    tracestate: str | None = None
    advice: Advice | None = None

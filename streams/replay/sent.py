"""What is sent to `routing.replay`, and read back: events of the input topics, each with the time of its recording.

A record is that of an input topic, with its `ce_type`; its time is `ce_time`. Anything that makes such records can send
to a replay. Two headers are of a replay alone: what a plug-in answered, and that nothing more comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from schemas.codec import ce_type, headers_of, read_event, write_event
from schemas.decision import Advice
from schemas.events import Event
from schemas.input import Unreadable, topic_of
from schemas.record import Headers, Record
from schemas.trace import trace_of
from schemas.vocabulary import INPUT_TOPICS, Millis, to_millis
from streams.replay.recording import Occurrence, Recording, announced

SOURCE: Final = "/slotwise/replay"
#: The answers of plug-ins about a task, as JSON.
ADVICE: Final = "slotwise.advice"
#: The type of a record that ends what is sent to a partition.
END: Final = "slotwise.replay.end"
_TYPES: Final = {ce_type(topic).encode(): topic for topic in INPUT_TOPICS}
_ADVICE: Final = msgspec.json.Decoder(Advice)


class End(Struct, frozen=True):
    """Nothing more is sent to a partition; what was sent ends then."""

    at_ms: Millis


def outgoing(recording: Recording) -> Iterator[Occurrence]:
    """Return what a window sends, in the order of time.

    It begins with the slots that were in service and with the tasks that were not finished: those that ran wait again.
    """
    if not recording.steps:
        return
    begin_ms = recording.steps[0].now_ms
    for slot in recording.slots_at_start:
        yield Occurrence(begin_ms, announced(slot, begin_ms))
    new = {(row.task.pool, row.task.task_id) for step in recording.steps for row in step.tasks}
    for key, row in recording.tasks.items():
        if key not in new:
            yield Occurrence(begin_ms, row.task, row.advice, row.traceparent, row.tracestate)
    for one in recording.there:
        yield Occurrence(begin_ms, one.event)
    for some in recording.occurrences:
        yield from some


def record_of(occurrence: Occurrence, ce_id: str) -> Record:
    """Return the record that sends something."""
    topic = INPUT_TOPICS[topic_of(occurrence.event)]
    made = write_event(
        topic,
        occurrence.event,
        ce_id=ce_id,
        source=SOURCE,
        time_ms=occurrence.at_ms,
        traceparent=occurrence.traceparent,
        tracestate=occurrence.tracestate,
    )
    if occurrence.advice is None:
        return made
    return Record(made.key, made.value, (*made.headers, (ADVICE, msgspec.json.encode(occurrence.advice))))


def end_record(ce_id: str, at_ms: int) -> Record:
    """Return the record after which nothing more is sent to a partition."""
    headers = dict(headers_of(INPUT_TOPICS[0], ce_id=ce_id, source=SOURCE, time_ms=at_ms))
    return Record(None, b"{}", tuple((headers | {"ce_type": END.encode()}).items()))


def occurrence_of(
    key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int
) -> Occurrence | End | Unreadable:
    """Read a record; its own time counts where it has no `ce_time`."""
    last = dict(headers)
    kind, at = last.get("ce_type"), (last.get("ce_time") or b"").decode(errors="replace")
    try:
        at_ms = to_millis(at) if at else Millis(timestamp_ms)
        advice = _ADVICE.decode(last[ADVICE] or b"") if ADVICE in last else None
    except (ValueError, msgspec.DecodeError) as error:
        return Unreadable(f"header ce_time or {ADVICE}: {error}.")
    if kind == END.encode():
        return End(at_ms)
    topic = _TYPES.get(kind or b"")
    if topic is None:
        known = ", ".join(map(ce_type, INPUT_TOPICS))
        return Unreadable(f"header ce_type: it must say of which input topic this is: {known}.")
    event: Event | Unreadable = read_event(topic, key, value, headers)
    return event if isinstance(event, Unreadable) else Occurrence(at_ms, event, advice, *trace_of(headers))

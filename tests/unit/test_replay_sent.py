"""What is sent to a replay is read back as it was, and what anything else sends is an event or a reason."""

from __future__ import annotations

import pytest

from schemas.codec import write_event
from schemas.decision import Advice
from schemas.input import Unreadable
from schemas.vocabulary import SLOT_FREED, TASK_PENDING, Millis
from streams.replay.recording import Occurrence, Recording
from streams.replay.sent import End, end_record, occurrence_of, outgoing, record_of
from tests.support.builders import START_MS, cancelled, slot, task
from tests.support.router_rig import RouterRig

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "sent",
    [
        Occurrence(Millis(START_MS + 5), task(payload='{"a":1.50}'), Advice(ev=3.0), TRACE, "a=b"),
        Occurrence(Millis(START_MS), slot("opus-1", account="a-1")),
        Occurrence(Millis(START_MS), cancelled("t-1")),
    ],
)
def test_what_is_sent_is_read_back(sent: Occurrence) -> None:
    """Event, time, trace context and the answers of plug-ins; the record's own time does not count."""
    record = record_of(sent, "id-1")
    assert record.key == b"main"
    assert occurrence_of(record.key, record.value, record.headers, 17) == sent


def test_records_of_others_are_events_or_a_reason() -> None:
    """The type says of which topic it is; without a time that of the record counts."""
    record = write_event(TASK_PENDING, task(), ce_id="x", source="mine", time_ms=START_MS)
    bare = tuple((name, content) for name, content in record.headers if name != "ce_time")
    assert occurrence_of(record.key, record.value, bare, START_MS + 9) == Occurrence(Millis(START_MS + 9), task())
    end = end_record("x", START_MS)
    assert occurrence_of(end.key, end.value, end.headers, 17) == End(Millis(START_MS))

    def reason(value: bytes | None, headers: dict[str, bytes]) -> str:
        read = occurrence_of(b"main", value, tuple(headers.items()), 17)
        assert isinstance(read, Unreadable)
        return read.reason

    assert "must say of which input topic" in reason(record.value, {})
    assert "must say of which input topic" in reason(record.value, {"ce_type": b"slotwise.task.routed.v1"})
    kind = {"ce_type": f"slotwise.{SLOT_FREED}.v1".encode()}
    assert "slot_id" in reason(record.value, kind)
    assert "ce_time" in reason(record.value, dict(bare) | {"ce_time": b"yesterday"})
    assert "slotwise.advice" in reason(record.value, dict(bare) | {"slotwise.advice": b"["})


def test_a_window_in_the_middle_begins_with_slots_and_tasks_that_were_there() -> None:
    """Of two tasks one runs and one waits: both are sent at the begin, before what comes in the window."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("t-1"), after_s=1)
    rig.hand_in(task("t-2"), after_s=1)
    rig.hand_in(task("t-3"), after_s=60)
    rig.ends("t-1", after_s=1)
    recording = Recording(0, rig.book, from_ms=rig.steps[-2].now_ms)
    for step in rig.steps:
        recording.add(step)
    sent = list(outgoing(recording))
    assert [getattr(one.event, "task_id", None) or one.event.slot_id for one in sent] == [  # type: ignore[union-attr]
        "haiku-1",
        "t-1",
        "t-2",
        "t-3",
    ]
    assert {one.at_ms for one in sent} == {rig.steps[-2].now_ms}
    assert list(outgoing(Recording(0, rig.book))) == []

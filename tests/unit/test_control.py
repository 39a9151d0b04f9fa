"""What becomes of an order is read from the journal as its readers read it; times are read as people write them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC

import pytest
from msgspec.structs import replace

from schemas.decision import Accepted, ControlTaken, Rejected, SlotRow, Step
from schemas.ends import Stopped
from schemas.events import FleetControl, ModelDrained, SlotRetired, TaskCancelled
from schemas.steps import encode_step
from schemas.vocabulary import INPUT_TOPICS, Millis, from_millis
from streams.commands.console import line
from streams.operate.moments import from_now
from streams.operate.orders import CONTROL, ControlError, Position, Trace, check, moment, moment_ahead
from streams.partition.reader import StepsMissing
from streams.settings import Settings
from tests.support.builders import START_MS, step

ORDER = ModelDrained(control_id="c-1", at=from_millis(START_MS), by="ops", model="opus")


def taking(seq: int, *, offset: int = 7, event: FleetControl = ORDER, **named: object) -> Step:
    """Give a step that came to that position of fleet.control, and took the order."""
    taken = ControlTaken(control_id=event.control_id, at_ms=Millis(START_MS), kind="any", event=b"{}")  # type: ignore[arg-type] # as it is read
    fields = {"inputs": (Accepted(CONTROL, offset, Millis(START_MS)),), "controls": (taken,), **named}
    return step(seq, **fields)


#: Where the journal ended when the order was sent; one record before it says which step is next.
BEFORE = 5


def trace(*steps: Step, event: FleetControl = ORDER) -> Position:
    """Follow an order at position 7 through these steps."""
    found = Trace(event, Position(partition=0, offset=7), journal_end=BEFORE)
    for offset, one in enumerate(steps, start=BEFORE - 1):
        found.read(offset, encode_step(one))
    if found.stopped is not None:
        raise found.stopped
    return found.position


def test_an_order_is_taken_by_the_step_that_comes_to_its_position() -> None:
    """Not by one that came to another position or another topic."""
    other_topic = Accepted(INPUT_TOPICS.index("task.pending"), 7, Millis(START_MS))
    assert trace(step(0), step(1), taking(2, offset=6), step(3, inputs=(other_topic,))).status == "sent"
    found = trace(step(1), taking(2))
    assert (found.status, found.seq) == ("taken", 2)


def test_an_order_whose_id_was_seen_before_is_known() -> None:
    """The step came to it and took nothing."""
    assert trace(step(0), taking(1, controls=())).status == "known"


def test_a_refusal_has_its_reason() -> None:
    """It is that of this position, and no other's."""
    rejected = (Rejected(topic=CONTROL, offset=6, reason="theirs"), Rejected(topic=CONTROL, offset=7, reason="ours"))
    found = trace(step(0), taking(1, controls=(), rejected=rejected))
    assert (found.status, found.reason) == ("refused", "ours")


def test_a_step_of_a_writer_who_came_too_late_says_nothing() -> None:
    """Its number was taken already; what counts is the step that follows."""
    late = taking(4, controls=(), rejected=(Rejected(topic=CONTROL, offset=7, reason="never was"),))
    assert trace(step(4), late).status == "sent"
    assert trace(step(4), late, taking(5)).status == "taken"


def test_what_became_of_an_order_is_not_guessed_behind_a_gap() -> None:
    """The missing step may be the one that came to it."""
    with pytest.raises(StepsMissing, match="step 5 is missing"):
        trace(step(4), taking(6))


def test_a_slot_that_is_none_is_noted() -> None:
    """Taken, but without anything to act on."""
    event = SlotRetired(control_id="c-2", at=ORDER.at, by="ops", pool="main", slot_id="opus-9")
    assert (
        trace(step(0), taking(1, event=event), event=event).note == "pool main has no slot opus-9: nothing was retired."
    )
    row = SlotRow(slot_id="opus-9", pool="main", model="opus", state="leased", since_ms=Millis(START_MS), retired=True)
    assert trace(step(0), taking(1, event=event, slots=(row,)), event=event).note is None


def test_a_task_that_did_not_come_yet_is_noted() -> None:
    """The cancel waits for it."""
    event = TaskCancelled(control_id="c-3", at=ORDER.at, by="ops", pool="main", task_id="t-9")
    found = trace(step(0), taking(1, event=event, cancels=(("main", "t-9", Millis(START_MS)),)), event=event)
    assert found.note is not None
    assert "it is cancelled if it comes within a day" in found.note


def test_the_slot_of_a_running_task_is_noted() -> None:
    """It was asked to stop, and the task goes on until then; a lease that another task lost says nothing of it."""
    event = TaskCancelled(control_id="c-3", at=ORDER.at, by="ops", pool="main", task_id="t-9")
    stop = Stopped(
        pool="main", task_id="t-9", slot_id="opus-1", lease=3, reason_code="cancelled", at_ms=Millis(START_MS)
    )
    found = trace(step(0), taking(1, event=event, stopped=(stop,)), event=event)
    assert found.note == "task t-9 runs on opus-1, which is asked to stop: it ends with that slot."
    other = replace(stop, task_id="t-8")
    assert trace(step(0), taking(1, event=event, stopped=(other,)), event=event).note is None


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("2026-11-21T15:00:00Z", "2026-11-21T15:00:00.000Z", id="UTC"),
        pytest.param("2026-11-21T15:00Z", "2026-11-21T15:00:00.000Z", id="without seconds"),
        pytest.param("2026-11-21 16:00:00.25+01:00", "2026-11-21T15:00:00.250Z", id="another zone"),
        pytest.param("2026-11-20T20:00:00-19:00", "2026-11-21T15:00:00.000Z", id="the day before"),
    ],
)
def test_a_time_is_sent_as_utc(text: str, want: str) -> None:
    """Whatever zone it was written in."""
    assert moment(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("2026-11-21", "which zone", id="a day"),
        pytest.param("2026-11-21T15:00:00", "which zone", id="no zone"),
        pytest.param("5 hours", "no ISO time, nor one from now", id="a duration in words"),
        pytest.param("2026-13-01T00:00:00Z", "no ISO time", id="a month that is none"),
        pytest.param("", "no ISO time", id="nothing"),
        pytest.param("2001-01-01T00:00:00Z", "is past", id="the past"),
        pytest.param("9999-12-31T23:59:59-05:00", "out of range: years from 1970 to 9999", id="beyond the calendar"),
        pytest.param("0001-01-01T00:00:00+14:00", "out of range", id="before the calendar"),
        pytest.param("1969-12-31T23:59:59.999Z", "out of range", id="a year that no event may have"),
    ],
)
def test_a_time_that_says_too_little_is_refused(text: str, want: str) -> None:
    """With how to write it."""
    with pytest.raises(ControlError, match=want):
        moment_ahead(text)


def test_what_cannot_be_read_is_refused_before_anything_is_looked_at() -> None:
    """The codec's sentence, as it would stand at the dead letter."""
    event = ModelDrained(control_id="no id", at=ORDER.at, by="ops", model="opus")
    with pytest.raises(ControlError, match="control_id"):
        asyncio.run(check(Settings(broker="127.0.0.1:9"), event))


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    """A name from outside cannot colour, move or clear anything."""
    assert line("acme\x1b[31m\r\n\u202e[bold]").plain == "acme\\u001b[31m\\u000d\\u000a\\u202e[bold]"


NOON = Millis(1_795_262_400_000)  # 2026-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("text", "want"),
    {
        "3h": "2026-11-21T15:00:00",
        "90m": "2026-11-21T13:30:00",
        "1d2h3m": "2026-11-22T14:03:00",
        "today 18:05": "2026-11-21T18:05:00",
        "tomorrow 9:00": "2026-11-22T09:00:00",
    }.items(),
)
def test_a_time_may_be_counted_from_now(text: str, want: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In spans, or as a clock time of this machine's zone."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    found = from_now(text, NOON)
    assert found is not None
    assert found.astimezone(UTC).isoformat() == f"{want}+00:00"


@pytest.mark.parametrize("text", ["", "3", "h", "3 h", "123456h", "tomorrow", "tomorrow 24:00", "-3h", "3H"])
def test_what_is_no_time_from_now_is_none(text: str) -> None:
    """It is read as an ISO time then."""
    assert from_now(text, NOON) is None

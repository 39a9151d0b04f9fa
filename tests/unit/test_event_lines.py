"""Files of bare events: what a line is, when it happens, what is left out, and what is wrong with a line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.codec import write_event
from schemas.events import SlotFreed, SlotRetired, TaskPending
from schemas.vocabulary import TASK_PENDING, Millis, from_millis
from streams.replay.event_lines import BEGIN_MS, Events, EventsError, read_events
from streams.replay.recorded_files import InputLine, content_of, headers_of
from streams.replay.recording import Occurrence
from streams.replay.sent import end_record, record_of
from tests.support.builders import START_MS, task


def at(seconds: float) -> str:
    """Give a time."""
    return from_millis(round(START_MS + 1000 * seconds))


def lines(*rows: dict[str, Any] | str) -> list[bytes]:
    """Give rows as lines."""
    return [(row if isinstance(row, str) else json.dumps(row)).encode() + b"\n" for row in rows]


def read(*rows: dict[str, Any] | str) -> Events:
    """Read one file."""
    return read_events({"events.jsonl": lines(*rows)})


def named(events: Events) -> list[tuple[str, float]]:
    """Give what comes, by its name, and when."""
    return [
        (getattr(one.event, "task_id", "") or getattr(one.event, "slot_id", ""), (one.at_ms - START_MS) / 1000)
        for one in events.occurrences
    ]


T1 = {"task_id": "t-1", "pool": "main", "complexity": "simple"}
S1 = {"slot_id": "haiku-1", "pool": "main", "model": "haiku"}


def test_tasks_slots_and_orders_of_several_files_come_in_the_order_of_their_times() -> None:
    """Which of them a line is, its fields say; files are as `slotwise send` takes them."""
    retired = {"kind": "slot.retired", "control_id": "c-1", "by": "ops", "pool": "main", "slot_id": "haiku-1"}
    events = read_events(
        {
            "tasks.jsonl": lines(T1 | {"at": at(5)}, "", T1 | {"task_id": "t-0", "at": at(2)}),
            "slots.jsonl": lines(S1 | {"at": at(1)}),
            "orders.jsonl": lines(retired | {"at": at(9)}),
        }
    )
    assert named(events) == [("haiku-1", 1), ("t-0", 2), ("t-1", 5), ("haiku-1", 9)]
    kinds = [type(one.event) for one in events.occurrences]
    assert kinds == [SlotFreed, TaskPending, TaskPending, SlotRetired]
    assert events.has_slots


def test_a_line_without_a_time_comes_with_the_line_before_it() -> None:
    """At the begin with the first that has one; a file without any time comes at once, in its order."""
    events = read(S1, T1, T1 | {"task_id": "t-2", "at": at(7)}, T1 | {"task_id": "t-3"})
    assert named(events) == [("haiku-1", 7), ("t-1", 7), ("t-2", 7), ("t-3", 7)]
    assert [one.event.at for one in events.occurrences] == [at(7)] * 4
    assert [one.at_ms for one in read(S1, T1).occurrences] == [BEGIN_MS] * 2


def test_reports_that_follow_from_choices_are_left_out_but_for_how_long_work_took() -> None:
    """Renewals, ends and heartbeats are the router's and the world's business; `leaving` and coming back are not."""
    outcome = {"task_id": "t-1", "status": "success", "output_tokens": 300, "latency_s": 12.5}
    events = read(
        S1 | {"at": at(0), "ttl_s": 30},
        T1 | {"at": at(1), "attempt": 2},
        S1 | {"at": at(2), "lease": 1, "state": "working"},
        S1 | {"at": at(14), "lease": 1, "outcome": outcome},
        S1 | {"at": at(15), "lease": 2, "outcome": outcome | {"status": "failure"}},
        S1 | {"at": at(20), "state": "leaving"},
        S1 | {"at": at(30)},
        {"slot_id": "unknown", "pool": "main", "at": at(31), "lease": 4},
        {"kind": "tick", "control_id": "k", "by": "w", "at": at(32)},
    )
    assert named(events) == [("haiku-1", 0), ("t-1", 1), ("haiku-1", 20), ("haiku-1", 30)]
    assert [one.event.state for one in events.occurrences if isinstance(one.event, SlotFreed)] == [
        *("free", "leaving", "free"),
    ]
    assert [(one.attempt, one.kind, one.model, one.taken_ms) for one in events.ended] == [
        (2, "simple", "haiku", 12_500),
        (3, "simple", "haiku", 12_500),
    ]
    assert events.unannounced == 1
    first = events.occurrences[0].event
    assert isinstance(first, SlotFreed)
    assert first.ttl_s is None, "nothing sends heartbeats"


def test_records_as_exports_and_the_topic_of_replays_have_them_are_read_too() -> None:
    """Their own time counts, and of one without a type the fields say what it is."""
    sent = record_of(Occurrence(Millis(START_MS + 4_000), task("t-1")), "e-1")
    end = end_record("e-2", START_MS + 9_000)
    plain = write_event(TASK_PENDING, task("t-2"), ce_id="e", source="s", time_ms=START_MS)

    def row(value: bytes | None, key: bytes | None, headers: Any, at_ms: int) -> str:
        one = InputLine(offset=0, at_ms=at_ms, key=content_of(key), value=content_of(value), headers=headers)
        return json.dumps(
            {"offset": 0, "at_ms": at_ms, "key": one.key, "value": one.value, "headers": [list(h) for h in one.headers]}
        )

    events = read(
        row(sent.value, sent.key, headers_of(sent.headers), START_MS),
        row(plain.value, plain.key, (), START_MS + 6_000),
        row(end.value, end.key, headers_of(end.headers), START_MS),
    )
    assert named(events) == [("t-1", 4), ("t-2", 6)]


def test_what_is_no_event_is_said_line_by_line() -> None:
    """All mistakes at once, with the file and the number, and nothing is replayed."""
    with pytest.raises(EventsError) as refused:
        read(
            T1 | {"at": at(0)},
            "{not json",
            {"pool": "main"},
            T1 | {"at": "yesterday"},
            T1 | {"at": at(1), "priority": 200},
            {"kind": "no.such", "control_id": "c", "by": "b", "at": at(1)},
            {"value": "{}", "at_ms": "x"},
        )
    said = str(refused.value).splitlines()
    assert said[0].startswith("These lines are no events, and nothing was replayed")
    assert [line.partition(":")[0] for line in said[1:]] == [
        *(f"events.jsonl line {number}" for number in (2, 3, 4, 5, 6, 7)),
    ]
    assert "no `task_id` of a task" in str(refused.value)
    many = [{"pool": "main"}] * 30
    with pytest.raises(EventsError, match=r"And 10 more\.$"):
        read(*many)


def test_without_a_task_there_is_nothing_to_replay() -> None:
    """Slots and orders alone are refused."""
    with pytest.raises(EventsError, match=r"There is no task in events\.jsonl"):
        read(S1, {"kind": "task.cancelled", "pool": "p", "task_id": "t", "control_id": "c", "by": "b"})

"""Dead letters for people: copies are one, marks say what became of them, and what is sent again is as it was."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from schemas.codec import read_event
from schemas.dead_letter_marks import MARK, DeadLetterMark, MarkedAs, mark_of, mark_record
from schemas.dead_letters import DeadTask, dead_letter_headers, dead_letter_value, refused_of
from schemas.decision import HistoryEntry
from schemas.events import TaskPending
from schemas.record import Headers
from schemas.vocabulary import Millis, from_millis
from streams.operate.dead_letters import Original, original_of
from streams.operate.orders import ControlError, since_ms
from streams.settings import Settings
from streams.topics import home_of
from streams.views.dead_letters import Selection, StoredRecord, age, collected
from tests.support.builders import START_MS

SETTINGS = Settings(partitions=4)
TASK = b'{"task_id":"t-1","pool":"main","at":"2026-11-21T10:00:00Z","payload":{"n":0.10,"m":123456789012345678901234}}'
HOME = home_of(4)(b"main")


def stored(offset: int, value: bytes | None = TASK, *, at_s: int = 0, reason: str = "No.", **more: Any) -> StoredRecord:
    """A dead letter of `task.pending`, partition 2; its record was at offset `was`, the same unless said."""
    topic = more.pop("topic", "task.pending")
    headers: Headers = dead_letter_headers(topic, 2, more.pop("was", offset), reason, more.pop("headers", ()))
    return StoredRecord(topic, 2, offset, START_MS + at_s * 1000, more.pop("key", b"main"), value, headers)


def mark(offset: int, *offsets: int, state: MarkedAs = "replayed", because: str = "") -> StoredRecord:
    """A mark behind them."""
    made = DeadLetterMark(mark=state, offsets=offsets, at=from_millis(START_MS), by="ann", because=because)
    return StoredRecord("task.pending", 2, offset, START_MS, b"main", *mark_record(made))


def test_a_dead_letter_says_what_why_where_and_when() -> None:
    """Newest first, with the address by which it is named."""
    found = collected([stored(0, at_s=1), stored(1, b"\xff", at_s=3, reason="It is no JSON.", key=None)])
    newest, older = found.views(Millis(START_MS + 10_000))
    assert (newest.dead_letter, newest.id, newest.pool, newest.age_s) == ("task.pending/2/1", None, None, 7)
    assert (older.id, older.pool, older.reason, older.origin) == ("t-1", "main", "No.", "task.pending[2]@0")
    assert (older.state, older.at, older.given_up) == ("new", from_millis(START_MS + 1000), False)


def test_copies_are_one_and_a_mark_of_any_is_of_all() -> None:
    """It is written at least once; a copy that comes after the mark is marked too."""
    found = collected([stored(0, was=7), stored(1, was=7), stored(2, was=8), mark(3, 1, 0), stored(4, was=7)])
    assert [(one.offset, one.state) for one in found.views(Millis(START_MS))] == [(0, "replayed"), (2, "new")]
    (first,) = found.views(Millis(START_MS), Selection(state="replayed"))
    assert found.offsets(first) == (0, 1, 4)
    assert found.find("task.pending/2/4", Millis(START_MS)) == first
    assert found.new(Millis(START_MS)).count == 1


def test_tasks_given_up_at_the_same_input_are_not_copies_of_each_other() -> None:
    """One report of a slot may end several tasks."""
    values = [b'{"task":{"task_id":"%s"},"story":[]}' % name for name in (b"a", b"b")]
    found = collected([stored(at, value, was=5) for at, value in enumerate(values)])
    assert sorted((one.id, one.given_up) for one in found.views(Millis(START_MS))) == [("a", True), ("b", True)]


def test_the_latest_mark_holds_and_one_that_cannot_be_read_is_no_dead_letter() -> None:
    """A later version may write other marks."""
    strange = StoredRecord("task.pending", 2, 3, START_MS, None, b"{", ((MARK, b"?"),))
    found = collected([stored(0), mark(1, 0), mark(2, 0, 99, state="dropped", because="a test"), strange])
    (one,) = found.views(Millis(START_MS))
    assert (one.state, one.marked and one.marked.because) == ("dropped", "a test")
    assert found.new(Millis(START_MS)).sentence() == ""


def test_a_refused_record_cannot_pose_as_a_mark() -> None:
    """Its own headers of that name are left out when it becomes a dead letter."""
    forged = DeadLetterMark(mark="dropped", offsets=(0,), at="x", by="x")
    value, headers = mark_record(forged)
    found = collected([stored(0), stored(1, value, headers=headers)])
    assert [one.state for one in found.views(Millis(START_MS))] == ["new", "new"]
    assert mark_of(value) == forged


@pytest.mark.parametrize("value", [None, b"", b"{", b"[1]", b"[" * 5000, b'{"mark":"eaten","offsets":[]}', b"\xff"])
def test_rubbish_is_no_mark(value: bytes | None) -> None:
    """It is passed over."""
    assert mark_of(value) is None


@pytest.mark.parametrize(
    ("selection", "want"),
    [
        pytest.param(Selection(), [2, 1, 0], id="all"),
        pytest.param(Selection(reason="PARTITION"), [1], id="a part of the reason"),
        pytest.param(Selection(since_ms=START_MS + 1000), [2, 1], id="since"),
        pytest.param(Selection(state="new"), [2, 1], id="new"),
        pytest.param(Selection(topic="slot.freed"), [], id="another topic"),
    ],
)
def test_a_selection_takes_those_meant(selection: Selection, want: list[int]) -> None:
    """What is not said excludes none."""
    records = [stored(0), stored(1, at_s=1, reason="A wrong partition."), stored(2, at_s=2), mark(3, 0)]
    assert [one.offset for one in collected(records).views(Millis(START_MS), selection)] == want


def test_what_is_new_is_one_sentence_with_the_newest() -> None:
    """Of one pool, or of all."""
    found = collected([stored(0), stored(1, at_s=5, reason="It is late."), stored(2, at_s=9, key=b"other")])
    new = found.new(Millis(START_MS + 200_000), "main")
    assert (new.count, new.by_topic) == (2, {"task.pending": 2})
    assert new.sentence().startswith(
        "2 dead letters are new; the newest came 3 min ago on task.pending (t-1): It is late. `slotwise dlq list`"
    )
    assert found.new(Millis(START_MS)).count == 3


def test_a_refused_record_is_sent_as_it_was() -> None:
    """Byte for byte, with its own headers and no others, to the partition of its key."""
    own = (("ce_id", b"e-1"), ("x", b"\xff"))
    record = stored(5, headers=(*own, ("slotwise.forwarded", b"0@1")))
    assert original_of(SETTINGS, record) == Original("task.pending", HOME, b"main", TASK, own)


def test_an_event_for_all_pools_goes_to_the_partition_that_refused_it() -> None:
    """Each partition has a record of its own, and may have refused it alone."""
    value = b'{"kind":"model.drained","control_id":"c","at":"2026-11-21T10:00:00Z","by":"ops","model":"opus"}'
    for key in (None, b""):
        original = original_of(SETTINGS, stored(5, value, topic="fleet.control", key=key))
        assert original == Original("fleet.control", 2, None, value, ())


def test_a_task_given_up_is_sent_as_the_task_and_done_again() -> None:
    """Its `at` is now, and its payload what it was, digit by digit."""
    entry = HistoryEntry(at_ms=Millis(START_MS), seq=1, what="failed")
    value = msgspec.json.encode(DeadTask(task=msgspec.Raw(TASK), history=(entry,)))
    original = original_of(SETTINGS, stored(5, value))
    assert isinstance(original, Original)
    event = read_event("task.pending", original.key, original.value, original.headers)
    assert isinstance(event, TaskPending)
    assert (original.topic, original.partition, event.task_id) == ("task.pending", HOME, "t-1")
    assert event.payload == '{"n":0.10,"m":123456789012345678901234}'
    assert event.at != "2026-11-21T10:00:00Z"
    assert dict(original.headers)["ce_source"] == b"/slotwise/dlq"


@pytest.mark.parametrize(
    ("record", "want"),
    [
        pytest.param(stored(0, b"{"), "It would be refused again: value", id="no JSON"),
        pytest.param(stored(0, key=None), "It would be refused again: key: missing", id="no key"),
        pytest.param(stored(0, None), "It would be refused again: value: the record has none", id="no value"),
        pytest.param(
            stored(0, b'{"task":{"task_id":"a"},"story":[]}'), "It would be refused again: ", id="half a task given up"
        ),
    ],
)
def test_what_would_be_refused_again_is_not_sent(record: StoredRecord, want: str) -> None:
    """With the reason that its next dead letter would have."""
    found = original_of(SETTINGS, record)
    assert isinstance(found, str)
    assert found.startswith(want)


def test_a_value_that_was_cut_is_not_sent() -> None:
    """The rest of it is gone."""
    value, more = dead_letter_value(TASK, 20)
    record = stored(0, value)
    cut = StoredRecord("task.pending", 2, 0, START_MS, b"main", value, (*record.headers, *more))
    found = original_of(SETTINGS, cut)
    assert isinstance(found, str)
    assert found.startswith(f"Only 20 of its {len(TASK)} bytes are here")


def test_headers_that_say_nonsense_are_passed_over() -> None:
    """Something else may have written the record."""
    names = ("__streams.errors.offset", "slotwise.attempt", "__streams.errors.partition")
    headers = tuple((name, b"9" * 99) for name in names)
    refused = refused_of((*headers, ("__streams.errors.message", b"\xff"), ("own", b"")))
    assert (refused.offset, refused.attempt, refused.partition, refused.topic) == (None, None, None, None)
    assert (refused.reason, refused.own) == ("\\xff", (("own", b""),))
    foreign = StoredRecord("slot.freed", 0, 0, -1, None, None, ())
    (one,) = collected([foreign]).views(Millis(START_MS))
    assert (one.reason[:18], one.origin, one.state) == ("It says no reason:", None, "new")


@pytest.mark.parametrize(
    ("text", "want"), [("90s", 90_000), ("3h", 10_800_000), ("2d", 172_800_000), (from_millis(START_MS - 5), 5)]
)
def test_since_is_a_span_before_now_or_a_time(text: str, want: int) -> None:
    """Both are what people write."""
    assert since_ms(text, START_MS) == START_MS - want


@pytest.mark.parametrize("text", ["", "3", "h", "-3h", "yesterday", "2026-11-21", "٣h"])
def test_since_something_else_is_refused(text: str) -> None:
    """With both forms in the sentence."""
    with pytest.raises(ControlError, match="30m, 3h, 2d"):
        since_ms(text, START_MS)


@pytest.mark.parametrize(("seconds", "want"), [(0, "0 s"), (59, "59 s"), (61, "1 min"), (7200, "2 h"), (90_000, "1 d")])
def test_an_age_is_in_its_largest_unit(seconds: int, want: str) -> None:
    """A person reads it at a glance."""
    assert age(seconds) == want


def test_a_view_is_json() -> None:
    """For programs."""
    (one,) = collected([stored(0)]).views(Millis(START_MS))
    assert json.loads(msgspec.json.encode(one))["dead_letter"] == "task.pending/2/0"

"""Received records become inputs: read, checked, cut into steps around an activation, and given their time."""

from __future__ import annotations

import itertools

import pytest

from schemas.events import Event, PolicyActivated, TaskPending
from schemas.input import Unreadable
from schemas.vocabulary import Millis
from streams.partition.memory import MemoryRecord
from streams.partition.received import Received, RecordReader, cut_at_activations, with_times

KINDS: tuple[Event | Unreadable, ...] = (
    PolicyActivated(control_id="c-1", at="2026-11-21T10:00:00Z", by="ops", policy="p", catalog="c"),
    TaskPending(task_id="t-1", pool="main", at="2026-11-21T10:00:00Z"),
    Unreadable("x"),
)


@pytest.mark.rule("control.policy.activated")
def test_an_activated_policy_has_a_step_of_its_own_wherever_it_stands() -> None:
    """All sequences of up to seven records: nothing is lost or moved, and no step is cut without need."""
    for length in range(8):
        for events in itertools.product(KINDS, repeat=length):
            parts = cut_at_activations(
                [Received(0, MemoryRecord(offset=n, timestamp=0), one, None, None) for n, one in enumerate(events)]
            )
            assert [one.raw.offset for part in parts for one in part] == list(range(length))
            kinds = [[isinstance(one.event, PolicyActivated) for one in part] for part in parts]
            assert all(part == [True] or (part and not any(part)) for part in kinds)
            assert all(any(one) or any(next_) for one, next_ in itertools.pairwise(kinds))


def stamped(*stamps_ms: int) -> list[Received]:
    """Records with these timestamps."""
    events = enumerate(stamps_ms)
    return [Received(0, MemoryRecord(offset=at, timestamp=ms), Unreadable("x"), None, None) for at, ms in events]


def test_an_input_has_the_time_of_its_record_within_bounds() -> None:
    """Never before the one before it, never far ahead of the clock; without a timestamp, the clock's time."""
    inputs = with_times(stamped(90, 120, 110, 999, -1), now_ms=Millis(100), clock_ms=Millis(200), ahead_ms_max=50)
    assert [one.now_ms for one in inputs] == [100, 120, 120, 250, 250]


@pytest.mark.parametrize(
    ("key", "topic", "want"),
    [
        pytest.param(None, 0, "has no key", id="a task without a key"),
        pytest.param(b"", 0, "has no key", id="an empty key"),
        pytest.param(b"elsewhere", 0, "is not JSON", id="rubbish on another partition"),
        pytest.param(b"main", 0, "is not JSON", id="rubbish"),
        pytest.param(None, 2, "is not JSON", id="a control event needs no key"),
    ],
)
def test_a_record_that_cannot_be_read_is_an_unreadable_input(key: bytes | None, topic: int, want: str) -> None:
    """Its reason is the dead letter's."""
    reader = RecordReader(0, lambda key: 3 if key == b"elsewhere" else 0)
    received = reader.read(topic, MemoryRecord(offset=4, timestamp=1, key=key, value=b"rubbish"))
    assert isinstance(received.event, Unreadable)
    assert want in received.event.reason
    assert received.position == (topic, 4)

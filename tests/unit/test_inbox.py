"""The inbox hands out each input once and in order, names gaps, and pauses a topic that is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.partition.inbox import INBOX_RECORDS_MAX, REFETCH_RECORDS_MAX, Gap, Inbox
from streams.partition.memory import MemoryRecord

NOTHING_YET = (-1, -1, -1)


def records(*offsets: int) -> list[MemoryRecord]:
    """Records at these offsets."""
    return [MemoryRecord(offset=offset, timestamp=0) for offset in offsets]


def inbox(*positions: int, pressure: Callable[[int, bool], None] = lambda _topic, _full: None) -> Inbox:
    """An inbox that begins behind these offsets, one a topic."""
    made = Inbox(pressure)
    made.start(positions or NOTHING_YET)
    return made


def put(given: Inbox, *offsets: int, topic: int = 0, done: Callable[[], Any] | None = None) -> None:
    """Deliver records at these offsets."""
    given.put(topic, records(*offsets), 0.0, done)


def taken(given: Inbox, limit: int = 100, positions: tuple[int, ...] = NOTHING_YET) -> list[int]:
    """Offsets that `take` gives."""
    return [raw.offset for _, raw in given.take(positions, limit).records]


def test_records_come_in_the_order_of_delivery_up_to_the_limit() -> None:
    """The rest stays for the next step; a delivery is finished when its last record is taken."""
    given, finished = inbox(), list[str]()
    put(given, 0, 1, 2, done=lambda: finished.append("first"))
    put(given, 0, 1, topic=1, done=lambda: finished.append("second"))
    first = given.take(NOTHING_YET, 4)
    assert [(topic, raw.offset) for topic, raw in first.records] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert (len(first.finished), given.records, given.idle) == (1, 1, False)
    second = given.take(NOTHING_YET, 4)
    assert [(topic, raw.offset) for topic, raw in second.records] == [(1, 1)]
    assert (len(second.finished), given.records, given.idle) == (1, 0, True)


def test_what_was_taken_or_journaled_is_a_duplicate() -> None:
    """It does not matter which worker journaled it."""
    given = inbox(4, -1, -1)
    put(given, 3, 4, 5)
    put(given, 4, 5, 6, 7)
    found = given.take((6, -1, -1), 100)
    assert [raw.offset for _, raw in found.records] == [7]
    assert found.duplicates == {0: 6}


def test_a_gap_ends_the_taking_until_it_is_put_back() -> None:
    """The fetched records come before those that were delivered behind the gap."""
    given = inbox()
    put(given, 0, 5, 6)
    found = given.take(NOTHING_YET, 100)
    assert [raw.offset for _, raw in found.records] == [0]
    assert found.gap == Gap(0, 1, 5)
    given.put_back(found.gap, records(1, 2, 3, 4), 0.0)
    assert taken(given) == [1, 2, 3, 4, 5, 6]


def test_a_range_without_records_is_no_gap() -> None:
    """Transaction markers take offsets that no record has; it is looked up once."""
    given = inbox()
    put(given, 4)
    gap = given.take(NOTHING_YET, 100).gap
    assert gap == Gap(0, 0, 4)
    given.put_back(gap, [], 0.0)
    assert taken(given) == [4]


def test_a_gap_is_filled_in_pieces() -> None:
    """What is missing behind a piece is found as the next gap."""
    given = inbox()
    end = REFETCH_RECORDS_MAX + 10
    put(given, end)
    gap = given.take(NOTHING_YET, 100).gap
    assert gap == Gap(0, 0, end)
    given.put_back(gap, records(*range(REFETCH_RECORDS_MAX)), 0.0)
    found = given.take(NOTHING_YET, 2 * end)
    assert len(found.records) == REFETCH_RECORDS_MAX
    assert found.gap == Gap(0, REFETCH_RECORDS_MAX, end)


def test_a_full_topic_pauses_and_goes_on_at_half() -> None:
    """Fetched records do not count: nothing could pause them."""
    heard: list[tuple[int, bool]] = []
    given = inbox(pressure=lambda topic, full: heard.append((topic, full)))
    put(given, *range(INBOX_RECORDS_MAX))
    assert heard == []
    put(given, INBOX_RECORDS_MAX)
    given.put_back(Gap(1, 0, 5), records(0, 1, 2, 3, 4), 0.0)
    assert heard == [(0, True)]
    given.take(NOTHING_YET, 5 + INBOX_RECORDS_MAX // 2)
    assert heard == [(0, True)]
    given.take(NOTHING_YET, 1)
    assert heard == [(0, True), (0, False)]


def test_forgetting_everything_ends_the_pause() -> None:
    """It will be delivered again."""
    heard: list[bool] = []
    given = inbox(pressure=lambda _topic, full: heard.append(full))
    put(given, *range(INBOX_RECORDS_MAX + 1))
    given.clear()
    assert (heard, given.idle, given.records, given.oldest_s) == ([True, False], True, 0, None)


def test_inputs_that_never_come_are_missing_at_the_second_quiet_check() -> None:
    """One quiet check may be a delivery under way."""
    given = inbox(3, -1, -1)
    assert not given.check(0, 10)
    assert given.check(0, 10)
    assert not given.idle
    assert list(given.missing()) == [Gap(0, 4, 10)]
    assert given.idle


@pytest.mark.parametrize("event", ["an arrival", "nothing is missing", "records wait"])
def test_a_check_begins_again_after_any_sign_of_life(event: str) -> None:
    """Only silence while something is missing counts."""
    given = inbox()
    assert not given.check(0, 10)
    if event == "nothing is missing":
        assert not given.check(0, 0)
    else:
        put(given, 0)
        if event == "an arrival":
            taken(given)
        assert not given.check(0, 10)
        taken(given)
    assert not given.check(0, 10)
    assert given.check(0, 10)


def test_what_came_in_the_meantime_is_not_fetched() -> None:
    """The missing range is that of the moment in which it is fetched."""
    given = inbox()
    given.check(0, 4)
    given.check(0, 4)
    put(given, 0, 1, 2, 3)
    assert taken(given) == [0, 1, 2, 3]
    assert list(given.missing()) == []


DELIVERIES = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True).map(sorted), max_size=12)


@given(deliveries=DELIVERIES, holes=st.sets(st.integers(0, 40), max_size=10), limit=st.integers(1, 7))
def test_each_existing_record_is_taken_once_and_in_order_whatever_is_delivered(
    deliveries: list[list[int]], holes: set[int], limit: int
) -> None:
    """Deliveries repeat, overlap and leave out; offsets without a record are no gaps."""
    exist = [offset for offset in range(41) if offset not in holes]
    given, seen, pending = inbox(), list[int](), list(deliveries)
    while pending or not given.idle:
        if pending:
            offsets = [offset for offset in pending.pop(0) if offset not in holes]
            if offsets:
                put(given, *offsets)
        found = given.take((seen[-1] if seen else -1, -1, -1), limit)
        seen += [raw.offset for _, raw in found.records]
        if found.gap is not None:
            there = [offset for offset in exist if found.gap.start <= offset < found.gap.end]
            given.put_back(found.gap, records(*there), 0.0)
    last = max((offset for delivery in deliveries for offset in delivery if offset not in holes), default=-1)
    assert seen == [offset for offset in exist if offset <= last]

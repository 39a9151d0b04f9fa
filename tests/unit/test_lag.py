"""How far a reader is behind, from what was seen of it: records, seconds, rates, time to drain, thresholds."""

from __future__ import annotations

import pytest

from streams.views.lag import Look, ReaderLag, beyond, drain_s, report
from tests.support.lags import AT_MS, SINK, WORKER, look, reading


def one(now: Look, before: Look | None = None) -> ReaderLag:
    """The only reader of a report."""
    (found,) = report(now, before).readers
    return found


def test_seconds_are_those_between_the_records_and_the_age_is_by_the_clock() -> None:
    """The first unread record came 50 s before the newest, and 90 s ago."""
    found = one(look(reading(3, 8, unread_s=10)))
    assert (found.records, found.seconds, found.age_s) == (5, 50.0, 90.0)


def test_at_the_end_nothing_is_behind() -> None:
    """Whatever the times are; also where the reader is further than the end was when it was asked for."""
    for position in (8, 9):
        found = one(look(reading(position, 8)))
        assert (found.records, found.seconds, found.age_s, found.drain_s) == (0, 0.0, 0.0, 0.0)
    assert report(look(reading(8, 8))).says == "Nothing is behind."


def test_one_record_that_nothing_follows_is_no_second_behind_and_grows_old() -> None:
    """A reader that stands still on a quiet topic shows by its age."""
    found = one(look(reading(7, 8, unread_s=60)))
    assert (found.records, found.seconds, found.age_s) == (1, 0.0, 40.0)


def test_a_reader_is_as_late_as_its_worst_partition_and_lacks_what_all_lack() -> None:
    """Times are the greatest, records the sum."""
    found = one(look(reading(3, 8, unread_s=10), reading(0, 0), reading(1, 2, unread_s=60)))
    assert (found.records, found.seconds, found.age_s) == (6, 50.0, 90.0)
    assert [part.records for part in found.partitions] == [5, 0, 1]


def test_what_retention_removed_is_not_behind_but_expired() -> None:
    """The reader goes on with the first record that is there."""
    found = one(look(reading(3, 8, first=5, unread_s=50)))
    assert (found.records, found.expired, found.seconds) == (3, 2, 10.0)


def test_rates_are_what_came_and_went_between_two_looks() -> None:
    """In 4 s 20 records came and 60 were read, so the 40 that are left take as long again."""
    found = one(look(reading(80, 120, unread_s=10), at_s=14.0), look(reading(20, 100, unread_s=5), at_s=10.0))
    assert (found.in_per_s, found.out_per_s, found.drain_s) == (5.0, 15.0, 4.0)
    assert report(look(reading(0, 0), at_s=14.0), look(reading(0, 0), at_s=10.0)).interval_s == 4.0


def test_without_an_earlier_look_no_rate_is_known() -> None:
    """Nor when it has caught up; a source that was not there before has none either."""
    for before in (None, look(reading(0, 0), source=WORKER, at_s=-1.0)):
        found = one(look(reading(3, 8, unread_s=10)), before)
        assert (found.in_per_s, found.out_per_s, found.drain_s) == (None, None, None)


def test_a_partition_that_stands_still_is_never_drained_whatever_the_others_do() -> None:
    """Partitions do not help each other."""
    now = look(reading(80, 120, unread_s=10), reading(3, 4, unread_s=60), at_s=14.0)
    before = look(reading(20, 100, unread_s=5), reading(3, 4, unread_s=60), at_s=10.0)
    found = one(now, before)
    assert found.drain_s is None
    assert [part.drain_s for part in found.partitions] == [4.0, None]


def test_a_topic_that_was_made_again_has_no_negative_rate() -> None:
    """It ends earlier than before."""
    found = one(look(reading(0, 3, unread_s=10), at_s=2.0), look(reading(90, 100, unread_s=0), at_s=1.0))
    assert (found.in_per_s, found.out_per_s) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("records", "in_per_s", "out_per_s", "want"),
    [
        pytest.param(10, 1.0, 3.0, 5.0, id="it catches up"),
        pytest.param(10, 3.0, 3.0, None, id="as much comes as goes"),
        pytest.param(10, 3.0, 1.0, None, id="more comes than goes"),
        pytest.param(0, 3.0, 1.0, 0.0, id="nothing is left"),
        pytest.param(10, None, None, None, id="no rate is known"),
    ],
)
def test_the_time_to_drain_is_what_is_left_by_what_is_gained(
    records: int, in_per_s: float | None, out_per_s: float | None, want: float | None
) -> None:
    """None: never at these rates."""
    assert drain_s(records, in_per_s, out_per_s) == want


def test_a_threshold_is_passed_by_more_than_it_says() -> None:
    """By records, by seconds, and by the age of a record that nothing follows."""
    found = report(look(reading(3, 8, unread_s=10)))
    assert list(beyond(found, records_max=5, seconds_max=90.0)) == []
    assert list(beyond(found, records_max=4, seconds_max=89.0)) == [
        "The sink reading decision.audit is 5 records behind, more than 4.",
        "The sink reading decision.audit is 90.0 s behind, more than 89 s.",
    ]
    assert list(beyond(found, records_max=None, seconds_max=None)) == []


def test_the_first_line_names_who_is_furthest_behind_and_what_is_not_known() -> None:
    """The one whose record has waited longest."""
    readings = {WORKER: {0: reading(0, 90, unread_s=59)}, SINK: {0: reading(7, 8, unread_s=10)}}
    assert report(Look(at_ms=AT_MS, at_s=0.0, readings=readings)).says == (
        "The sink reading decision.audit is furthest behind: 1 record, the oldest 90.0 s old."
    )
    lost = report(Look(at_ms=AT_MS, at_s=0.0, readings={}, troubles={SINK: "It is away."}))
    assert lost.says == "Nothing that is known is behind. The sink reading decision.audit is not known: It is away."
    assert [one.reader for one in lost.unknown] == ["sink"]

"""The next task to serve is the one that a scan of all waiting tasks finds, and ageing keeps its bound."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decision import TaskRow, TaskStatus
from schemas.vocabulary import Millis
from streams.core.index.undo import Undo
from streams.core.index.waiting import AgeingQueue, Entry
from tests.support.builders import entry_of, task

AGEINGS_MS = st.sampled_from([1, 7, 60, 1_000, 1_000])
PASSED_MS = st.one_of(st.sampled_from([0, 0, 1, 5, 60, 3_000]), st.integers(0, 300))
EVS = st.sampled_from([None, -1.0, *map(float, range(10))])


class Coming(NamedTuple):
    """A task that begins to wait: how many milliseconds ago it did, and what it is worth."""

    ago_ms: int
    priority: int
    ev: float | None


class Moment(NamedTuple):
    """What happens at one moment: some come, some give up, so many are looked for and perhaps served."""

    passed_ms: int
    coming: list[Coming]
    leaving: list[int]
    wanted: int
    served: bool


#: Many of the same age in points, at all phases of it.
COMING = st.builds(Coming, st.integers(0, 2_000), st.sampled_from([0, 0, 0, 1, 2, 100]), EVS)
MOMENTS = st.lists(
    st.builds(
        Moment,
        PASSED_MS,
        st.lists(COMING, max_size=8),
        st.lists(st.integers(0, 100), max_size=2),
        st.integers(0, 6),
        st.booleans(),
    ),
    max_size=40,
)


def entry(number: int, since_ms: int, coming: Coming, ageing_ms: int) -> Entry:
    """Give the place of a task that waits since then."""
    row = TaskRow(
        task=task(f"t{number}", priority=coming.priority),
        at_ms=Millis(since_ms),
        ev=coming.ev,
        status=TaskStatus(state="waiting", attempt=1, since_ms=Millis(since_ms), accepted_ms=Millis(since_ms)),
    )
    return entry_of(row, ageing_ms)


def points(of: Entry, now_ms: int, ageing_ms: int) -> int:
    """Whole points of aged priority, as the rules say them."""
    priority: int = of.row.task.priority
    return priority + (now_ms - of.since_ms) // ageing_ms


def service_key(of: Entry, now_ms: int, ageing_ms: int) -> tuple[int, bool, float, int, str]:
    """The smallest is served first: points, then EV, then arrival, then id; who has no EV is last among equals."""
    ev = of.row.ev
    return -points(of, now_ms, ageing_ms), ev is None, -(ev or 0.0), of.since_ms, of.task_id


@pytest.mark.rule("round.service")
@given(AGEINGS_MS, st.integers(0, 5_000), MOMENTS)
def test_the_head_of_a_queue_is_the_first_of_all_who_wait(ageing_ms: int, start_ms: int, moments: list[Moment]) -> None:
    """Whatever came, left, was hidden or served before: head, its points, and a bound that is none too low."""
    undo = Undo()
    queue, waiting, now_ms, number = AgeingQueue(ageing_ms, undo), list[Entry](), start_ms, 0
    for moment in moments:
        now_ms += moment.passed_ms
        for coming in moment.coming:
            number += 1
            waiting.append(entry(number, now_ms - coming.ago_ms, coming, ageing_ms))
            queue.push(waiting[-1])
        for pick in moment.leaving:
            if waiting:
                queue.remove(waiting.pop(pick % len(waiting)))
        assert queue.live == len(waiting)
        if waiting:
            first = min(waiting, key=lambda one: service_key(one, now_ms, ageing_ms))
            assert queue.bound(now_ms // ageing_ms) <= (-points(first, now_ms, ageing_ms), first.ev_key)
        hidden: list[Entry] = []
        for _ in range(moment.wanted):
            left = [one for one in waiting if one not in hidden]
            found = queue.head(Millis(now_ms))
            if not left:
                assert found is None
                break
            first = min(left, key=lambda one: service_key(one, now_ms, ageing_ms))
            assert found == (first, points(first, now_ms, ageing_ms))
            first.take(undo)
            hidden.append(first)
        if moment.served:
            for one in hidden:
                queue.remove(one)
                waiting.remove(one)
        undo.run()


def test_a_task_hidden_while_the_ripe_ones_are_sorted_out_is_among_them_afterwards() -> None:
    """After a decision that served no task, the first stays first beside a task of higher EV and one point less."""
    now_ms, ageing_ms = 10_100, 1_000
    undo = Undo()
    queue = AgeingQueue(ageing_ms, undo)
    ripe, unripe, best = (
        entry(number, since_ms, Coming(0, 0, ev), ageing_ms)
        for number, (since_ms, ev) in enumerate([(8_050, 5.0), (8_500, 4.0), (8_600, 9.0)])
    )
    queue.push(ripe)
    queue.push(unripe)
    assert queue.head(Millis(now_ms)) == (ripe, 2)
    ripe.take(undo)
    assert queue.head(Millis(now_ms)) == (unripe, 1)
    undo.run()
    queue.push(best)
    assert queue.head(Millis(now_ms)) == (ripe, 2)


@pytest.mark.rule("service.ageing")
@given(AGEINGS_MS, st.lists(st.tuples(st.integers(0, 200), COMING), min_size=1, max_size=30), st.lists(PASSED_MS))
def test_who_came_later_overtakes_with_more_points_or_a_higher_ev_and_never_after_the_bound(
    ageing_ms: int, arrivals: list[tuple[int, Coming]], passed_ms: list[int]
) -> None:
    """The ageing promise, between two that wait in one group for as long as both wait.

    A later one is served first only if it has more whole points of aged priority, or as many and a higher EV. So
    a task that waits cannot be overtaken by tasks that begin to wait (their priority - its priority + 1) * ageing
    after it, or later still, whatever their EV.
    """
    queue, waiting, now_ms = AgeingQueue(ageing_ms, Undo()), list[Entry](), 1_000
    for number, (after_ms, coming) in enumerate(arrivals):
        now_ms += after_ms
        waiting.append(entry(number, now_ms, coming, ageing_ms))
        queue.push(waiting[-1])
    for later_ms in passed_ms[: len(waiting)] + [0] * (len(waiting) - len(passed_ms)):
        now_ms += later_ms
        found = queue.head(Millis(now_ms))
        assert found is not None
        served, mine = found
        waiting.remove(served)
        queue.remove(served)
        for other in waiting:
            if other.since_ms >= served.since_ms:
                continue
            theirs = points(other, now_ms, ageing_ms)
            higher_ev = served.row.ev is not None and (other.row.ev is None or served.row.ev > other.row.ev)
            assert mine > theirs or (mine == theirs and higher_ev)
            priority_ahead = served.row.task.priority - other.row.task.priority
            assert served.since_ms - other.since_ms < (priority_ahead + 1) * ageing_ms
    assert queue.head(Millis(now_ms)) is None


@given(AGEINGS_MS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 2_000), st.integers(0, 5_000))
def test_one_who_comes_a_millisecond_before_the_bound_can_still_overtake(
    ageing_ms: int, priority: int, more: int, since_ms: int, waited_ms: int
) -> None:
    """The bound of the ageing promise is the smallest there is: just inside of it, at some moment, a higher EV wins."""
    early = entry(1, since_ms, Coming(0, priority, 1.0), ageing_ms)
    late_ms = since_ms + (more + 1) * ageing_ms - 1
    late = entry(2, late_ms, Coming(0, priority + more, 2.0), ageing_ms)
    queue = AgeingQueue(ageing_ms, Undo())
    queue.push(early)
    queue.push(late)
    # The two have as many points in one millisecond of each ageing period.
    equal_ms = late_ms + waited_ms // ageing_ms * ageing_ms
    found = queue.head(Millis(equal_ms))
    assert found is not None
    assert found[0] is late
